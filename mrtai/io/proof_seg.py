"""Segments as their object shows them: where they lie, what they are called and coded as, by whom, and on which slices."""

from typing import Any

import pydicom
from pydicom.dataset import Dataset

from mrtai.io.dicom_write.header import derived_uid
from mrtai.io.proof_codes import check_type, meant_codes
from mrtai.io.proof_read import read_segments, slice_steps_mm, source_slices
from mrtai.io.proof_values import PLANE_MM, SEG_VOLUME, Proof, Subject, centre_of, code, places_in, require_centroid, words, world
from mrtai.io.read_case import Case, Json


def check_seg(proof: Proof, subject: Subject) -> None:
    """Compare every segment with the contours in memory."""
    whole, rows, grid = pydicom.dcmread(subject.path), subject.segment_rows, subject.case.contours.grid
    for what, step_mm in slice_steps_mm(whole).items():
        proof.near("seg", what, step_mm, float(grid.spacing_mm[2]), "mm", PLANE_MM)
    _described(proof, subject, whole)
    _slices(proof, subject, whole)
    del whole.PixelData
    found = read_segments(subject.path)
    proof.near("seg", "number of segments", len(found), len(rows), "", 0)
    for number, row in enumerate(rows, start=1):
        if number not in found:
            proof.faults.append(f"seg: no frame of {row['name']}")
            continue
        mask, segment = subject.case.mask(row), found[number]
        volume_ml = float(mask.sum()) * grid.voxel_ml
        proof.near("seg", f"volume of {row['name']}", segment.volume_ml, volume_ml, "mL", SEG_VOLUME * volume_ml)
        require_centroid(proof, "seg", row, segment.centroid_mm, centre_of(mask, grid.affine), grid)
        inside = segment.contains(world(grid, places_in(mask)))
        proof.near("seg", f"share of {row['name']}'s voxels found inside", float(inside.mean()), 1.0, "", SEG_VOLUME)


def meant_tracking_uid(case: Case, row: Json) -> str:
    """Return the tracking UID of a region: that of the results, else of patient and region, a lesion's of its cycle's first scan too."""
    scan = [case.results["scans"][0]["series_uid_sha256"]] if row["kind"] == "lesion" else []
    return str(row.get("tracking_uid") or derived_uid("region", case.results["patient"]["pseudonym"], row["name"], *scan))


def _described(proof: Proof, subject: Subject, whole: Dataset) -> None:
    """Compare name, codes, tracking and algorithm of every segment; a label map's background is none of ours."""
    rows = subject.segment_rows
    items = {int(item.SegmentNumber): item for item in whole.SegmentSequence}
    proof.same("seg", "the numbers of the segments", sorted(set(items) - {0}), list(range(1, len(rows) + 1)))
    for number, row in enumerate(rows, start=1):
        item = items.get(number, Dataset())
        if words(item.get("SegmentLabel")) != row["name"][:64]:
            proof.faults.append(f"seg: segment {number} is not named {row['name']}")
        check_type(proof, "seg", row, item.get("SegmentedPropertyTypeCodeSequence", []))
        proof.same("seg", f"category of {row['name']}", code(item.get("SegmentedPropertyCategoryCodeSequence")), meant_codes(row)[0])
        tracking = (words(item.get("TrackingID")), words(item.get("TrackingUID")))
        proof.same("seg", f"tracking of {row['name']}", tracking, (row["name"][:64], meant_tracking_uid(subject.case, row)))
        proof.same("seg", f"algorithm of {row['name']}", _algorithm(item), _meant_algorithm(subject.case, row))


def _algorithm(item: Dataset) -> tuple[Any, ...]:
    kind = words(item.get("SegmentAlgorithmType"))
    for one in item.get("SegmentationAlgorithmIdentificationSequence", []):
        return kind, words(one.AlgorithmName), words(one.AlgorithmVersion), words(one.get("AlgorithmParameters"))
    return (kind,)


def _meant_algorithm(case: Case, row: Json) -> tuple[Any, ...]:
    segmenter = case.drawn_by(row)
    if segmenter == "given-labels":
        return ("MANUAL",)
    name, _, version = segmenter.partition("@")
    digest = case.manifest["models"].get(segmenter)
    return "AUTOMATIC", name[:64], version or str(case.manifest["code"]["version"]), f"sha256={digest}" if digest else ""


def _slices(proof: Proof, subject: Subject, whole: Dataset) -> None:
    """Every frame on a slice of the source names that slice and no other; a frame on none names none."""
    grid, headers = subject.case.contours.grid, subject.drawn_on
    alike = (int(headers[0].Rows), int(headers[0].Columns)) == grid.shape[1:]
    places = {_key(position): (uid, frame) for uid, frame, position in source_slices(headers)} if alike else {}
    wrong = 0
    for item in whole.PerFrameFunctionalGroupsSequence:
        images = [image for one in item.get("DerivationImageSequence", []) for image in one.SourceImageSequence]
        said = [(str(image.ReferencedSOPInstanceUID), _frame_number(image)) for image in images]
        here = places.get(_key(item.PlanePositionSequence[0].ImagePositionPatient))
        wrong += said != ([] if here is None else [here])
    proof.near("seg", "frames that name another slice than the one they lie on", wrong, 0, "", 0)


def _key(position: Any) -> tuple[int, ...]:
    return tuple(round(float(x) / (2 * PLANE_MM)) for x in position)


def _frame_number(image: Dataset) -> int | None:
    number = image.get("ReferencedFrameNumber")
    return None if number is None else int(number)
