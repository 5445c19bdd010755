"""Few scans read with what is known of the population, or of the patient's own earlier cycles."""

from typing import Final

import numpy as np

from mrtai.engines.exponential_fit import poor
from mrtai.engines.single_scan import window_flags
from mrtai.physics.curves import integral_bq_h
from mrtai.physics.kinetics import with_integral
from mrtai.physics.population import Posterior, posterior
from mrtai.physics.single_time import HALF_LIFE_WINDOW, OWN_HALF_LIFE_WINDOW
from mrtai.units import SECONDS_PER_HOUR
from mrtai.values.curve import Curve, Fit
from mrtai.values.flag import Flag, Severity
from mrtai.values.half_life import HalfLifePrior, Known
from mrtai.values.refusal import DosimetryError

FAR_FROM_PRIOR: Final = 3.0
"""A half-life so many standard deviations of the prior away says that patient, contour or times are not what was assumed."""

LEAST_EFFECTIVE_SHARE: Final = 0.1
"""Below this share of effective draws Laplace's normal distribution has missed the posterior."""


def population(curve: Curve, known: Known, reason: str = "asked for") -> Fit:
    """Return the posterior of one region: Ã is its median, since its distribution is skewed; the mean stands in ``goodness``.

    Raises:
        DosimetryError: nothing is known of the region, or no scan lies late enough.
    """
    prior = required_prior(curve, known)
    used, early = late_enough(curve, prior)
    after = posterior(used, prior, known.physical_per_h)
    unlikely, widened = poor("population", after.chi_square, used.t_h.size - 1)
    return _described(curve, used, after, known, widened, reason=f"{whose(prior)}: {reason}", flags=(*early, *unlikely))


def required_prior(curve: Curve, known: Known) -> HalfLifePrior:
    """Return what is known of a curve's region; refuses a region of which nothing is."""
    prior = known.prior(curve.region)
    if prior is not None:
        return prior
    raise DosimetryError(
        "no population kinetics for this region",
        where=curve.region,
        found="neither the agent's priors nor an earlier cycle",
        remedy="name the agent, give --prior, or choose another method",
        code="NO_PRIORS",
    )


def late_enough(curve: Curve, prior: HalfLifePrior) -> tuple[Curve, tuple[Flag, ...]]:
    """Return the curve from the time on at which the prior's shape holds, and a flag where scans were left out; refuses none left."""
    late = curve.t_h >= prior.from_h
    if late.all():
        return curve, ()
    if not late.any() or not np.any(curve.activity_bq[late] > 0):
        raise DosimetryError(
            "no scan lies late enough for population kinetics",
            where=curve.region,
            found=f"scans at {np.round(curve.t_h, 1).tolist()} h",
            remedy=f"add a scan later than {prior.from_h:g} h: before, the region still fills or holds urine",
            code="TOO_EARLY",
        )
    text = f"Scans before {prior.from_h:g} h were left out: the region still fills then, or holds urine."
    flag = Flag("EARLY_SCAN_LEFT_OUT", Severity.INFO, text, "Use uptake or tri with four scans or more to include them.")
    return Curve(curve.region, curve.t_h[late], curve.activity_bq[late], curve.activity_sd_bq[late]), (flag,)


def whose(prior: HalfLifePrior) -> str:
    """Return in words whose kinetics a prior is."""
    if prior.cycles:
        return f"the patient's own kinetics of cycle {', '.join(prior.cycles)}"
    return "population kinetics"


def _described(curve: Curve, used: Curve, after: Posterior, known: Known, widened: float, *, reason: str, flags: tuple[Flag, ...]) -> Fit:
    prior = after.prior
    median_bq_h = after.quantile(after.tia_bq_h, 0.5)
    error_bq_h, off = after.error_of(median_bq_h)
    half_life_h = after.half_life_h()
    terms = after.terms_at(used, float(np.exp(after.quantile(after.ln_rate, 0.5))))
    whole = integral_bq_h(terms)
    intervals = [tuple(end * SECONDS_PER_HOUR for end in after.tia_interval_bq_h(probability)) for probability in (0.68, 0.95)]
    typical_h = prior.half_life_h(known.physical_per_h)
    window = OWN_HALF_LIFE_WINDOW if prior.cycles else HALF_LIFE_WINDOW
    fit = Fit(
        curve=curve,
        method="",
        model="population",
        parameters={
            "amplitude_bq": float(terms[:, 0].sum()),
            "effective_half_life_h": half_life_h,
            "prior_half_life_h": typical_h,
            "prior_log_sd_of_biological_rate": prior.log_sd,
            "prior_source": prior.source,
        },
        covariance=after.covariance(),
        terms=terms,
        tia_bq_s=median_bq_h * SECONDS_PER_HOUR,
        tia_sd_bq_s=error_bq_h * SECONDS_PER_HOUR,
        effective_half_life_h=half_life_h,
        fraction_before_first_scan=integral_bq_h(terms, 0.0, float(used.t_h[0])) / whole,
        fraction_after_last_scan=integral_bq_h(terms, float(used.t_h[-1])) / whole,
        reason=reason,
        goodness={
            "chi_square": after.chi_square,
            "degrees_of_freedom": float(used.t_h.size - 1),
            "prior_deviation": after.prior_deviation,
            "laplace_effective_share": after.effective_share,
            "tia_mean_over_median": float(after.weight @ after.tia_bq_h) / median_bq_h,
        },
        flags=(*flags, *_posterior_flags(after), *(window_flags(float(used.t_h[0]), typical_h, window) if used.t_h.size == 1 else ())),
        head="curve of the prior's shape back to the administration",
        tail="curve of the prior's shape to infinity, never slower than physical decay",
        effective_half_life_sd_h=(after.half_life_h(0.84) - after.half_life_h(0.16)) / 2.0 * widened,
        tia_68_bq_s=(intervals[0][0], intervals[0][1]),
        tia_95_bq_s=(intervals[1][0], intervals[1][1]),
        probability_off=off,
    )
    return fit if widened == 1.0 else with_integral(fit, fit.tia_bq_s, widened * error_bq_h * SECONDS_PER_HOUR)


def _posterior_flags(after: Posterior) -> tuple[Flag, ...]:
    flags = []
    if abs(after.prior_deviation) > FAR_FROM_PRIOR:
        text = f"The half-life lies {abs(after.prior_deviation):.1f} standard deviations from what was known beforehand."
        remedy = "Check that times are hours, contour and agent; then fit the scans alone (mono)."
        flags.append(Flag("HALF_LIFE_UNUSUAL", Severity.REVIEW, text, remedy))
    if after.effective_share < LEAST_EFFECTIVE_SHARE:
        text = f"The normal approximation of the posterior holds for {after.effective_share:.0%} of its draws only."
        flags.append(
            Flag("POSTERIOR_DOUBTFUL", Severity.REVIEW, text, "Check the activities' uncertainties, or fit the scans alone (mono).")
        )
    return tuple(flags)
