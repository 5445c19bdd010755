"""The convolution's three parts: electrons in any density, photons in water, the ratio to the body's own matter."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import fftconvolve

from mrtai.engines import dose_engine
from mrtai.engines.convolution.electrons import electron_energy
from mrtai.engines.convolution.engine import photon_lines
from mrtai.engines.convolution.lattice import interpolated, refined, spread
from mrtai.engines.convolution.rays import photon_ratio
from mrtai.engines.convolution.water_photons import photon_energy
from mrtai.io.cross_sections import photon_cross_sections
from mrtai.io.nuclear_data import NUCLEAR_DATA
from mrtai.io.tables import nuclide, point_kernel, spectrum
from mrtai.physics.bremsstrahlung import bremsstrahlung_lines
from mrtai.physics.kernel import photon_octant
from mrtai.physics.materials import NAMES
from mrtai.physics.scatter_groups import photon_groups
from mrtai.units import JOULES_PER_MEV
from mrtai.values.chain import Progeny
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity

FILES = {"Lu-177": "177Lu", "I-131": "131I", "Y-90": "90Y"}


def images(grid, decays, density):
    return Image(decays.astype(np.float32), Quantity.TIME_INTEGRATED_ACTIVITY, grid), Image(
        density.astype(np.float32), Quantity.DENSITY, grid
    )


def slabs():
    """A body of soft tissue with a slab of lung and one of bone, sources in and beside them."""
    grid = Grid.axial((36, 36, 60), (4.0, 4.0, 4.0))
    density = np.full(grid.shape, 1.04e-3)
    density[3:-3, 3:-3, 20:35] = 0.26e-3
    density[3:-3, 3:-3, 45:50] = 1.6e-3
    decays = np.zeros(grid.shape)
    decays[10:26, 10:26, 12:20] = 1e9
    decays[10:26, 10:26, 24:30] = 2e8
    decays[10:26, 10:26, 40:48] = 1e9
    regions = {
        "tissue beside lung": np.s_[10:26, 10:26, 12:20],
        "lung": np.s_[10:26, 10:26, 24:30],
        "lung at the tissue": np.s_[10:26, 10:26, 20:22],
        "tissue beside bone": np.s_[10:26, 10:26, 40:45],
        "bone": np.s_[10:26, 10:26, 45:48],
        "cold bone": np.s_[10:26, 10:26, 48:50],
        "cold tissue": np.s_[10:26, 10:26, 53:57],
    }
    return grid, decays, density, regions


@pytest.mark.parametrize("of", ["Lu-177", *(pytest.param(name, marks=pytest.mark.slow) for name in ("I-131", "Y-90"))])
def test_slabs_of_lung_and_bone_get_their_monte_carlo_dose(of):
    grid, decays, density, regions = slabs()
    tia, rho = images(grid, decays, density)
    masks = {name: np.zeros(grid.shape, dtype=bool) for name in regions}
    for name, where in regions.items():
        masks[name][where] = True
    dose = dose_engine("convolution", nuclide(of), NUCLEAR_DATA, threads=2)(tia, rho).total.voxels
    means = dose_engine("monte-carlo", nuclide(of), NUCLEAR_DATA, threads=2, histories=1_000_000).region_means(tia, rho, masks)
    for name, mask in masks.items():
        mean, sd = means[name]
        # 3 % in soft tissue, 5 % in or beside lung and bone, 8 % where there is no activity; and twice the statistics
        bound = 0.08 if "cold" in name or "at the" in name else 0.05
        assert abs(dose[mask].mean(dtype=float) / mean - 1.0) < bound + 2 * sd / mean, name


def test_electrons_lose_no_energy_inside_and_what_leaves_is_lost():
    grid, _, density, _ = slabs()
    kernel = point_kernel("Y-90")
    inside = np.zeros(grid.shape)
    inside[12:24, 12:24, 10:50] = 1e6
    energy = electron_energy(inside, density, density > 0, grid.spacing_mm, kernel, 2)
    # 90Y in lung reaches 4.3 cm, and the sources are 3.6 cm from the sides at least: all but the very last stays
    assert energy.sum(dtype=float) / (inside.sum() * kernel.electron_mev.sum()) == pytest.approx(1.0, abs=2e-3)
    corner = np.zeros(grid.shape)
    corner[0, 0, 0] = 1e6
    kept = electron_energy(corner, density, density > 0, grid.spacing_mm, kernel, 1).sum(dtype=float)
    tia, rho = images(grid, corner / grid.voxel_ml, density)
    dose = dose_engine("monte-carlo", nuclide("Y-90"), NUCLEAR_DATA, threads=2, histories=40_000)(tia, rho).parts["electron"]
    followed = (dose.voxels * density).sum(dtype=float) * grid.voxel_ml / JOULES_PER_MEV
    # electrons that leave do not come back from a vacuum, as they would from water: a few percent
    assert kept == pytest.approx(followed, rel=0.1)


@pytest.mark.parametrize("of", ["Lu-177", pytest.param("Y-90", marks=pytest.mark.slow)])
def test_electron_equilibrium_makes_dose_inverse_to_density(of):
    grid = Grid.axial((50, 50, 100), (4.0, 4.0, 4.0))
    density = np.full(grid.shape, 1.04e-3)
    density[3:-3, 3:-3, 50:-3] = 0.26e-3
    energy = electron_energy(np.ones(grid.shape), density, density > 0, grid.spacing_mm, point_kernel(of), 2)
    dose = energy / density
    assert dose[20:30, 20:30, 70:80].mean() / dose[20:30, 20:30, 20:30].mean() == pytest.approx(4.0, rel=0.01)


@pytest.mark.parametrize("spacing", [(4.0, 4.0, 4.0), (2.0, 2.0, 3.0)])
def test_two_resolutions_give_the_dose_of_one(spacing):
    shape, kernel = (48, 50, 52), point_kernel("I-131")
    decays = np.zeros(shape, dtype=np.float32)
    decays[12:24, 12:25, 10:18] = 1.0
    decays[24, 36, 36] = 50.0
    octant = photon_octant(kernel, np.array(spacing), shape)
    whole = np.pad(octant, [(n - 1, 0) for n in shape], mode="reflect")
    exact = fftconvolve(decays.astype(float), whole)[shape[0] - 1 : 2 * shape[0] - 1, shape[1] - 1 : 2 * shape[1] - 1]
    exact = exact[:, :, shape[2] - 1 : 2 * shape[2] - 1]
    fast = photon_energy(decays, np.array(spacing), kernel)
    hot = decays > 0
    assert np.abs(fast[hot] / exact[hot] - 1).max() < 0.003
    assert fast[hot].mean() / exact[hot].mean() == pytest.approx(1.0, abs=0.001)
    # cubic interpolation of a kernel's far part around one hot voxel
    assert np.abs(fast / exact - 1).max() < 0.04


def test_spreading_keeps_sums_and_interpolation_keeps_straight_lines():
    rng = np.random.default_rng(5)
    voxels = rng.random((13, 12, 11)).astype(np.float32)
    assert spread(voxels, (2, 3, 1)).sum() == pytest.approx(voxels.sum(), rel=1e-5)
    line = np.arange(-2.0, 9.0)[:, None, None] * np.ones((1, 8, 7))
    fine = interpolated(line, (2, 1, 1), (14, 4, 3))
    assert fine[:, 2, 1] == pytest.approx((np.arange(14) + 0.5) / 2 - 0.5, abs=1e-5)
    assert refined(np.ones((3, 3, 3)), (3, 3, 3), (8, 9, 7)) == pytest.approx(1.0)


@pytest.mark.parametrize(("of", "face", "inside"), [("Lu-177", 0.08, 0.03), ("I-131", 0.08, 0.03)])
def test_a_cube_in_vacuum_gets_egsnrcs_photon_dose(reference, of, face, inside):
    case = np.load(reference / "voxel" / f"C1_{FILES[of]}_4mm.npz")
    grid = Grid.axial((41, 41, 41), (4.0, 4.0, 4.0))
    tia, rho = images(grid, case["activity_fraction"].T * 1e6 / grid.voxel_ml, case["density_g_cm3"].T * 1e-3)
    run = dose_engine("convolution", nuclide(of), NUCLEAR_DATA, threads=2)
    mine, water = run(tia, rho).parts["photon"].voxels * 1e3, replace(run, own_matter=False)(tia, rho).parts["photon"].voxels * 1e3
    expected = case["dose_photon_mGy_per_MBq_s"].T
    step = np.abs(np.indices(grid.shape) - 20).max(axis=0)
    # the last voxel before the vacuum, where water without end is 27 to 52 % too high
    assert mine[step == 20].sum() / expected[step == 20].sum() == pytest.approx(1.0, abs=face)
    assert water[step == 20].sum() / expected[step == 20].sum() > 1.25
    # beyond the source with its bremsstrahlung, which the reference counts with the electrons; 1 % is soft tissue in water's place
    between = (step >= 8) & (step <= 18)
    assert mine[between].sum() / expected[between].sum() == pytest.approx(1.0, abs=inside)


def test_inside_much_water_the_ratio_is_one():
    grid = Grid.axial((60, 60, 60), (8.0, 8.0, 8.0))
    decays = np.zeros(grid.shape)
    decays[28:32, 28:32, 28:32] = 1e9
    tia, rho = images(grid, decays, np.full(grid.shape, 1e-3))
    # the material that this density means is soft tissue: its energy transfer is 0.9 % below water's
    ratio = photon_ratio(tia, rho, photon_lines(spectrum("Lu-177"), photon_cross_sections()), photon_cross_sections(), 2)
    assert ratio[25:35, 25:35, 25:35] == pytest.approx(0.99, abs=0.01)


def test_photon_dose_is_continuous_from_tissue_to_lung():
    grid, _, density, _ = slabs()
    decays = np.zeros(grid.shape)
    decays[16:20, 16:20, 6:9] = 1e9
    tia, rho = images(grid, decays, density)
    dose = dose_engine("convolution", nuclide("I-131"), NUCLEAR_DATA, threads=2)(tia, rho).parts["photon"].voxels
    line = dose[16:20, 16:20].mean(axis=(0, 1))
    # dose falls by about 15 % a voxel with the distance: the border may add 5 % to the fall before it
    assert line[20] / line[19] == pytest.approx(line[19] / line[18], abs=0.05)


def test_energy_that_scatters_goes_somewhere():
    lines = photon_lines(spectrum("I-131"), photon_cross_sections())
    groups = photon_groups(lines, photon_cross_sections())
    assert groups.source_mev.sum(axis=1) == pytest.approx((lines.prod(axis=2) * (lines[:, :, 0] >= 0.02)).sum(axis=1))
    assert groups.transfer + groups.scatter.sum(axis=2) == pytest.approx(groups.removal, rel=1e-5)


def test_bremsstrahlung_carries_its_share_of_the_electrons_energy():
    lines = bremsstrahlung_lines(spectrum("Y-90"), photon_cross_sections())
    # ICRU 37's radiation yield of 90Y in water is 0.45 %; photons below 10 keV are left out
    assert lines.prod(axis=1).sum() / nuclide("Y-90").electron_mev_per_decay == pytest.approx(0.0043, abs=0.0006)
    bone = bremsstrahlung_lines(spectrum("Y-90"), photon_cross_sections(), NAMES.index("cortical_bone"))
    # radiative losses rise as Z² per atom: √(Σ w Z²/A) doubles nearly from water to bone
    assert 1.4 < bone[:, 1].sum() / lines[:, 1].sum() < 2.2
    lines = photon_lines(spectrum("F-18"), photon_cross_sections())[0]
    assert lines[lines[:, 0] > 0.5].prod(axis=1).sum() == pytest.approx(0.98858, rel=2e-3)  # two quanta of 96.7 % positrons


def test_alphas_stay_where_they_are_born():
    grid = Grid.axial((9, 9, 9), (4.0, 4.0, 4.0))
    decays = np.zeros(grid.shape)
    decays[4, 4, 4] = 1e9
    tia, rho = images(grid, decays, np.full(grid.shape, 1e-3))
    alpha = dose_engine("convolution", nuclide("Ac-225"), NUCLEAR_DATA)(tia, rho).parts["alpha"].voxels
    assert alpha[4, 4, 4] == pytest.approx(1e9 * nuclide("Ac-225").alpha_mev_per_decay * JOULES_PER_MEV / 1e-3, rel=1e-5)
    assert np.count_nonzero(alpha) == 1


# Monte Carlo in voxels scores kerma, the kernel follows electrons: those of 208Tl's 2.6 MeV quanta carry a fifth of it out of 2 cm
@pytest.mark.parametrize(("parent", "photon"), [pytest.param(*one, marks=pytest.mark.slow) for one in (("Pb-212", 0.25), ("At-211", 0.06))])
def test_a_whole_chain_gets_its_monte_carlo_dose(parent, photon):
    # among the members are alpha emitters without any electron (212Po) or photon
    grid = Grid.axial((15, 15, 15), (4.0, 4.0, 4.0))
    decays = np.zeros(grid.shape)
    decays[5:10, 5:10, 5:10] = 1e6
    tia, rho = images(grid, decays, np.full(grid.shape, 1e-3))
    of = {"progeny": Progeny(), "threads": 2}
    mine = dose_engine("convolution", nuclide(parent), NUCLEAR_DATA, **of)(tia, rho)
    reference = dose_engine("monte-carlo", nuclide(parent), NUCLEAR_DATA, histories=100_000, **of)(tia, rho)
    hot = decays > 0
    for kind, tolerance in (("alpha", 1e-4), ("electron", 0.02), ("photon", photon)):
        expected = reference.parts[kind].voxels[hot].mean(dtype=float)
        assert mine.parts[kind].voxels[hot].mean(dtype=float) == pytest.approx(expected, rel=tolerance), kind
    assert set(mine.by_nuclide) == set(reference.by_nuclide)
