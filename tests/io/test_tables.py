import numpy as np
import pytest

from mrtai.io.tables import beta_spectrum, emissions, nuclide, point_kernel, progeny
from mrtai.values.refusal import DosimetryError

# half-life [h], electron, photon and alpha energy per decay [MeV] of ICRP 107
ICRP_107 = {
    "Lu-177": (6.647 * 24, 0.14792, 0.03509, 0),
    "Y-90": (64.10, 0.93310, 0, 0),
    "I-131": (8.0207 * 24, 0.19184, 0.38275, 0),
    "Tb-161": (6.906 * 24, 0.20248, 0.03652, 0),
    "Cu-67": (61.83, 0.15038, 0.11535, 0),
    "Ho-166": (26.80, 0.69633, 0.03007, 0),
    "Re-188": (17.004, 0.77934, 0.06125, 0),
    "Re-186": (3.7183 * 24, 0.33624, 0.02079, 0),
    "Sm-153": (46.50, 0.26987, 0.06425, 0),
    "Ga-68": (67.71 / 60, 0.73794, 0.94869, 0),
    "F-18": (109.77 / 60, 0.24160, 0.98858, 0),
    "Cu-64": (12.700, 0.12475, 0.18548, 0),
    "Zr-89": (78.41, 0.10194, 1.15808, 0),
    "I-124": (4.176 * 24, 0.19428, 1.11324, 0),
    "Tc-99m": (6.015, 0.01618, 0.12659, 0),
    "In-111": (2.8047 * 24, 0.03481, 0.40611, 0),
    "I-123": (13.27, 0.02818, 0.17303, 0),
    "At-211": (7.214, 0.00594, 0.03667, 2.4998),
    "Pb-212": (10.64, 0.17663, 0.14503, 0),
    "Bi-212": (60.55 / 60, 0.50456, 0.10376, 2.2163),
    "Ra-223": (11.43 * 24, 0.07809, 0.14126, 5.7701),
    "Ac-225": (240.0, 0.02476, 0.01708, 5.8919),
    "Bi-213": (45.59 / 60, 0.44404, 0.12773, 0.1245),
    "Th-227": (18.68 * 24, 0.07547, 0.13174, 5.9882),
}


@pytest.mark.parametrize("name", ICRP_107)
def test_decay_data_are_those_of_icrp_107(name):
    half_life_h, electron, photon, alpha = ICRP_107[name]
    found = nuclide(name)
    assert found.half_life_h == pytest.approx(half_life_h, rel=1e-4)
    # the table is rounded to 1e-5 MeV
    for energy, expected in (
        (found.electron_mev_per_decay, electron),
        (found.photon_mev_per_decay, photon),
        (found.alpha_mev_per_decay, alpha),
    ):
        assert energy == pytest.approx(expected, abs=1.2e-4 if alpha else 2e-5)


def test_the_beta_spectrum_holds_one_electron_of_the_mean_energy():
    energy, density = beta_spectrum("Lu-177").T
    assert np.trapezoid(density, energy) == pytest.approx(1.0, abs=0.003)
    assert np.trapezoid(density * energy, energy) == pytest.approx(0.1333, abs=0.001)


def test_lines_have_energies_and_yields():
    gammas = emissions("Lu-177", "gamma")
    assert gammas[np.argmin(np.abs(gammas[:, 0] - 0.2084)), 1] == pytest.approx(0.110, abs=0.001)


def test_chains_branch():
    assert progeny("Bi-212") == pytest.approx({"Po-212": 0.6406, "Tl-208": 0.3594}, abs=1e-3)
    assert progeny("Lu-177") == {"Hf-177": 1.0}


def test_unknown_nuclides_and_missing_kernels_are_refused_by_name():
    with pytest.raises(DosimetryError, match="Xx-1"):
        nuclide("Xx-1")
    with pytest.raises(DosimetryError, match=r"Sr-89: no dose kernel for this nuclide; found kernels of Ac-225, At-211, .*Y-90"):
        point_kernel("Sr-89")


@pytest.mark.parametrize("name", ["Lu-177", "I-131", "Y-90"])
def test_kernels_hold_the_energy_of_their_decays(name):
    kernel, decay = point_kernel(name), nuclide(name)
    # what is missing left the last shell at 1 m
    assert kernel.electron_mev.sum() + kernel.photon_mev.sum() == pytest.approx(
        decay.electron_mev_per_decay + decay.photon_mev_per_decay, rel=2e-3
    )
    # beyond their range electrons leave bremsstrahlung only: 0.08 % for 177Lu to 0.4 % for 90Y
    assert kernel.electron_mev.sum() / decay.electron_mev_per_decay == pytest.approx(1, abs=5e-3)
