"""Contours against each other: closed forms, a slow twin, and MONAI's numbers."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from mrtai.physics.contour_agreement import contour_agreement, on_one_grid, surface_distances_mm
from mrtai.physics.similarity import dice
from mrtai.values.grid import Grid

SPACING = np.array([2.0, 3.0, 5.0])  # x, y, z
GRID = Grid.axial((14, 30, 40), SPACING)


def box(x, y, z, grid=GRID):
    mask = np.zeros(grid.shape, bool)
    mask[slice(*z), slice(*y), slice(*x)] = True
    return mask


def ball(grid, centre_mm, radius_mm):
    k, j, i = np.indices(grid.shape)
    places = np.stack([i, j, k], axis=-1) @ grid.affine[:3, :3].T + grid.origin_mm
    return ((places - centre_mm) ** 2).sum(axis=-1) <= radius_mm**2


def test_a_contour_against_itself_agrees_wholly():
    mask = ball(GRID, (3, 4, 5), 20)
    found = contour_agreement(mask, GRID, mask, GRID)
    assert (found.dice, found.mean_surface_mm, found.surface_95_mm, found.volume_ratio) == (1.0, 0.0, 0.0, 1.0)


def test_a_box_moved_along_its_long_side_overlaps_and_lies_as_far_as_it_was_moved():
    one, other = box((5, 25), (5, 15), (3, 9)), box((9, 29), (5, 15), (3, 9))
    found = contour_agreement(one, GRID, other, GRID)
    assert found.dice == pytest.approx(16 / 20) and found.volume_ratio == 1.0
    # the end faces lie four voxels of 2 mm apart; the long sides coincide
    assert found.surface_95_mm == pytest.approx(8.0)


def test_regions_that_touch_nowhere_have_no_overlap_and_all_their_distance():
    found = contour_agreement(box((2, 3), (4, 5), (3, 4)), GRID, box((12, 13), (4, 5), (3, 4)), GRID)
    assert (found.dice, found.mean_surface_mm, found.surface_95_mm) == (0.0, pytest.approx(20.0), pytest.approx(20.0))


def twin(one, other, spacing_mm):
    """Every surface voxel against every other, by definition."""

    def surface(mask):
        padded = np.pad(mask, 1)
        found = []
        for k, j, i in np.argwhere(mask) + 1:
            faces = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
            if not all(padded[k + a, j + b, i + c] for a, b, c in faces):
                found.append((k - 1, j - 1, i - 1))
        return np.array(found) * spacing_mm[::-1]

    distance = cdist(surface(one), surface(other))
    there, back = distance.min(axis=1), distance.min(axis=0)
    return np.concatenate([there, back]).mean(), max(np.percentile(there, 95), np.percentile(back, 95))


@pytest.mark.parametrize("seed", range(3))
def test_distances_equal_those_of_every_voxel_against_every_other(seed):
    rng = np.random.default_rng(seed)
    one, other = (ball(GRID, rng.uniform(-8, 8, 3), rng.uniform(10, 22)) for _ in range(2))
    assert surface_distances_mm(one, other, SPACING) == pytest.approx(twin(one, other, SPACING), rel=1e-12)


def test_distances_are_those_of_monai():
    # monai 1.6.1 on these masks as tensors: SurfaceDistanceMetric(symmetric) and HausdorffDistanceMetric(percentile=95), spacing (5, 3, 2)
    one, other = ball(GRID, (0, 0, 0), 20), ball(GRID, (5, -4, 3), 16)
    mean, furthest = surface_distances_mm(one, other, SPACING)
    assert dice(one, other) == pytest.approx(0.618765, rel=1e-6)
    assert (mean, furthest) == pytest.approx((4.4251256, 10.4403067), rel=1e-6)


def test_contours_on_two_grids_are_compared_on_the_finer_one_and_neither_is_cut():
    fine = Grid.axial((40, 60, 60), (1.5, 1.5, 2.0), origin_mm=(-45.0, -45.0, -40.0))
    one, other = ball(fine, (0, 0, 0), 20), ball(GRID, (0, 0, 0), 20)
    ours, theirs, grid = on_one_grid(one, fine, other, GRID)
    assert np.allclose(grid.spacing_mm, fine.spacing_mm) and ours.sum() == one.sum()
    assert theirs.sum() * grid.voxel_ml == pytest.approx(other.sum() * GRID.voxel_ml, rel=0.02)
    # voxels of 2 to 5 mm draw a ball of 20 mm within one of them
    found = contour_agreement(one, fine, other, GRID)
    assert found.dice > 0.93 and found.surface_95_mm < 3.5
    swapped = contour_agreement(other, GRID, one, fine)
    assert swapped.dice == found.dice and swapped.volume_ratio == pytest.approx(1 / found.volume_ratio)


def test_a_contour_outside_the_other_sides_grid_counts_in_full():
    near = Grid.axial((10, 10, 10), (2.0, 2.0, 2.0), origin_mm=(0.0, 0.0, 0.0))
    far = Grid.axial((10, 10, 10), (3.0, 3.0, 3.0), origin_mm=(60.0, 0.0, 0.0))
    found = contour_agreement(box((2, 6), (2, 6), (2, 6), near), near, box((2, 6), (2, 6), (2, 6), far), far)
    assert found.dice == 0.0 and found.volume_ratio == pytest.approx((2 / 3) ** 3)
    assert found.mean_surface_mm > 50
