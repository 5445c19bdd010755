"""Which time of one more scan lowers the uncertainty of the integrals most, in expectation over what it may show."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from scipy.special import ndtri

from mrtai.physics.kinetics import RegionFits
from mrtai.physics.population import Posterior, posterior, stated_sd_bq
from mrtai.units import HOURS_PER_DAY
from mrtai.values.curve import Curve
from mrtai.values.grid import Array
from mrtai.values.half_life import Known
from mrtai.values.next_scan import NextScan
from mrtai.values.protocol import Protocol
from mrtai.values.refusal import DosimetryError
from mrtai.values.regions import kinetic_family

STEP_H: Final = 6.0
SOONEST_H: Final = 6.0
LATEST_H: Final = 7.0 * HOURS_PER_DAY
"""Candidates: every six hours, from six hours to seven days after the last scan."""

OUTCOMES: Final = 48
"""Results of the next scan that are imagined for each candidate, evenly spread over what may come."""

LEAST_SD: Final = 0.01
"""Standard uncertainty in units of the region's largest activity that no later scan can beat: noise and scatter stay."""


def next_scan(curves: Mapping[str, Curve], known: Known) -> NextScan:
    """Return the time after the last scan that most lowers the mean, over the regions, of the expected standard deviation of ln Ã.

    For each candidate the posterior's own draws say what the scan may show; each such result weights the draws anew, and the
    spread of ln Ã left is averaged over the results. Nothing is linearised.

    Args:
        curves: by region name, each with a prior (population or earlier cycles).
        known: what is known beside the points.

    Raises:
        DosimetryError: no region, or one without a prior.
    """
    posteriors = {name: _posterior(curve, known) for name, curve in curves.items()}
    last_h = max(float(curve.t_h[-1]) for curve in curves.values())
    first = STEP_H * np.ceil((last_h + SOONEST_H) / STEP_H)
    times_h = np.arange(first, last_h + LATEST_H + 1e-9, STEP_H)
    expected = {name: np.array([_expected_sd(after, curves[name], t) for t in times_h]) for name, after in posteriors.items()}
    mean = np.mean(list(expected.values()), axis=0)
    best = int(np.argmin(mean))
    return NextScan(
        time_h=float(times_h[best]),
        relative_sd_now={name: float(_sd(np.log(after.tia_bq_h), after.weight)) for name, after in posteriors.items()},
        relative_sd_then={name: float(sd[best]) for name, sd in expected.items()},
        candidates=tuple(zip(times_h.tolist(), mean.tolist(), strict=True)),
    )


def proposed(fits: RegionFits, protocol: Protocol, known: Known) -> NextScan | None:
    """Return the next scan for the fitted regions whose dose the protocol limits, None where there is none with a prior."""
    limited = [name for name, fit in fits.fits.items() if fit is not None and kinetic_family(name) in protocol.dose_limits_gy]
    curves = {name: fit.curve for name in limited if known.prior(name) is not None and (fit := fits.fits[name]) is not None}
    return next_scan(curves, known) if curves else None


def _posterior(curve: Curve, known: Known) -> Posterior:
    prior = known.prior(curve.region)
    if prior is None:
        raise DosimetryError(
            "no population kinetics for this region",
            where="next scan",
            found=f"region {curve.region}",
            remedy="name the agent, give --prior, or leave the region out",
            code="NO_PRIORS",
        )
    return posterior(curve, prior, known.physical_per_h)


def _expected_sd(after: Posterior, curve: Curve, t_h: float) -> float:
    """Return the standard deviation of ln Ã that is left, on average, after a scan at ``t_h``."""
    activity = after.activity_bq(t_h)
    noise = np.hypot(_relative_sd(curve), LEAST_SD * curve.activity_bq.max() / activity)
    order = np.argsort(activity)
    ranks = (np.arange(OUTCOMES) + 0.5) / OUTCOMES
    drawn = order[np.clip(np.searchsorted(np.cumsum(after.weight[order]), ranks), 0, order.size - 1)]
    # a fixed permutation, so that the noise of a result does not depend on its size
    shown = np.log(activity[drawn]) + noise[drawn] * ndtri(ranks[(np.arange(OUTCOMES) * 29) % OUTCOMES])
    misfit = (shown[:, None] - np.log(activity)) / noise
    weight = after.weight * np.exp(-0.5 * np.square(misfit)) / noise
    weight /= weight.sum(axis=1, keepdims=True)
    return float(np.mean(_sd(np.log(after.tia_bq_h), weight)))


def _relative_sd(curve: Curve) -> float:
    positive = curve.activity_bq > 0
    return float(np.median(stated_sd_bq(curve)[positive] / curve.activity_bq[positive]))


def _sd(values: Array, weight: Array) -> Array:
    """Return the weighted standard deviation of ``values`` (draws,) for each row of ``weight`` (…, draws)."""
    mean = weight @ values
    variance: Array = weight @ np.square(values) - np.square(mean)
    sd: Array = np.sqrt(np.maximum(variance, 0.0))
    return sd
