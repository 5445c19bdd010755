"""Monte Carlo in voxels against EGSnrc, closed forms, and itself."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from mrtai.engines import dose_engine
from mrtai.io.nuclear_data import NUCLEAR_DATA
from mrtai.io.tables import nuclide
from mrtai.physics.materials import NAMES
from mrtai.units import JOULES_PER_MEV
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.refusal import DosimetryError

FILES = {"Lu-177": "177Lu", "I-131": "131I", "Y-90": "90Y"}
WATER = NAMES.index("water")


def engine(of="Lu-177", **settings):
    return dose_engine("monte-carlo", nuclide(of), NUCLEAR_DATA, **({"threads": 2, "histories": 400_000} | settings))


def reference_case(reference, of):
    case = np.load(reference / "voxel" / f"C1_{FILES[of]}_4mm.npz")
    grid = Grid.axial((41, 41, 41), (4.0, 4.0, 4.0))
    tia = Image((case["activity_fraction"].T * 1e6 / grid.voxel_ml).astype(np.float32), Quantity.TIME_INTEGRATED_ACTIVITY, grid)
    density = Image((case["density_g_cm3"].T * 1e-3).astype(np.float32), Quantity.DENSITY, grid)
    return case, tia, density


@pytest.mark.parametrize("of", ["Lu-177", "I-131", pytest.param("Y-90", marks=pytest.mark.slow)])
def test_the_water_sphere_of_the_reference_gets_its_dose(reference, of):
    case, tia, density = reference_case(reference, of)
    run = engine(of, histories=2_000_000, material=np.full(tia.grid.shape, WATER, dtype=np.uint8))
    dose = run(tia, density)
    mine, expected = dose.total.voxels.astype(float) * 1e3, case["dose_mGy_per_MBq_s"].T
    sphere = case["label"].T == 1
    assert mine[sphere].mean() == pytest.approx(expected[sphere].mean(), rel=0.015)
    high = expected > 0.1 * expected.max()
    difference = mine[high] / expected[high] - 1.0
    assert abs(difference.mean()) < 0.01
    statistics = np.hypot(dose.sd.voxels[high] * 1e3 / mine[high], case["rel_uncertainty"].T[high])
    # both uncertainties are estimated from 25 and 10 batches, so themselves known to 14 % and 24 %
    assert np.sqrt((difference**2).mean()) == pytest.approx(np.sqrt((statistics**2).mean()), rel=0.2)


@pytest.mark.parametrize("of", ["Lu-177", "I-131"])
def test_the_photons_alone_have_the_references_dose_to_the_very_border(reference, of):
    case, tia, density = reference_case(reference, of)
    mine = engine(of, material=np.full(tia.grid.shape, WATER, dtype=np.uint8))(tia, density).parts["photon"].voxels * 1e3
    expected = case["dose_photon_mGy_per_MBq_s"].T
    faces = np.zeros(mine.shape, dtype=bool)
    faces[[0, -1]] = True
    # 177Lu's bremsstrahlung (0.3 % of the photon dose here) is with the reference's electrons
    assert mine.sum() == pytest.approx(expected.sum(), rel=0.01)
    # statistics 0.6 %; kerma counts the electrons that leave the last 0.3 mm of a 4 mm voxel into the vacuum (1.5 % for 131I)
    assert mine[faces].sum() == pytest.approx(expected[faces].sum(), rel=0.03)


def lung_beside_tissue():
    grid = Grid.axial((40, 40, 60), (4.0, 4.0, 4.0))
    density = np.full(grid.shape, 1.04e-3, dtype=np.float32)
    density[2:-2, 2:-2, 30:-2] = 0.26e-3  # inside the body, or it would be air
    return grid, Image(density, Quantity.DENSITY, grid)


def test_photon_dose_is_continuous_from_lung_to_tissue():
    grid, density = lung_beside_tissue()
    decays = np.zeros(grid.shape, dtype=np.float32)
    decays[17:23, 17:23, 10:14] = 1e9
    dose = engine("I-131", histories=1_000_000)(Image(decays, Quantity.TIME_INTEGRATED_ACTIVITY, grid), density)
    photon = dose.parts["photon"].voxels[10:30, 10:30].mean(axis=(0, 1))
    # dose falls by about a tenth a voxel with the distance from the source: the border may add 5 % to the fall before it
    assert photon[30] / photon[29] == pytest.approx(np.sqrt(photon[29] / photon[27]), abs=0.05)


def test_electron_equilibrium_makes_dose_inverse_to_density():
    grid, density = lung_beside_tissue()
    full = Image(np.full(grid.shape, 1e9, dtype=np.float32), Quantity.TIME_INTEGRATED_ACTIVITY, grid)
    dose = engine("Lu-177", histories=1_000_000)(full, density).parts["electron"].voxels
    tissue, lung = dose[5:35, 5:35, 5:25].mean(), dose[5:35, 5:35, 35:55].mean()
    assert lung / tissue == pytest.approx(1.04 / 0.26, rel=0.01)
    # less bremsstrahlung, 0.1 %
    assert tissue == pytest.approx(1e9 * nuclide("Lu-177").electron_mev_per_decay * JOULES_PER_MEV / 1.04e-3, rel=0.005)


def test_annihilation_quanta_start_where_the_positron_stops():
    grid = Grid.axial((31, 31, 31), (4.0, 4.0, 4.0))
    decays = np.zeros(grid.shape, dtype=np.float32)
    decays[15, 15, 15] = 1e9
    tia = Image(decays, Quantity.TIME_INTEGRATED_ACTIVITY, grid)
    dose = engine("F-18")(tia, Image(np.full(grid.shape, 1e-3, dtype=np.float32), Quantity.DENSITY, grid))
    photon_mev = dose.parts["photon"].voxels.sum(dtype=float) * 1e-3 * grid.voxel_ml / JOULES_PER_MEV / (1e9 * grid.voxel_ml)
    # two quanta of 96.7 % positrons: a fifth to a third of 0.988 MeV stays in a cube of 12 cm (μ_en R = 0.2, and scatter)
    assert 0.18 < photon_mev / 0.98858 < 0.34


def test_the_stated_uncertainty_is_the_spread_of_repeated_runs():
    grid = Grid.axial((20, 20, 20), (4.0, 4.0, 4.0))
    decays = np.zeros(grid.shape, dtype=np.float32)
    decays[8:12, 8:12, 8:12] = 1e9
    tia, density = (
        Image(decays, Quantity.TIME_INTEGRATED_ACTIVITY, grid),
        Image(np.full(grid.shape, 1e-3, np.float32), Quantity.DENSITY, grid),
    )
    masks = {"cold": np.zeros(grid.shape, dtype=bool)}
    masks["cold"][2:5, 2:5, 2:5] = True
    runs = [engine(seed=seed, histories=20_000).region_means(tia, density, masks)["cold"] for seed in range(20)]
    means, stated = np.array(runs).T
    # 20 runs know their spread to 16 %, each statement to 14 %: three of those
    assert means.std(ddof=1) == pytest.approx(stated.mean(), rel=0.5)


def test_the_same_seed_gives_the_same_dose_on_any_number_of_threads():
    grid, density = lung_beside_tissue()
    decays = np.zeros(grid.shape, dtype=np.float32)
    decays[20, 20, 28:32] = 1e9
    tia = Image(decays, Quantity.TIME_INTEGRATED_ACTIVITY, grid)
    one, two, other = (engine(histories=5_000, threads=n, seed=s)(tia, density).total.voxels for n, s in ((1, 7), (2, 7), (1, 8)))
    assert np.allclose(one, two, rtol=1e-4, atol=1e-6 * one.max())  # float32 sums in another order
    assert not np.allclose(one, other, rtol=1e-3)


def test_it_stops_when_the_regions_are_known_well_enough():
    grid, density = lung_beside_tissue()
    decays = np.zeros(grid.shape, dtype=np.float32)
    decays[15:25, 15:25, 10:20] = 1e9
    tia = Image(decays, Quantity.TIME_INTEGRATED_ACTIVITY, grid)
    told = []
    run = replace(engine(histories=1_000_000), target_relative_sd=0.02, progress=lambda _, done: told.append(done))
    mean, sd = run.region_means(tia, density, {"source": decays > 0})["source"]
    assert sd / mean < 0.02
    assert told[-1] < 1.0


def test_what_it_cannot_use_is_refused():
    grid, density = lung_beside_tissue()
    tia = Image(np.ones(grid.shape, dtype=np.float32), Quantity.TIME_INTEGRATED_ACTIVITY, grid)
    with pytest.raises(DosimetryError, match="too few histories"):
        engine(histories=3)(tia, density)
    with pytest.raises(DosimetryError, match="material map"):
        engine(material=np.zeros((2, 2, 2), dtype=np.uint8))(tia, density)


GPU_TWIN = """
import numpy as np
from mrtai.engines import dose_engine
from mrtai.io.nuclear_data import NUCLEAR_DATA
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
grid = Grid.axial((6, 6, 6), (4.0, 4.0, 4.0))
tia = Image(np.full(grid.shape, 1e6, np.float32), Quantity.TIME_INTEGRATED_ACTIVITY, grid)
density = Image(np.full(grid.shape, 1e-3, np.float32), Quantity.DENSITY, grid)
engine = dose_engine("monte-carlo", NUCLEAR_DATA.nuclide("Lu-177"), NUCLEAR_DATA, histories=50, device="{device}")
np.save(r"{out}", engine(tia, density).total.voxels)
"""


def test_the_gpu_kernel_runs_the_same_histories_as_the_cpu(tmp_path):
    # without a GPU numba's simulator runs the very kernel in plain Python; random streams are the histories' own
    for device, extra in (("cpu", {}), ("cuda", {"NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1", "PYTHONWARNINGS": "ignore"})):
        code = GPU_TWIN.format(device=device, out=tmp_path / f"{device}.npy")
        subprocess.run([sys.executable, "-c", code], env=os.environ | extra, check=True, timeout=240)
    cpu, gpu = (np.load(tmp_path / f"{device}.npy") for device in ("cpu", "cuda"))
    assert np.allclose(cpu, gpu, rtol=1e-4)
