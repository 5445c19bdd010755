"""Time–activity curves and what was fitted to them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from mrtai.values.flag import Flag
from mrtai.values.grid import Array

LARGE_ERROR: Final = 0.2
"""A value from which the truth is further away than this share of the value is wrong for any clinical purpose."""


def _readonly(values: object) -> Array:
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Activity of one region over time (a TAC).

    Times are hours after administration, strictly increasing; all arrays have shape ``(points,)``. ``activity_sd_bq`` is
    the standard uncertainty that is independent between scans; it weights the fit. NaN where not known.
    """

    region: str
    t_h: Array
    activity_bq: Array
    activity_sd_bq: Array

    def __post_init__(self) -> None:
        for name in ("t_h", "activity_bq", "activity_sd_bq"):
            object.__setattr__(self, name, _readonly(getattr(self, name)))
        if not self.t_h.shape == self.activity_bq.shape == self.activity_sd_bq.shape or self.t_h.ndim != 1:
            raise ValueError(f"{self.region}: {self.t_h.size} times but {self.activity_bq.size} activities")
        if np.any(np.diff(self.t_h) <= 0):
            raise ValueError(f"{self.region}: times must increase, got {self.t_h.tolist()} h")
        if self.t_h.size == 0 or self.t_h[0] <= 0:
            raise ValueError(f"{self.region}: times must lie after the administration, got {self.t_h.tolist()} h")


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A curve continued over all times and integrated.

    Attributes:
        method: what was asked for (``auto``, ``mono``, …); ``model``: what it came to.
        parameters: by name with unit in the name; ``covariance`` in the same order, shape ``(parameters, parameters)``.
        terms: the curve as a sum of exponentials, shape ``(terms, 2)``: amplitude [Bq] and rate [1/h]; empty for trapezoids.
        tia_bq_s: time-integrated activity Ã; ``tia_sd_bq_s`` its standard uncertainty from the fit, None where none can be stated.
        effective_half_life_h: terminal half-life.
        fraction_before_first_scan, fraction_after_last_scan: shares of Ã that were not measured but extrapolated.
        reason: in words, why this model.
        head, tail: in words, how the curve goes on before the first and after the last scan.
        effective_half_life_sd_h: standard uncertainty of the terminal half-life, None where none can be stated.
        tia_68_bq_s, tia_95_bq_s: intervals that hold the true Ã with these probabilities, equal tails.
        probability_off: stated probability that the true Ã is more than ``LARGE_ERROR`` of the stated one away from it.
    """

    curve: Curve
    method: str
    model: str
    parameters: Mapping[str, float | str]
    covariance: Array
    terms: Array
    tia_bq_s: float
    tia_sd_bq_s: float | None
    effective_half_life_h: float | None
    fraction_before_first_scan: float
    fraction_after_last_scan: float
    reason: str
    goodness: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()
    head: str = ""
    tail: str = ""
    effective_half_life_sd_h: float | None = None
    tia_68_bq_s: tuple[float, float] | None = None
    tia_95_bq_s: tuple[float, float] | None = None
    probability_off: float | None = None
