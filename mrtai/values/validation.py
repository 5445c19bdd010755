"""What a comparison with another's dosimetry is made of: two sides, their pairs, and what the pairs say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from mrtai.values.compared_images import CycleImages
from mrtai.values.compared_maps import CycleMaps, MapsCompared
from mrtai.values.grid import Array
from mrtai.values.refusal import DosimetryError

Interval = tuple[float, float]
"""Lower and upper end."""

SAME_TIME_H: Final = 1.0
"""Activities measured no further apart than this are of one scan."""

OVERALL: Final = "overall"

NUMBERS, MAPS, IMAGES = "numbers", "maps", "images"
"""What an attribution was computed from: numbers of a region, dose maps, or images that the dose was computed from again."""


class Compared(Enum):
    """The quantities that both sides may give."""

    DOSE = "absorbed_dose"
    TIA = "tia"
    HALF_LIFE = "effective_half_life"
    VOLUME = "volume"
    ACTIVITY = "activity"


@dataclass(frozen=True, slots=True)
class RegionNumbers:
    """One region of one cycle as one side gives it; None where it is not known.

    Attributes:
        activity_bq: activity by time after administration [h].
    """

    name: str
    volume_ml: float | None = None
    activity_bq: Mapping[float, float] = field(default_factory=dict)
    tia_bq_s: float | None = None
    effective_half_life_h: float | None = None
    absorbed_dose_gy: float | None = None
    kind: str = "other"
    members: tuple[str, ...] = ()


def no_maps() -> CycleMaps | None:
    """Return None: a side known by numbers alone."""
    return None


def no_images(_: Sequence[Path]) -> CycleImages:
    """Refuse: a side known by numbers or dose maps alone."""
    raise DosimetryError(
        "the images are not at hand",
        where="recomputation",
        found="numbers alone",
        remedy="give CASE folders on both sides",
        code="NOT_RECOMPUTED",
    )


@dataclass(frozen=True, slots=True)
class ComparedCycle:
    """One cycle of one patient on one side.

    Attributes:
        origin: in words, what it was read from.
        maps: reads contours and dose maps when they are wanted, and keeps none of them; None where there are none.
        images: reads all that the dose was computed from, given files of protocols; refuses where that is not at hand.
    """

    patient: str
    cycle: int
    regions: Mapping[str, RegionNumbers]
    origin: Mapping[str, str] = field(default_factory=dict)
    maps: Callable[[], CycleMaps | None] = field(default=no_maps, compare=False, repr=False)
    images: Callable[[Sequence[Path]], CycleImages] = field(default=no_images, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class RegionPair:
    """One region of one cycle on both sides.

    Attributes:
        group: the class of regions it is counted in.
        stands_alone: False where a part of it is a pair of its own, so that it would count twice among all regions.
    """

    patient: str
    cycle: int
    group: str
    stands_alone: bool
    auto: RegionNumbers
    manual: RegionNumbers

    @property
    def activities_bq(self) -> tuple[tuple[float, float, float], ...]:
        """Time of the manual scan [h] and both sides' activities [Bq], for the scans that both have."""
        free = dict(self.auto.activity_bq)
        found = []
        for t_h, manual_bq in sorted(self.manual.activity_bq.items()):
            nearest = min(free, key=lambda auto_h: abs(auto_h - t_h), default=None)
            if nearest is not None and abs(nearest - t_h) <= SAME_TIME_H:
                found.append((t_h, free.pop(nearest), manual_bq))
        return tuple(found)

    def points(self, quantity: Compared) -> tuple[tuple[float, float], ...]:
        """Return what both sides give of a quantity, ``(auto, manual)``: one each, and one a scan of the activity."""
        if quantity is Compared.ACTIVITY:
            return tuple((auto, manual) for _, auto, manual in self.activities_bq)
        name = {
            Compared.DOSE: "absorbed_dose_gy",
            Compared.TIA: "tia_bq_s",
            Compared.HALF_LIFE: "effective_half_life_h",
            Compared.VOLUME: "volume_ml",
        }[quantity]
        auto, manual = getattr(self.auto, name), getattr(self.manual, name)
        return () if auto is None or manual is None else ((auto, manual),)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bias and 95 % limits of agreement on one scale, each with its 95 % interval; None where too few patients tell.

    Attributes:
        sd: of a single difference, patients and repeats together.
        within_sd: of repeats in one patient, None where no patient has any.
    """

    bias: float
    bias_95: Interval | None = None
    sd: float | None = None
    within_sd: float | None = None
    lower: float | None = None
    lower_95: Interval | None = None
    upper: float | None = None
    upper_95: Interval | None = None


@dataclass(frozen=True, slots=True)
class Coefficient:
    """An estimate and its 95 % interval, None where too few tell."""

    value: float
    interval_95: Interval | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """auto = intercept + slope · manual."""

    slope: Coefficient
    intercept: Coefficient


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Two one-sided tests of ln(auto/manual) against ± ln(1 + margin)."""

    margin: float
    ln_ratio_90: Interval
    p: float
    shown: bool


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What the pairs of one class say of one quantity, in the units of the package.

    Attributes:
        auto, manual: shape ``(points,)``; ``patients`` names each point's patient.
        growth_p: chance of so strong a growth of the spread with the mean where there is none.
        scale: ``ratio`` where the spread grows with the mean, else ``difference``.
        ratio: on ln(auto/manual), of the points where both are above 0.
    """

    group: str
    quantity: Compared
    auto: Array
    manual: Array
    patients: tuple[str, ...]
    growth_p: float | None
    scale: str
    difference: Limits
    ratio: Limits | None
    ratio_points: int
    concordance: Coefficient | None
    icc_2_1: Coefficient | None
    icc_3_1: Coefficient | None
    deming: Line | None
    passing_bablok: Line | None
    equivalence: Equivalence | None


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one step, or several that cannot be told apart, adds to ln(auto/manual) of the dose."""

    steps: tuple[str, ...]
    ln_ratio: float


@dataclass(frozen=True, slots=True)
class Attribution:
    """ln(auto/manual) of the dose and the contributions that it is the sum of; ``by`` says from what they were computed."""

    total_ln_ratio: float
    contributions: tuple[Contribution, ...]
    by: str = NUMBERS


@dataclass(frozen=True, slots=True)
class GroupAttribution:
    """The mean attribution of a class, every patient counting once, over ``pairs`` of the ``of`` pairs with a dose."""

    group: str
    pairs: int
    of: int
    mean: Attribution


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Something that one side alone has: a cycle (``region`` None), a region of it, or a scan of that."""

    side: str
    patient: str
    cycle: int
    region: str | None
    why: str


@dataclass(frozen=True, slots=True)
class NotRecomputed:
    """A cycle whose steps were to be computed again and could not be, and why."""

    patient: str
    cycle: int
    why: str


@dataclass(frozen=True, slots=True)
class Validation:
    """A whole comparison."""

    auto: tuple[ComparedCycle, ...]
    manual: tuple[ComparedCycle, ...]
    pairs: tuple[RegionPair, ...]
    unmatched: tuple[Unmatched, ...]
    comparisons: tuple[Comparison, ...]
    attributions: tuple[Attribution | None, ...]
    group_attributions: tuple[GroupAttribution, ...]
    margin: float
    maps: MapsCompared = field(default_factory=MapsCompared)
    not_recomputed: tuple[NotRecomputed, ...] = ()
    margin_source: str = ""
