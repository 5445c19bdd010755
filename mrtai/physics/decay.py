"""Radioactive decay of a single nuclide."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrtai.units import LN2
from mrtai.values.grid import Array


def remaining(t_h: float | NDArray[Any], half_life_h: float) -> Any:
    """Return 2^(-t/T½), the fraction left after ``t_h`` hours (scalar or array of any shape)."""
    return np.exp(-LN2 * np.asarray(t_h, dtype=np.float64) / half_life_h)


def decays_until_gone(activity_bq: float, half_life_s: float) -> float:
    """Return A/λ, the number of decays of ``activity_bq`` left to itself [Bq s]."""
    return activity_bq * half_life_s / LN2


def rate_per_h(half_life_h: float | Array) -> Any:
    """Return λ = ln 2 / T½ [1/h]; works both ways, since T½ = ln 2 / λ."""
    return LN2 / np.asarray(half_life_h, dtype=np.float64)
