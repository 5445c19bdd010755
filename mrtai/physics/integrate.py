"""Trapezoids with stated head and tail."""

import numpy as np

from mrtai.physics.curves import activity_bq
from mrtai.units import LN2
from mrtai.values.curve import Curve
from mrtai.values.grid import Array

HEAD_RULE = "constant: the first measured activity back to the administration"
TAIL_RULE = "effective slope of the last two points, never slower than physical decay"


def tail_half_life_h(curve: Curve, physical_half_life_h: float) -> float:
    """Return the half-life after the last point: that of the last two points, at most the physical one."""
    if curve.t_h.size < 2 or min(curve.activity_bq[-2:]) <= 0:
        return physical_half_life_h
    fall = np.log(curve.activity_bq[-2] / curve.activity_bq[-1])
    if fall <= 0:
        return physical_half_life_h
    return min(float(LN2 * (curve.t_h[-1] - curve.t_h[-2]) / fall), physical_half_life_h)


def trapezoid_weights_h(t_h: Array, tail_h: float) -> Array:
    """Return w with Ã = Σ w A: constant head, trapezoids, and a tail of half-life ``tail_h``; shape as ``t_h``."""
    steps = np.diff(t_h)
    weights = np.zeros_like(t_h)
    weights[:-1] += steps / 2
    weights[1:] += steps / 2
    weights[0] += t_h[0]
    weights[-1] += tail_h / LN2
    return weights


def trapezoid_doubt_bq_h(curve: Curve, tail_h: float, physical_half_life_h: float) -> float:
    """Return the standard uncertainty [Bq h] of the trapezoids' own rules, noise of the points aside.

    Each rule is taken as one end of what may be, the other end as the other, and what lies between as equally likely: a rise from
    zero or the first slope continued back, instead of a constant head; exponentials instead of straight lines; nothing at all after
    the last scan where no fall was seen, else a slope as uncertain as its two points.
    """
    t, a = curve.t_h, curve.activity_bq
    constant, first = float(t[0] * a[0]), (a[0], a[1]) if a.size > 1 else (a[0], a[0])
    falls = first[1] > 0 and first[0] > first[1]
    rate = np.log(first[0] / first[1]) / (t[1] - t[0]) if falls else 0.0
    head = float(a[0] * np.expm1(rate * t[0]) / rate) - constant if falls else constant / 2.0
    both = (a[:-1] > 0) & (a[1:] > 0) & (a[:-1] != a[1:])
    lines = np.diff(t) * (a[:-1] + a[1:]) / 2.0
    ratio = np.where(both, a[:-1] / np.where(a[1:] > 0, a[1:], 1.0), np.e)
    curves = np.where(both, np.diff(t) * (a[:-1] - a[1:]) / np.log(ratio), lines)
    tail = float(a[-1]) * tail_h / LN2
    doubt = tail
    if a.size > 1 and tail_h < physical_half_life_h and min(a[-2:]) > 0:
        relative = np.where(curve.activity_sd_bq[-2:] > 0, curve.activity_sd_bq[-2:] / a[-2:], 0.0)
        doubt = min(tail, np.sqrt(3.0) * tail * tail_h / LN2 * float(np.linalg.norm(relative)) / float(t[-1] - t[-2]))
    return float(np.linalg.norm([head, (lines - curves).sum(), doubt])) / float(np.sqrt(3.0))


def time_shares(t_h: Array, terms: Array) -> Array:
    """Return how much each scan says about the integral: trapezoid weights with the fitted curve's tail.

    Both arrays have one entry a scan, shape ``(scans,)``; the shares sum to 1. ``terms`` has shape ``(terms, 2)``.
    """
    last = float(activity_bq(terms, t_h[-1])) if terms.size else 0.0
    rate = float(terms[:, 1].min()) if terms.size else 0.0
    weights = trapezoid_weights_h(t_h, LN2 / rate if last > 0 and rate > 0 else float(t_h[-1]))
    shares: Array = weights / weights.sum()
    return shares
