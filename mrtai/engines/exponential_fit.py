"""Least-squares curves: one shape, or several averaged by Akaike's weights."""

from dataclasses import replace
from typing import Final

import numpy as np
from scipy.stats import chi2

from mrtai.physics.curves import SHAPES, Fitted, aicc, fitted, integral_bq_h, slowest_biological, terminal_half_life_h
from mrtai.units import LN2, SECONDS_PER_HOUR
from mrtai.values.curve import Curve, Fit
from mrtai.values.flag import Flag, Severity
from mrtai.values.half_life import Known
from mrtai.values.refusal import DosimetryError

AT_BOUND: Final = 1e-4
"""A biological rate below this share of the physical one means that the fit ran into its bound."""

POOR_PROBABILITY: Final = 0.01
"""A χ² this improbable means that curve, points or their uncertainties are wrong."""

LEAST_WEIGHT: Final = 0.01
"""A model with less of Akaike's weight than this leaves the average: it only adds its own instability."""

LARGEST_RELATIVE_SD: Final = 0.5
"""A model whose integral is less certain than this was not determined by the points, whatever AICc says (after Kletting 2013)."""

MOST_AFTER_LAST_SCAN: Final = 0.5
"""Beyond this share of the integral after the last scan the fit is an extrapolation with a little data."""

MOST_BEFORE_FIRST_SCAN: Final = 0.9
"""The same for the time before the first scan."""

ALL_BEFORE_FIRST_SCAN: Final = 0.999
"""Ten half-lives before the first scan: the points say nothing of such a curve."""

HEAD: Final = "fitted curve back to the administration"
TAIL: Final = "fitted curve to infinity, never slower than physical decay"


def exponential(shape: str, curve: Curve, known: Known, reason: str) -> Fit:
    """Return the weighted least-squares fit of one shape of ``curves.SHAPES``.

    Raises:
        DosimetryError: too few points, or no positive integral.
    """
    return _described(fitted(SHAPES[shape], curve, known.physical_per_h), curve, known, reason)


def averaged(shapes: tuple[str, ...], curve: Curve, known: Known) -> Fit:
    """Return the best of ``shapes`` by AICc with the integral averaged over all of them (Burnham and Anderson 2002).

    Standard uncertainty of the average: Σ w √(σᵢ² + (Ãᵢ - Ã)²), as usual for model averages (Buckland 1997, Biometrics 53:603). The curve
    drawn is the average too, so that it has the integral that is stated; parameters and half-life are the best model's.
    """
    described = {name: exponential(name, curve, known, "") for name in shapes}
    best = min(described, key=lambda name: described[name].goodness["aicc"])
    worth = {name: float(np.exp(-(fit.goodness["aicc"] - described[best].goodness["aicc"]) / 2.0)) for name, fit in described.items()}
    kept = {name: w for name, w in worth.items() if name == best or (w >= LEAST_WEIGHT * sum(worth.values()) and _settled(described[name]))}
    weights = {name: w / sum(kept.values()) for name, w in kept.items()}
    tia = sum(w * described[name].tia_bq_s for name, w in weights.items())
    sds = {name: described[name].tia_sd_bq_s for name in weights}
    sd = sum(w * np.hypot(sds[name] or np.nan, described[name].tia_bq_s - tia) for name, w in weights.items())
    terms = np.concatenate([described[name].terms * [w, 1.0] for name, w in weights.items()])
    before, after = _shares(terms, curve)
    others = [f"{name} {w:.0%}" for name, w in weights.items() if name != best]
    words = f"; integral averaged with {', '.join(others)} by Akaike's weights" if others else ""
    return replace(
        described[best],
        terms=terms,
        tia_bq_s=tia,
        tia_sd_bq_s=float(sd) if np.isfinite(sd) else None,
        fraction_before_first_scan=before,
        fraction_after_last_scan=after,
        weights=weights,
        reason=f"{curve.t_h.size} scans, AICc prefers {best}{words}",
    )


def defined_for(points: int, shapes: tuple[str, ...] = tuple(SHAPES)) -> tuple[str, ...]:
    """Return the shapes for which AICc is defined with so many points."""
    return tuple(name for name in shapes if aicc(1.0, points, len(SHAPES[name].parameters)) is not None)


def poor(model: str, chi_square: float, freedom: int) -> tuple[tuple[Flag, ...], float]:
    """Return a flag when χ² says that the points do not lie on the curve, and the factor that widens its uncertainty (Birge 1932)."""
    if freedom < 1 or chi2.sf(chi_square, freedom) >= POOR_PROBABILITY:
        return (), 1.0
    text = f"The points do not lie on the {model} curve: χ² of {chi_square:.3g} for {freedom} degrees of freedom."
    flag = Flag("FIT_POOR", Severity.REVIEW, text, "Check contour and registration of each scan, or choose another method.")
    return (flag,), float(np.sqrt(chi_square / freedom))


def _settled(fit: Fit) -> bool:
    return fit.tia_sd_bq_s is not None and fit.tia_sd_bq_s < LARGEST_RELATIVE_SD * fit.tia_bq_s


def _described(fit: Fitted, curve: Curve, known: Known, reason: str) -> Fit:
    tia = fit.tia_bq_h
    if not tia > 0:
        raise DosimetryError(
            "the fitted curve has no positive integral",
            where=curve.region,
            found=f"model {fit.shape.name}, {tia:.3g} Bq h",
            remedy="check the activities or choose another method",
            code="NO_ACTIVITY",
        )
    freedom = curve.t_h.size - len(fit.parameters)
    # without stated uncertainties the residuals set them, and there is nothing to test
    stated = bool(np.all(curve.activity_sd_bq > 0))
    flags, widened = poor(fit.shape.name, fit.chi_square, freedom) if stated else ((), 1.0)
    score = aicc(fit.chi_square, curve.t_h.size, len(fit.parameters))
    probability = float(chi2.sf(fit.chi_square, freedom)) if freedom and stated else 1.0
    goodness = {"chi_square": fit.chi_square, "degrees_of_freedom": float(freedom), "probability": probability}
    before, after = _shares(fit.terms, curve)
    if before > ALL_BEFORE_FIRST_SCAN:
        raise DosimetryError(
            "the fitted curve is gone before the first scan",
            where=curve.region,
            found=f"model {fit.shape.name} through {np.round(curve.activity_bq, 1).tolist()} Bq at {np.round(curve.t_h, 2).tolist()} h",
            remedy="check the later activities, or choose trapezoid",
            code="CURVE_BEFORE_SCANS",
        )
    half_life_h = terminal_half_life_h(fit.terms)
    slowest = slowest_biological(fit.shape, fit.parameters)
    rate_sd = float(np.sqrt(fit.covariance[slowest, slowest])) * widened
    return Fit(
        curve=curve,
        method="",
        model=fit.shape.name,
        parameters=dict(zip(fit.shape.parameters, fit.parameters.tolist(), strict=True)),
        covariance=fit.covariance,
        terms=fit.terms,
        tia_bq_s=tia * SECONDS_PER_HOUR,
        tia_sd_bq_s=None if fit.tia_sd_bq_h is None else fit.tia_sd_bq_h * widened * SECONDS_PER_HOUR,
        effective_half_life_h=half_life_h,
        fraction_before_first_scan=before,
        fraction_after_last_scan=after,
        reason=reason,
        goodness=goodness if score is None else goodness | {"aicc": score},
        flags=(*_bound_flags(fit.parameters[slowest], known), *flags, *_extrapolation_flags(before, after)),
        head=HEAD,
        tail=TAIL,
        effective_half_life_sd_h=half_life_h**2 / LN2 * rate_sd if np.isfinite(rate_sd) else None,
    )


def _shares(terms: np.ndarray, curve: Curve) -> tuple[float, float]:
    """Return the shares of the integral before the first and after the last scan."""
    whole = integral_bq_h(terms)
    return integral_bq_h(terms, 0.0, float(curve.t_h[0])) / whole, integral_bq_h(terms, float(curve.t_h[-1])) / whole


def _bound_flags(rate_per_h: float, known: Known) -> tuple[Flag, ...]:
    if rate_per_h > AT_BOUND * known.physical_per_h:
        return ()
    text = f"The fitted effective half-life is at its bound, the physical half-life of {known.half_life_h:.1f} h."
    return (Flag("HALF_LIFE_AT_BOUND", Severity.REVIEW, text, "Check contour and registration, or add a later scan."),)


def _extrapolation_flags(before: float, after: float) -> tuple[Flag, ...]:
    if after > MOST_AFTER_LAST_SCAN:
        text = f"{after:.0%} of the integral lies after the last scan: it is extrapolated, not measured."
        return (Flag("EXTRAPOLATED", Severity.REVIEW, text, "Add a later scan."),)
    if before > MOST_BEFORE_FIRST_SCAN:
        text = f"{before:.0%} of the integral lies before the first scan: it is extrapolated, not measured."
        return (Flag("EXTRAPOLATED", Severity.REVIEW, text, "Use an earlier scan, or check the activities."),)
    return ()
