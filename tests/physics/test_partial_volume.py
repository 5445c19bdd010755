"""What blur moved out of a region is given back: against blurred spheres whose activity is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from mrtai.physics.partial_volume import curve_flags, is_compact, partial_volume, recovery_flags, surroundings
from mrtai.physics.recovery import coefficient
from mrtai.values.calibration import Recovery
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels

SPACING_MM = 2.0
SIDE = 60
GRID = Grid.axial((SIDE,) * 3, (SPACING_MM,) * 3)
RADIUS_MM = np.sqrt(
    sum(np.square(axis) for axis in np.meshgrid(*[(np.arange(SIDE) - (SIDE - 1) / 2) * SPACING_MM] * 3, indexing="ij", sparse=True))
)
SPHERE = RADIUS_MM < 14.0
BODY = RADIUS_MM < 52.0
HOT, LEVEL = 100.0, 20.0
SIGMA = 4.7 / SPACING_MM


def blurred(hot: float, level: float) -> Image:
    voxels = ndimage.gaussian_filter(np.where(SPHERE, hot, level).astype(np.float32), SIGMA)
    return Image(voxels, Quantity.ACTIVITY_CONCENTRATION, GRID)


def labels(name: str) -> Labels:
    return Labels(SPHERE.astype(np.uint8), {1: name}, GRID)


def curve_through(recovered: float, volume_ml: float) -> Recovery:
    gamma = 0.7
    return Recovery(volume_ml * (1 / recovered - 1) ** (1 / gamma), gamma)


@pytest.fixture(scope="module")
def curve():
    """The curve through this very sphere's recovery, measured without background."""
    recovered = float(blurred(1.0, 0.0).voxels[SPHERE].mean())
    return curve_through(recovered, SPHERE.sum() * GRID.voxel_ml)


@pytest.mark.parametrize("level", [0.0, LEVEL])
def test_a_hot_sphere_gets_its_activity_back_whatever_surrounds_it(curve, level):
    """2 %: what spills over lifts the surroundings' own mean a little."""
    found = partial_volume([blurred(HOT, level)], [curve], labels("lesion_1"), labels("lesion_1"), BODY)
    true_bq = HOT * SPHERE.sum() * GRID.voxel_ml
    assert found.activity_bq["lesion_1"][0] == pytest.approx(true_bq, rel=0.02)
    assert blurred(HOT, level).voxels[SPHERE].sum() * GRID.voxel_ml < 0.85 * true_bq
    assert found.coefficients["lesion_1"][0] == pytest.approx(coefficient(curve, SPHERE.sum() * GRID.voxel_ml))


def test_a_region_no_hotter_than_its_surroundings_is_left_as_it_is(curve):
    cold = blurred(LEVEL / 2, LEVEL)
    found = partial_volume([cold], [curve], labels("spleen"), labels("spleen"), BODY)
    assert found.activity_bq["spleen"][0] == pytest.approx(float(cold.voxels[SPHERE].sum()) * GRID.voxel_ml, rel=1e-5)


def test_every_scan_is_corrected_by_its_own_cameras_curve(curve):
    poorer = replace(curve, beta_ml=4 * curve.beta_ml)
    scan = blurred(HOT, 0.0)
    found = partial_volume([scan, scan], [curve, poorer], labels("lesion_1"), labels("lesion_1"), BODY)
    assert found.coefficients["lesion_1"][1] < found.coefficients["lesion_1"][0]
    assert found.activity_bq["lesion_1"][1] > found.activity_bq["lesion_1"][0]


@pytest.mark.parametrize("name", ["spine", "lung_left", "red_marrow", "body", "aorta"])
def test_the_curve_of_spheres_is_not_used_for_what_is_none(curve, name):
    assert not is_compact(name)
    assert partial_volume([blurred(HOT, 0.0)], [curve], labels(name), labels(name), BODY).activity_bq == {}


def test_a_lesion_in_the_liver_is_surrounded_by_liver():
    voxels = np.where(SPHERE, 2, np.where(RADIUS_MM < 40, 1, 0)).astype(np.uint8)
    regions = Labels(voxels, {1: "liver", 2: "lesion_1"}, GRID)
    assert np.array_equal(surroundings(regions, "lesion_1", BODY), voxels == 1)
    assert np.array_equal(surroundings(regions, "liver", BODY), (voxels == 0) & BODY)


def test_a_recovery_below_three_tenths_and_a_missing_curve_ask_for_a_look(curve):
    assert [flag.code for flag in recovery_flags(0.29)] == ["RECOVERY_LOW"]
    assert recovery_flags(0.3) == recovery_flags(None) == ()
    assert [flag.code for flag in curve_flags("recovery", [curve, None])] == ["NO_RECOVERY_CURVE"]
    assert curve_flags("off", [None]) == curve_flags("recovery", [curve]) == ()
