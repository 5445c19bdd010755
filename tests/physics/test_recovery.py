"""The recovery curve, against limits and numerical derivatives."""

from dataclasses import replace

import numpy as np
import pytest

from mrtai.physics.recovery import coefficient, coefficients, curve_gradient, curve_sd, log_slope
from mrtai.physics.uncertainty_inputs import content_ml
from mrtai.values.calibration import GaussianRecovery, Recovery

CURVE = Recovery(4.0, 0.9, ((0.04, -0.002), (-0.002, 0.0009)))
GAUSSIAN = replace(CURVE, gaussian=GaussianRecovery(12.0, 0.95, ((0.09, 0.002), (0.002, 0.0004))))
STEP = 1e-5


def test_half_is_recovered_at_beta_and_all_of_a_large_object():
    assert coefficient(CURVE, 4.0) == pytest.approx(0.5)
    assert coefficient(CURVE, 1e9) == pytest.approx(1.0, abs=1e-6)
    assert coefficient(CURVE, 1e-9) < 1e-6


@pytest.mark.parametrize("volume_ml", [0.5, 3.0, 20.0, 150.0])
def test_derivatives_are_those_of_the_curve(volume_ml):
    def log_rc(curve, v):
        return np.log(coefficient(curve, v))

    by_volume = (log_rc(CURVE, volume_ml * np.exp(STEP)) - log_rc(CURVE, volume_ml * np.exp(-STEP))) / (2 * STEP)
    by_beta = (log_rc(replace(CURVE, beta_ml=4 + STEP), volume_ml) - log_rc(replace(CURVE, beta_ml=4 - STEP), volume_ml)) / (2 * STEP)
    by_gamma = (log_rc(replace(CURVE, gamma=0.9 + STEP), volume_ml) - log_rc(replace(CURVE, gamma=0.9 - STEP), volume_ml)) / (2 * STEP)
    assert log_slope(CURVE, volume_ml) == pytest.approx(by_volume, rel=1e-3)
    assert curve_gradient(CURVE, volume_ml) == pytest.approx([by_beta, by_gamma], rel=1e-3)


def test_a_gaussian_counts_instead_of_the_formula_where_there_is_one():
    assert coefficient(GAUSSIAN, 20.0) == pytest.approx(0.95 * float(content_ml(20.0, 20.0, 12.0)) / 20.0)
    # what a plateau lacks, no size gains; of a small object the Gaussian keeps as much as it weighs at its middle
    assert coefficient(GAUSSIAN, 1e9) == pytest.approx(0.95, abs=1e-3)
    sigma_mm = 12.0 / np.sqrt(8 * np.log(2))
    assert coefficient(GAUSSIAN, 1e-3) == pytest.approx(0.95 * 1.0 / ((2 * np.pi) ** 1.5 * sigma_mm**3), rel=0.01)


@pytest.mark.parametrize("volume_ml", [0.5, 3.0, 20.0, 150.0])
def test_derivatives_of_a_gaussian_are_those_of_the_curve(volume_ml):
    def log_rc(v=volume_ml, **changed):
        return np.log(coefficient(replace(GAUSSIAN, gaussian=replace(GAUSSIAN.gaussian, **changed)), v))

    step = 1e-4
    by_volume = (log_rc(volume_ml * np.exp(step)) - log_rc(volume_ml * np.exp(-step))) / (2 * step)
    by_fwhm = (log_rc(fwhm_mm=12 + step) - log_rc(fwhm_mm=12 - step)) / (2 * step)
    by_plateau = (log_rc(plateau=0.95 + step) - log_rc(plateau=0.95 - step)) / (2 * step)
    assert log_slope(GAUSSIAN, volume_ml) == pytest.approx(by_volume, rel=1e-3)
    assert curve_gradient(GAUSSIAN, volume_ml) == pytest.approx([by_fwhm, by_plateau], rel=1e-3)


def test_the_uncertainty_of_a_gaussian_is_that_of_drawn_curves():
    drawn = np.random.default_rng(3).multivariate_normal([12.0, 0.95], GAUSSIAN.gaussian.covariance, 200_000)
    coefficient_of_each = coefficients(GAUSSIAN, np.array(10.0), drawn)
    assert curve_sd(GAUSSIAN, 10.0) == pytest.approx(coefficient_of_each.std() / coefficient(GAUSSIAN, 10.0), rel=0.03)


def test_the_curves_own_uncertainty_is_that_of_drawn_curves():
    rng = np.random.default_rng(3)
    betas, gammas = rng.multivariate_normal([CURVE.beta_ml, CURVE.gamma], CURVE.covariance, 200_000).T
    drawn = 1.0 / (1.0 + (betas / 10.0) ** gammas)
    assert curve_sd(CURVE, 10.0) == pytest.approx(drawn.std() / coefficient(CURVE, 10.0), rel=0.03)


@pytest.mark.parametrize(
    "covariance", [((1.0, 0.5), (0.4, 1.0)), ((1.0, 2.0), (2.0, 1.0)), ((-1.0, 0.0), (0.0, 1.0)), ((np.nan, 0), (0, 1))]
)
def test_what_is_no_covariance_is_refused(covariance):
    with pytest.raises(ValueError, match="covariance"):
        replace(CURVE, covariance=covariance)
