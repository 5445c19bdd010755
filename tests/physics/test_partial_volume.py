"""What blur moved out of a region is given back, and taken where it fell: against blurred objects whose activity is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from mrtai.physics.partial_volume import curve_flags, is_compact, partial_volume, recovery_flags
from mrtai.physics.recovery import coefficient
from mrtai.physics.spill import equivalent_sphere_ml, kept_share
from mrtai.physics.uncertainty_inputs import content_ml
from mrtai.units import FWHM_PER_SIGMA
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
FWHM_MM = 11.0
SIGMA = FWHM_MM / FWHM_PER_SIGMA / SPACING_MM
SPHERE_ML = equivalent_sphere_ml(kept_share(SPHERE, GRID.spacing_mm, FWHM_MM), FWHM_MM)


def blurred(hot: float, level: float) -> Image:
    voxels = ndimage.gaussian_filter(np.where(SPHERE, hot, level).astype(np.float32), SIGMA)
    return Image(voxels, Quantity.ACTIVITY_CONCENTRATION, GRID)


def labels(name: str) -> Labels:
    return Labels(SPHERE.astype(np.uint8), {1: name}, GRID)


def found_in(spects, curves, regions, body=BODY):
    return partial_volume(spects, curves, regions, regions, body, FWHM_MM)


def curve_through(recovered: float, volume_ml: float) -> Recovery:
    gamma = 0.7
    return Recovery(volume_ml * (1 / recovered - 1) ** (1 / gamma), gamma)


@pytest.fixture(scope="module")
def curve():
    """The curve through this very sphere's recovery, measured without background."""
    recovered = float(blurred(1.0, 0.0).voxels[SPHERE].mean())
    return curve_through(recovered, SPHERE_ML)


@pytest.mark.parametrize("level", [0.0, LEVEL])
def test_a_hot_sphere_gets_its_activity_back_whatever_surrounds_it(curve, level):
    """2 %: what spills over lifts the surroundings' own mean a little."""
    found = found_in([blurred(HOT, level)], [curve], labels("lesion_1"))
    true_bq = HOT * SPHERE.sum() * GRID.voxel_ml
    assert found.activity_bq["lesion_1"][0] == pytest.approx(true_bq, rel=0.02)
    assert blurred(HOT, level).voxels[SPHERE].sum() * GRID.voxel_ml < 0.85 * true_bq
    assert found.coefficients["lesion_1"][0] == pytest.approx(coefficient(curve, SPHERE_ML))
    assert found.sphere_ml["lesion_1"] == pytest.approx(SPHERE.sum() * GRID.voxel_ml, rel=0.01)


def test_a_region_no_hotter_than_its_surroundings_is_left_as_it_is(curve):
    cold = blurred(LEVEL / 2, LEVEL)
    found = found_in([cold], [curve], labels("spleen"))
    assert found.activity_bq["spleen"][0] == pytest.approx(float(cold.voxels[SPHERE].sum()) * GRID.voxel_ml, rel=1e-5)


def test_every_scan_is_corrected_by_its_own_cameras_curve(curve):
    poorer = replace(curve, beta_ml=4 * curve.beta_ml)
    scan = blurred(HOT, 0.0)
    found = found_in([scan, scan], [curve, poorer], labels("lesion_1"))
    assert found.coefficients["lesion_1"][1] < found.coefficients["lesion_1"][0]
    assert found.activity_bq["lesion_1"][1] > found.activity_bq["lesion_1"][0]


@pytest.mark.parametrize("name", ["spine", "lung_left", "red_marrow", "body", "aorta"])
def test_the_curve_of_spheres_is_not_used_for_what_is_none(curve, name):
    assert not is_compact(name)
    found = found_in([blurred(HOT, 0.0)], [curve], labels(name))
    assert found.activity_bq == found.coefficients == {} and found.contrast[name][0] > 0.9


def test_a_lesion_in_the_liver_is_surrounded_by_liver(curve):
    regions = Labels(np.where(SPHERE, 2, np.where(RADIUS_MM < 40, 1, 0)).astype(np.uint8), {1: "liver", 2: "lesion_1"}, GRID)
    found = found_in([blurred(HOT, LEVEL)], [curve], regions)
    assert found.activity_bq["lesion_1"][0] == pytest.approx(HOT * SPHERE.sum() * GRID.voxel_ml, rel=0.02)


@pytest.mark.parametrize("neighbour_bq_per_ml", [0.0, 60.0])
def test_a_flat_region_beside_another_gets_its_activity_back_by_its_own_shape(neighbour_bq_per_ml):
    """The curve is that of spheres under the same blur; 4 %: the neighbour's own concentration is itself blurred."""
    z, y, x = np.meshgrid(*[(np.arange(SIDE) - (SIDE - 1) / 2) * SPACING_MM] * 3, indexing="ij")
    flat = (z / 40) ** 2 + (y / 40) ** 2 + (x / 14) ** 2 < 1
    beside = (np.abs(x - 24) < 8) & (np.abs(y) < 30) & (np.abs(z) < 30) & ~flat
    truth = np.where(flat, HOT, np.where(beside, neighbour_bq_per_ml, 0.0)).astype(np.float32)
    scan = Image(ndimage.gaussian_filter(truth, SIGMA), Quantity.ACTIVITY_CONCENTRATION, GRID)
    regions = Labels(np.where(flat, 1, np.where(beside, 2, 0)).astype(np.uint8), {1: "spleen", 2: "stomach"}, GRID)
    sphere_ml = equivalent_sphere_ml(kept_share(flat, GRID.spacing_mm, FWHM_MM), FWHM_MM)
    assert sphere_ml < 0.6 * flat.sum() * GRID.voxel_ml
    curve = curve_through(float(content_ml(sphere_ml, sphere_ml, FWHM_MM)) / sphere_ml, sphere_ml)
    found = found_in([scan], [curve], regions, np.ones(flat.shape, dtype=bool))
    assert found.activity_bq["spleen"][0] == pytest.approx(HOT * flat.sum() * GRID.voxel_ml, rel=0.04)


def test_what_is_given_back_is_taken_from_where_it_fell(curve):
    scan = blurred(HOT, 0.0)
    found = found_in([scan], [curve], labels("lesion_1"))
    total_bq = float(scan.voxels.sum(dtype=np.float64)) * GRID.voxel_ml
    # the remainder keeps half of what it has, though all of it is the lesion's
    left = total_bq - float(scan.voxels[SPHERE].sum(dtype=np.float64)) * GRID.voxel_ml
    assert found.activity_bq["remainder"][0] == pytest.approx(left / 2, rel=1e-4)
    warm = blurred(HOT, LEVEL)
    found = found_in([warm], [curve], labels("lesion_1"))
    total_bq = float(warm.voxels.sum(dtype=np.float64)) * GRID.voxel_ml
    assert sum(activity[0] for activity in found.activity_bq.values()) == pytest.approx(total_bq, rel=1e-5)


def test_without_a_curve_nothing_moves_but_shapes_and_contrasts_are_known():
    found = found_in([blurred(HOT, LEVEL)], [None], labels("lesion_1"))
    assert found.coefficients == found.activity_bq == {}
    measured = float(blurred(HOT, LEVEL).voxels[SPHERE].mean())
    assert found.contrast["lesion_1"][0] == pytest.approx(1 - LEVEL / measured, rel=0.02)


def test_a_recovery_below_three_tenths_and_a_missing_curve_ask_for_a_look(curve):
    assert [flag.code for flag in recovery_flags(0.29)] == ["RECOVERY_LOW"]
    assert recovery_flags(0.3) == recovery_flags(None) == ()
    assert [flag.code for flag in curve_flags("recovery", [curve, None])] == ["NO_RECOVERY_CURVE"]
    assert curve_flags("off", [None]) == curve_flags("recovery", [curve]) == ()
