"""One side of a comparison read from CASE folders: numbers, versions and digests; contours and dose maps when they are wanted."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from mrtai.io.compared_images import read_images
from mrtai.io.nifti import read_image, read_labels
from mrtai.io.results import require_valid, results_sha256
from mrtai.units import BQ_PER_MBQ, BQ_S_PER_MBQ_H
from mrtai.values.compared_maps import CycleMaps
from mrtai.values.image import Quantity
from mrtai.values.ledger import UNUSABLE
from mrtai.values.refusal import DosimetryError
from mrtai.values.validation import ComparedCycle, RegionNumbers

Json = Mapping[str, Any]

NOT_DRAWN: Final = ("body", "remainder")
CONTOUR: Final = {"liver_without_lesions": "liver"}
"""A report's name of a contour where it is another."""


def is_cases(place: Path) -> bool:
    """Return True for a CASE folder, a folder that holds some, and a site's ``cycles``."""
    return bool(_folders(place))


def read_cases(place: Path, side: str) -> tuple[ComparedCycle, ...]:
    """Return the cycles of a CASE folder, of the CASE folders in a folder, or of a site's ``cycles``.

    Raises:
        DosimetryError: no case there, one that cannot be read or may not be used, or two of one cycle.
    """
    found, refusals = read_readable_cases(place, side)
    if refusals:
        raise refusals[0]
    return found


def read_readable_cases(place: Path, side: str) -> tuple[tuple[ComparedCycle, ...], tuple[DosimetryError, ...]]:
    """Return what ``read_cases`` does, and the refusals of the cases that cannot be read or may not be used.

    Raises:
        DosimetryError: no case there that can, or two of one cycle.
    """
    folders = _folders(place)
    if not folders:
        raise _refused(
            side, "no case of ours", "no results.json", "give a CASE folder made by mrtai run, or a folder of them", "NOT_A_CASE"
        )
    found, refusals = [], []
    for number, folder in enumerate(folders, start=1):
        try:
            found.append(_cycle(folder, f"{side}, case {number}"))
        except DosimetryError as refusal:
            refusals.append(refusal)
    if not found:
        raise refusals[0]
    if len({(one.patient, one.cycle) for one in found}) < len(found):
        raise _refused(side, "two cases of one patient and cycle", "the same twice", "leave one of them out", "DUPLICATE_CASE")
    return tuple(found), tuple(refusals)


def _folders(place: Path) -> list[Path]:
    if (place / "results.json").exists():
        return [place]
    # a site keeps the CASE folder of a cycle beside its inputs
    return sorted(file.parent for pattern in ("*/results.json", "*/case/results.json") for file in place.glob(pattern))


def _cycle(folder: Path, where: str) -> ComparedCycle:
    try:
        document = require_valid(json.loads((folder / "results.json").read_bytes()))
    except (OSError, ValueError, TypeError) as fault:
        raise _refused(where, "no readable case", "another results.json", "work the cycle up again", "NOT_A_CASE") from fault
    if document["state"] in UNUSABLE:
        raise _refused(where, "the case may not be used", f"state {document['state']}", "leave it out", "CASE_UNUSABLE")
    regions = {row["name"]: _region(row) for row in document["regions"]}
    members = {row["name"]: contours_of(row["name"], row["kind"], row["members"]) for row in document["regions"]}
    return ComparedCycle(
        document["patient"]["pseudonym"],
        document["cycle"],
        regions,
        _origin(folder, document),
        partial(_maps, folder / "images", members),
        partial(read_images, folder, document),
    )


def contours_of(name: str, kind: str, members: Sequence[str]) -> tuple[str, ...]:
    """Return the contours that make up a region of a report; none for body and remainder, which nobody draws."""
    if kind in NOT_DRAWN:
        return ()
    return tuple(CONTOUR.get(member, member) for member in (members or (name,)))


def _maps(images: Path, members: Mapping[str, tuple[str, ...]]) -> CycleMaps | None:
    """Return the maps of a case, None where it was kept without its images."""
    files = [images / f"{name}.nii.gz" for name in ("contours", "labels", "dose")]
    if not all(file.is_file() for file in files):
        return None
    return CycleMaps(read_labels(files[0]), read_labels(files[1]), read_image(files[2], Quantity.ABSORBED_DOSE), members)


def _origin(folder: Path, document: Json) -> dict[str, str]:
    engines = ", ".join(f"{room} {name}" for room, name in document["engines"].items() if name != "none")
    return {
        "source": "CASE",
        "sha256": results_sha256(document),
        "state": document["state"],
        "engines": engines,
        **_of_manifest(folder),
    }


def _of_manifest(folder: Path) -> dict[str, str]:
    """Return version and protocol as far as the case tells them."""
    found = {"version": "not known"}
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        found["version"] = " ".join(str(manifest["code"][key]) for key in ("version", "commit") if manifest["code"].get(key))
        return found | {"protocol": str(manifest["protocol"]["name"]), "protocol_sha256": str(manifest["protocol"]["sha256"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return found


def _region(row: Json) -> RegionNumbers:
    measured, tia = row["time_activity"], row["tia_mbq_h"]
    points = zip(measured["time_h"], measured["activity_mbq"], strict=True)
    return RegionNumbers(
        name=row["name"],
        volume_ml=row["volume_ml"],
        activity_bq={t_h: mbq * BQ_PER_MBQ for t_h, mbq in points if t_h is not None and mbq is not None},
        tia_bq_s=None if tia is None else tia * BQ_S_PER_MBQ_H,
        effective_half_life_h=row["kinetics"]["effective_half_life_h"],
        absorbed_dose_gy=row["absorbed_dose_gy"]["mean"],
        kind=row["kind"],
        members=tuple(row["members"]),
    )


def _refused(where: str, what: str, found: str, remedy: str, code: str) -> DosimetryError:
    return DosimetryError(what, where=where, found=found, remedy=remedy, code=code)
