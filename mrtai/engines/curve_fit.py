"""Time–activity curves from a region's own scans."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from scipy.stats import chi2

from mrtai.physics.curves import SHAPES, Fitted, aicc, fitted, integral_bq_h, terminal_half_life_h
from mrtai.physics.integrate import HEAD_RULE, TAIL_RULE, tail_half_life_h, trapezoid_weights_h
from mrtai.physics.single_time import HANSCHEID_RELATIVE_SD, HANSCHEID_WINDOW, tia_hanscheid_bq_h
from mrtai.units import LN2, SECONDS_PER_HOUR
from mrtai.values.curve import Curve, Fit
from mrtai.values.flag import Flag, Severity
from mrtai.values.refusal import DosimetryError

METHODS: Final = ("auto", "mono", "bi", "uptake", "trapezoid", "hanscheid", "known-half-life")

AT_BOUND: Final = 1e-4
"""A biological rate below this share of the physical one means that the fit ran into its bound."""

POOR_PROBABILITY: Final = 0.01
"""A χ² this improbable means that curve, points or their uncertainties are wrong."""

HOPELESS_PROBABILITY: Final = 1e-4
"""Below this ``auto`` stops drawing an exponential through three or four points and joins them instead."""

CLEAR_RISE: Final = 2.0
"""A rise between scans counts when it exceeds so many of its own standard uncertainties."""


@dataclass(frozen=True, slots=True)
class CurveFit:
    """Fits one of the shapes, or lets the number of scans and AICc choose (``auto``).

    Attributes:
        method: one of ``METHODS``.
        half_life_h: physical half-life.
        population_half_life_h: typical effective half-lives by region name or kind (``lesion``, ``organ``), for single-scan windows.
        known_half_life_h: effective half-lives taken as known by region name, ``default`` for all others.
    """

    method: str
    half_life_h: float
    population_half_life_h: Mapping[str, float] = field(default_factory=dict)
    known_half_life_h: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, curve: Curve) -> Fit:
        """Return the curve with its integral; see ``ports.TacModel``."""
        curve, negative = _without_negatives(curve)
        match self.method:
            case "auto":
                fit = self._auto(curve)
            case "hanscheid":
                fit = self._single(curve, "asked for")
            case "trapezoid":
                fit = self._trapezoid(curve, "asked for")
            case "known-half-life":
                fit = self._known(curve)
            case "mono" | "bi" | "uptake":
                fit = self._shape(self.method, curve, "asked for")
            case _:
                raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        return replace(fit, method=self.method, flags=(*negative, *fit.flags))

    def _auto(self, curve: Curve) -> Fit:
        n = curve.t_h.size
        if n == 1:
            return self._single(curve, "one scan: dose mapping after Hänscheid")
        if _rises(curve):
            if n >= 4:
                return self._shape("uptake", curve, f"activity rises between the first of {n} scans: uptake and clearance")
            return self._trapezoid(curve, f"activity rises between {n} scans, too few for an uptake model: trapezoids")
        candidates = {name: aicc(1.0, n, len(SHAPES[name].parameters)) is not None for name in SHAPES}
        if not any(candidates.values()):
            fit = self._shape("mono", curve, f"{n} scans: one exponential, AICc is not defined for so few")
            if fit.goodness["probability"] >= HOPELESS_PROBABILITY:
                return fit
            return replace(self._trapezoid(curve, f"{n} scans that no exponential follows: trapezoids"), flags=fit.flags)
        fits = {name: fitted(SHAPES[name], curve, LN2 / self.half_life_h) for name, possible in candidates.items() if possible}
        scores = {name: aicc(fit.chi_square, n, len(fit.parameters)) or 0.0 for name, fit in fits.items()}
        weight = {name: float(np.exp(-(score - min(scores.values())) / 2.0)) for name, score in scores.items()}
        weights = {name: w / sum(weight.values()) for name, w in weight.items()}
        best = min(scores, key=lambda name: scores[name])
        return replace(self._described(fits[best], curve, f"{n} scans, AICc prefers {best}"), weights=weights)

    def _shape(self, name: str, curve: Curve, reason: str) -> Fit:
        return self._described(fitted(SHAPES[name], curve, LN2 / self.half_life_h), curve, reason)

    def _described(self, fit: Fitted, curve: Curve, reason: str) -> Fit:
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
        probability = float(chi2.sf(fit.chi_square, freedom)) if freedom and np.all(curve.activity_sd_bq > 0) else 1.0
        poor, widened = _poor(fit, freedom, probability)
        score = aicc(fit.chi_square, curve.t_h.size, len(fit.parameters))
        goodness = {"chi_square": fit.chi_square, "degrees_of_freedom": float(freedom), "probability": probability} | (
            {} if score is None else {"aicc": score}
        )
        return Fit(
            curve=curve,
            method=self.method,
            model=fit.shape.name,
            parameters=dict(zip(fit.shape.parameters, fit.parameters.tolist(), strict=True)),
            covariance=fit.covariance,
            terms=fit.terms,
            tia_bq_s=tia * SECONDS_PER_HOUR,
            tia_sd_bq_s=None if fit.tia_sd_bq_h is None else fit.tia_sd_bq_h * widened * SECONDS_PER_HOUR,
            effective_half_life_h=terminal_half_life_h(fit.terms),
            fraction_before_first_scan=integral_bq_h(fit.terms, 0.0, float(curve.t_h[0])) / tia,
            fraction_after_last_scan=integral_bq_h(fit.terms, float(curve.t_h[-1])) / tia,
            reason=reason,
            goodness=goodness,
            flags=(*self._bound_flags(fit), *poor),
        )

    def _bound_flags(self, fit: Fitted) -> tuple[Flag, ...]:
        rate = fit.parameters[1]
        if rate > AT_BOUND * LN2 / self.half_life_h:
            return ()
        text = f"The fitted effective half-life is at its bound, the physical half-life of {self.half_life_h:.1f} h."
        return (Flag("HALF_LIFE_AT_BOUND", Severity.REVIEW, text, "Check contour and registration, or add a later scan."),)

    def _trapezoid(self, curve: Curve, reason: str) -> Fit:
        tail_h = tail_half_life_h(curve, self.half_life_h)
        weights = trapezoid_weights_h(curve.t_h, tail_h)
        tia = float(weights @ curve.activity_bq)
        if not tia > 0:
            raise DosimetryError(
                "no positive activity to integrate",
                where=curve.region,
                found=f"{np.round(curve.activity_bq, 1).tolist()} Bq",
                remedy="check the contour and the scan's units",
                code="NO_ACTIVITY",
            )
        known = bool(np.all(curve.activity_sd_bq > 0))
        sd = float(np.linalg.norm(weights * curve.activity_sd_bq)) if known else None
        return Fit(
            curve=curve,
            method=self.method,
            model="trapezoid",
            parameters={"head": HEAD_RULE, "tail": TAIL_RULE, "tail_half_life_h": tail_h},
            covariance=np.empty((0, 0)),
            terms=np.empty((0, 2)),
            tia_bq_s=tia * SECONDS_PER_HOUR,
            tia_sd_bq_s=None if sd is None else sd * SECONDS_PER_HOUR,
            effective_half_life_h=tail_h,
            fraction_before_first_scan=float(curve.t_h[0] * curve.activity_bq[0]) / tia,
            fraction_after_last_scan=float(curve.activity_bq[-1]) * tail_h / LN2 / tia,
            reason=reason,
        )

    def _single(self, curve: Curve, reason: str) -> Fit:
        if curve.t_h.size != 1:
            raise DosimetryError(
                "dose mapping after Hänscheid takes exactly one scan",
                where=curve.region,
                found=f"{curve.t_h.size} scans",
                remedy="choose auto, mono or trapezoid",
                code="TOO_MANY_POINTS",
            )
        t, a, sd = float(curve.t_h[0]), float(curve.activity_bq[0]), float(curve.activity_sd_bq[0])
        if a <= 0:
            raise DosimetryError(
                "no positive activity",
                where=curve.region,
                found=f"{a:.1f} Bq",
                remedy="check the contour and the units",
                code="NO_ACTIVITY",
            )
        tia = tia_hanscheid_bq_h(a, t)
        relative = np.hypot(HANSCHEID_RELATIVE_SD, sd / a if sd > 0 else 0.0)
        return Fit(
            curve=curve,
            method=self.method,
            model="hanscheid",
            parameters={"time_h": t},
            covariance=np.empty((0, 0)),
            # the rule integrates as if the effective half-life were the scan's time; drawn so in plots
            terms=np.array([[2.0 * a, LN2 / t]]),
            tia_bq_s=tia * SECONDS_PER_HOUR,
            tia_sd_bq_s=tia * float(relative) * SECONDS_PER_HOUR,
            effective_half_life_h=None,
            fraction_before_first_scan=0.5,
            fraction_after_last_scan=0.5,
            reason=reason,
            flags=self._window_flags(curve.region, t),
        )

    def _known(self, curve: Curve) -> Fit:
        """Return one exponential of the known half-life through all points (Madsen 2018's form with the patient's own T)."""
        half_life_h = self.known_half_life_h.get(curve.region, self.known_half_life_h.get("default"))
        if half_life_h is None or half_life_h > self.half_life_h * (1.0 + AT_BOUND):
            raise DosimetryError(
                "no usable effective half-life",
                where=curve.region,
                found="none" if half_life_h is None else f"{half_life_h:g} h, above the physical {self.half_life_h:.1f} h",
                remedy="set known_half_life_h in the protocol or give --half-life-h REGION=T",
                code="NO_HALF_LIFE",
            )
        rate = LN2 / half_life_h
        shape = np.exp(-rate * curve.t_h)
        known = bool(np.all(curve.activity_sd_bq > 0))
        weight = 1.0 / np.square(curve.activity_sd_bq if known else shape)
        precision = float(weight @ np.square(shape))
        amplitude = float(weight @ (shape * curve.activity_bq)) / precision
        if not amplitude > 0:
            raise DosimetryError(
                "no positive activity", where=curve.region, found=f"{amplitude:.1f} Bq", remedy="check the contour", code="NO_ACTIVITY"
            )
        before, after = 1.0 - float(np.exp(-rate * curve.t_h[0])), float(np.exp(-rate * curve.t_h[-1]))
        return Fit(
            curve=curve,
            method=self.method,
            model="known-half-life",
            parameters={"amplitude_bq": amplitude, "effective_half_life_h": half_life_h},
            covariance=np.array([[1.0 / precision]]) if known else np.empty((0, 0)),
            terms=np.array([[amplitude, rate]]),
            tia_bq_s=amplitude / rate * SECONDS_PER_HOUR,
            tia_sd_bq_s=SECONDS_PER_HOUR / rate / float(np.sqrt(precision)) if known else None,
            effective_half_life_h=half_life_h,
            fraction_before_first_scan=before,
            fraction_after_last_scan=after,
            reason=f"effective half-life of {half_life_h:g} h taken as known",
        )

    def _window_flags(self, region: str, t_h: float) -> tuple[Flag, ...]:
        kind = "lesion" if region.startswith(("lesion", "tumour")) else "organ"
        typical = self.population_half_life_h.get(region, self.population_half_life_h.get(kind))
        remedy = "Add a scan, or use a method that knows the half-life."
        if typical is None:
            return (
                Flag(
                    "SINGLE_SCAN_WINDOW_UNKNOWN", Severity.REVIEW, "No typical half-life is known to judge the single scan's time.", remedy
                ),
            )
        low, high = (share * typical for share in HANSCHEID_WINDOW)
        if low <= t_h <= high:
            return ()
        text = (
            f"The single scan at {t_h:.1f} h lies outside {low:.0f} to {high:.0f} h, "
            f"where dose mapping holds for a half-life of {typical:.0f} h."
        )
        return (Flag("SINGLE_SCAN_OUTSIDE_WINDOW", Severity.REVIEW, text, remedy),)


def _poor(fit: Fitted, freedom: int, probability: float) -> tuple[tuple[Flag, ...], float]:
    """Return a flag when χ² says that the points do not lie on the curve, and the factor that widens its uncertainty (Birge 1932)."""
    if probability >= POOR_PROBABILITY:
        return (), 1.0
    text = f"The points do not lie on the {fit.shape.name} curve: χ² of {fit.chi_square:.3g} for {freedom} degrees of freedom."
    flag = Flag("FIT_POOR", Severity.REVIEW, text, "Check contour and registration of each scan, or choose another method.")
    return (flag,), float(np.sqrt(fit.chi_square / freedom))


def _without_negatives(curve: Curve) -> tuple[Curve, tuple[Flag, ...]]:
    """Return the curve with negative activities as zero of unchanged uncertainty, and a flag saying so."""
    if not np.any(curve.activity_bq < 0):
        return curve, ()
    text = "A measured activity is negative; it was taken as zero."
    flag = Flag("NEGATIVE_ACTIVITY", Severity.REVIEW, text, "Check scatter and background correction.")
    return replace(curve, activity_bq=np.maximum(curve.activity_bq, 0.0)), (flag,)


def _rises(curve: Curve) -> bool:
    rise = float(curve.activity_bq[1] - curve.activity_bq[0])
    sd = float(np.hypot(*curve.activity_sd_bq[:2]))
    return rise > (CLEAR_RISE * sd if sd > 0 else 0.0)
