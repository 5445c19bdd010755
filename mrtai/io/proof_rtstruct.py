"""Outlines as their object shows them: what lies inside, on which slices, and what they are called."""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mrtai.io.proof_codes import check_type
from mrtai.io.proof_read import contour_measures, source_slices
from mrtai.io.proof_values import (
    PLANE_MM,
    RTSTRUCT_VOLUME,
    SEG_VOLUME,
    Proof,
    Subject,
    centre_of,
    places_in,
    require_centroid,
    words,
    world,
)
from mrtai.io.read_case import Json
from mrtai.values.grid import Array, Grid

PLACES_OF_A_REGION = 500
"""Places inside and as many outside: a crossing count costs more than a look into an array."""

MARGIN_VOXELS = 2


def check_rtstruct(proof: Proof, subject: Subject) -> None:
    """Compare every outline with the contours in memory."""
    ds, drawn, grid = subject.ds, subject.case.drawn, subject.case.contours.grid
    measured = contour_measures(ds, float(grid.spacing_mm[2]))
    outlined = {int(item.ReferencedROINumber): item for item in ds.ROIContourSequence}
    proof.near("rtstruct", "number of regions", len(measured), len(drawn), "", 0)
    proof.same("rtstruct", "ApprovalStatus", words(ds.get("ApprovalStatus")), "UNAPPROVED")
    series = [
        (str(one.SeriesInstanceUID), sorted(str(image.ReferencedSOPInstanceUID) for image in one.ContourImageSequence))
        for space in ds.ReferencedFrameOfReferenceSequence
        for study in space.RTReferencedStudySequence
        for one in study.RTReferencedSeriesSequence
    ]
    images = sorted(str(one.SOPInstanceUID) for one in subject.drawn_on)
    proof.same("rtstruct", "the series that it was drawn on", series, [(str(subject.drawn_on[0].SeriesInstanceUID), images)])
    _named(proof, subject)
    _slices(proof, subject)
    for number, row in enumerate(drawn, start=1):
        name, volume_ml, centroid_mm = measured.get(number, ("", 0.0, np.zeros(3)))
        if name != row["name"][:64]:
            proof.faults.append(f"rtstruct: region {number} is not named {row['name']}")
        mask = subject.case.mask(row)
        meant_ml = float(mask.sum()) * grid.voxel_ml
        proof.near("rtstruct", f"volume of {row['name']}", volume_ml, meant_ml, "mL", RTSTRUCT_VOLUME * meant_ml)
        require_centroid(proof, "rtstruct", row, centroid_mm, centre_of(mask, grid.affine), grid)
        _inside(proof, row, mask, outlined.get(number, Dataset()), grid)


def _named(proof: Proof, subject: Subject) -> None:
    """Compare how regions were drawn and what their observations say of which number."""
    by_hand = subject.case.results["engines"]["segmenter"] == "given-labels"
    rows = dict(enumerate(subject.case.drawn, start=1))
    ways = {words(item.get("ROIGenerationAlgorithm")) for item in subject.ds.StructureSetROISequence}
    proof.same("rtstruct", "ROIGenerationAlgorithm", ways, {"MANUAL" if by_hand else "AUTOMATIC"})
    observed = {int(item.ReferencedROINumber): item for item in subject.ds.RTROIObservationsSequence}
    proof.same("rtstruct", "the numbers of the observations", sorted(observed), sorted(rows))
    for number, row in rows.items():
        item = observed.get(number, Dataset())
        check_type(proof, "rtstruct", row, item.get("RTROIIdentificationCodeSequence", []))
        said = (words(item.get("ROIObservationLabel")), words(item.get("RTROIInterpretedType")), item.get("ObservationNumber"))
        meant = (row["name"][:16].strip(), "GTV" if row["kind"] == "lesion" else "ORGAN", number)
        proof.same("rtstruct", f"observation of {row['name']}", said, meant)


def _slices(proof: Proof, subject: Subject) -> None:
    """Every outline is closed and names the slice of the source that it lies on, where there is one, and no other."""
    direction = subject.case.contours.grid.direction[:, 2]
    heights = {round(float(place @ direction) / (2 * PLANE_MM)): (uid, frame) for uid, frame, place in source_slices(subject.drawn_on)}
    wrong = still_open = 0
    for roi in subject.ds.ROIContourSequence:
        for contour in roi.ContourSequence:
            first_mm = np.array([float(x) for x in contour.ContourData[:3]])
            said = [(str(i.ReferencedSOPInstanceUID), i.get("ReferencedFrameNumber")) for i in contour.get("ContourImageSequence", [])]
            at = round(float(first_mm @ direction) / (2 * PLANE_MM))
            near = [heights[at + step] for step in (0, -1, 1) if at + step in heights]
            wrong += said != near[:1]
            still_open += contour.ContourGeometricType != "CLOSED_PLANAR"
    proof.near("rtstruct", "outlines that name another slice than the one they lie on", wrong, 0, "", 0)
    proof.near("rtstruct", "outlines that are not closed", still_open, 0, "", 0)


def _inside(proof: Proof, row: Json, mask: NDArray[np.bool_], roi: Dataset, grid: Grid) -> None:
    """Compare places in the patient: those of the region's voxels lie within an odd number of outlines, those around it do not."""
    box = tuple(_span(np.asarray(mask.any(axis=axes))) for axes in ((1, 2), (0, 2), (0, 1)))
    low = np.array([span.start for span in box[::-1]])
    polygons = [np.array([float(x) for x in one.ContourData]).reshape(-1, 3) for one in roi.get("ContourSequence", [])]
    for what, chosen, share in (("inside", mask[box], 1.0), ("outside", ~mask[box], 0.0)):
        index = places_in(chosen, PLACES_OF_A_REGION) + low
        if len(index):
            found = float(_enclosed(world(grid, index), polygons, grid).mean())
            proof.near("rtstruct", f"share of places {what} {row['name']} found inside", found, share, "", SEG_VOLUME)


def _span(occupied: NDArray[np.bool_]) -> slice:
    """Return from the first to the last that is occupied, and a margin on both sides."""
    where = np.flatnonzero(occupied)
    return slice(max(int(where[0]) - MARGIN_VOXELS, 0), min(int(where[-1]) + MARGIN_VOXELS + 1, len(occupied)))


def _enclosed(places_mm: Array, polygons: list[Array], grid: Grid) -> NDArray[np.bool_]:
    """Return for places ``(n, 3)`` whether the outlines of their slice go round them, by counting crossings (even-odd rule)."""
    flat = places_mm @ grid.direction
    odd = np.zeros(len(places_mm), dtype=np.bool_)
    for corners_mm in polygons:
        corners = corners_mm @ grid.direction
        near = np.flatnonzero(np.abs(flat[:, 2] - corners[:, 2].mean()) < grid.spacing_mm[2] / 2)
        if not len(near):
            continue
        x, y = flat[near, 0, None], flat[near, 1, None]
        ahead = np.roll(corners, -1, axis=0)
        between = (corners[:, 1] > y) != (ahead[:, 1] > y)
        rise = np.where(ahead[:, 1] == corners[:, 1], 1.0, ahead[:, 1] - corners[:, 1])
        crossing_x = corners[:, 0] + (y - corners[:, 1]) / rise * (ahead[:, 0] - corners[:, 0])
        odd[near] ^= (between & (crossing_x > x)).sum(axis=1) % 2 == 1
    return odd
