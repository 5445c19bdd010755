"""What blur moved out of a region is given back, and taken where it fell: against blurred objects whose activity is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from mrtai.physics.partial_volume import curve_flags, is_compact, partial_volume, point_spread_mm, recovery_flags
from mrtai.physics.recovery import coefficient
from mrtai.physics.spill import equivalent_sphere_ml, kept_share
from mrtai.physics.uncertainty_inputs import content_ml
from mrtai.simulate.scanner import SPECT_GRID, Camera
from mrtai.simulate.spheres import curve as curve_of
from mrtai.units import FWHM_PER_SIGMA
from mrtai.values.calibration import GaussianRecovery, Recovery
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
    """2 %: the sphere's voxels are not quite a sphere."""
    found = found_in([blurred(HOT, level)], [curve], labels("lesion_1"))
    true_bq = HOT * SPHERE.sum() * GRID.voxel_ml
    assert found.activity_bq["lesion_1"][0] == pytest.approx(true_bq, rel=0.02)
    assert blurred(HOT, level).voxels[SPHERE].sum() * GRID.voxel_ml < 0.85 * true_bq
    assert found.coefficients["lesion_1"][0] == pytest.approx(coefficient(curve, SPHERE_ML))
    assert found.sphere_ml["lesion_1"] == pytest.approx(SPHERE.sum() * GRID.voxel_ml, rel=0.01)


def test_what_spills_into_a_region_colder_than_its_surroundings_is_taken_away(curve):
    cold = blurred(LEVEL / 2, LEVEL)
    found = found_in([cold], [curve], labels("spleen"), np.ones_like(BODY))
    true_bq = LEVEL / 2 * SPHERE.sum() * GRID.voxel_ml
    assert float(cold.voxels[SPHERE].sum()) * GRID.voxel_ml > 1.2 * true_bq
    assert found.activity_bq["spleen"][0] == pytest.approx(true_bq, rel=0.02)
    assert found.excess["spleen"][0] == pytest.approx(cold.voxels[SPHERE].mean() / (LEVEL / 2) - 1, rel=0.1)


def test_a_region_that_is_hardly_anything_but_spill_keeps_a_quarter(curve):
    found = found_in([blurred(0.0, LEVEL)], [curve], labels("spleen"))
    measured_bq = float(blurred(0.0, LEVEL).voxels[SPHERE].sum()) * GRID.voxel_ml
    assert found.activity_bq["spleen"][0] == pytest.approx(measured_bq / 4, rel=0.01)


def beside_a_lesion(column: float) -> tuple[Image, Labels, np.ndarray]:
    """A column of marrow through the image, with a hot lesion in it, in a body of ``LEVEL``."""
    across = np.hypot(*np.meshgrid(*[(np.arange(SIDE) - (SIDE - 1) / 2) * SPACING_MM] * 2, indexing="ij"))
    marrow = np.broadcast_to(across < 14.0, GRID.shape) & ~SPHERE
    truth = np.where(SPHERE, 40 * HOT, np.where(marrow, column, LEVEL)).astype(np.float32)
    scan = Image(ndimage.gaussian_filter(truth, SIGMA), Quantity.ACTIVITY_CONCENTRATION, GRID)
    return scan, Labels(np.where(SPHERE, 1, np.where(marrow, 2, 0)).astype(np.uint8), {1: "lesion_1", 2: "red_marrow"}, GRID), marrow


def test_marrow_beside_a_hot_lesion_is_told_by_the_marrow_away_from_it(curve, monkeypatch):
    """More than half of what it shows is the lesion's; where that recovery is 5 % off, the mean of all voxels is 10 % off, the rest 1 %."""
    scan, regions, marrow = beside_a_lesion(HOT)
    true_bq = HOT * marrow.sum() * GRID.voxel_ml
    assert scan.voxels[marrow].mean() > 2 * HOT
    wrong = replace(curve, beta_ml=1.2 * curve.beta_ml)
    found = found_in([scan], [wrong], regions, np.ones_like(BODY))
    assert found.activity_bq["red_marrow"][0] == pytest.approx(true_bq, rel=0.02)
    assert 0.5 < found.counted["red_marrow"] < 0.9 and found.counted["lesion_1"] == 1.0
    assert found.moved["red_marrow"][0] < 0.5 < found.excess["red_marrow"][0]
    assert found.moved["lesion_1"][0] == found.excess["lesion_1"][0]
    monkeypatch.setattr("mrtai.physics.partial_volume.ROUNDS", 0)
    by_mean = found_in([scan], [wrong], regions, np.ones_like(BODY))
    assert by_mean.activity_bq["red_marrow"][0] < 0.92 * true_bq
    assert by_mean.excess["red_marrow"][0] == pytest.approx(
        scan.voxels[marrow].mean() / by_mean.activity_bq["red_marrow"][0] * marrow.sum() * GRID.voxel_ml - 1
    )


def test_a_region_of_even_surroundings_counts_whole(curve):
    scan, regions, marrow = beside_a_lesion(HOT)
    even = replace(scan, voxels=np.full_like(scan.voxels, LEVEL))
    found = found_in([even], [curve], regions, np.ones_like(BODY))
    assert found.activity_bq["red_marrow"][0] == pytest.approx(LEVEL * marrow.sum() * GRID.voxel_ml, rel=1e-3)
    assert found.counted["red_marrow"] > 0.9


def rms(voxels: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    return float(np.sqrt(np.mean((voxels - truth)[where] ** 2)) / truth[where].mean())


def test_voxels_are_given_back_what_blur_took_and_lose_what_it_brought():
    """The tenth of the marrow's voxels that touch the lesion show several times their own; 0.03: blur of voxels, not of what they cut."""
    scan, regions, marrow = beside_a_lesion(HOT)
    plain = curve_through(0.5, SPHERE_ML)
    own = replace(plain, gaussian=GaussianRecovery(FWHM_MM, 1.0))
    found = found_in([scan, scan], [own, own], regions, np.ones_like(BODY))
    truth = np.where(SPHERE, 40 * HOT, np.where(marrow, HOT, LEVEL))
    for where in (SPHERE, marrow, ~SPHERE & ~marrow):
        before, after = (rms(of.voxels, truth, where) for of in (scan, found.spects[0]))
        assert after < 0.03 < 0.25 < before
    assert found.spects[1].voxels == pytest.approx(found.spects[0].voxels)
    assert found.spects[0].grid is scan.grid and found.spects[0].quantity is scan.quantity


def test_voxels_where_no_region_is_stay_as_they_are_and_noise_is_not_multiplied_without_end(curve):
    scan, regions, _ = beside_a_lesion(HOT)
    noisy = replace(scan, voxels=scan.voxels + np.random.default_rng(1).normal(0, 5, scan.voxels.shape).astype(np.float32))
    (given_back,) = found_in([noisy], [curve], regions).spects
    outside = ~BODY & (regions.voxels == 0)
    assert np.array_equal(given_back.voxels[outside], noisy.voxels[outside])
    assert np.all(np.abs(given_back.voxels) <= 5.0 * np.abs(noisy.voxels) + 1e-3)
    assert found_in([noisy], [None], regions).spects == ()


@pytest.mark.parametrize("column", [LEVEL, LEVEL / 10])
def test_which_voxels_count_is_said_until_it_stays(curve, column, monkeypatch):
    """2 %: the last step may change what is believed by 1."""
    scan, regions, _ = beside_a_lesion(column)
    wrong = replace(curve, beta_ml=0.9 * curve.beta_ml)
    found = found_in([scan], [wrong], regions, np.ones_like(BODY))
    monkeypatch.setattr("mrtai.physics.partial_volume.ROUNDS", 60)
    monkeypatch.setattr("mrtai.physics.partial_volume.SETTLED", 1e-6)
    at_last = found_in([scan], [wrong], regions, np.ones_like(BODY))
    assert found.activity_bq["red_marrow"] == pytest.approx(at_last.activity_bq["red_marrow"], rel=0.02)


def test_what_was_moved_is_what_was_lost_and_what_was_shown(curve, monkeypatch):
    monkeypatch.setattr("mrtai.physics.partial_volume.ROUNDS", 0)
    scan, regions, marrow = beside_a_lesion(HOT)
    found = found_in([scan], [curve], regions, np.ones_like(BODY))
    own = ndimage.gaussian_filter(np.where(marrow, HOT, 0.0), SIGMA)[marrow].mean()
    others = scan.voxels[marrow].mean() - own
    assert found.moved["red_marrow"][0] == pytest.approx(np.hypot(HOT - own, others) / HOT, rel=0.01)
    assert found.moved["remainder"][0] == found.excess["remainder"][0] and found.counted["remainder"] == 1.0


def test_marrow_whose_mean_an_undershoot_beside_the_lesion_eats_is_still_told_by_the_rest(curve):
    scan, regions, marrow = beside_a_lesion(HOT)
    rim = marrow & (RADIUS_MM < 20.0)
    eaten = replace(scan, voxels=np.where(rim, -80.0 * HOT, scan.voxels).astype(np.float32))
    assert eaten.voxels[marrow].mean() < 0 < rim.sum() < 0.2 * marrow.sum()
    found = found_in([eaten], [curve], regions, np.ones_like(BODY))
    assert found.counted["red_marrow"] < 0.9
    assert 0 < found.activity_bq["red_marrow"][0] < HOT * marrow.sum() * GRID.voxel_ml


def test_marrow_whose_own_voxels_show_nothing_is_not_known_at_all(curve):
    """An offset of the reconstruction eats what little it has: it is held to have a hundredth of its mean, off by many times that."""
    scan, regions, marrow = beside_a_lesion(0.0)
    offset = replace(scan, voxels=scan.voxels - np.float32(1.0 * LEVEL))
    found = found_in([offset], [curve], regions, np.ones_like(BODY))
    mean = float(offset.voxels[marrow].mean())
    assert mean > HOT
    assert found.activity_bq["red_marrow"][0] == pytest.approx(0.01 * mean * marrow.sum() * GRID.voxel_ml, rel=0.01)
    assert found.moved["red_marrow"][0] == found.excess["red_marrow"][0] == pytest.approx(99.0, rel=0.01)
    assert found.counted["red_marrow"] < 0.9


def test_every_scan_is_corrected_by_its_own_cameras_curve(curve):
    poorer = replace(curve, beta_ml=4 * curve.beta_ml)
    scan = blurred(HOT, 0.0)
    found = found_in([scan, scan], [curve, poorer], labels("lesion_1"))
    assert found.coefficients["lesion_1"][1] < found.coefficients["lesion_1"][0]
    assert found.activity_bq["lesion_1"][1] > found.activity_bq["lesion_1"][0]


@pytest.mark.parametrize("name", ["spine", "lung_left", "red_marrow", "body", "aorta"])
def test_what_is_no_sphere_keeps_what_a_gaussian_leaves_of_its_shape(curve, name):
    assert not is_compact(name)
    wrong = replace(curve, beta_ml=9 * curve.beta_ml)
    found = found_in([blurred(HOT, 0.0)], [wrong], labels(name))
    assert found.coefficients == {} and found.contrast[name][0] > 0.9
    assert found.activity_bq[name][0] == pytest.approx(HOT * SPHERE.sum() * GRID.voxel_ml, rel=0.01)


def test_the_haze_that_a_plateau_speaks_of_is_taken_from_where_it_lies(curve):
    """A cold region far from all that is hot shows nothing but haze; 3 %: it was made by another width than is believed."""
    share, truth = 0.1, np.where(SPHERE, HOT, np.where(BODY, LEVEL / 20, 0.0)).astype(np.float32)
    haze = ndimage.gaussian_filter(truth, 60.0 / SPACING_MM)
    scan = Image((1 - share) * ndimage.gaussian_filter(truth, SIGMA) + share * haze, Quantity.ACTIVITY_CONCENTRATION, GRID)
    far = np.abs(RADIUS_MM - 47.0) < 3.0
    regions = Labels(np.where(SPHERE, 1, np.where(far, 2, 0)).astype(np.uint8), {1: "lesion_1", 2: "lung_left"}, GRID)
    gaussian = replace(curve, gaussian=GaussianRecovery(FWHM_MM, 1 - share))
    with_haze, without = (found_in([scan], [one], regions).activity_bq for one in (gaussian, curve))
    true_bq = LEVEL / 20 * far.sum() * GRID.voxel_ml
    assert with_haze["lung_left"][0] == pytest.approx(true_bq, rel=0.03)
    assert without["lung_left"][0] > 1.04 * true_bq
    assert with_haze["lesion_1"][0] == pytest.approx(HOT * SPHERE.sum() * GRID.voxel_ml, rel=0.02)


def test_a_lesion_in_the_liver_is_surrounded_by_liver(curve):
    regions = Labels(np.where(SPHERE, 2, np.where(RADIUS_MM < 40, 1, 0)).astype(np.uint8), {1: "liver", 2: "lesion_1"}, GRID)
    found = found_in([blurred(HOT, LEVEL)], [curve], regions)
    assert found.activity_bq["lesion_1"][0] == pytest.approx(HOT * SPHERE.sum() * GRID.voxel_ml, rel=0.02)


@pytest.mark.parametrize("neighbour_bq_per_ml", [0.0, 60.0])
def test_a_flat_region_beside_another_gets_its_activity_back_by_its_own_shape(neighbour_bq_per_ml):
    """The curve is that of spheres under the same blur."""
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
    assert found.activity_bq["spleen"][0] == pytest.approx(HOT * flat.sum() * GRID.voxel_ml, rel=0.01)


def test_the_bodys_activity_is_counted_once(curve):
    scan = blurred(HOT, LEVEL)
    found = found_in([scan], [curve], labels("lesion_1"))
    total_bq = float(scan.voxels.sum(dtype=np.float64)) * GRID.voxel_ml
    assert sum(activity[0] for activity in found.activity_bq.values()) == pytest.approx(total_bq, rel=0.01)


def test_what_lies_beside_the_body_stays_with_the_remainder(curve):
    arm = np.zeros(GRID.shape, dtype=bool)
    arm[20:40, 4:14, 4:14] = True
    truth = np.where(SPHERE, HOT, np.where(arm, LEVEL, 0.0)).astype(np.float32)
    scan = Image(ndimage.gaussian_filter(truth, SIGMA), Quantity.ACTIVITY_CONCENTRATION, GRID)
    found = found_in([scan], [curve], labels("lesion_1"))
    assert found.activity_bq["remainder"][0] == pytest.approx(LEVEL * arm.sum() * GRID.voxel_ml, rel=0.03)


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


def test_a_region_that_fills_the_image_borders_on_nothing(curve):
    whole = Labels(np.ones(GRID.shape, dtype=np.uint8), {1: "body"}, GRID)
    scan = Image(np.full(GRID.shape, LEVEL, dtype=np.float32), Quantity.ACTIVITY_CONCENTRATION, GRID)
    found = found_in([scan], [curve], whole, np.ones_like(BODY))
    assert found.contrast["body"][0] == pytest.approx(1.0)
    assert found.activity_bq["body"][0] == pytest.approx(LEVEL * whole.voxels.size * GRID.voxel_ml, rel=1e-4)


@pytest.mark.parametrize("worse", [1.0, 4.0])
def test_an_even_activity_stays_even_whatever_the_curve_says(curve, worse):
    """A camera's curve and the resolution that a protocol states may not agree: no contrast, no change."""
    even = Image(np.full(GRID.shape, LEVEL, dtype=np.float32), Quantity.ACTIVITY_CONCENTRATION, GRID)
    found = found_in([even], [replace(curve, beta_ml=worse * curve.beta_ml)], labels("lesion_1"), np.ones_like(BODY))
    assert found.activity_bq["lesion_1"][0] == pytest.approx(LEVEL * SPHERE.sum() * GRID.voxel_ml, rel=1e-3)


def test_what_a_scan_does_not_see_of_a_neighbour_still_spills(curve):
    """The hot half of the body ends out of view; what it does to a cold region within is taken from it all the same; 5 %."""
    cold = np.abs(RADIUS_MM - 30.0) < 4.0
    truth = np.where(SPHERE, HOT, np.where(cold, LEVEL / 4, np.where(BODY, LEVEL, 0.0))).astype(np.float32)
    scan = ndimage.gaussian_filter(truth, SIGMA)
    view = np.ones(GRID.shape, dtype=bool)
    view[:10] = False
    scan = np.where(view, scan, np.float32(0.0))
    regions = Labels(np.where(SPHERE, 1, np.where(cold, 2, 0)).astype(np.uint8), {1: "lesion_1", 2: "stomach"}, GRID)
    spect = Image(scan, Quantity.ACTIVITY_CONCENTRATION, GRID)
    found = partial_volume([spect], [curve], regions, regions, BODY, FWHM_MM, [view])
    assert found.activity_bq["stomach"][0] == pytest.approx(LEVEL / 4 * cold.sum() * GRID.voxel_ml, rel=0.05)
    blind = partial_volume([spect], [curve], regions, regions, BODY, FWHM_MM)
    assert blind.activity_bq["stomach"][0] > 1.1 * found.activity_bq["stomach"][0]


def test_spheres_tell_the_point_spread_that_showed_them():
    camera = Camera(fwhm_mm=9.0, scatter_share=0.05)
    measured = curve_of(camera)
    assert point_spread_mm([measured, measured], SPECT_GRID) == pytest.approx(9.0, rel=0.02)
    assert point_spread_mm([measured, None], SPECT_GRID) is None
    assert point_spread_mm([replace(measured, gaussian=None)], SPECT_GRID) is None
    # of spheres that two cameras saw, what lies between them
    other = curve_of(replace(camera, fwhm_mm=13.0))
    assert 10.5 < point_spread_mm([measured, other], SPECT_GRID) < 11.5
