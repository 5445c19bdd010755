"""Who is compared with whom: cycles by patient and number, regions by name; what has no partner is listed, never dropped."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from mrtai.io.compared_cases import is_cases, read_cases, read_readable_cases
from mrtai.io.compared_exports import read_exports
from mrtai.io.manual_results import contract_name, read_manual
from mrtai.io.toml_file import read_toml, require_keys, text
from mrtai.values.compared_images import CycleImages
from mrtai.values.compared_maps import CycleMaps
from mrtai.values.refusal import DosimetryError
from mrtai.values.regions import kinetic_family
from mrtai.values.validation import SAME_TIME_H, Compared, ComparedCycle, RegionNumbers, RegionPair, Unmatched

AUTO: Final = "automatic"
MANUAL: Final = "manual"
UNION: Final = "union_"
SUMS: Final = ("union", "body", "remainder")
OTHER: Final = "other_organs"
NAMELESS: Final = ("CASE", "DICOM")
"""Sources whose patients are pseudonyms already, and whose regions need not be known."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides, their pairs and what has none."""

    auto: tuple[ComparedCycle, ...]
    manual: tuple[ComparedCycle, ...]
    pairs: tuple[RegionPair, ...]
    unmatched: tuple[Unmatched, ...]


def read_sides(auto: Path, manual: Path, regions: Path | None, *, lenient: bool = False) -> Sides:
    """Return the pairs of CASE folders with CSV, with other CASE folders or with DICOM exports.

    Args:
        auto: CASE folder, or a folder of CASE folders.
        manual: CSV file, CASE folders, or a folder of DICOM exports.
        regions: TOML file whose table ``regions`` gives the automatic side's name for names of the manual side.
        lenient: list cases that cannot be read or may not be used, instead of refusing all.

    Raises:
        DosimetryError: a side cannot be read, a manual region is unknown, or nothing has a partner.
    """
    ours, left_out = _cases(auto, AUTO, lenient=lenient)
    theirs, also = _manual_side(manual, ours, lenient=lenient)
    theirs = renamed(theirs, {} if regions is None else read_region_map(regions), ours)
    found = paired(ours, theirs)
    return replace(found, unmatched=(*found.unmatched, *left_out, *also))


def _cases(place: Path, side: str, *, lenient: bool) -> tuple[tuple[ComparedCycle, ...], tuple[Unmatched, ...]]:
    if not lenient:
        return read_cases(place, side), ()
    cycles, refusals = read_readable_cases(place, side)
    # a case that cannot be read does not tell whose it is, and its folder may be named after him
    return cycles, tuple(Unmatched(side, one.where, 1, None, f"left out: {one.what} ({one.found})") for one in refusals)


def _manual_side(place: Path, auto: Sequence[ComparedCycle], *, lenient: bool) -> tuple[tuple[ComparedCycle, ...], tuple[Unmatched, ...]]:
    if not place.is_dir():
        return read_manual(place), ()
    if is_cases(place):
        return _cases(place, MANUAL, lenient=lenient)
    known: dict[str, list[int]] = {}
    for cycle in auto:
        known.setdefault(cycle.patient, []).append(cycle.cycle)
    return read_exports(place, MANUAL, known), ()


def read_region_map(path: Path) -> dict[str, str]:
    """Return the names of a mapping file: the manual side's to the automatic side's."""
    table, _ = read_toml(path, "BAD_REGION_MAP")
    require_keys(table, {"regions"}, where="region map", code="BAD_REGION_MAP")
    names = table.get("regions")
    if not isinstance(names, dict):
        raise _refused(
            "region map", "no table of regions", "nothing there", 'write [regions], then lines as "Liver" = "liver"', "BAD_REGION_MAP"
        )
    return {name: text(names, name, where="region map", code="BAD_REGION_MAP") or "" for name in names}


def renamed(manual: Iterable[ComparedCycle], names: Mapping[str, str], auto: Iterable[ComparedCycle]) -> tuple[ComparedCycle, ...]:
    """Return the manual side with regions as the automatic side names them, and patients only by a pseudonym known there."""
    auto = tuple(auto)
    known = frozenset(name for cycle in auto for name in cycle.regions)
    pseudonyms = {cycle.patient for cycle in auto}
    numbers: dict[str, str] = {}
    found = []
    for cycle in manual:
        regions: dict[str, RegionNumbers] = {}
        labels: dict[str, str] = {}
        for label, region in cycle.regions.items():
            name = _name(label, names, known, is_free=cycle.origin.get("source") in NAMELESS)
            if name in regions:
                remedy = "keep one of them, or map them to different names"
                raise _refused("manual results", "two regions of one cycle have one name", f"'{name}' twice", remedy, "DUPLICATE_ROW")
            regions[name] = replace(region, name=name)
            labels[name] = label
        shown = cycle.patient
        if shown not in pseudonyms and cycle.origin.get("source") not in NAMELESS:
            shown = numbers.setdefault(shown, f"manual patient {len(numbers) + 1}")
        found.append(
            replace(
                cycle,
                patient=shown,
                regions=regions,
                maps=partial(_renamed_maps, cycle.maps, labels),
                images=partial(_renamed_images, cycle.images, labels),
            )
        )
    return tuple(found)


def _renamed_maps(maps: Callable[[], CycleMaps | None], labels: Mapping[str, str]) -> CycleMaps | None:
    """Return the maps whose regions answer to their new names; ``labels`` has the old name of each."""
    found = maps()
    if found is None:
        return None
    return replace(found, members={name: found.members.get(label, (label,)) for name, label in labels.items()})


def _renamed_images(images: Callable[[Sequence[Path]], CycleImages], old: Mapping[str, str], protocols: Sequence[Path]) -> CycleImages:
    """Return the images with contours under their new names; ``old`` has the former name of each."""
    found = images(protocols)
    new = {label: name for name, label in old.items()}
    contours, labels = (
        replace(one, names={value: new.get(name, name) for value, name in one.names.items()}) for one in (found.contours, found.labels)
    )
    return replace(found, contours=contours, labels=labels)


def _name(label: str, names: Mapping[str, str], known: Collection[str], *, is_free: bool) -> str:
    mapped = names.get(label, label)
    # a case or export keeps the free names of its contours, which the other side need not have
    name = mapped if mapped in known or is_free else contract_name(mapped)
    if name is None:
        remedy = "map it to a name of the automatic side with --regions"
        raise _refused("manual results", "a region is unknown", f"'{label[:64]}'", remedy, "UNKNOWN_REGION")
    return name


def paired(auto: Sequence[ComparedCycle], manual: Sequence[ComparedCycle]) -> Sides:
    """Return what belongs together.

    Raises:
        DosimetryError: no cycle, or no region of any, is on both sides.
    """
    ours = {(cycle.patient, cycle.cycle): cycle for cycle in auto}
    theirs = {(cycle.patient, cycle.cycle): cycle for cycle in manual}
    both = [key for key in ours if key in theirs]
    if not both:
        raise _no_partner(auto, manual)
    unmatched = [_alone(AUTO, cycle) for key, cycle in ours.items() if key not in theirs]
    unmatched += [_alone(MANUAL, cycle) for key, cycle in theirs.items() if key not in ours]
    pairs: list[RegionPair] = []
    for key in both:
        pairs += _region_pairs(ours[key], theirs[key])
        unmatched += _unmatched_regions(ours[key], theirs[key])
    if not pairs:
        remedy = "name the regions alike, or map them with --regions"
        raise _refused("both sides", "no region is on both sides", "other names", remedy, "NOTHING_TO_COMPARE")
    unmatched += [missing for pair in pairs for missing in _missing_numbers(pair)]
    return Sides(tuple(auto), tuple(manual), tuple(pairs), tuple(unmatched))


def _no_partner(auto: Sequence[ComparedCycle], manual: Sequence[ComparedCycle]) -> DosimetryError:
    if {cycle.patient for cycle in auto} & {cycle.patient for cycle in manual}:
        return _refused("both sides", "no cycle is on both sides", "other cycle numbers", "number the cycles alike", "NOTHING_TO_COMPARE")
    remedy = "write the pseudonym of the CASE into the column patient; exports carry it, or the patient ID of the scans"
    return _refused("manual results", "results of other patients", "no patient of the automatic side", remedy, "OTHER_PATIENT")


def _alone(side: str, cycle: ComparedCycle) -> Unmatched:
    return Unmatched(side, cycle.patient, cycle.cycle, None, f"only on the {side} side")


def _region_pairs(auto: ComparedCycle, manual: ComparedCycle) -> Iterator[RegionPair]:
    names = [name for name in auto.regions if name in manual.regions]
    used = {name for name in names if auto.regions[name].kind not in SUMS}
    for name in names:
        region = auto.regions[name]
        alone = region.kind not in SUMS
        if region.kind == "union" and not used & {name, *region.members}:
            alone = True
            used |= {name, *region.members}
        yield RegionPair(auto.patient, auto.cycle, region_group(name, region.kind), alone, region, manual.regions[name])


def region_group(name: str, kind: str) -> str:
    """Return the class a region is counted in: its kinetic family, or what it is the sum of."""
    if kind in SUMS:
        return f"{UNION}{name}"
    family = kinetic_family(name)
    # lungs keep an agent as the remainder does, but are no remainder
    return OTHER if family in (None, "remainder") else str(family)


def _unmatched_regions(auto: ComparedCycle, manual: ComparedCycle) -> Iterator[Unmatched]:
    for side, own, other in ((AUTO, auto, manual), (MANUAL, manual, auto)):
        for name in own.regions:
            if name not in other.regions:
                yield Unmatched(side, own.patient, own.cycle, name, f"only on the {side} side")


def _missing_numbers(pair: RegionPair) -> Iterator[Unmatched]:
    """Tell doses and scans of a region that one side alone has; what the other side never gives is no news."""
    if not any(pair.points(quantity) for quantity in Compared):
        yield Unmatched(MANUAL, pair.patient, pair.cycle, pair.auto.name, "no quantity is given by both sides")
        return
    sides = ((AUTO, pair.auto, pair.manual), (MANUAL, pair.manual, pair.auto))
    for side, own, other in sides:
        if own.absorbed_dose_gy is not None and other.absorbed_dose_gy is None:
            yield Unmatched(side, pair.patient, pair.cycle, own.name, f"the dose is given by the {side} side only")
    if pair.auto.activity_bq and pair.manual.activity_bq:
        matched = len(pair.activities_bq)
        for side, own, _ in sides:
            lost = len(own.activity_bq) - matched
            if lost:
                why = f"{lost} of {len(own.activity_bq)} activities have no scan of the other side within {SAME_TIME_H:g} h"
                yield Unmatched(side, pair.patient, pair.cycle, own.name, why)


def _refused(where: str, what: str, found: str, remedy: str, code: str) -> DosimetryError:
    return DosimetryError(what, where=where, found=found, remedy=remedy, code=code)
