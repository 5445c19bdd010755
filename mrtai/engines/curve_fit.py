"""From a region's measured curve to its integral: the method asked for, or the one that the scans allow (``auto``)."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.stats import norm

from mrtai.engines.curve_net import neural
from mrtai.engines.exponential_fit import averaged, defined_for, exponential
from mrtai.engines.population_fit import population
from mrtai.engines.single_scan import hanscheid, known_half_life, madsen, ratio
from mrtai.engines.trapezoid_fit import trapezoid
from mrtai.physics.curve_checks import error_flags, prepared, unusual_flags
from mrtai.physics.interval_shape import ENDS_Z
from mrtai.values.bundle import Network
from mrtai.values.curve import LARGE_ERROR, Curve, Fit
from mrtai.values.half_life import Known

METHODS: Final = (
    "auto", "mono", "bi", "tri", "uptake", "trapezoid", "hanscheid", "madsen", "known-half-life", "ratio", "population", "neural",
)  # fmt: skip

HOPELESS_PROBABILITY: Final = 1e-4
"""Below this χ² probability ``auto`` stops drawing an exponential through three or four points and joins them instead."""

ENOUGH_FOR_TWO_PHASES: Final = 5
"""Blood samples that leave a degree of freedom beside two exponentials."""

CLEAR_RISE: Final = 2.0
"""A rise between scans counts when it exceeds so many of its own standard uncertainties."""

LATE_ENOUGH: Final = 1.5
"""Scans of which the last lies earlier than so many typical half-lives do not settle the slope alone: in virtual patients the
population's help is worth a fifth of the error then, and nothing later (``benchmarks.kinetics``)."""


@dataclass(frozen=True, slots=True)
class CurveFit:
    """Fits a region's curve by one of ``METHODS`` with what is known beside the points; see ``ports.TacModel``.

    ``network`` is the verified `curve-net`, which ``neural`` alone needs.
    """

    method: str
    known: Known
    network: Network | None = None

    def __call__(self, curve: Curve) -> Fit:
        """Return the curve with its integral, the integral's uncertainty, and flags on what a person must judge."""
        curve, negative = prepared(curve, self.known)
        match self.method:
            case "auto":
                fit = self._auto(curve)
            case "mono" | "bi" | "tri" | "uptake":
                fit = exponential(self.method, curve, self.known, "asked for")
            case "trapezoid":
                fit = trapezoid(curve, self.known, "asked for")
            case "hanscheid":
                fit = hanscheid(curve, self.known)
            case "madsen":
                fit = madsen(curve, self.known)
            case "known-half-life":
                fit = known_half_life(curve, self.known)
            case "ratio":
                fit = ratio(curve, self.known)
            case "population":
                fit = population(curve, self.known)
            case "neural":
                fit = neural(curve, self.known, self.network)
            case _:
                raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        fit = replace(_stated(fit), method=self.method)
        return replace(fit, flags=(*negative, *fit.flags, *unusual_flags(fit, self.known), *error_flags(fit)))

    def _auto(self, curve: Curve) -> Fit:
        """Return the fit by the method that scans, agent and region allow; ``docs/physics/kinetics.md`` has the table."""
        n, prior = curve.t_h.size, self.known.prior(curve.region)
        few = f"{n} scan{'s' * (n > 1)}"
        if n == 1:
            if prior is not None:
                return population(curve, self.known, f"{few} alone does not show the half-life")
            return hanscheid(curve, self.known, "and nothing known of the region's half-life")
        if _rises(curve):
            return self._auto_rising(curve, few)
        typical_h = self.known.typical_h(curve.region)
        if prior is not None and n == 2:
            return population(curve, self.known, f"{few} determine the half-life poorly")
        if prior is not None and typical_h is not None and curve.t_h[-1] < LATE_ENOUGH * typical_h:
            return population(curve, self.known, f"{few}, the last before {LATE_ENOUGH:g} usual half-lives of {typical_h:.0f} h")
        if shapes := defined_for(n):
            return averaged(shapes, curve, self.known)
        fit = exponential("mono", curve, self.known, f"{few}: one exponential, AICc is not defined for so few")
        if n == 2 or fit.goodness["probability"] >= HOPELESS_PROBABILITY:
            return fit
        straight = trapezoid(curve, self.known, f"{few} that no exponential follows: trapezoids")
        # what makes the points lie so is not known: either reading may be the right one
        sd = None if straight.tia_sd_bq_s is None else float(np.hypot(straight.tia_sd_bq_s, straight.tia_bq_s - fit.tia_bq_s))
        return replace(straight, tia_sd_bq_s=sd, flags=fit.flags)

    def _auto_rising(self, curve: Curve, few: str) -> Fit:
        n = curve.t_h.size
        if shapes := defined_for(n, ("uptake", "tri")):
            return averaged(shapes, curve, self.known)
        if n >= 4:
            return exponential("uptake", curve, self.known, f"activity rises between the first of {n} scans: uptake and clearance")
        prior = self.known.prior(curve.region)
        if prior is not None and curve.t_h[0] < prior.from_h <= curve.t_h[-1]:
            return population(curve, self.known, f"{few}, the first while the region still fills")
        return trapezoid(curve, self.known, f"activity rises between {n} scans, too few for an uptake model: trapezoids")


@dataclass(frozen=True, slots=True)
class BloodFit:
    """Fits the curve of blood samples: two exponentials, as an agent leaves plasma, from five samples on; fewer as any curve.

    AICc asks for more samples than are ever drawn, and one exponential through the same seven reads blood a third low.
    """

    known: Known

    def __call__(self, curve: Curve) -> Fit:
        """Return the curve with its integral; see ``ports.TacModel``."""
        return CurveFit("bi" if curve.t_h.size >= ENOUGH_FOR_TWO_PHASES else "auto", self.known)(curve)


def _stated(fit: Fit) -> Fit:
    """Return the fit with intervals and the probability of a large error, from its standard uncertainty where it has no better."""
    if fit.probability_off is not None or fit.tia_sd_bq_s is None:
        return fit
    ends = [max(fit.tia_bq_s + z * fit.tia_sd_bq_s, 0.0) for z in ENDS_Z.tolist()]
    off = 2.0 * float(norm.sf(LARGE_ERROR * fit.tia_bq_s / fit.tia_sd_bq_s)) if fit.tia_sd_bq_s else 0.0
    return replace(fit, tia_68_bq_s=(ends[1], ends[2]), tia_95_bq_s=(ends[0], ends[3]), probability_off=off)


def _rises(curve: Curve) -> bool:
    rise = float(curve.activity_bq[1] - curve.activity_bq[0])
    sd = float(np.hypot(*curve.activity_sd_bq[:2]))
    return rise > (CLEAR_RISE * sd if sd > 0 else 0.0)
