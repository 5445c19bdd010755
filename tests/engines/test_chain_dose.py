"""The chain's engine: energies of ICRP 107 arrive, and free progeny move exactly theirs."""

from dataclasses import dataclass

import numpy as np
import pytest

from mrtai.engines.chain import ChainDose, MemberDose, chain_engine
from mrtai.engines.local import Local
from mrtai.io.nuclear_data import NUCLEAR_DATA
from mrtai.io.tables import nuclide
from mrtai.physics.chain import chain
from mrtai.values.chain import Progeny
from mrtai.values.dose import Dose
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.refusal import DosimetryError

JOULES_PER_MEV = 1.602176634e-13
ALPHA_EMITTERS = ("Ac-225", "Ra-223", "Pb-212", "At-211", "Th-227")
GRID = Grid.axial((8, 10, 12), (4.0, 4.0, 5.0))
SOURCE = (slice(3, 5), slice(4, 6), slice(5, 8))


def patient():
    """A body of lung, tissue, bone and an airway in air, decays in a small organ and a little blur in the air outside."""
    kg_per_ml = np.full(GRID.shape, 1.2e-6, dtype=np.float32)
    kg_per_ml[1:7, 1:9, 1:11] = 1.05e-3
    kg_per_ml[1:7, 1:9, 2:4] = 0.32e-3
    kg_per_ml[2:6, 2:8, 9] = 1.9e-3
    kg_per_ml[1:7, 7, 6] = 1.2e-6
    decays = np.zeros(GRID.shape, dtype=np.float32)
    decays[SOURCE] = 1e9
    decays[0, 0, 0] = 1e7
    return Image(decays, Quantity.TIME_INTEGRATED_ACTIVITY, GRID), Image(kg_per_ml, Quantity.DENSITY, GRID)


def dosed(parent, **setting):
    return chain_engine(nuclide(parent), NUCLEAR_DATA, Local, Progeny(**setting))(*patient())


def joules(image, where=...):
    _, density = patient()
    return float((image.voxels.astype(np.float64) * density.voxels * GRID.voxel_ml)[where].sum())


def charged_mev(members):
    return sum(m.decays * (m.nuclide.electron_mev_per_decay + m.nuclide.alpha_mev_per_decay) for m in members)


DECAYS = 1e9 * 12 * GRID.voxel_ml


@pytest.mark.parametrize("parent", ALPHA_EMITTERS)
def test_the_chain_leaves_the_energy_of_its_table_at_the_parents_place(parent):
    dose, energy = dosed(parent), chain(parent, NUCLEAR_DATA).energy_mev
    for radiation in ("alpha", "electron"):
        # float32 maps
        assert joules(dose.parts[radiation], SOURCE) == pytest.approx(DECAYS * energy[radiation] * JOULES_PER_MEV, rel=1e-6)
    assert joules(dose.total) == pytest.approx(joules(dose.total, SOURCE), rel=1e-12)


@pytest.mark.parametrize("free", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("parent", ALPHA_EMITTERS)
def test_free_progeny_move_exactly_their_energy(parent, free):
    bound, loose = dosed(parent), dosed(parent, free_fraction=free)
    # sums over a thousand float32 voxels
    assert joules(loose.total) == pytest.approx(joules(bound.total), rel=1e-6)
    freed = free * DECAYS * charged_mev(chain(parent, NUCLEAR_DATA).progeny) * JOULES_PER_MEV
    outside = np.ones(GRID.shape, dtype=bool)
    outside[SOURCE] = False
    _, density = patient()
    body = density.voxels > 1e-4
    share_outside = float(density.voxels[body & outside].sum(dtype=np.float64) / density.voxels[body].sum(dtype=np.float64))
    assert joules(loose.total, outside) == pytest.approx(freed * share_outside, rel=1e-5)
    assert joules(bound.total, SOURCE) - joules(loose.total, SOURCE) == pytest.approx(freed * share_outside, rel=1e-5)
    # the parent's own decays stay where they are
    assert np.array_equal(loose.by_nuclide[parent].voxels, bound.by_nuclide[parent].voxels)


def test_free_energy_is_even_over_the_body_and_none_in_air():
    _, density = patient()
    dose = dosed("Ac-225", free_fraction=0.3).total.voxels
    away = density.voxels > 1e-4
    away[SOURCE] = False
    assert dose[away].min() == pytest.approx(dose[away].max(), rel=1e-5)
    assert np.all(dose[density.voxels < 1e-4] == 0)


@pytest.mark.parametrize("parent", ALPHA_EMITTERS)
def test_nuclides_and_radiations_split_the_same_dose(parent):
    dose = dosed(parent, free_fraction=0.2)
    assert list(dose.by_nuclide) == [member.nuclide.name for member in chain(parent, NUCLEAR_DATA).members]
    summed = sum(part.voxels.astype(np.float64) for part in dose.by_nuclide.values())
    assert np.abs(summed - dose.total.voxels).max() < 1e-6 * dose.total.voxels.max()


def test_without_progeny_or_when_told_so_the_engine_is_the_parents_own():
    assert chain_engine(nuclide("Lu-177"), NUCLEAR_DATA, Local, Progeny(free_fraction=0.5)) == Local(nuclide("Lu-177"))
    assert chain_engine(nuclide("I-131"), NUCLEAR_DATA, Local, Progeny()) == Local(nuclide("I-131"))
    assert chain_engine(nuclide("Ac-225"), NUCLEAR_DATA, Local, Progeny(stay="none")) == Local(nuclide("Ac-225"))


@dataclass(frozen=True)
class Uncertain:
    sd_gy: float | None

    def __call__(self, tia, density):
        gray = Image(np.ones(GRID.shape, dtype=np.float32), Quantity.ABSORBED_DOSE, GRID)
        sd = None if self.sd_gy is None else Image(np.full(GRID.shape, self.sd_gy, dtype=np.float32), Quantity.ABSORBED_DOSE, GRID)
        return Dose({"electron": gray}, sd)


def test_statistical_uncertainties_add_in_quadrature():
    both = ChainDose((MemberDose("Pb-212", Uncertain(0.3), 1.0), MemberDose("Tl-208", Uncertain(0.8), 0.5)))(*patient())
    assert both.sd.voxels == pytest.approx(0.5)
    assert both.total.voxels == pytest.approx(1.5)
    one = ChainDose((MemberDose("Pb-212", Uncertain(0.3), 1.0), MemberDose("Tl-208", Uncertain(None), 0.5)))(*patient())
    assert one.sd is None


def test_foreign_grids_and_negative_maps_are_refused():
    tia, density = patient()
    run = chain_engine(nuclide("Ac-225"), NUCLEAR_DATA, Local, Progeny(free_fraction=0.5))
    with pytest.raises(DosimetryError, match="negative TIA"):
        run(Image(-tia.voxels, Quantity.TIME_INTEGRATED_ACTIVITY, GRID), density)
    with pytest.raises(DosimetryError, match="different grids"):
        run(tia, density.on(Grid.axial(GRID.shape, (4.0, 4.0, 5.1))))


def test_a_dose_by_nuclide_lies_on_the_grid_of_the_dose():
    gray = Image(np.ones(GRID.shape, dtype=np.float32), Quantity.ABSORBED_DOSE, GRID)
    with pytest.raises(ValueError, match="one grid"):
        Dose({"electron": gray}, None, {"Lu-177": gray.on(Grid.axial(GRID.shape, (4.0, 4.0, 5.1)))})
