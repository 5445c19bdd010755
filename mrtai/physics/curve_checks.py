"""What a measured curve must be before anything is fitted to it, and what a fitted one can hardly be."""

from dataclasses import replace
from typing import Final

import numpy as np

from mrtai.physics.population import stated_sd_bq
from mrtai.units import LN2
from mrtai.values.curve import LARGE_ERROR, Curve, Fit
from mrtai.values.flag import Flag, Severity
from mrtai.values.half_life import Known
from mrtai.values.refusal import DosimetryError

LATEST_SCAN: Final = 20.0
"""Physical half-lives after which a millionth is left and nothing is measured: such a time is not in hours."""

SLOWEST_FALL: Final = 0.2
"""Activity that falls, beyond doubt, slower than this share of physical decay was not measured at the hours stated."""

LEAST_SIGNAL: Final = 2.0
"""A region none of whose activities exceeds so many of its own standard uncertainties shows nothing that could be integrated."""

BEYOND_DOUBT: Final = 3.0
"""Standard uncertainties."""

LIKELY_OFF: Final = 0.05
"""Above this stated probability of an error over 20 % a person must look, where the dose may matter."""

FAR: Final = 3.5
"""Standard deviations of the population beyond which a half-life is a sign of wrong times, contour or agent."""


def prepared(curve: Curve, known: Known) -> tuple[Curve, tuple[Flag, ...]]:
    """Return the curve with negative activities as zero, and a flag saying so.

    Raises:
        DosimetryError: no positive activity, or times that cannot be hours.
    """
    if not np.any(curve.activity_bq > 0):
        raise DosimetryError(
            "no positive activity to fit",
            where=curve.region,
            found=f"{np.round(curve.activity_bq, 1).tolist()} Bq",
            remedy="check the contour and the scan's units",
            code="NO_ACTIVITY",
        )
    if np.all(curve.activity_bq < LEAST_SIGNAL * curve.activity_sd_bq):
        raise DosimetryError(
            "no activity above its own uncertainty",
            where=curve.region,
            found=f"{np.round(curve.activity_bq, 1).tolist()} Bq ± {np.round(curve.activity_sd_bq, 1).tolist()} Bq",
            remedy="use an earlier or longer scan",
            code="NO_ACTIVITY",
        )
    _require_hours(curve, known)
    if not np.any(curve.activity_bq < 0):
        return curve, ()
    text = "A measured activity is negative; it was taken as zero."
    flag = Flag("NEGATIVE_ACTIVITY", Severity.REVIEW, text, "Check scatter and background correction.")
    return replace(curve, activity_bq=np.maximum(curve.activity_bq, 0.0)), (flag,)


def unusual_flags(fit: Fit, known: Known) -> tuple[Flag, ...]:
    """Return a flag where the fitted half-life is far shorter than any of the population; the other side is physical decay."""
    prior = known.prior(fit.curve.region)
    if prior is None or fit.effective_half_life_h is None:
        return ()
    typical_h, shortest_h = (LN2 / (known.physical_per_h + prior.rate_per_h * np.exp(z * prior.log_sd)) for z in (0.0, FAR))
    if fit.effective_half_life_h >= shortest_h:
        return ()
    text = f"The effective half-life of {fit.effective_half_life_h:.3g} h is far below the usual {typical_h:.0f} h of this region."
    return (Flag("HALF_LIFE_UNUSUAL", Severity.REVIEW, text, "Check that the times are hours, not days, and the contour and agent."),)


def error_flags(fit: Fit) -> tuple[Flag, ...]:
    """Return a flag where an error above 20 % is likely, or where nobody can say how likely it is."""
    if fit.probability_off is None:
        text = "No uncertainty can be stated: the activities have none and the points leave no residual."
        return (Flag("UNCERTAINTY_UNKNOWN", Severity.REVIEW, text, "Give the activities' uncertainties."),)
    if fit.probability_off <= LIKELY_OFF:
        return ()
    text = f"The integral is more than {LARGE_ERROR:.0%} off with a probability of {fit.probability_off:.0%}."
    return (Flag("LARGE_ERROR_LIKELY", Severity.REVIEW, text, "Add a scan; next_scan says when it helps most."),)


def _require_hours(curve: Curve, known: Known) -> None:
    last_h = float(curve.t_h[-1])
    if last_h > LATEST_SCAN * known.half_life_h:
        raise _not_hours(curve, f"the last scan at {last_h:g}, {last_h / known.half_life_h:.0f} physical half-lives if in hours")
    falling = slice(int(np.argmax(curve.activity_bq)), None)
    t, a, sd = curve.t_h[falling], curve.activity_bq[falling], stated_sd_bq(curve)[falling]
    if t.size < 2 or np.any(a <= 0):
        return
    weight = np.square(a / sd)
    spread = float(weight @ np.square(t - weight @ t / weight.sum()))
    rate = -float(weight @ ((t - weight @ t / weight.sum()) * np.log(a))) / spread
    if rate + BEYOND_DOUBT / np.sqrt(spread) < SLOWEST_FALL * known.physical_per_h:
        seen = f"a half-life of {LN2 / rate:.0f}" if rate > 0 else "no fall"
        raise _not_hours(curve, f"{seen} between {t[0]:g} and {t[-1]:g}, physical half-life {known.half_life_h:.1f} h")


def _not_hours(curve: Curve, found: str) -> DosimetryError:
    return DosimetryError(
        "the times cannot be hours after the administration",
        where=curve.region,
        found=found,
        remedy="give hours (not seconds or minutes), and activities at their own times, not decay-corrected",
        code="TIMES_NOT_HOURS",
    )
