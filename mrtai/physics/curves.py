"""Shapes of time–activity curves: sums of exponentials, their integrals and their weighted fits.

A model is ``(amplitude, rate)`` terms as a function of its parameters, so that value, integral and uncertainty of every model
follow from the same few lines. Rates are written λ = λ_phys + k with a biological part k ≥ 0: no organ holds a nuclide longer
than physics lets it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from mrtai.units import LN2
from mrtai.values.curve import Curve
from mrtai.values.grid import Array
from mrtai.values.refusal import DosimetryError

FASTEST_RATE_PER_H: Final = 20.0
"""Upper bound of a fitted biological rate: a half-life of two minutes, faster than any blood flow fills an organ."""

RATE_GRID_PER_H: Final = (0.0, 0.002, 0.006, 0.015, 0.03, 0.06, 0.15, 0.4, 1.0, 3.0)
"""Biological rates from which fits of several exponentials start: half-lives from 14 minutes to physical decay alone."""

STARTS_ON_GRID: Final = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """A family of curves.

    Attributes:
        parameters: names with units, in order; ``ln_`` marks a logarithm, ``_rate_`` a biological rate added to the physical one.
        terms: from parameters ``(p,)`` and λ_phys [1/h] to amplitudes and rates, shape ``(terms, 2)``.
        starts: from (times, activities, λ_phys) to parameter vectors to start the fit from, shape ``(starts, p)``.
    """

    name: str
    parameters: tuple[str, ...]
    terms: Callable[[Array, float], Array]
    starts: Callable[[Array, Array, float], Array]


def activity_bq(terms: Array, t_h: Any) -> Any:
    """Return A(t) = Σ a e^{-λt} [Bq] of ``terms`` (terms, 2) at times of any shape."""
    t = np.asarray(t_h, dtype=np.float64)
    return np.sum(terms[:, 0] * np.exp(-np.multiply.outer(t, terms[:, 1])), axis=-1)


def integral_bq_h(terms: Array, start_h: float = 0.0, end_h: float = np.inf) -> float:
    """Return ∫ A dt [Bq h] of ``terms`` (terms, 2) between two times; to infinity by default."""
    amplitude, rate = terms[:, 0], terms[:, 1]
    return float(np.sum(amplitude / rate * (np.exp(-rate * start_h) - np.exp(-rate * end_h))))


def _mono_terms(p: Array, physical: float) -> Array:
    return np.array([[np.exp(p[0]), physical + p[1]]])


def _bi_terms(p: Array, physical: float) -> Array:
    return np.array([[np.exp(p[0]), physical + p[1]], [np.exp(p[2]), physical + p[3]]])


def _uptake_terms(p: Array, physical: float) -> Array:
    # amplitudes sum to zero: nothing is in the organ at the administration
    slow = physical + p[1]
    return np.array([[np.exp(p[0]), slow], [-np.exp(p[0]), slow + np.exp(p[2])]])


def _tri_terms(p: Array, physical: float) -> Array:
    # the third amplitude may be negative, down to a curve that begins at zero: then it is an uptake
    first, second = np.exp(p[0]), np.exp(p[2])
    return np.array([[first, physical + p[1]], [second, physical + p[3]], [p[4] * (first + second), physical + p[5]]])


def _slope(t: Array, a: Array, physical: float) -> tuple[float, float]:
    positive = a > 0
    if positive.sum() < 2:
        return float(np.log(max(a.max(), 1e-300))), 0.0
    rate, intercept = np.polyfit(t[positive], np.log(a[positive]), 1)
    return float(intercept), max(-float(rate) - physical, 0.0)


def _mono_starts(t: Array, a: Array, physical: float) -> Array:
    return np.array([_slope(t, a, physical)])


def _bi_starts(t: Array, a: Array, physical: float) -> Array:
    found = [(np.log(x[0]), k[0], np.log(x[1]), k[1]) for x, k in _on_grid(t, a, physical, 2)[:4]]
    late, k = _slope(t[-2:], a[-2:], physical)
    return np.array(found or [(late, k, late + shift, k + fast) for shift in (0.0, 1.0) for fast in (0.05, 0.3, 2.0)])


def _tri_starts(t: Array, a: Array, physical: float) -> Array:
    found = [(np.log(x[0]), k[0], np.log(x[1]), k[1], max(x[2] / (x[0] + x[1]), -1.0), k[2]) for x, k in _on_grid(t, a, physical, 3)]
    late, k = _slope(t[-2:], a[-2:], physical)
    return np.array(found or [(late, k, late, k + 0.05, 0.5, k + 0.5)])


def _on_grid(t: Array, a: Array, physical: float, terms: int) -> list[tuple[Array, tuple[float, ...]]]:
    """Return the best sums of exponentials with rates on a coarse grid: amplitudes, the first two positive, and biological rates."""
    weight = 1.0 / np.maximum(np.abs(a), 1e-2 * np.abs(a).max())
    found = []
    for k in combinations(RATE_GRID_PER_H, terms):
        shapes = np.exp(-np.multiply.outer(t, physical + np.array(k))) * weight[:, None]
        x, *_ = np.linalg.lstsq(shapes, a * weight, rcond=None)
        if np.all(x[:2] > 0):
            found.append((float(np.sum(np.square(shapes @ x - a * weight))), x, k))
    return [(x, k) for _, x, k in sorted(found, key=lambda entry: entry[0])[:STARTS_ON_GRID]]


def _uptake_starts(t: Array, a: Array, physical: float) -> Array:
    late, k = _slope(t[-2:], a[-2:], physical)
    return np.array([(late, k, np.log(fast)) for fast in (0.05, 0.3, 2.0)])


SHAPES: Final[Mapping[str, Shape]] = {
    "mono": Shape("mono", ("ln_amplitude_bq", "biological_rate_per_h"), _mono_terms, _mono_starts),
    "bi": Shape(
        "bi", ("ln_amplitude_bq", "biological_rate_per_h", "ln_second_amplitude_bq", "second_biological_rate_per_h"), _bi_terms, _bi_starts
    ),
    "tri": Shape(
        "tri",
        (
            "ln_amplitude_bq",
            "biological_rate_per_h",
            "ln_second_amplitude_bq",
            "second_biological_rate_per_h",
            "third_amplitude_over_others",
            "third_biological_rate_per_h",
        ),
        _tri_terms,
        _tri_starts,
    ),
    "uptake": Shape("uptake", ("ln_amplitude_bq", "biological_rate_per_h", "ln_uptake_rate_per_h"), _uptake_terms, _uptake_starts),
}


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A shape fitted to a curve: parameters ``(p,)``, covariance ``(p, p)``, terms, χ² and Ã [Bq h] with its standard uncertainty."""

    shape: Shape
    parameters: Array
    covariance: Array
    terms: Array
    chi_square: float
    tia_bq_h: float
    tia_sd_bq_h: float | None


def fitted(shape: Shape, curve: Curve, physical_per_h: float) -> Fitted:
    """Return the weighted least-squares fit of ``shape``.

    Points are weighted by their own standard uncertainty. Where none is known every point has the same relative one, estimated
    from the residuals; with no degree of freedom left there is then no uncertainty to state.

    Raises:
        DosimetryError: fewer points than parameters, or no positive activity.
    """
    t, a = curve.t_h, curve.activity_bq
    needed = len(shape.parameters)
    if t.size < needed:
        raise DosimetryError(
            f"{needed} time points needed for {shape.name}",
            where=curve.region,
            found=f"{t.size} at {np.round(t, 2).tolist()} h",
            remedy="add a scan or choose a method for fewer scans",
            code="TOO_FEW_POINTS",
        )
    if not np.any(a > 0):
        raise DosimetryError(
            "no positive activity to fit",
            where=curve.region,
            found=f"{np.round(a, 1).tolist()} Bq",
            remedy="check the contour and the scan's units",
            code="NO_ACTIVITY",
        )
    known = bool(np.all(curve.activity_sd_bq > 0))
    sd = curve.activity_sd_bq if known else np.maximum(np.abs(a), 1e-3 * a.max())
    best = _best(shape, t, a, sd, physical_per_h)
    freedom = t.size - needed
    chi_square = float(2.0 * best.cost)
    covariance = np.linalg.pinv(best.jac.T @ best.jac)
    if not known:
        covariance = covariance * (chi_square / freedom if freedom else np.nan)
    terms = shape.terms(best.x, physical_per_h)
    gradient = _gradient(lambda p: integral_bq_h(shape.terms(p, physical_per_h)), best.x)
    variance = float(gradient @ covariance @ gradient)
    tia_sd = float(np.sqrt(variance)) if np.isfinite(variance) else None
    return Fitted(shape, best.x, covariance, terms, chi_square, integral_bq_h(terms), tia_sd)


def _best(shape: Shape, t: Array, a: Array, sd: Array, physical: float) -> Any:
    lower = np.array([0.0 if name.endswith("biological_rate_per_h") else -np.inf for name in shape.parameters])
    upper = np.array([FASTEST_RATE_PER_H if name.endswith("biological_rate_per_h") else np.inf for name in shape.parameters])
    # far uptake rates all look alike; the bound keeps the exponential finite
    upper = np.where([name == "ln_uptake_rate_per_h" for name in shape.parameters], np.log(FASTEST_RATE_PER_H), upper)
    # no term is e^50 times what was measured; the bound keeps the exponential finite
    upper = np.where([name.startswith("ln_") and name.endswith("_bq") for name in shape.parameters], np.log(a.max()) + 50.0, upper)
    # below -1 the curve would begin negative
    lower = np.where([name == "third_amplitude_over_others" for name in shape.parameters], -1.0, lower)

    def residuals(p: Array) -> NDArray[Any]:
        weighted: NDArray[Any] = (activity_bq(shape.terms(p, physical), t) - a) / sd
        return weighted

    how: dict[str, Any] = {"bounds": (lower, upper), "jac": "3-point", "x_scale": "jac", "xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-12}
    fits = [least_squares(residuals, np.clip(start, lower, upper), **how) for start in shape.starts(t, a, physical)]
    return min(fits, key=lambda fit: fit.cost)


def slowest_biological(shape: Shape, parameters: Array) -> int:
    """Return the index of the smallest biological rate among a shape's parameters ``(p,)``."""
    rates = [i for i, name in enumerate(shape.parameters) if name.endswith("biological_rate_per_h")]
    return min(rates, key=lambda i: float(parameters[i]))


def _gradient(function: Callable[[Array], float], p: Array) -> Array:
    step = 1e-5 * np.maximum(np.abs(p), 1e-2)
    return np.array([(function(p + h) - function(p - h)) / (2.0 * h.max()) for h in np.diag(step)])


def aicc(chi_square: float, points: int, parameters: int) -> float | None:
    """Return AICc = n ln(χ²/n) + 2K + 2K(K+1)/(n-K-1), K counting the variance; None where n ≤ K + 1 leaves it undefined."""
    k = parameters + 1
    if points <= k + 1:
        return None
    per_point = max(chi_square / points, 1e-24)  # a perfect fit has no logarithm
    return float(points * np.log(per_point) + 2 * k + 2 * k * (k + 1) / (points - k - 1))


def terminal_half_life_h(terms: Array) -> float:
    """Return the half-life [h] of the slowest of ``terms`` (terms, 2)."""
    return float(LN2 / terms[:, 1].min())
