"""Which regions of a patient's cycles are one organ or one lesion."""

from collections.abc import Iterator, Sequence
from typing import Final

from mrtai.values.cumulative import CountedCycle, CycleRegion

Parts = tuple[tuple[int, CycleRegion], ...]

NOT_SUMMED: Final = ("body", "remainder")
"""What lies in view, or in no region, is not the same thing in every cycle."""


def matched(cycles: Sequence[CountedCycle]) -> tuple[Parts, ...]:
    """Return each organ, union and lesion with the positions of the cycles that have it, in order of time.

    Organs and unions are one by name. Lesions are one by tracking UID where both have one, else by name.
    """
    groups: list[list[tuple[int, CycleRegion]]] = []
    for position, cycle in enumerate(cycles):
        earlier = list(groups)
        for region in _identified_first(cycle):
            free = [group for group in earlier if group[-1][0] != position]
            group = next((group for group in free if _same_uid(group, region)), None)
            group = group or next((group for group in free if _same_name(group, region)), None)
            if group is None:
                groups.append([(position, region)])
            else:
                group.append((position, region))
    return tuple(tuple(group) for group in groups)


def by_name(parts: Parts) -> bool:
    """Return True where only their names say that a lesion of several cycles is one."""
    uids = {region.tracking_uid for _, region in parts}
    return parts[0][1].kind == "lesion" and len(parts) > 1 and (None in uids or len(uids) > 1)


def _identified_first(cycle: CountedCycle) -> Iterator[CycleRegion]:
    """Yield the cycle's regions, lesions with a tracking UID first, so that a name does not take their place."""
    regions = [region for region in cycle.regions if region.kind not in NOT_SUMMED]
    yield from sorted(regions, key=lambda region: not (region.kind == "lesion" and region.tracking_uid))


def _same_uid(group: Sequence[tuple[int, CycleRegion]], region: CycleRegion) -> bool:
    return region.kind == "lesion" and region.tracking_uid is not None and region.tracking_uid in {one.tracking_uid for _, one in group}


def _same_name(group: Sequence[tuple[int, CycleRegion]], region: CycleRegion) -> bool:
    latest = group[-1][1]
    if latest.name != region.name or (latest.kind == "lesion") != (region.kind == "lesion"):
        return False
    uids = {one.tracking_uid for _, one in group} - {None}
    return region.kind != "lesion" or region.tracking_uid is None or not uids
