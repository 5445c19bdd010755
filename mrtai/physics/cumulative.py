"""Sums over the cycles of one patient, their uncertainty, and what remains to limits.

BED and EQD2 are summed cycle by cycle: repair ends long before the next administration, so the BED of the summed dose would
count an interaction between cycles that there is not.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Final

import numpy as np

from mrtai.physics.cumulative_flags import course_flags, limit_flags, region_flags
from mrtai.physics.same_region import Parts, matched
from mrtai.units import SECONDS_PER_MINUTE
from mrtai.values.cumulative import (
    BED,
    DOSE,
    QUANTITIES,
    CountedCycle,
    Cumulative,
    CycleRegion,
    RegionSum,
    Remaining,
    Uncertain,
)
from mrtai.values.protocol import CumulativeLimit
from mrtai.values.refusal import DosimetryError

SAME_TIME_S: Final = SECONDS_PER_MINUTE
FAMILY: Final = {"kidney_left": "kidneys", "kidney_right": "kidneys"}
"""Limits of a pair hold for each of the two as well."""

MARROW: Final = "red_marrow"


def summed(parts: Sequence[Uncertain]) -> Uncertain:
    """Return Σ xᵢ with u² = (Σ cᵢ)² + Σ oᵢ²: what cycles have in common adds up, all else is independent.

    The sum's uncertainty is None where a part states none.
    """
    value, common = sum(part.value_gy for part in parts), sum(part.common_sd_gy for part in parts)
    own = [part.own_sd_gy for part in parts if part.own_sd_gy is not None]
    sd = float(np.hypot(common, np.linalg.norm(own))) if len(own) == len(parts) else None
    return Uncertain(value, sd, common)


def with_stated_sd(value_gy: float, sd_gy: float | None, dose: Uncertain) -> Uncertain:
    """Return a cycle's BED or EQD2 with its stated uncertainty, of which as large a part is common to cycles as of the dose's."""
    common = dose.common_sd_gy / dose.sd_gy if dose.sd_gy else 0.0
    return Uncertain(value_gy, sd_gy, common * (sd_gy or 0.0))


def first_order_bed_sd_gy(dose_gy: float, dose_sd_gy: float, g: float, alpha_beta_gy: float) -> float:
    """Return u(BED) = (1 + 2 G D / (α/β)) u(D), kinetics and α/β taken as exact: of a cycle that states no uncertainty of its BED."""
    return (1.0 + 2.0 * g * dose_gy / alpha_beta_gy) * dose_sd_gy


def cumulated(cycles: Iterable[CountedCycle], limits: Mapping[str, CumulativeLimit], protocol: str | None) -> Cumulative:
    """Return the sums over one patient's ``cycles``; ``limits`` are by region name or union, of the ``protocol`` named.

    Raises:
        DosimetryError: several patients, or one administration twice.
    """
    ordered = tuple(sorted(cycles, key=lambda cycle: cycle.at.replace(tzinfo=None)))
    require_one_course(ordered)
    regions = tuple(_region_sum(parts, ordered, limits) for parts in matched(ordered))
    return Cumulative(ordered, regions, protocol, course_flags(ordered))


def require_one_course(cycles: Sequence[CountedCycle]) -> None:
    """Refuse cycles of different patients, and two that are one administration: given in the same minute, or with a scan in common."""
    if len({cycle.pseudonym for cycle in cycles}) > 1:
        raise _refused("the cycles are of different patients", "different pseudonyms", "give the cycles of one patient", "PATIENT_MIXED")
    for one, other in combinations(cycles, 2):
        if one.nuclide == other.nuclide and (seconds_apart(one, other) < SAME_TIME_S or one.scans & other.scans):
            found = f"{one.label} and {other.label}"
            raise _refused("one administration counts twice", found, "give each cycle's case once", "SAME_ADMINISTRATION")


def seconds_apart(one: CountedCycle, other: CountedCycle) -> float:
    """Return the seconds between two administrations; where only one has a zone, both are read as wall time of one place."""
    a, b = one.at, other.at
    if (a.tzinfo is None) != (b.tzinfo is None):
        a, b = a.replace(tzinfo=None), b.replace(tzinfo=None)
    return abs((b - a).total_seconds())


def _region_sum(parts: Parts, cycles: Sequence[CountedCycle], limits: Mapping[str, CumulativeLimit]) -> RegionSum:
    latest = parts[-1][1]
    by_nuclide = {
        nuclide: _sums([region for position, region in parts if cycles[position].nuclide == nuclide])
        for nuclide in dict.fromkeys(cycles[position].nuclide for position, _ in parts)
    }
    sums = _sums([region for _, region in parts])
    uid = next((region.tracking_uid for _, region in reversed(parts) if region.tracking_uid), None)
    remaining = tuple(_remaining(sums, limits, latest.name, len(parts)))
    flags = (*region_flags(parts, cycles), *limit_flags(remaining, len(parts) < len(cycles)))
    return RegionSum(latest.name, latest.kind, uid, parts, sums, by_nuclide, remaining, flags)


def _sums(regions: Sequence[CycleRegion]) -> dict[str, Uncertain]:
    """Return what can be summed: nothing where a cycle is withheld, no BED of different α/β."""
    if any(region.withheld for region in regions):
        return {}
    comparable = len({region.alpha_beta_gy for region in regions}) == 1
    known = [name for name in QUANTITIES if all(name in region.values for region in regions) and (comparable or name == DOSE)]
    return {name: summed([region.values[name] for region in regions]) for name in known}


def _remaining(sums: Mapping[str, Uncertain], limits: Mapping[str, CumulativeLimit], name: str, cycles: int) -> Iterator[Remaining]:
    limit = limits.get(name, limits.get(FAMILY.get(name, MARROW if name.startswith(f"{MARROW}_by_") else "")))
    if limit is None:
        return
    for quantity, limit_gy in ((DOSE, limit.dose_gy), (BED, limit.bed_gy)):
        if limit_gy is None:
            continue
        total = sums.get(quantity)
        if total is None:
            yield Remaining(quantity, limit_gy, limit.source, None, None, None, None)
            continue
        left, next_gy = limit_gy - total.value_gy, total.value_gy * (1.0 + 1.0 / cycles)
        yield Remaining(quantity, limit_gy, limit.source, left, total.sd_gy, left < 0, next_gy > limit_gy)


def _refused(what: str, found: str, remedy: str, code: str) -> DosimetryError:
    return DosimetryError(what, where="the cases", found=found, remedy=remedy, code=code)
