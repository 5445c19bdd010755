"""When the next scan would tell most."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NextScan:
    """The best time of one more scan.

    Attributes:
        time_h: hours after the administration.
        relative_sd_now: standard deviation of ln Ã by region, from the scans so far.
        relative_sd_then: the same, expected after a scan at ``time_h``.
        candidates: pairs of a time [h] and the expected mean over the regions, for every time considered.
    """

    time_h: float
    relative_sd_now: Mapping[str, float]
    relative_sd_then: Mapping[str, float]
    candidates: tuple[tuple[float, float], ...]
