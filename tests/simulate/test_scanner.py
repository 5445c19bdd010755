import numpy as np
import pytest

from mrtai.simulate.noise import noise_field, noisy
from mrtai.simulate.scanner import SPECT_GRID, Camera, by_share, ct_image, grid_in_patient, on_spect_grid, seen
from mrtai.simulate.voxelise import voxelised
from mrtai.values.grid import Grid
from mrtai.values.labels import Labels

SMALL = Grid.axial((24, 64, 64), (4.8, 4.8, 4.8))


def phantom():
    """Return a hot rod in a warm elliptic cylinder on SMALL."""
    z, y, x = np.indices(SMALL.shape) - (np.array(SMALL.shape)[:, None, None, None] - 1) / 2
    image = ((x / 24) ** 2 + (y / 18) ** 2 < 1) * 1000.0 * (abs(z) < 10)
    image += ((x - 8) ** 2 + y**2 < 36) * 9000.0 * (abs(z) < 10)
    return image.astype(np.float32)


def test_blur_and_scatter_conserve_activity():
    image = phantom()
    # single precision over 1e5 voxels
    assert seen(image, SMALL, Camera()).sum() == pytest.approx(image.sum(), rel=1e-4)


def test_the_point_spread_has_the_camera_resolution():
    image = np.zeros(SMALL.shape, dtype=np.float32)
    image[12, 32, 32] = 1.0
    sharp = seen(image, SMALL, Camera(scatter_share=0.0))
    offsets_mm = (np.arange(64) - 32) * 4.8
    profile = sharp.sum(axis=(0, 1))
    sigma_mm = np.sqrt((profile * offsets_mm**2).sum() / profile.sum())
    # a sampled Gaussian's second moment is that of the Gaussian but for its cut tails at 4 sigma
    assert sigma_mm * 2.3548 == pytest.approx(11.0, rel=5e-3)


def test_a_region_too_small_for_a_voxel_is_refused():
    voxels = np.zeros((10, 10, 10), dtype=np.uint8)
    voxels[4, 4, 4] = 1
    labels = Labels(voxels, {1: "speck"}, Grid.axial((10, 10, 10), (1.0, 1.0, 1.0)))
    with pytest.raises(ValueError, match="speck: too small"):
        on_spect_grid(labels, Grid.axial((3, 3, 3), (4.8, 4.8, 4.8)))


def test_activity_by_shares_is_all_there_in_a_moved_patient(anatomy):
    shift = np.eye(4)
    shift[:3, 3] = (6.0, -5.0, 7.0)
    voxels = voxelised(anatomy, grid_in_patient(SPECT_GRID, shift), per_edge=2)
    image = by_share({"liver": 5e8, "kidney_left": 1e8, "remainder": 7e8}, anatomy, voxels)
    assert image.sum(dtype=np.float64) * SPECT_GRID.voxel_ml == pytest.approx(1.3e9, rel=1e-5)


def test_a_shift_carries_the_anatomy_to_its_new_place(anatomy):
    shift = np.eye(4)
    shift[:3, 3] = (9.6, 0.0, -4.8)  # two voxels to the left, one to the feet
    still = by_share({"spleen": 1e8}, anatomy, voxelised(anatomy, SPECT_GRID))
    moved = by_share({"spleen": 1e8}, anatomy, voxelised(anatomy, grid_in_patient(SPECT_GRID, shift)))
    assert np.allclose(moved, np.roll(still, (-1, 0, 2), axis=(0, 1, 2)), rtol=0.02, atol=0.02 * still.max())


def test_ct_borders_are_averaged(anatomy):
    voxels = voxelised(anatomy, SPECT_GRID, per_edge=2)
    ct = ct_image(anatomy, voxels, None).voxels
    assert ct.dtype == np.int16
    inner = ct.ravel()[voxels.border]
    assert np.unique(inner).size > 100  # averages, not tissue values only
    assert ct.max() <= 550
    assert ct.min() == -1000


def test_noise_has_the_standard_deviation_it_states():
    image = phantom().reshape(24, -1).T.copy()
    field, sd = noise_field(image, 2e6, 60, np.random.default_rng(0))
    unit = field[image > 0] / sd[image > 0]
    # neighbouring pixels share bins: some 1e4 independent values
    assert unit.std() == pytest.approx(1.0, abs=0.05)
    assert unit.mean() == pytest.approx(0.0, abs=0.05)


def test_noise_is_unbiased_in_an_organ_and_never_negative():
    image = phantom()
    rod = image > 5000
    sums = [noisy(image, 2e6, 60, np.random.default_rng(seed))[rod].sum() for seed in range(10)]
    assert min(noisy(image, 2e6, 60, np.random.default_rng(0)).ravel()) >= 0
    standard_error = np.std(sums, ddof=1) / np.sqrt(len(sums))
    assert np.mean(sums) == pytest.approx(image[rod].sum(), abs=4 * standard_error)


def test_next_to_no_counts_do_not_make_activity():
    image = phantom()
    sums = [noisy(image, 2e3, 60, np.random.default_rng(seed)).sum() for seed in range(10)]
    # fewer than one count a bin: deviates are far from normal, and their clipped log-normal keeps the mean to some per cent
    assert np.mean(sums) == pytest.approx(image.sum(), rel=0.1)


def test_more_counts_give_less_noise():
    image = phantom()
    rod = image > 5000
    spread = [noisy(image, counts, 60, np.random.default_rng(1))[rod].std() / image[rod].mean() for counts in (1e6, 1e8)]
    # Poisson: a hundred times the counts, a tenth of the noise
    assert spread[0] / spread[1] == pytest.approx(10.0, rel=0.1)
