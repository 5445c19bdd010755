import numpy as np
import pytest

from mrtai.physics.quantify import bq_per_ml_per_count, dead_time_factor, mean_decay_during_scan
from mrtai.physics.resample import averaged, largest_share, resampled, within
from mrtai.physics.tia_map import tia_map
from mrtai.physics.tissue import body_outline, density_kg_per_ml
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels

FINE = Grid.axial((40, 36, 44), (3.0, 3.0, 3.0))
COARSE = Grid.axial((30, 28, 32), (4.8, 4.8, 4.8))


def rotation(angle, shift=(0, 0, 0)):
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = shift
    return matrix


def ball(grid, radius_mm, centre_mm=(0.0, 0.0, 0.0)):
    k, j, i = np.indices(grid.shape)
    points = np.stack([i, j, k], axis=-1) @ grid.affine[:3, :3].T + grid.origin_mm
    return np.linalg.norm(points - centre_mm, axis=-1) < radius_mm


def blob(grid, sigma_mm=12.0):
    k, j, i = np.indices(grid.shape)
    points = np.stack([i, j, k], axis=-1) @ grid.affine[:3, :3].T + grid.origin_mm
    return Image(np.exp(-0.5 * np.sum(points**2, axis=-1) / sigma_mm**2).astype(np.float32), Quantity.ACTIVITY_CONCENTRATION, grid)


def test_averaging_keeps_the_integral_exactly():
    image = Image(np.random.default_rng(0).random(FINE.shape).astype(np.float32), Quantity.DENSITY, FINE)
    total = image.voxels.sum(dtype=np.float64) * FINE.voxel_ml
    assert averaged(image, COARSE).voxels.sum(dtype=np.float64) * COARSE.voxel_ml == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("grid", [COARSE, COARSE.moved(rotation(0.3, (2, -3, 1)))])
def test_one_interpolation_keeps_activity_and_shape(grid):
    image = blob(FINE)
    carried = resampled(image, grid)
    total = image.voxels.sum(dtype=np.float64) * FINE.voxel_ml
    # a spline sampled well below its width conserves the sum to about 1e-3
    assert carried.voxels.sum(dtype=np.float64) * grid.voxel_ml == pytest.approx(total, rel=1e-3)
    truth = blob(grid)
    assert np.abs(carried.voxels - truth.voxels).max() < 0.01


def test_there_and_back_again_changes_little():
    image = blob(FINE)
    moved = FINE.moved(rotation(0.1, (4, 2, -3)))
    back = resampled(resampled(image, moved), FINE)
    inner = (slice(8, -8),) * 3
    assert np.abs(back.voxels[inner] - image.voxels[inner]).max() < 0.005


@pytest.mark.parametrize("angle", [0.0, 0.25])
def test_contours_keep_their_volume_by_largest_share(angle):
    grid = COARSE.moved(rotation(angle)) if angle else COARSE
    labels = Labels(ball(FINE, 25, (1.3, 0.7, 2.1)).astype(np.uint16), {1: "liver"}, FINE)
    volume = labels.mask("liver").sum() * FINE.voxel_ml
    # 590 voxels, 330 of them on the surface, each rounded to all or nothing: 0.3 √330 / 590 = 0.9 %, three of these
    assert largest_share(labels, grid).mask("liver").sum() * grid.voxel_ml == pytest.approx(volume, rel=0.03)


def test_no_region_competes_like_a_region_does():
    fine = Grid.axial((2, 2, 4), (1.0, 1.0, 1.0))
    coarse = Grid((1, 1, 2), (2.0, 2.0, 2.0), np.array([-1.0, 0.0, 0.0]), np.eye(3))
    voxels = np.zeros(fine.shape, dtype=np.uint8)
    voxels[0, 0, 0] = 1  # 1 of 8 sub-voxels: nothing wins
    voxels[:, :, 2] = 2  # 4 of 8: a tie with nothing goes to the region
    voxels[0, :, 3] = 1  # 2 of 8
    shared = largest_share(Labels(voxels, {1: "a", 2: "b"}, fine), coarse)
    assert shared.voxels.tolist() == [[[0, 2]]]


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_what_lies_within_another_grid_is_what_interpolation_finds_there(angle):
    target = COARSE.moved(rotation(angle, (20, 5, -8)))
    ones = Image(np.ones(FINE.shape, dtype=np.float32), Quantity.DENSITY, FINE)
    found = within(FINE, target)
    assert np.array_equal(found, resampled(ones, target, order=0).voxels > 0.5)
    assert 0 < found.sum() < found.size


def test_mirrored_grids_mirror_the_contours():
    labels = Labels(ball(FINE, 20, (15.0, 0.0, 0.0)).astype(np.uint8), {1: "spleen"}, FINE)
    flipped = Grid(COARSE.shape, COARSE.spacing_mm, COARSE.corners_mm[-1] * (1, 1, -1), np.diag([-1.0, -1.0, 1.0]))
    assert np.array_equal(largest_share(labels, flipped).voxels[:, ::-1, ::-1], largest_share(labels, COARSE).voxels)


def test_the_tia_map_adds_up_to_every_regions_integral():
    rng = np.random.default_rng(1)
    labels = Labels(np.where(ball(FINE, 25), 1, 0).astype(np.uint8), {1: "liver"}, FINE)
    scans = [Image((rng.random(FINE.shape) - 0.05).astype(np.float32), Quantity.ACTIVITY_CONCENTRATION, FINE) for _ in range(3)]
    tia, even = tia_map(scans, labels, {0: 5e10, 1: 2e11}, {0: np.full(3, 1 / 3), 1: np.array([0.5, 0.3, 0.2])})
    assert even == ()
    for value, expected in ((0, 5e10), (1, 2e11)):
        assert tia.voxels[labels.voxels == value].sum(dtype=np.float64) * FINE.voxel_ml == pytest.approx(expected, rel=1e-5)


def test_a_region_without_positive_voxels_is_spread_evenly_and_named():
    labels = Labels(np.where(ball(FINE, 25), 1, 0).astype(np.uint8), {1: "liver"}, FINE)
    scans = [Image(np.zeros(FINE.shape, dtype=np.float32), Quantity.ACTIVITY_CONCENTRATION, FINE)]
    tia, even = tia_map(scans, labels, {1: 2e11}, {1: np.array([1.0])})
    assert even == (1,)
    assert np.unique(tia.voxels[labels.voxels == 1]).size == 1


def test_density_follows_schneiders_points_with_their_step():
    assert density_kg_per_ml(np.array([-1000, -98, 14, 100, 101, 1600, 4000])) * 1e3 == pytest.approx(
        [0.00121, 0.93, 1.03, 1.1199, 1.0762, 1.9642, 2.8], rel=1e-5
    )


def test_the_body_has_lungs_but_no_couch():
    density = np.full(FINE.shape, 1.2e-6, dtype=np.float32)
    body = ball(FINE, 40)
    density[body] = 1e-3
    lung = ball(FINE, 12, (10.0, 0.0, 0.0))
    density[lung] = 0.1e-3
    density[:, -2:, :] = 1e-3  # a couch that does not touch
    density[:, 30:34, :][~body[:, 30:34, :]] = 1.2e-6
    activity = Image(np.where(body, 1.0, 0.001).astype(np.float32), Quantity.ACTIVITY_CONCENTRATION, FINE)
    found = body_outline(Image(density, Quantity.DENSITY, FINE), activity)
    assert found[lung].all()
    assert not found[:, -2:, :].any()
    assert found.sum() == pytest.approx(body.sum(), rel=0.01)


def test_a_lung_behind_a_thin_wall_is_body_and_the_air_above_a_couch_is_not():
    # the lung comes within a voxel of the skin, where an erosion opens the wall
    body, lung = ball(FINE, 36), ball(FINE, 12, (21.0, 0.0, 0.0)) | ball(FINE, 33) & ball(FINE, 9, (27.0, 0.0, 0.0))
    x, y = (np.arange(FINE.shape[axis]) * FINE.spacing_mm[0] + FINE.origin_mm[place] for axis, place in ((2, 0), (1, 1)))
    couch = np.zeros(FINE.shape, dtype=bool)
    couch[:, y > y.max() - 4.0] = True
    # with two posts it encloses air below the back
    posts = (np.abs(np.abs(x) - 15.0) < 3.0) & (y > 0)[:, None] & ~body & ~couch
    density = np.where((body & ~lung) | couch | posts, 1e-3, np.where(lung, 0.1e-3, 1.2e-6)).astype(np.float32)
    activity = Image(np.where(body, 1.0, 0.001).astype(np.float32), Quantity.ACTIVITY_CONCENTRATION, FINE)
    found = body_outline(Image(density, Quantity.DENSITY, FINE), activity)
    below = ~body & ~couch & ~posts & (np.abs(x) < 12.0) & (y > 0)[:, None]
    assert found[lung].all()
    assert found[body].mean() > 0.99
    assert below[FINE.shape[0] // 2].any() and not found[below | couch].any()


def test_a_full_image_is_all_body():
    full = np.full(COARSE.shape, 1e-3, dtype=np.float32)
    spect = Image(full, Quantity.ACTIVITY_CONCENTRATION, COARSE)
    assert body_outline(Image(full, Quantity.DENSITY, COARSE), spect).all()


def test_two_legs_are_one_body():
    legs = ball(FINE, 15, (-30.0, 0.0, 0.0)) | ball(FINE, 18, (30.0, 0.0, 0.0))
    density = Image(np.where(legs, 1e-3, 1.2e-6).astype(np.float32), Quantity.DENSITY, FINE)
    spect = Image(legs.astype(np.float32), Quantity.ACTIVITY_CONCENTRATION, FINE)
    assert np.array_equal(body_outline(density, spect), legs)


@pytest.mark.parametrize("edge_mm", [1.0, 3.0, 4.8])
def test_a_box_carried_by_a_rotation_keeps_its_rim(edge_mm):
    own = Grid.axial((40, 40, 40), (edge_mm,) * 3)
    voxels = np.zeros(own.shape, dtype=np.uint8)
    voxels[12:28, 12:28, 12:28] = 1
    target = Grid.axial((60, 60, 60), (edge_mm,) * 3)
    carried = largest_share(Labels(voxels, {1: "spleen"}, own.moved(rotation(0.1, (1.3, -0.7, 0.4)))), target)
    # each of 1536 surface voxels is rounded: 0.3 √1536 / 4096 = 0.3 %; a lost half voxel a face would be 18 %
    assert (carried.voxels == 1).sum() == pytest.approx(16**3, rel=0.02)


def test_counts_become_activity_by_the_contracts_formula():
    # 1e6 counts in a 0.1 mL voxel, 9.3 cps/MBq and head, 2 heads, 60 views of 15 s: by hand
    assert 1e6 * bq_per_ml_per_count(
        9.3, heads=2, views_per_head=60, seconds_per_view=15.0, voxel_ml=0.1, decay_during_scan=1.0
    ) == pytest.approx(1e6 * 1e6 / (9.3 * 2 * 60 * 15 * 0.1))


def test_mean_decay_of_a_long_scan_is_its_closed_form_and_of_a_short_one_is_one():
    x = np.log(2) * 0.5
    assert mean_decay_during_scan(3600.0, 7200.0) == pytest.approx((1 - np.exp(-x)) / x)
    assert mean_decay_during_scan(0.0, 7200.0) == 1.0


def test_dead_time_is_undone_by_the_lambert_function():
    tau, true = 4.6e-6, 3e4
    observed = true * np.exp(-true * tau)
    assert dead_time_factor(observed, tau) * observed == pytest.approx(true, rel=1e-9)
    with pytest.raises(ValueError, match="ceiling"):
        dead_time_factor(1e5, tau)
