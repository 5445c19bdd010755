"""Scans and contours held against each other: planted displacements and scales are found, clean ones are left alone."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from mrtai.engines import known_beside, tac_model
from mrtai.io.protocols import load_protocol
from mrtai.io.tables import nuclide
from mrtai.physics.kinetics import RegionFits
from mrtai.physics.scan_gates import displacement_mm, scale_flags
from mrtai.simulate.solids import rotation
from mrtai.values.curve import Curve
from mrtai.values.flag import Severity
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels

SPACING_MM = (4.8, 4.8, 4.8)
FWHM_MM = 11.0
T_H = np.array([24.0, 96.0, 168.0])


def organs(grid):
    """Two ellipsoids, one as long as a kidney."""
    index = np.indices(grid.shape).reshape(3, -1).T.astype(float)
    voxels = np.zeros(grid.shape, dtype=np.uint8).ravel()
    for value, (centre, half) in enumerate((((20, 20, 14), (11, 5, 5)), ((26, 22, 34), (6, 6, 8))), start=1):
        voxels[np.square((index - centre) / half).sum(axis=1) < 1] = value
    return Labels(voxels.reshape(grid.shape), {1: "kidney_right", 2: "spleen"}, grid)


def scan(labels, shift_mm, noise=0.0):
    """Return the organs blurred, on a lattice shifted by ``shift_mm`` along its own axes (x, y, z)."""
    true = np.array([0.5, 10.0, 25.0])[labels.voxels]
    steps = np.array(shift_mm)[::-1] / labels.grid.spacing_mm[::-1]
    seen = ndimage.shift(ndimage.gaussian_filter(true, FWHM_MM / 2.3548 / labels.grid.spacing_mm[::-1]), steps, order=3, mode="nearest")
    seen = seen + noise * np.random.default_rng(4).normal(size=seen.shape) * np.sqrt(np.maximum(seen, 0))
    return Image(seen.astype(np.float32), Quantity.ACTIVITY_CONCENTRATION, labels.grid)


@pytest.mark.parametrize("shift_mm", [(0.0, 0.0, 0.0), (0.0, 0.0, 10.0), (-6.0, 4.0, 8.0), (3.0, -12.0, 0.0)])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_displacement_is_found_within_a_third_of_a_voxel(shift_mm, noise):
    labels = organs(Grid.axial((48, 44, 50), SPACING_MM))
    assert displacement_mm(scan(labels, shift_mm, noise), labels, FWHM_MM) == pytest.approx(shift_mm, abs=1.6)


def test_a_displacement_is_told_along_the_patients_axes_on_an_oblique_lattice():
    turned = rotation(np.deg2rad([10.0, -20.0, 30.0]))
    grid = replace(Grid.axial((48, 44, 50), SPACING_MM), direction=turned)
    labels = organs(grid)
    assert displacement_mm(scan(labels, (0.0, 0.0, 10.0)), labels, FWHM_MM) == pytest.approx(turned @ [0, 0, 10.0], abs=1.6)


@pytest.mark.parametrize("contrast", [2.5, 3.0, 6.0, 20.0])
def test_an_even_background_pulls_nowhere(contrast):
    whole = organs(Grid.axial((48, 44, 50), SPACING_MM))
    for value, name in whole.names.items():
        labels = replace(whole, voxels=np.where(whole.voxels == value, 1, 0).astype(np.uint8), names={1: name})
        true = ndimage.gaussian_filter(1.0 + (contrast - 1.0) * labels.voxels, FWHM_MM / 2.3548 / 4.8)
        seen = Image(true.astype(np.float32), Quantity.ACTIVITY_CONCENTRATION, labels.grid)
        assert displacement_mm(seen, labels, FWHM_MM) == pytest.approx([0, 0, 0], abs=1.0)


def test_nothing_is_said_where_no_region_is_hot():
    labels = organs(Grid.axial((48, 44, 50), SPACING_MM))
    flat = Image(np.ones(labels.grid.shape, dtype=np.float32), Quantity.ACTIVITY_CONCENTRATION, labels.grid)
    assert displacement_mm(flat, labels, FWHM_MM) == pytest.approx([0, 0, 0])


def fitted(factors, regions=8):
    """Return fits of regions of different half-lives, with noise of 2 %, whose scans are multiplied by ``factors``."""
    rng = np.random.default_rng(5)
    model = tac_model("mono", known_beside(nuclide("Lu-177"), load_protocol("lu177-dotatate")))
    fits = {}
    for number, half_life_h in enumerate(np.linspace(40, 90, regions)):
        activity = 1e8 * 2 ** (-T_H / half_life_h) * np.array(factors(number)) * rng.normal(1, 0.02, 3)
        fits[f"region_{number}"] = model(Curve(f"region_{number}", T_H, activity, 0.05 * activity))
    curves = {name: fit.curve for name, fit in fits.items()}
    return RegionFits(None, fits, curves, {}, dict.fromkeys(fits, ()), {}, {}, 0.0, frozenset())


@pytest.mark.parametrize("scan_number", [0, 1, 2])
def test_a_scan_off_scale_by_15_percent_is_told(scan_number):
    factors = np.ones(3)
    factors[scan_number] = 1.15
    assert [flag.code for flag in scale_flags(fitted(lambda _: factors))] == ["SCAN_OFF_SCALE"]


def phases(number):
    """Return what a second phase of a share of its own makes of a region's activity, relative to one exponential."""
    share = (0.2, 0.75, 0.4, 0.6, 0.25, 0.7, 0.3, 0.5)[number]
    slow_h, fast_h = (60.0, 100.0, 80.0, 110.0, 70.0, 90.0, 105.0, 65.0)[number], (18.0, 24.0, 35.0, 20.0, 40.0, 30.0, 15.0, 28.0)[number]
    both = share * 2 ** (-T_H / fast_h) + (1 - share) * 2 ** (-T_H / slow_h)
    return both / 2 ** (-T_H / np.linspace(40, 90, 8)[number])


def test_two_phases_that_differ_between_regions_are_no_scan_off_scale():
    flags = scale_flags(fitted(phases))
    assert [(flag.code, flag.severity) for flag in flags] == [("PHASE_MISSING", Severity.INFO)]
    # a scan in the middle that reads too high makes curves concave, which no washout does
    assert [flag.code for flag in scale_flags(fitted(lambda n: np.array([1.0, 1.4, 1.0]) * phases(n)))] == ["SCAN_OFF_SCALE"]


def test_noise_and_a_few_regions_of_another_shape_are_no_scale():
    assert scale_flags(fitted(lambda _: np.ones(3))) == ()
    assert scale_flags(fitted(lambda number: (1.0, 1.2 if number < 3 else 1.0, 1.0))) == ()
    assert scale_flags(fitted(lambda _: (1.0, 1.15, 1.0), regions=4)) == ()
