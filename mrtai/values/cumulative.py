"""What one patient's cycles add up to: sums of absorbed dose, BED and EQD2, and what remains to a protocol's limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mrtai.values.flag import Flag
from mrtai.values.ledger import CLOSED

DOSE: Final = "absorbed_dose"
BED: Final = "bed"
EQD2: Final = "eqd2"
QUANTITIES: Final = (DOSE, BED, EQD2)


@dataclass(frozen=True, slots=True)
class Uncertain:
    """One cycle's value [Gy] with its standard uncertainty and the part of it that all cycles have in common, such as calibration."""

    value_gy: float
    sd_gy: float | None
    common_sd_gy: float = 0.0

    @property
    def own_sd_gy(self) -> float | None:
        """The part that is independent between cycles; None where no uncertainty is stated."""
        return None if self.sd_gy is None else float(max(self.sd_gy**2 - self.common_sd_gy**2, 0.0) ** 0.5)


@dataclass(frozen=True, slots=True)
class CycleRegion:
    """One region in one cycle.

    Attributes:
        name, kind: as that cycle's results call it; ``members`` of a union.
        tracking_uid: what identifies a lesion over cycles, where anything does.
        withheld: True where the cycle gives no dose that may be used.
        values: by quantity; one that is missing was not computed.
        alpha_beta_gy: of BED and EQD2; None without them.
        correlation_assumed: the results do not say what part is common, so that all of it was taken as common.
    """

    name: str
    kind: str
    members: tuple[str, ...]
    tracking_uid: str | None
    withheld: bool
    values: Mapping[str, Uncertain]
    alpha_beta_gy: float | None = None
    correlation_assumed: bool = False


@dataclass(frozen=True, slots=True)
class CountedCycle:
    """One administration with its regions.

    Attributes:
        number: as the case says; ``state`` and ``provisional`` too.
        at: instant of the administration; ``administered_bq`` of ``nuclide`` on ``agent``.
        scans: digests of its scans' series UIDs.
    """

    pseudonym: str = field(repr=False)
    number: int
    state: str
    provisional: bool
    nuclide: str
    agent: str
    administered_bq: float
    at: datetime
    scans: frozenset[str]
    regions: tuple[CycleRegion, ...]

    @property
    def label(self) -> str:
        """How outputs name the cycle: numbers alone may repeat."""
        return f"cycle {self.number} ({self.at:%Y-%m-%d})"

    @property
    def is_counted(self) -> bool:
        """True once a person has signed it."""
        return self.state in CLOSED


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left to one limit of a region; negative when it is exceeded.

    ``next_exceeds`` says whether one more cycle like the mean of those counted would exceed it; None where the sum is not known.
    """

    quantity: str
    limit_gy: float
    source: str
    remaining_gy: float | None
    remaining_sd_gy: float | None
    exceeded: bool | None
    next_exceeds: bool | None


@dataclass(frozen=True, slots=True)
class RegionSum:
    """One organ or lesion over the cycles.

    Attributes:
        parts: positions of the cycles in which it is present, each with what it was there.
        sums: by quantity; missing where a cycle has no number.
        by_nuclide: the same for each administered nuclide alone.
    """

    name: str
    kind: str
    tracking_uid: str | None
    parts: tuple[tuple[int, CycleRegion], ...]
    sums: Mapping[str, Uncertain]
    by_nuclide: Mapping[str, Mapping[str, Uncertain]]
    limits: tuple[Remaining, ...] = ()
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True, slots=True)
class Cumulative:
    """One patient's cycles in order of time and what they add up to; ``protocol`` names where the limits come from."""

    cycles: tuple[CountedCycle, ...]
    regions: tuple[RegionSum, ...]
    protocol: str | None
    flags: tuple[Flag, ...] = ()

    @property
    def provisional(self) -> bool:
        """True while a cycle in it is not signed."""
        return not all(cycle.is_counted for cycle in self.cycles)

    @property
    def nuclides(self) -> tuple[str, ...]:
        """The nuclides given, in order of time."""
        return tuple(dict.fromkeys(cycle.nuclide for cycle in self.cycles))
