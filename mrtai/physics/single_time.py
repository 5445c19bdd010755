"""One scan instead of several: closed forms with the window in which each holds."""

from typing import Final

from mrtai.units import LN2

HANSCHEID_WINDOW: Final = (0.75, 2.5)
"""Times over the effective half-life between which dose mapping of a mono-exponential errs by -12 % to +6 %."""

HANSCHEID_RELATIVE_SD: Final = 0.078
"""Published: 20 % of simulated kidneys err by more than 10 %; a normal error of 7.8 % does so."""


def tia_hanscheid_bq_h(activity_bq: float, t_h: float) -> float:
    """Return Ã = A(t) 2t / ln 2 [Bq h], exact where t is one or two effective half-lives (Hänscheid 2018, J Nucl Med 59:75)."""
    return activity_bq * 2.0 * t_h / LN2
