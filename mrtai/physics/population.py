"""Bayesian kinetics: what few scans and a population, or the patient's own earlier cycles, say together.

Mixed effects with one patient: the amplitude is free (flat in its logarithm), the biological rate is log-normal around the
prior. The posterior is found as a normal distribution at its mode (Laplace) in ln k and the logarithm of the activity at the
points' centre in time, which for one scan is all but exact, and every statement is then made from draws of that distribution
weighted by true over approximate density, so that its approximation costs draws, not truth.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.optimize import least_squares
from scipy.special import ndtri

from mrtai.units import LN2, PLASTIC_NUMBER
from mrtai.values.curve import LARGE_ERROR, Curve
from mrtai.values.grid import Array
from mrtai.values.half_life import HalfLifePrior

DRAWS: Final = 4096

WIDER: Final = 1.2
"""Draws are spread this much wider than Laplace's normal distribution, so that the posterior's tails have draws."""

ASSUMED_RELATIVE_SD: Final = 0.05
"""Of an activity given without uncertainty: the middle of published test-retest figures of 3 to 8 %."""

NORMAL_WITHIN_ONE_SD: Final = 0.6827


def normal_pairs(count: int) -> Array:
    """Return ``count`` evenly spread pairs of standard normal deviates, shape ``(count, 2)``: Roberts' R₂ sequence, no randomness."""
    steps = np.arange(1, count + 1)[:, None] * np.array([1.0 / PLASTIC_NUMBER, 1.0 / PLASTIC_NUMBER**2])
    pairs: Array = ndtri((0.5 + steps) % 1.0)
    return pairs


_PAIRS: Final = normal_pairs(DRAWS)


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """What is known after the scans, as weighted draws; arrays of shape ``(draws,)``.

    Attributes:
        prior: what was known before; ``physical_per_h``: λ_phys.
        ln_amplitude, ln_rate: draws of ln a [Bq] and ln k [1/h].
        weight: of each draw, summing to 1.
        tia_bq_h: Ã of each draw.
        effective_share: effective number of draws over their number; 1 where Laplace's approximation is exact.
        chi_square: of the measured points at the mode.
        prior_deviation: the mode's distance from the prior's median in standard deviations of the prior.
    """

    prior: HalfLifePrior
    physical_per_h: float
    ln_amplitude: Array
    ln_rate: Array
    weight: Array
    tia_bq_h: Array
    effective_share: float
    chi_square: float
    prior_deviation: float

    def quantile(self, values: Array, probability: float) -> float:
        """Return a quantile of some quantity of the draws ``(draws,)``."""
        order = np.argsort(values)
        return float(np.interp(probability, np.cumsum(self.weight[order]) - 0.5 * self.weight[order], values[order]))

    def tia_interval_bq_h(self, probability: float) -> tuple[float, float]:
        """Return the interval with equal tails that holds Ã with this probability."""
        tail = (1.0 - probability) / 2.0
        return self.quantile(self.tia_bq_h, tail), self.quantile(self.tia_bq_h, 1.0 - tail)

    def error_of(self, tia_bq_h: float) -> tuple[float, float]:
        """Return the standard uncertainty [Bq h] of an estimate and the probability that it is off by more than ``LARGE_ERROR`` of it.

        The distribution has long tails, of patients with half-lives that no scan excludes; the error that 68 % stay below says
        more of an estimate than its root mean square, and is the same where the distribution is normal.
        """
        error = np.abs(tia_bq_h - self.tia_bq_h)
        return self.quantile(error, NORMAL_WITHIN_ONE_SD), float(self.weight[error > LARGE_ERROR * tia_bq_h].sum())

    def half_life_h(self, probability: float = 0.5) -> float:
        """Return a quantile of the terminal effective half-life."""
        return float(LN2 / (self.physical_per_h + np.exp(self.quantile(self.ln_rate, 1.0 - probability))))

    def terms_at(self, curve: Curve, rate_per_h: float) -> Array:
        """Return the curve of biological rate k through the points, as amplitudes and rates of shape ``(terms, 2)``."""
        values = _values(self.prior, self.physical_per_h, np.array(rate_per_h), curve.t_h)
        weight = 1.0 / np.square(stated_sd_bq(curve))
        amplitude = (weight * values) @ curve.activity_bq / (weight @ np.square(values))
        shares = np.array([share for share, _ in self.prior.shape])
        return np.column_stack([amplitude * shares, _rates(self.prior, self.physical_per_h, np.array(rate_per_h))])

    def covariance(self) -> Array:
        """Return the covariance of (ln a, ln k), shape ``(2, 2)``."""
        return np.cov(np.vstack([self.ln_amplitude, self.ln_rate]), aweights=self.weight, bias=True)

    def activity_bq(self, t_h: float) -> Array:
        """Return A(t) [Bq] of every draw, shape ``(draws,)``."""
        values = _values(self.prior, self.physical_per_h, np.exp(self.ln_rate), np.array([t_h]))[:, 0]
        activity: Array = np.exp(self.ln_amplitude) * values
        return activity


def stated_sd_bq(curve: Curve) -> Array:
    """Return the points' standard uncertainties [Bq], 5 % of the activity where none is given; shape ``(points,)``."""
    activity = np.abs(curve.activity_bq)
    return np.where(curve.activity_sd_bq > 0, curve.activity_sd_bq, ASSUMED_RELATIVE_SD * np.maximum(activity, 0.01 * activity.max()))


def posterior(curve: Curve, prior: HalfLifePrior, physical_per_h: float) -> Posterior:
    """Return what the points of a curve and the prior say together; the curve needs a positive activity."""
    sd = stated_sd_bq(curve)
    certainty = np.square(curve.activity_bq / sd)
    centre_h = float(certainty @ curve.t_h / certainty.sum())

    def residuals(parameters: Array) -> Any:
        ln_activity, ln_rate = parameters[..., :1], parameters[..., 1]
        shape = _values(prior, physical_per_h, np.exp(ln_rate), curve.t_h)
        at_centre = _values(prior, physical_per_h, np.exp(ln_rate), np.array([centre_h]))
        misfit = (np.exp(ln_activity) * shape / at_centre - curve.activity_bq) / sd
        from_prior = (parameters[..., 1:] - np.log(prior.rate_per_h)) / prior.log_sd
        return np.concatenate([misfit, from_prior], axis=-1)

    nearest = int(np.argmin(np.where(curve.activity_bq > 0, np.abs(curve.t_h - centre_h), np.inf)))
    start = np.log([curve.activity_bq[nearest], prior.rate_per_h])
    mode = least_squares(residuals, start, jac="3-point", xtol=1e-12, ftol=1e-12, gtol=1e-12)
    spread = np.linalg.cholesky(np.linalg.inv(mode.jac.T @ mode.jac))
    draws = mode.x + WIDER * _PAIRS @ spread.T
    log_ratio = 0.5 * np.sum(np.square(_PAIRS), axis=-1) - 0.5 * np.sum(np.square(residuals(draws)), axis=-1)
    weight = np.exp(log_ratio - log_ratio.max())
    rate = np.exp(draws[:, 1])
    ln_amplitude = draws[:, 0] - np.log(_values(prior, physical_per_h, rate, np.array([centre_h]))[:, 0])
    return Posterior(
        prior=prior,
        physical_per_h=physical_per_h,
        ln_amplitude=ln_amplitude,
        ln_rate=draws[:, 1],
        weight=weight / weight.sum(),
        tia_bq_h=np.exp(ln_amplitude) * _integral_h(prior, physical_per_h, rate),
        effective_share=_effective_share(log_ratio),
        chi_square=float(np.sum(np.square(mode.fun[:-1]))),
        prior_deviation=float(mode.fun[-1]),
    )


def _effective_share(log_ratio: Array) -> float:
    """Return how many unweighted draws the weighted ones are worth, over what the same wider draws of a normal posterior are worth."""
    exact = np.exp(-0.5 * np.sum(np.square(_PAIRS), axis=-1) * (WIDER**2 - 1.0))
    found = np.exp(log_ratio - log_ratio.max())
    return float((found.sum() ** 2 / np.square(found).sum()) / (exact.sum() ** 2 / np.square(exact).sum()))


def _rates(prior: HalfLifePrior, physical_per_h: float, rate_per_h: Array) -> Array:
    """Return the effective rates [1/h] of the prior's shape, ``rate_per_h.shape + (terms,)``."""
    ratios = np.array([ratio for _, ratio in prior.shape])
    rates: Array = physical_per_h + np.multiply.outer(rate_per_h, ratios)
    return rates


def _values(prior: HalfLifePrior, physical_per_h: float, rate_per_h: Array, t_h: Array) -> Array:
    """Return the shape of amplitude 1 at times ``t_h`` (times,) for each rate, ``rate_per_h.shape + (times,)``."""
    rates = _rates(prior, physical_per_h, rate_per_h)
    values: Array = np.exp(-rates[..., None, :] * t_h[:, None]) @ np.array([weight for weight, _ in prior.shape])
    return values


def _integral_h(prior: HalfLifePrior, physical_per_h: float, rate_per_h: Array) -> Array:
    """Return the integral [h] of the shape of amplitude 1 for each rate; shape as ``rate_per_h``."""
    weights = np.array([weight for weight, _ in prior.shape])
    integral: Array = (1.0 / _rates(prior, physical_per_h, rate_per_h)) @ weights
    return integral
