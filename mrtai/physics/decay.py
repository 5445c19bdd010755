"""Radioactive decay of a single nuclide."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrtai.units import LN2


def remaining(t_h: float | NDArray[Any], half_life_h: float) -> Any:
    """Return 2^(-t/T½), the fraction left after ``t_h`` hours (scalar or array of any shape)."""
    return np.exp(-LN2 * np.asarray(t_h, dtype=np.float64) / half_life_h)
