"""One scan instead of several: one closed form a method, each with its source and the window in which it holds.

Windows are times of the scan over the effective half-life x = t/T. For a mono-exponential dose mapping reads R(x) = 2x 2⁻ˣ of the
truth, and a half-life wrong by a factor e^u reads exp(u + x ln2 (e⁻ᵘ - 1)) of it; both are flat around x = 1/ln 2 = 1.44.
"""

from typing import Final

import numpy as np

from mrtai.units import LN2
from mrtai.values.grid import Array

HANSCHEID_WINDOW: Final = (0.75, 2.5)
"""Dose mapping of a mono-exponential errs by -12 % to +6 % here."""

HALF_LIFE_WINDOW: Final = (0.75, 2.0)
"""Madsen, known half-life, ratio and population: a half-life 25 % off moves the integral by 14 % at most here."""

OWN_HALF_LIFE_WINDOW: Final = (0.25, 2.5)
"""With the patient's own half-life, some 10 % off from cycle to cycle, the integral moves by less than 10 % here."""

HANSCHEID_RELATIVE_SD: Final = 0.078
"""Published: 20 % of simulated kidneys err by more than 10 %; a normal error of 7.8 % does so."""

CITATIONS: Final = {
    "hanscheid": "dose mapping, Ã = A(t) 2t/ln 2 (Hänscheid 2018, J Nucl Med 59:75)",
    "madsen": "population half-life, Ã = A(t) 2^(t/T) T/ln 2 (Madsen 2018, Med Phys 45:2318)",
    "known-half-life": "known half-life, Ã = A(t) 2^(t/T) T/ln 2 (Madsen 2018, Med Phys 45:2318)",
    "ratio": "population's mean of Ã/A(t) at the scan's time (dose factors after Jackson 2020, J Nucl Med 61:1030)",
}


def tia_hanscheid_bq_h(activity_bq: float, t_h: float) -> float:
    """Return Ã = A(t) 2t / ln 2 [Bq h], exact where t is one or two effective half-lives (Hänscheid 2018, J Nucl Med 59:75)."""
    return activity_bq * 2.0 * t_h / LN2


def tia_half_life_bq_h(activity_bq: float, t_h: float, half_life_h: float) -> float:
    """Return Ã = A(t) 2^(t/T) T / ln 2 [Bq h], exact for one exponential of half-life T (Madsen 2018, Med Phys 45:2318)."""
    return activity_bq * float(np.exp2(t_h / half_life_h)) * half_life_h / LN2


def tia_ratio_bq_h(activity_bq: float, ratio_h: float) -> float:
    """Return Ã = A(t) · r(t) [Bq h] with the population's r(t) = mean of Ã/A(t) (after Jackson 2020, J Nucl Med 61:1030)."""
    return activity_bq * ratio_h


def integral_per_activity_h(t_h: float, half_life_h: Array | float) -> Array:
    """Return Ã/A(t) = 2^(t/T) T / ln 2 [h] of mono-exponentials at ``t_h``; shape as ``half_life_h``."""
    half_life = np.asarray(half_life_h, dtype=np.float64)
    ratio: Array = np.exp2(t_h / half_life) * half_life / LN2
    return ratio
