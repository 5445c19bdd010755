"""Chains against an independent solution of the Bateman equations and against sums made by hand from ICRP 107."""

import numpy as np
import pytest
import radioactivedecay

from mrtai.io.nuclear_data import NUCLEAR_DATA
from mrtai.physics.chain import chain, progeny_flags, progeny_source
from mrtai.values.chain import Progeny
from mrtai.values.flag import Severity
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity

# electron, photon and alpha energy [MeV] of one decay, ICRP 107, read from its published table (icrp107-database writes it so)
ICRP_107 = {
    "Ac-225": (0.02476, 0.01709, 5.89199),
    "Fr-221": (0.00891, 0.02941, 6.41988),
    "At-217": (0.00008, 0.00024, 7.20082),
    "Bi-213": (0.44405, 0.12774, 0.12452),
    "Po-213": (0.00000, 0.00004, 8.53696),
    "Tl-209": (0.68755, 2.14264, 0.0),
    "Pb-209": (0.19744, 0.0, 0.0),
    "Th-227": (0.07547, 0.13175, 5.98830),
    "Ra-223": (0.07810, 0.14126, 5.77016),
    "Rn-219": (0.00684, 0.05860, 6.88013),
    "Po-215": (0.00001, 0.00018, 7.52613),
    "Pb-211": (0.45425, 0.06442, 0.0),
    "Bi-211": (0.01003, 0.04727, 6.67565),
    "Tl-207": (0.49517, 0.00235, 0.0),
    "Po-211": (0.00018, 0.00817, 7.58604),
    "Pb-212": (0.17663, 0.14503, 0.0),
    "Bi-212": (0.50456, 0.10376, 2.21636),
    "Po-212": (0.0, 0.0, 8.95413),
    "Tl-208": (0.61134, 3.36025, 0.0),
    "At-211": (0.00594, 0.03667, 2.49981),
}
RA_223 = {"Ra-223": 1, "Rn-219": 1, "Po-215": 1, "Pb-211": 1, "Bi-211": 1, "Tl-207": 0.99724, "Po-211": 0.00276}
DECAYS = {
    "Ac-225": {
        "Ac-225": 1,
        "Fr-221": 1,
        "At-217": 1,
        "Bi-213": 0.99988,
        "Po-213": 0.99988 * 0.9791,
        "Tl-209": 0.99988 * 0.0209,
        "Pb-209": 0.99988,
    },
    "Ra-223": RA_223,
    "Pb-212": {"Pb-212": 1, "Bi-212": 1, "Po-212": 0.6406, "Tl-208": 0.3594},
    "At-211": {"At-211": 1, "Po-211": 0.582},
    "Th-227": {"Th-227": 1, **RA_223},
}


@pytest.mark.parametrize("parent", DECAYS)
def test_members_and_decays_are_the_products_of_the_branching_fractions(parent):
    found = {member.nuclide.name: member.decays for member in chain(parent, NUCLEAR_DATA).members}
    assert found == pytest.approx(DECAYS[parent], rel=1e-12)
    assert next(iter(found)) == parent


@pytest.mark.parametrize("parent", DECAYS)
def test_decays_are_those_of_the_bateman_equations_after_a_long_time(parent):
    atoms = radioactivedecay.InventoryHP({parent: 1e20}, "num")
    # a hundred half-lives of the longest-lived member leave 1e-30 undecayed
    counted = atoms.cumulative_decays(100 * NUCLEAR_DATA.nuclide(parent).half_life_h, "h")
    for member in chain(parent, NUCLEAR_DATA).members:
        assert counted[member.nuclide.name] / 1e20 == pytest.approx(member.decays, rel=1e-9), member.nuclide.name


@pytest.mark.parametrize("parent", DECAYS)
def test_energy_per_parent_decay_is_the_tables_sum(parent):
    energy = chain(parent, NUCLEAR_DATA).energy_mev
    for column, radiation in enumerate(("electron", "photon", "alpha")):
        by_hand = sum(decays * ICRP_107[name][column] for name, decays in DECAYS[parent].items())
        # up to eight terms, each rounded to 5e-6 MeV
        assert energy[radiation] == pytest.approx(by_hand, abs=4e-5), radiation


@pytest.mark.parametrize(
    ("parent", "alpha_mev"),
    # alpha with recoil by hand: 5.892 + 6.420 + 7.201 + 0.125 + 0.979·8.537; 2.216 + 0.6406·8.954; 2.500 + 0.582·7.586
    [("Ac-225", 27.994), ("Pb-212", 7.952), ("At-211", 6.915), ("Ra-223", 26.873), ("Th-227", 32.861)],
)
def test_alpha_energies_are_the_ones_known_of_these_therapies(parent, alpha_mev):
    assert chain(parent, NUCLEAR_DATA).energy_mev["alpha"] == pytest.approx(alpha_mev, abs=2e-3)


@pytest.mark.parametrize(
    ("parent", "left_out"), [("At-211", {"Bi-207": 0.418}), ("I-131", {"Xe-131m": 0.011759}), ("Tc-99m", {"Tc-99": 0.99996})]
)
def test_progeny_that_outlive_the_parent_are_named_and_not_counted(parent, left_out):
    found = chain(parent, NUCLEAR_DATA)
    assert {member.nuclide.name: member.decays for member in found.left_out} == pytest.approx(left_out, rel=1e-6)
    assert not set(left_out) & {member.nuclide.name for member in found.members}


@pytest.mark.parametrize("parent", ["Lu-177", "Y-90", "Ho-166", "Tb-161"])
def test_a_nuclide_with_stable_progeny_is_alone(parent):
    found = chain(parent, NUCLEAR_DATA)
    assert [member.nuclide.name for member in found.members] == [parent]
    assert found.left_out == () and progeny_flags(found, Progeny()) == ()


GRID = Grid.axial((6, 7, 8), (4.0, 3.0, 5.0))


def maps():
    rng = np.random.default_rng(3)
    tia = Image(rng.random(GRID.shape).astype(np.float32) * 1e9, Quantity.TIME_INTEGRATED_ACTIVITY, GRID)
    density = Image((0.3e-3 + rng.random(GRID.shape) * 1e-3).astype(np.float32), Quantity.DENSITY, GRID)
    tissue = np.ones(GRID.shape, dtype=bool)
    tissue[:, :2] = False
    return tia, density, tissue


@pytest.mark.parametrize("free", [0.2, 1.0])
def test_free_progeny_are_as_many_as_were_taken_away_and_even_by_mass(free):
    tia, density, tissue = maps()
    source = progeny_source(tia, density, tissue, free).voxels.astype(np.float64)
    # float32 maps: 6e-8 a voxel, less in the sum
    assert source.sum() == pytest.approx(tia.voxels.sum(dtype=np.float64), rel=1e-6)
    gained_per_mass = (source - (1 - free) * tia.voxels)[tissue] / density.voxels[tissue]
    assert gained_per_mass.min() == pytest.approx(gained_per_mass.max(), rel=1e-5)
    assert np.array_equal(source[~tissue], tia.voxels[~tissue])


def test_nothing_moves_where_nothing_is_free():
    tia, density, tissue = maps()
    assert progeny_source(tia, density, tissue, 0.0) is tia
    assert progeny_source(tia, density, np.zeros_like(tissue), 0.5) is tia


def test_the_report_says_where_progeny_decay():
    actinium, thorium = chain("Ac-225", NUCLEAR_DATA), chain("Th-227", NUCLEAR_DATA)
    (flag,) = progeny_flags(actinium, Progeny(free_fraction=0.25))
    assert flag.severity is Severity.INFO
    assert "0.75 of them where the parent decays and 0.25 spread over the body" in flag.text and "Bi-213 (0.9999" in flag.text
    (flag,) = progeny_flags(thorium, Progeny())
    assert flag.severity is Severity.REVIEW and "Ra-223 has days to leave" in flag.text
    (flag,) = progeny_flags(actinium, Progeny(stay="none"))
    assert flag.code == "PROGENY_LEFT_OUT" and flag.severity is Severity.REVIEW
    assert [flag.code for flag in progeny_flags(chain("At-211", NUCLEAR_DATA), Progeny())] == [
        "PROGENY_IN_EQUILIBRIUM",
        "LONG_LIVED_PROGENY",
    ]


@pytest.mark.parametrize("wrong", [{"stay": "somewhere"}, {"free_fraction": -0.1}, {"free_fraction": 1.1}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="progeny"):
        Progeny(**wrong)
