import numpy as np
import pytest

from mrtai.io.tables import nuclide, point_kernel
from mrtai.physics.kernel import electron_octant, photon_octant
from mrtai.values.kernel import PointKernel
from tests.physics.slow_convolution import convolved, octant_sum

NUCLIDES = {"Lu-177": "177Lu", "I-131": "131I", "Y-90": "90Y"}
JOULES_PER_MEV = 1.602176634e-13


def reference_kernel(reference, name):
    """Return EGSnrc's shells as a kernel, so that only the integral over voxels is tested."""
    table = np.load(reference / "dpk" / f"dpk_{NUCLIDES[name]}_water.npz")
    edges, electron = table["r_edges_mm"], table["E_electron_MeV"]
    short = edges[1:] <= {"Lu-177": 2.0, "I-131": 3.5, "Y-90": 12.0}[name]  # beyond is bremsstrahlung
    return PointKernel(
        name, edges, np.where(short, electron, 0.0), table["E_photon_MeV"] + np.where(short, 0.0, electron), edges[1:][short][-1], "EGSnrc"
    )


def s_values(kernel, edge_mm, steps=16):
    octant = photon_octant(kernel, np.full(3, edge_mm), (steps,) * 3)
    electrons = electron_octant(kernel, np.full(3, edge_mm), (steps,) * 3)
    octant[tuple(slice(n) for n in electrons.shape)] += electrons
    mgy_per_mbq_s = JOULES_PER_MEV / (edge_mm**3 * 1e-6) * 1e9
    return octant * mgy_per_mbq_s


@pytest.mark.parametrize("edge", ["2", "3", "4.8"])
@pytest.mark.parametrize("name", NUCLIDES)
def test_voxel_s_values_agree_with_the_reference_integral(reference, name, edge):
    theirs = np.load(reference / "vsv" / f"vsv_{NUCLIDES[name]}_water_{edge}mm.npz")["S_total"].T
    ratio = s_values(reference_kernel(reference, name), float(edge)) / theirs
    assert ratio[0, 0, 0] == pytest.approx(1, abs=5e-4)
    # first neighbours: the directional integral's own error
    assert ratio[0, 0, 1] == pytest.approx(1, abs=2e-3)
    assert ratio[1, 1, 1] == pytest.approx(1, abs=2e-3)
    strong = theirs > 1e-4 * theirs[0, 0, 0]
    # the end of a beta range is a cliff where two interpolations of the same shells differ by some percent
    assert np.abs(ratio[strong] - 1).max() < 0.02
    if name != "Y-90":
        assert np.sqrt(np.mean((ratio - 1) ** 2)) < 2e-3


@pytest.mark.parametrize("name", NUCLIDES)
@pytest.mark.parametrize("spacing", [(4.0, 4.0, 4.0), (2.0, 2.0, 5.0)])
def test_kernels_keep_the_energy_that_the_reference_leaves_in_range(name, spacing):
    kernel = point_kernel(name)
    electrons = octant_sum(electron_octant(kernel, np.array(spacing), (40, 40, 40)))
    assert electrons == pytest.approx(kernel.electron_mev.sum(), rel=1e-3)
    # photons in a box: at least what lies in the inscribed ball, at most what lies in the circumscribed one
    shape = (30, 40, 40)
    photons = octant_sum(photon_octant(kernel, np.array(spacing), shape))
    half = (np.array(shape) - 0.5) * np.array(spacing)[::-1]
    cumulative = np.cumsum(kernel.photon_mev)
    inside = np.interp(half.min(), kernel.r_edges_mm[1:], cumulative)
    outside = np.interp(np.linalg.norm(half), kernel.r_edges_mm[1:], cumulative)
    assert 0.99 * inside < photons < 1.01 * outside


@pytest.mark.parametrize("name", NUCLIDES)
def test_a_kernel_as_wide_as_the_reference_closes_within_a_percent(name):
    # 8 mm voxels so that ±1 m fits; the box holds everything the shells hold
    kernel = point_kernel(name)
    photons = octant_sum(photon_octant(kernel, np.full(3, 16.0), (63, 63, 63)))
    assert photons == pytest.approx(kernel.photon_mev.sum(), rel=0.01)
    assert kernel.electron_mev.sum() + kernel.photon_mev.sum() == pytest.approx(
        nuclide(name).electron_mev_per_decay + nuclide(name).photon_mev_per_decay, rel=5e-3
    )


def test_the_slow_twin_conserves_what_stays_inside():
    source = np.zeros((9, 9, 9))
    source[4, 4, 4] = 2.0
    octant = np.random.default_rng(3).random((3, 3, 3))
    assert convolved(source, octant).sum() == pytest.approx(2.0 * octant_sum(octant))
