"""One scan read by a rule, and curves whose half-life is taken as known."""

from dataclasses import replace
from typing import Final

import numpy as np

from mrtai.engines.exponential_fit import AT_BOUND, poor
from mrtai.physics.population import normal_pairs, posterior, stated_sd_bq
from mrtai.physics.single_time import (
    CITATIONS,
    HALF_LIFE_WINDOW,
    HANSCHEID_RELATIVE_SD,
    HANSCHEID_WINDOW,
    OWN_HALF_LIFE_WINDOW,
    integral_per_activity_h,
    tia_half_life_bq_h,
    tia_hanscheid_bq_h,
    tia_ratio_bq_h,
)
from mrtai.units import LN2, SECONDS_PER_HOUR
from mrtai.values.curve import Curve, Fit
from mrtai.values.flag import Flag, Severity
from mrtai.values.half_life import HalfLifePrior, Known
from mrtai.values.refusal import DosimetryError

RATIO_DRAWS: Final = 4096


def hanscheid(curve: Curve, known: Known, reason: str = "asked for") -> Fit:
    """Return dose mapping of one scan; no half-life is needed, and none is known afterwards."""
    t_h = _time_of_one_scan(curve, "dose mapping after Hänscheid")
    tia = tia_hanscheid_bq_h(float(curve.activity_bq[0]), t_h)
    flags = window_flags(t_h, known.typical_h(curve.region), HANSCHEID_WINDOW)
    # the rule integrates as if the effective half-life were the scan's time; drawn so in plots
    fit = _read(curve, known, "hanscheid", tia, t_h, reason, flags)
    without_prior = np.hypot(HANSCHEID_RELATIVE_SD, float(stated_sd_bq(curve)[0] / curve.activity_bq[0])) * tia
    return fit if fit.tia_sd_bq_s is not None else _with_sd(fit, float(without_prior))


def madsen(curve: Curve, known: Known, reason: str = "asked for") -> Fit:
    """Return the integral of one scan with the half-life that the population, or a protocol, holds typical."""
    t_h = _time_of_one_scan(curve, "a single scan with a population half-life")
    typical_h = known.typical_h(curve.region)
    if typical_h is None:
        raise _nothing_known(curve.region, "typical effective half-life")
    tia = tia_half_life_bq_h(float(curve.activity_bq[0]), t_h, typical_h)
    return _read(curve, known, "madsen", tia, typical_h, reason, window_flags(t_h, typical_h, HALF_LIFE_WINDOW))


def ratio(curve: Curve, known: Known, reason: str = "asked for") -> Fit:
    """Return the integral of one scan by the population's mean of Ã/A(t) at its time."""
    t_h = _time_of_one_scan(curve, "a single scan with a population ratio")
    prior = known.prior(curve.region)
    if prior is None:
        raise _nothing_known(curve.region, "population of half-lives")
    half_lives_h = LN2 / (known.physical_per_h + prior.rate_per_h * np.exp(prior.log_sd * normal_pairs(RATIO_DRAWS)[:, 0]))
    ratio_h = float(integral_per_activity_h(t_h, half_lives_h).mean())
    typical_h = prior.half_life_h(known.physical_per_h)
    tia = tia_ratio_bq_h(float(curve.activity_bq[0]), ratio_h)
    return _read(curve, known, "ratio", tia, typical_h, reason, window_flags(t_h, typical_h, HALF_LIFE_WINDOW))


def known_half_life(curve: Curve, known: Known, reason: str = "asked for") -> Fit:
    """Return one exponential of the known half-life through all points; its uncertainty is that of the amplitude alone."""
    half_life_h = known.fixed_h(curve.region)
    if half_life_h is None or half_life_h > known.half_life_h * (1.0 + AT_BOUND):
        raise DosimetryError(
            "no usable effective half-life",
            where=curve.region,
            found="none" if half_life_h is None else f"{half_life_h:g} h, above the physical {known.half_life_h:.1f} h",
            remedy="set known_half_life_h in the protocol or give --half-life-h REGION=T",
            code="NO_HALF_LIFE",
        )
    rate = LN2 / half_life_h
    shape = np.exp(-rate * curve.t_h)
    stated = bool(np.all(curve.activity_sd_bq > 0))
    weight = 1.0 / np.square(curve.activity_sd_bq if stated else shape)
    precision = float(weight @ np.square(shape))
    amplitude = float(weight @ (shape * curve.activity_bq)) / precision
    chi_square = float(weight @ np.square(curve.activity_bq - amplitude * shape))
    flags, widened = poor("known-half-life", chi_square, curve.t_h.size - 1) if stated else ((), 1.0)
    biological = half_life_h < known.half_life_h * (1.0 - AT_BOUND)
    if biological and curve.t_h.size == 1:
        flags = (*flags, *window_flags(float(curve.t_h[0]), half_life_h, OWN_HALF_LIFE_WINDOW))
    return Fit(
        curve=curve,
        method="",
        model="known-half-life",
        parameters={"amplitude_bq": amplitude, "effective_half_life_h": half_life_h},
        covariance=np.array([[widened**2 / precision]]) if stated else np.empty((0, 0)),
        terms=np.array([[amplitude, rate]]),
        tia_bq_s=amplitude / rate * SECONDS_PER_HOUR,
        tia_sd_bq_s=SECONDS_PER_HOUR / rate * widened / float(np.sqrt(precision)) if stated else None,
        effective_half_life_h=half_life_h,
        fraction_before_first_scan=1.0 - float(np.exp(-rate * curve.t_h[0])),
        fraction_after_last_scan=float(np.exp(-rate * curve.t_h[-1])),
        reason=f"effective half-life of {half_life_h:g} h taken as known ({reason}): {CITATIONS['known-half-life']}",
        goodness={"chi_square": chi_square, "degrees_of_freedom": float(curve.t_h.size - 1)} if stated else {},
        flags=flags,
        head="exponential of the known half-life back to the administration",
        tail="exponential of the known half-life to infinity",
    )


def window_flags(t_h: float, typical_h: float | None, window: tuple[float, float]) -> tuple[Flag, ...]:
    """Return a flag where a single scan's time lies outside the times, over the half-life, between which its reading holds."""
    remedy = "Add a scan, or use a method that knows the half-life."
    if typical_h is None:
        text = "No typical half-life is known to judge the single scan's time."
        return (Flag("SINGLE_SCAN_WINDOW_UNKNOWN", Severity.REVIEW, text, remedy),)
    low_h, high_h = (share * typical_h for share in window)
    if low_h <= t_h <= high_h:
        return ()
    text = (
        f"The single scan at {t_h:.1f} h lies outside {low_h:.0f} to {high_h:.0f} h, "
        f"where its reading holds for a half-life of {typical_h:.0f} h."
    )
    return (Flag("SINGLE_SCAN_OUTSIDE_WINDOW", Severity.REVIEW, text, remedy),)


def _read(curve: Curve, known: Known, rule: str, tia_bq_h: float, half_life_h: float, reason: str, flags: tuple[Flag, ...]) -> Fit:
    """Return the fit of a rule; what the population says about the rule's error is its uncertainty, where there is a population."""
    prior, rate, t_h = known.prior(curve.region), LN2 / half_life_h, float(curve.t_h[0])
    fit = Fit(
        curve=curve,
        method="",
        model=rule,
        parameters={"time_h": t_h} | ({} if rule == "hanscheid" else {"effective_half_life_h": half_life_h}),
        covariance=np.empty((0, 0)),
        terms=np.array([[tia_bq_h * rate, rate]]),
        tia_bq_s=tia_bq_h * SECONDS_PER_HOUR,
        tia_sd_bq_s=None,
        effective_half_life_h=None if rule == "hanscheid" else half_life_h,
        fraction_before_first_scan=1.0 - float(np.exp(-rate * t_h)),
        fraction_after_last_scan=float(np.exp(-rate * t_h)),
        reason=f"one scan, {reason}: {CITATIONS[rule]}",
        flags=flags,
        head="in the rule, as if by one exponential",
        tail="in the rule, as if by one exponential",
    )
    return fit if prior is None else _with_population_error(fit, prior, known)


def _with_population_error(fit: Fit, prior: HalfLifePrior, known: Known) -> Fit:
    truth = posterior(fit.curve, prior, known.physical_per_h)
    error_bq_h, off = truth.error_of(fit.tia_bq_s / SECONDS_PER_HOUR)
    intervals = [tuple(end * SECONDS_PER_HOUR for end in truth.tia_interval_bq_h(probability)) for probability in (0.68, 0.95)]
    return replace(
        fit,
        tia_sd_bq_s=error_bq_h * SECONDS_PER_HOUR,
        probability_off=off,
        tia_68_bq_s=(intervals[0][0], intervals[0][1]),
        tia_95_bq_s=(intervals[1][0], intervals[1][1]),
    )


def _with_sd(fit: Fit, sd_bq_h: float) -> Fit:
    return replace(fit, tia_sd_bq_s=sd_bq_h * SECONDS_PER_HOUR)


def _time_of_one_scan(curve: Curve, what: str) -> float:
    if curve.t_h.size != 1:
        raise DosimetryError(
            f"{what} takes exactly one scan",
            where=curve.region,
            found=f"{curve.t_h.size} scans",
            remedy="choose auto, mono, population or trapezoid",
            code="TOO_MANY_POINTS",
        )
    return float(curve.t_h[0])


def _nothing_known(region: str, what: str) -> DosimetryError:
    return DosimetryError(
        f"no {what} for this region",
        where=region,
        found="none in the protocol, the agent's priors or an earlier cycle",
        remedy="name the agent, or choose hanscheid or known-half-life",
        code="NO_PRIORS",
    )
