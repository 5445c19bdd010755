"""One side of a comparison read from DICOM exports of another program: contours (RTSTRUCT or SEG) and dose (RTDOSE)."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from mrtai.io.compared_cases import contours_of
from mrtai.io.dicom_contours import Contours, contour_points, read_rtstruct, read_seg, referenced
from mrtai.io.dicom_patient import identity_of
from mrtai.io.dicom_tree import Instance, Series, read_tree
from mrtai.io.dicom_volume import place_slices
from mrtai.io.pseudonym import load_key, pseudonym
from mrtai.io.rtdose import is_physical, read_rtdose
from mrtai.physics.measure import REMAINDER, lies_in
from mrtai.physics.resample import largest_share
from mrtai.values.compared_maps import CycleMaps
from mrtai.values.grid import Grid
from mrtai.values.refusal import DosimetryError
from mrtai.values.regions import is_lesion, unions
from mrtai.values.validation import ComparedCycle, RegionNumbers

CYCLE: Final = re.compile(r"cycle[ _-]?([1-9]\d{0,2})$", re.IGNORECASE)
PSEUDONYM: Final = re.compile(r"P-[0-9a-f]{8,64}")
IN_PLANE_MM: Final = 1.5
"""Of the grid that polygons are filled on where the export has no image they were drawn on."""
MARGIN: Final = 2
REST: Final = ("body", REMAINDER)
"""What a CASE sums up from what lies in no region, a contour of another program is not."""


def read_exports(place: Path, side: str, known: Mapping[str, Sequence[int]]) -> tuple[ComparedCycle, ...]:
    """Return the cycles of a folder tree of DICOM exports.

    A cycle is what lies in a folder named ``cycle_1``, ``cycle_2``, …; without such folders a patient's export is of the one cycle that the
    other side has of him, else of the first.

    Args:
        place: folder of any nesting.
        side: how messages name it.
        known: by patient, the cycles of the other side.

    Raises:
        DosimetryError: no contours or dose, or more than one of them in a cycle, different frames of reference, or unreadable objects.
    """
    groups: dict[tuple[str, int | None], list[Series]] = {}
    key = load_key()
    for series in read_tree(place):
        for part in _by_cycle(series, place):
            groups.setdefault((_patient(part[1], key), part[0]), []).append(part[1])
    if not groups:
        raise _refused(side, "neither cases of ours nor DICOM", "no results.json and no DICOM file", "give CASE folders, exports or a CSV")
    found: list[ComparedCycle] = []
    for (patient, number), own in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] or 0)):
        cycles = known.get(patient, ())
        found.append(_cycle(patient, number or (cycles[0] if len(cycles) == 1 else 1), own, f"{side}, export {len(found) + 1}"))
    if len({(one.patient, one.cycle) for one in found}) < len(found):
        raise _refused(side, "two exports of one patient and cycle", "the same twice", "put each cycle into a folder cycle_1, cycle_2, …")
    return tuple(found)


def _by_cycle(series: Series, place: Path) -> list[tuple[int | None, Series]]:
    """Return the series, one for every cycle that its files' folders name."""
    parts: dict[int | None, list[Instance]] = {}
    for instance in series.instances:
        folders = instance.path.relative_to(place).parts[:-1]
        numbers = [int(match[1]) for folder in folders if (match := CYCLE.search(folder))]
        parts.setdefault(numbers[-1] if numbers else None, []).append(instance)
    return [(number, Series(series.uid, series.modality, tuple(instances))) for number, instances in parts.items()]


def _patient(series: Series, key: bytes) -> str:
    patient_id, issuer = identity_of([series])
    return patient_id if PSEUDONYM.fullmatch(patient_id) else pseudonym(patient_id, issuer, key)


def _cycle(patient: str, number: int, series: Sequence[Series], where: str) -> ComparedCycle:
    doses = [one for one in _objects(series, "RTDOSE") if is_physical(one)]
    drawn = _objects(series, "SEG") or _objects(series, "RTSTRUCT")
    for what, found in (("dose map", doses), ("set of contours", drawn)):
        if len(found) != 1:
            remedy = "export one RTDOSE in Gy and one RTSTRUCT or SEG a cycle, each cycle in a folder cycle_1, cycle_2, …"
            raise _refused(where, f"not one {what} in a cycle", f"{len(found)} of them", remedy)
    maps = partial(_maps, doses[0], drawn[0], tuple(series), where)
    regions = _regions(maps())
    digest = hashlib.sha256("".join(sorted(one.sha256 for one in (doses[0], drawn[0]))).encode()).hexdigest()
    origin = {"source": "DICOM", "sha256": digest, "version": _program(doses[0])}
    return ComparedCycle(patient, number, regions, origin, maps)


def _objects(series: Sequence[Series], modality: str) -> list[Instance]:
    return [instance for one in series if one.modality == modality for instance in one.instances]


def _program(instance: Instance) -> str:
    """Return program and version as the header states them; both are names of products, not of people."""
    words = [str(instance.header.get(tag, "") or "") for tag in ("Manufacturer", "ManufacturerModelName")]
    versions = instance.header.get("SoftwareVersions", "") or ""
    words += [versions] if isinstance(versions, str) else [str(one) for one in versions]
    return " ".join(word for word in words if word)[:64] or "not known"


def _maps(dose: Instance, drawn: Instance, series: Sequence[Series], where: str) -> CycleMaps:
    frame = str(dose.header.get("FrameOfReferenceUID", "") or "")
    places = referenced(drawn)[1]
    if places and frame not in places:
        raise _refused(
            where, "contours and dose lie in different frames of reference", "another UID", "export contours of the dose's image"
        )
    image = read_rtdose(dose)
    contours = read_seg(drawn) if drawn.header.Modality == "SEG" else _of_polygons(drawn, frame, image.grid, series)
    if contours is None:
        raise _refused(where, "no closed contour", "none in the dose's frame of reference", "export the contours again")
    names = contours.labels.names.values()
    in_liver = [name for name in names if is_lesion(name) and "liver" in names and lies_in(contours.labels, name, "liver")]
    members = {name: contours_of(name, "union", own) for name, own in unions(names, in_liver).items()}
    return CycleMaps(contours.labels, largest_share(contours.labels, image.grid), image, members)


def _of_polygons(drawn: Instance, frame: str, dose: Grid, series: Sequence[Series]) -> Contours | None:
    """Return the contours on the image that they were drawn on, where that is there, else on a grid made for them."""
    uids = referenced(drawn)[0]
    image = next((one for one in series if one.uid in uids and one.modality == "CT" and len(one.instances) > 1), None)
    return read_rtstruct(drawn, place_slices(image).grid if image else _grid_of(drawn, frame, dose), frame)


def _grid_of(drawn: Instance, frame: str, dose: Grid) -> Grid:
    """Return a grid along the dose's axes whose slices are the planes of the polygons."""
    points = contour_points(drawn, frame)
    if not points.size:
        return dose
    turned = points @ dose.direction  # (points, 3) along the axes x, y, z of the dose
    heights = np.unique(np.round(turned[:, 2], 2))
    steps = np.diff(heights)
    step = float(np.median(steps)) if steps.size else float(dose.spacing_mm[2])
    spacing = np.array([min(IN_PLANE_MM, float(edge)) for edge in dose.spacing_mm[:2]] + [step])
    low, high = turned.min(axis=0), turned.max(axis=0)
    low[:2] -= MARGIN * spacing[:2]
    high[:2] += MARGIN * spacing[:2]
    counts = np.ceil((high - low) / spacing - 1e-6).astype(int) + 1
    shape = (int(counts[2]), int(counts[1]), int(counts[0]))
    return Grid(shape, spacing, dose.direction @ low, dose.direction)


def _regions(maps: CycleMaps) -> dict[str, RegionNumbers]:
    names = [name for name in maps.contours.names.values() if name not in maps.members and name not in REST]
    singles = {name: _region(maps, name, (), "lesion" if is_lesion(name) else "organ") for name in names}
    sums = {name: _region(maps, name, members, "union") for name, members in maps.members.items()}
    return {name: region for name, region in (singles | sums).items() if region.volume_ml is not None}


def _region(maps: CycleMaps, name: str, members: tuple[str, ...], kind: str) -> RegionNumbers:
    drawn, mask = maps.contour(name), maps.on_dose(name)
    volume_ml = None if drawn is None else int(drawn.sum()) * maps.contours.grid.voxel_ml
    dose_gy = None if mask is None or maps.dose is None else float(maps.dose.voxels[mask].mean(dtype=np.float64))
    return RegionNumbers(name, volume_ml=volume_ml, absorbed_dose_gy=dose_gy, kind=kind, members=members)


def _refused(where: str, what: str, found: str, remedy: str) -> DosimetryError:
    return DosimetryError(what, where=where, found=found, remedy=remedy, code="BAD_EXPORT")
