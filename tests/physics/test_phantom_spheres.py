"""Spheres in a tomogram: shares of voxels, where they lie, and what is found in them, against closed forms."""

import numpy as np
import pytest

from mrtai.physics.phantom_spheres import found_shift, in_view, recoveries, sphere_shares
from mrtai.values.grid import Grid
from mrtai.values.phantom import Sphere
from mrtai.values.refusal import DosimetryError
from tests.physics.blurred_spheres import GRID, HALF_LIFE_H, SECONDS, SENSITIVITY, SIGMA_MM, SPHERES, VIEWS, mean_recovery, phantom, scan

ZERO = np.zeros(3)


@pytest.mark.parametrize("centre_mm", [(0.0, 0.0, 0.0), (1.3, -0.7, 2.9)])
@pytest.mark.parametrize("radius_mm", [5.0, 18.5])
def test_shares_sum_to_the_spheres_volume(centre_mm, radius_mm):
    box, shares = sphere_shares(GRID, np.array(centre_mm), radius_mm)
    assert shares.min() >= 0
    assert shares.max() <= 1
    # a 10 mm sphere spans 17 sub-points of 0.57 mm
    assert shares.sum() * GRID.voxel_ml == pytest.approx(4 / 3 * np.pi * (radius_mm / 10) ** 3, rel=0.01)
    index = np.indices(GRID.shape)[(slice(None), *box)].reshape(3, -1)[::-1]
    at_mm = GRID.origin_mm + GRID.spacing_mm * (index @ shares.ravel() / shares.sum())
    assert at_mm == pytest.approx(centre_mm, abs=0.15)


def test_shares_turn_with_the_grid():
    turned = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    oblique = Grid((30, 30, 30), np.array([3.0, 4.0, 5.0]), np.array([-60.0, -40.0, -50.0]), turned)
    box, shares = sphere_shares(oblique, np.array([1.0, 2.0, 3.0]), 12.0)
    index = np.indices(oblique.shape)[(slice(None), *box)].reshape(3, -1)[::-1]
    at_mm = oblique.affine[:3, :3] @ (index @ shares.ravel() / shares.sum()) + oblique.origin_mm
    assert at_mm == pytest.approx([1.0, 2.0, 3.0], abs=0.15)
    assert shares.sum() * oblique.voxel_ml == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=0.01)


def test_a_sphere_is_in_view_when_its_whole_surface_is():
    # the voxels end at 80 mm along z, 88 mm along x
    assert in_view(GRID, Sphere(20.0, (0.0, 0.0, 69.9), 1.0), ZERO)
    assert not in_view(GRID, Sphere(20.0, (0.0, 0.0, 70.1), 1.0), ZERO)
    assert not in_view(GRID, Sphere(20.0, (0.0, 0.0, 60.0), 1.0), np.array([0.0, 0.0, 10.1]))
    assert in_view(GRID, Sphere(20.0, (77.9, 0.0, 0.0), 1.0), ZERO)


@pytest.mark.parametrize("shift_mm", [(0.0, 0.0, 0.0), (7.3, -4.9, 10.2), (-15.0, 1.7, -3.3)])
def test_a_phantom_that_lies_elsewhere_is_found(shift_mm):
    filled = phantom()
    # the edge of the box pulls a little, the parabola is not quite the peak
    assert found_shift(scan(filled, shift_mm=shift_mm).counts, GRID, filled) == pytest.approx(shift_mm, abs=0.5)


def test_cold_spheres_are_found_too():
    cold = phantom(tuple(Sphere(one.diameter_mm, one.centre_mm, 0.0) for one in SPHERES))
    assert found_shift(scan(cold, shift_mm=(5.0, 3.0, -4.0)).counts, GRID, cold) == pytest.approx((5.0, 3.0, -4.0), abs=0.6)


def measured(filled, tomogram, shift_mm=ZERO):
    x = np.log(2) * (VIEWS * SECONDS / 3600) / HALF_LIFE_H
    left = 2 ** (-3.0 / HALF_LIFE_H) * (1 - np.exp(-x)) / x
    per_count = 1e6 / (SENSITIVITY * tomogram.head_seconds * GRID.voxel_ml)
    return recoveries(tomogram.counts * per_count, GRID, filled, shift_mm=shift_mm, remaining=left, counts_per_bq_per_ml=1 / per_count)


def test_recovery_is_that_of_the_closed_form():
    filled = phantom()
    # a share is a box of one voxel, which adds a twelfth of its square to the blur
    sigma_mm = np.sqrt(SIGMA_MM**2 + 4.0**2 / 12)
    for one in measured(filled, scan(filled)):
        assert one.coefficient == pytest.approx(mean_recovery(one.diameter_mm, sigma_mm), abs=0.006)


def test_hot_and_cold_spheres_recover_alike():
    cold = phantom(tuple(Sphere(one.diameter_mm, one.centre_mm, 0.0) for one in SPHERES))
    filled = phantom()
    hot = [one.coefficient for one in measured(filled, scan(filled))]
    assert [one.coefficient for one in measured(cold, scan(cold))] == pytest.approx(hot, abs=0.01)


def test_the_noise_of_a_sphere_is_the_poisson_noise_of_its_counts():
    filled = phantom()
    tomogram = scan(filled)
    rng = np.random.default_rng(1)
    draws = []
    for _ in range(200):
        drawn = type(tomogram)(
            rng.poisson(np.maximum(tomogram.counts, 0.0)).astype(float),
            GRID,
            tomogram.started_at,
            "Lu-177",
            2,
            VIEWS,
            SECONDS,
            None,
            "CAM-1",
            "MEGP",
        )
        draws.append([one.coefficient for one in measured(filled, drawn)])
    # 200 draws tell a standard deviation to 5 %; counts are not the same in all voxels of a sphere
    assert [one.noise_sd for one in measured(filled, tomogram)] == pytest.approx(np.std(draws, axis=0), rel=0.2)


def test_spheres_that_are_not_there_are_refused():
    filled, empty = phantom(), phantom(())
    with pytest.raises(DosimetryError, match=r"the spheres cannot be found; found -?[0-9]+% of their contrast"):
        measured(filled, scan(empty))
    with pytest.raises(DosimetryError, match="the spheres cannot be found; found no peak within 20 mm"):
        found_shift(scan(filled, shift_mm=(0.0, 26.0, 0.0)).counts, GRID, filled)
