"""Two sides that differ by a factor which only their units explain."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import log
from statistics import median
from typing import Final

from mrtai.units import BQ_PER_KBQ, BQ_PER_MBQ, HOURS_PER_DAY, MGY_PER_GY, MM3_PER_ML, SECONDS_PER_HOUR, SECONDS_PER_MINUTE
from mrtai.values.refusal import DosimetryError
from mrtai.values.validation import Compared, RegionPair

NEAR: Final = log(1.3)
"""A median ratio within 30 % of a factor is taken for it: far beyond what two doses of one organ differ by, far short of the factors."""

_TIME: Final = (
    (SECONDS_PER_HOUR, "s", "h"),
    (SECONDS_PER_HOUR / SECONDS_PER_MINUTE, "min", "h"),
    (HOURS_PER_DAY, "h", "days"),
)
_FACTORS: Final[Mapping[str, tuple[tuple[float, str, str], ...]]] = {
    Compared.DOSE.value: ((MGY_PER_GY, "mGy", "Gy"), (100.0, "cGy", "Gy")),
    Compared.TIA.value: (
        (SECONDS_PER_HOUR, "MBq s", "MBq h"),
        (BQ_PER_KBQ, "MBq h", "GBq h"),
        (BQ_PER_MBQ, "Bq h", "MBq h"),
        (SECONDS_PER_HOUR * BQ_PER_MBQ, "Bq s", "MBq h"),
    ),
    Compared.HALF_LIFE.value: _TIME,
    "time": _TIME,
    Compared.VOLUME.value: ((MM3_PER_ML, "mm³", "mL"),),
    Compared.ACTIVITY.value: ((BQ_PER_KBQ, "MBq", "GBq"), (BQ_PER_MBQ, "Bq", "MBq")),
}


def require_same_units(pairs: Sequence[RegionPair]) -> None:
    """Raise ``DosimetryError`` where a cycle's median ratio of a quantity is a factor between units."""
    for place, cycle in enumerate(_cycles(pairs), start=1):
        for quantity, ratios in _ratios(cycle):
            found = unit_factor(quantity, median(ratios)) if ratios else None
            if found is not None:
                raise _refused(place, quantity, median(ratios), found)


def unit_factor(quantity: str, auto_per_manual: float) -> tuple[str, str] | None:
    """Return the units that explain a ratio, ``(auto's, manual's)``, None where none do."""
    for factor, small, large in _FACTORS[quantity]:
        for power, units in ((factor, (small, large)), (1 / factor, (large, small))):
            if abs(log(auto_per_manual / power)) < NEAR:
                return units
    return None


def _cycles(pairs: Iterable[RegionPair]) -> Iterable[list[RegionPair]]:
    cycles: dict[tuple[str, int], list[RegionPair]] = {}
    for pair in pairs:
        cycles.setdefault((pair.patient, pair.cycle), []).append(pair)
    return cycles.values()


def _ratios(cycle: Sequence[RegionPair]) -> Iterator[tuple[str, list[float]]]:
    for quantity in Compared:
        yield quantity.value, [auto / manual for pair in cycle for auto, manual in pair.points(quantity) if min(auto, manual) > 0]
    last = [(max(pair.auto.activity_bq, default=0.0), max(pair.manual.activity_bq, default=0.0)) for pair in cycle]
    yield "time", [auto / manual for auto, manual in last if min(auto, manual) > 0]


def _refused(place: int, quantity: str, ratio: float, units: tuple[str, str]) -> DosimetryError:
    words = quantity.replace("_", " ")
    return DosimetryError(
        "the two sides are in different units",
        where=f"{words}, compared cycle {place}",
        found=f"a median ratio of {ratio:.4g} (automatic to manual), as {units[0]} and {units[1]} differ",
        remedy=f"give the {words} of both sides in the same unit: Gy, MBq h, h, mL, MBq, hours after administration",
        code="MIXED_UNITS",
    )
