"""Contours of DICOM SEG and RTSTRUCT as exclusive label maps with the contract's names."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr._snomed_dict import mapping as snomed_mapping

from mrtai.io.dicom_pixels import require_honest_size
from mrtai.io.dicom_tree import Instance
from mrtai.io.nifti import grid_of_affine
from mrtai.io.region_names import SourceRegion, region_kind, region_names, require_free_names
from mrtai.physics.polygon import inside_fraction
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Array, Grid
from mrtai.values.labels import Labels
from mrtai.values.refusal import DosimetryError
from mrtai.values.regions import PARENCHYMA

CLOSED: Final = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"})
SIDES: Final = {"7771000": "left", "24028007": "right"}
LARGEST_LABEL: Final = 65535
"""ROI numbers may be 0, which is no region in a label map, or huge, which a table over them cannot be."""

INSIDE: Final = 0.5
"""A voxel belongs to a region when at least half of it lies inside."""


@dataclass(frozen=True, slots=True, eq=False)
class Contours:
    """The regions of one object with the doubts about them."""

    labels: Labels
    flags: tuple[Flag, ...]


def referenced(instance: Instance) -> tuple[frozenset[str], frozenset[str]]:
    """Return the series UIDs and the frame of reference UIDs that a SEG or RTSTRUCT says it was drawn on."""
    header = instance.header
    frames = [header, *(header.get("ReferencedFrameOfReferenceSequence", None) or ())]
    series = list(header.get("ReferencedSeriesSequence", None) or ())
    for frame in frames[1:]:
        for study in frame.get("RTReferencedStudySequence", None) or ():
            series.extend(study.get("RTReferencedSeriesSequence", None) or ())
    uids = (str(one.get("SeriesInstanceUID", "") or "") for one in series)
    places = (str(one.get("FrameOfReferenceUID", "") or "") for one in frames)
    return frozenset(uids) - {""}, frozenset(places) - {""}


def read_rtstruct(instance: Instance, grid: Grid, frame_of_reference: str) -> Contours | None:
    """Return the closed contours of a structure set on ``grid``; None when no ROI lies in this frame of reference.

    Raises:
        DosimetryError: an object that cannot be read, a contour that does not lie in the slices of the grid, two ROIs of one
            name, or a reserved name.
    """
    found = _readable_rois(instance, frame_of_reference)
    drawn = {region.number: _filled(polygons, grid, instance.name) for region, polygons in found}
    return _exclusive([region for region, _ in found], drawn, grid, "RTSTRUCT", instance.name) if drawn else None


def _readable_rois(instance: Instance, frame_of_reference: str) -> list[tuple[SourceRegion, list[Array]]]:
    try:
        return list(_rois(instance.header, frame_of_reference))
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as fault:
        raise DosimetryError(
            "the structure set cannot be read",
            where=instance.name,
            found=f"a missing or impossible value ({type(fault).__name__})",
            remedy="export it again, or take it out of the study",
            code="RTSTRUCT_UNREADABLE",
        ) from fault


def contour_points(instance: Instance, frame_of_reference: str) -> Array:
    """Return the corners of all closed contours of a structure set in this frame of reference, LPS mm, shape ``(points, 3)``.

    Raises:
        DosimetryError: an object that cannot be read.
    """
    polygons = [corners for _, own in _readable_rois(instance, frame_of_reference) for corners in own]
    return np.concatenate(polygons) if polygons else np.empty((0, 3))


def read_seg(instance: Instance) -> Contours:
    """Return the segments of a DICOM SEG on its own grid; fractional ones count where the fraction is at least one half.

    Raises:
        DosimetryError: the object cannot be read as a regular volume, two segments have one name, or one has a reserved name.
    """
    require_honest_size(instance)
    try:
        segmentation = highdicom.seg.segread(instance.path)
        volume = segmentation.get_volume()
        regions = [_segment(segmentation.get_segment_description(n)) for n in segmentation.segment_numbers]
    except (ValueError, RuntimeError, AttributeError, KeyError, TypeError, IndexError) as fault:
        raise DosimetryError(
            "the segmentation is not a regular volume",
            where=instance.name,
            found=type(fault).__name__,
            remedy="export it again on the grid of its image, or take it out of the study",
            code="SEG_UNREADABLE",
        ) from fault
    inside = np.asarray(volume.array) >= INSIDE  # (z, y, x, segment)
    affine = np.array(volume.affine)[:, [2, 1, 0, 3]]
    if np.linalg.det(affine[:3, :3]) < 0:
        inside = inside[::-1]
        affine[:3, 3] += affine[:3, 2] * (inside.shape[0] - 1)
        affine[:3, 2] *= -1
    grid = grid_of_affine(affine, inside.shape[:3], instance.name)
    drawn = {region.number: inside[..., n] for n, region in enumerate(regions)}
    return _exclusive(regions, drawn, grid, "SEG", instance.name)


def _exclusive(regions: Sequence[SourceRegion], drawn: Mapping[int, NDArray[np.bool_]], grid: Grid, origin: str, where: str) -> Contours:
    if PARENCHYMA in {region.label for region in regions}:
        # an object of ours: its liver is the sum of what is drawn as parenchyma and lesions
        regions = [region for region in regions if region.label != "liver"]
        drawn = {region.number: drawn[region.number] for region in regions}
    require_free_names(regions, where)
    names = region_names(regions)
    twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    if twice:
        raise DosimetryError(
            "two contours of one name",
            where=where,
            found=", ".join(twice),
            remedy="rename or remove one of them",
            code="CONTOURS_AMBIGUOUS",
        )
    # the smaller wins over the larger, so that a region drawn inside another is kept; lesions win over all
    sizes = {number: int(mask.sum()) for number, mask in drawn.items()}
    order = sorted(drawn, key=lambda n: (region_kind(names[n]) == "lesion", -sizes[n], -n))
    voxels: NDArray[Any] = np.zeros(grid.shape, np.uint8 if max(drawn) <= np.iinfo(np.uint8).max else np.int32)
    for number in order:
        voxels[drawn[number]] = number
    sources = {region.number: region.label for region in regions if region.label != names[region.number]}
    unknown = [names[n] for n in sorted(drawn) if region_kind(names[n]) == "other"]
    flags = [_unknown_name(name) for name in unknown] + [_empty(names[n]) for n in sorted(drawn) if not np.any(voxels == n)]
    return Contours(Labels(voxels, {n: names[n] for n in drawn}, grid, sources, origin), tuple(flags))


def _rois(header: Dataset, frame_of_reference: str) -> Iterator[tuple[SourceRegion, list[Array]]]:
    """Yield the drawn ROIs of a frame of reference with their polygons; label values are the ROI numbers where these can be."""
    contours = {int(c.ReferencedROINumber): c for c in header.get("ROIContourSequence", None) or ()}
    rois = {int(roi.ROINumber): roi for roi in header.get("StructureSetROISequence", None) or ()}
    if len(rois) < len(header.get("StructureSetROISequence", None) or ()):
        raise ValueError("two ROIs of one number")
    fitting = all(0 < number <= LARGEST_LABEL for number in rois)
    for position, (number, roi) in enumerate(sorted(rois.items()), start=1):
        place = str(roi.get("ReferencedFrameOfReferenceUID", "") or "")
        polygons = _polygons(contours.get(number, Dataset()))
        if polygons and place in ("", frame_of_reference):
            label = str(roi.get("ROIName", "") or f"ROI {number}")
            yield SourceRegion(number if fitting else position, label, *_roi_code(header, number)), polygons


def _polygons(contour: Dataset) -> list[Array]:
    closed = [c for c in contour.get("ContourSequence", None) or () if str(c.get("ContourGeometricType", "")) in CLOSED]
    points = [np.array([float(x) for x in c.get("ContourData", None) or ()]).reshape(-1, 3) for c in closed]
    if not all(np.isfinite(corners).all() for corners in points):
        raise ValueError("contour corners must be finite")
    return [corners for corners in points if len(corners) >= 3]


def _filled(polygons: Sequence[Array], grid: Grid, where: str) -> NDArray[np.bool_]:
    """Return the voxels at least half inside, shape ``(z, y, x)``; each slice takes the nearest contour plane within half a step."""
    inverse = np.linalg.inv(grid.affine)
    corners = [points @ inverse[:3, :3].T + inverse[:3, 3] for points in polygons]  # (points, 3) as voxel index x, y, z
    if any(np.ptp(points[:, 2]) > INSIDE for points in corners):
        raise DosimetryError(
            "a contour does not lie in the slices of its image",
            where=where,
            found=f"corners up to {max(np.ptp(points[:, 2]) for points in corners):.1f} slices apart",
            remedy="draw on the image's own slices, or take it out of the study",
            code="CONTOUR_NOT_ON_SLICES",
        )
    heights = np.array([points[:, 2].mean() for points in corners])
    planes = _planes(heights)
    reach = max(INSIDE, INSIDE * float(np.diff(planes).min())) if planes.size > 1 else INSIDE
    inside = np.zeros(grid.shape, dtype=bool)
    for k in range(grid.shape[0]):
        nearest = planes[np.abs(planes - k).argmin()]
        if abs(nearest - k) <= reach + 1e-3:
            here = [points[:, :2] for points, height in zip(corners, heights, strict=True) if abs(height - nearest) < _SAME_PLANE]
            inside[k] = inside_fraction(here, grid.shape[1:]) >= INSIDE
    return inside


_SAME_PLANE: Final = 0.05
"""Contours closer than this share of a slice lie in one plane (headers round to 0.01 mm)."""


def _planes(heights: Array) -> Array:
    ordered = np.sort(heights)
    planes: Array = ordered[np.concatenate([[True], np.diff(ordered) >= _SAME_PLANE])]
    return planes


def _segment(segment: Any) -> SourceRegion:
    modifiers = segment.get("SegmentedPropertyTypeModifierCodeSequence", None) or ()
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    side = next((SIDES[code] for modifier in modifiers if (code := _sct(modifier)) in SIDES), None)
    return SourceRegion(int(segment.SegmentNumber), str(segment.SegmentLabel or "") or f"segment {segment.SegmentNumber}", _sct(kind), side)


def _roi_code(header: Dataset, number: int) -> tuple[str | None, str | None]:
    for observed in header.get("RTROIObservationsSequence", None) or ():
        codes = observed.get("RTROIIdentificationCodeSequence", None) or ()
        if int(observed.get("ReferencedROINumber", -1)) == number and codes:
            modifiers = codes[0].get("SegmentedPropertyTypeModifierCodeSequence", None) or ()
            return _sct(codes[0]), next((SIDES[c] for m in modifiers if (c := _sct(m)) in SIDES), None)
    return None, None


def _sct(code: Dataset) -> str | None:
    """Return a SNOMED CT code, translated where the source still writes the retired SRT ones."""
    scheme, value = str(code.get("CodingSchemeDesignator", "")), str(code.get("CodeValue", ""))
    if scheme in ("SRT", "SNM3", "99SDM"):
        return snomed_mapping["SRT"].get(value)
    return value if scheme in ("SCT", "SNOMED_CT") else None


def _unknown_name(name: str) -> Flag:
    text = f"The contour '{name}' has no name we know: it is reported as it stands."
    return Flag("UNKNOWN_REGION_NAME", Severity.INFO, text, "Rename it if it is an organ or a lesion.")


def _empty(name: str) -> Flag:
    text = f"The contour '{name}' holds no voxel of its own: too small, outside the image, or covered by others."
    return Flag("EMPTY_CONTOUR", Severity.REVIEW, text, "Check the contour.")
