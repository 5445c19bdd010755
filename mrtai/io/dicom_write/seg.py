"""Segmentation: the regions as binary frames, which may overlap, or as one label map."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import highdicom
import numpy as np
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, SegmentationStorage

from mrtai.io.dicom_source import Source
from mrtai.io.dicom_write import codes
from mrtai.io.dicom_write.geometry import decimals, frame_positions, right_handed
from mrtai.io.dicom_write.header import derived_uid, describe, finish
from mrtai.io.dicom_write.references import SEGMENTED, derivation, derive_from
from mrtai.io.dicom_write.source_frames import SourceFrame, frames_on, stand_in
from mrtai.io.read_case import Case, Json
from mrtai.values.grid import Grid
from mrtai.values.refusal import DosimetryError

LABELMAP_STORAGE: Final = UID("1.2.840.10008.5.1.4.1.1.66.7")
FRAMES_AT_ONCE: Final = 8
"""Eight frames fill whole bytes whatever their size, so bits can be packed without holding all frames."""


def segmentation(case: Case, source: Source, *, labelmap: bool = False) -> Dataset:
    """Return the object of the drawn regions on their own grid.

    BINARY holds every drawn region, the liver with its lesions and they beside it; LABELMAP cannot overlap and holds single ones.

    Raises:
        DosimetryError: no region has a voxel.
    """
    rows = [row for row in case.drawn if not (labelmap and row["members"])]
    if not rows:
        raise DosimetryError("no region to write", where="SEG", found="no contour", remedy="segment the case again", code="EMPTY")
    grid = right_handed(case.contours.grid)
    ds = _labelmap(case, source, rows, grid) if labelmap else _binary(case, source, rows, grid)
    description = f"Regions {case.title}"
    describe(ds, source, modality="SEG", number=9203, description=description, made_at=case.written_at)
    ds.ContentLabel, ds.ContentDescription = "DOSIMETRY", description[:64]
    ds.FrameOfReferenceUID = source.home.frame_of_reference
    ds.CodingSchemeIdentificationSequence = [codes.coding_scheme()]
    derive_from(ds, source.home.ct or source.home.spect)
    return finish(ds, LABELMAP_STORAGE if labelmap else SegmentationStorage)


def segment_numbers(case: Case, *, labelmap: bool = False) -> dict[str, int]:
    """Return the segment number of every region that has a segment."""
    rows = [row for row in case.drawn if not (labelmap and row["members"])]
    return {row["name"]: number for number, row in enumerate(rows, start=1)}


def tracking_uid(case: Case, row: Json) -> str:
    """Return the region's tracking UID: the one of the results, else one that the same patient and organ always give.

    Without one of the results a lesion's holds for the scans of one cycle: lesion 1 of another cycle need not be the same lesion.
    """
    words = [case.results["patient"]["pseudonym"], row["name"]]
    if row["kind"] == "lesion":
        words.append(case.results["scans"][0]["series_uid_sha256"])
    return str(row.get("tracking_uid") or derived_uid("region", *words))


def _descriptions(case: Case, rows: Sequence[Json]) -> list[SegmentDescription]:
    described = []
    for number, row in enumerate(rows, start=1):
        drawn_by_hand = case.drawn_by(row) == "given-labels"
        category, kind, side = codes.category_and_type(row["name"], row["kind"])
        one = SegmentDescription(
            segment_number=number,
            segment_label=str(row["name"])[:64],
            segmented_property_category=category,
            segmented_property_type=kind,
            algorithm_type=SegmentAlgorithmTypeValues.MANUAL if drawn_by_hand else SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=None if drawn_by_hand else _algorithm(case, case.drawn_by(row)),
            tracking_uid=tracking_uid(case, row),
            tracking_id=str(row["name"])[:64],
        )
        if side is not None:
            one.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
        described.append(one)
    return described


def _algorithm(case: Case, name: str) -> highdicom.AlgorithmIdentificationSequence:
    """Return a model with the digest of its weights, or a rule with the version of this code."""
    model, _, version = name.partition("@")
    digest = case.manifest["models"].get(name)
    return highdicom.AlgorithmIdentificationSequence(
        name=model[:64],
        family=codes.ARTIFICIAL_INTELLIGENCE if version else codes.NEIGHBORHOOD_ANALYSIS,
        version=version or str(case.manifest["code"]["version"]),
        parameters={"sha256": str(digest)} if digest else None,
    )


def _made(case: Case, source: Source, rows: Sequence[Json], grid: Grid, array: NDArray[Any], kind: SegmentationTypeValues) -> Dataset:
    positions = frame_positions(grid)[: array.shape[0]]
    made: Dataset = highdicom.seg.Segmentation(
        source_images=[stand_in(source, grid)],
        pixel_array=array,
        segmentation_type=kind,
        segment_descriptions=_descriptions(case, rows),
        series_instance_uid="0",
        series_number=1,
        sop_instance_uid="0",
        instance_number=1,
        manufacturer="mrtai",
        manufacturer_model_name="mrtai",
        software_versions="0",
        device_serial_number="0",
        pixel_measures=highdicom.PixelMeasuresSequence(
            pixel_spacing=decimals(grid.spacing_mm[1], grid.spacing_mm[0]),
            slice_thickness=decimals(grid.spacing_mm[2])[0],
            spacing_between_slices=decimals(grid.spacing_mm[2])[0],
        ),
        plane_orientation=highdicom.PlaneOrientationSequence(
            highdicom.CoordinateSystemNames.PATIENT, decimals(*grid.direction[:, 0], *grid.direction[:, 1])
        ),
        plane_positions=[highdicom.PlanePositionSequence(highdicom.CoordinateSystemNames.PATIENT, decimals(*one)) for one in positions],
        omit_empty_frames=kind is SegmentationTypeValues.LABELMAP,
    )
    del made.SourceImageSequence, made.ReferencedSeriesSequence
    return made


def _labelmap(case: Case, source: Source, rows: Sequence[Json], grid: Grid) -> Dataset:
    array = np.zeros(grid.shape, np.uint8 if len(rows) <= np.iinfo(np.uint8).max else np.uint16)
    for number, row in enumerate(rows, start=1):
        array[_ascending(case, row)] = number
    ds = _made(case, source, rows, grid, array, SegmentationTypeValues.LABELMAP)
    sources = frames_on(source.home.ct or source.home.spect, grid, same_pixels=True)
    for item in ds.PerFrameFunctionalGroupsSequence:
        offset_mm = np.array([float(x) for x in item.PlanePositionSequence[0].ImagePositionPatient]) - grid.origin_mm
        item.DerivationImageSequence = _derivation(sources.get(round(float(offset_mm @ grid.direction[:, 2]) / grid.spacing_mm[2])))
    return ds


def _binary(case: Case, source: Source, rows: Sequence[Json], grid: Grid) -> Dataset:
    """Return the object with one frame a region and slice that holds any of it.

    The library makes it of one plane; its frames are then put in here one by one, since as a whole they would need a byte a voxel and
    region (3 GB for 30 regions on 512 × 512 × 400).
    """
    ds = _made(case, source, rows, grid, np.ones((1, *grid.shape[1:], len(rows)), np.uint8), SegmentationTypeValues.BINARY)
    # of one plane the library could not know the spacing
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = decimals(grid.spacing_mm[2])[0]
    ds.SegmentsOverlap = "YES" if any(row["members"] for row in rows) else "NO"
    positions, sources = frame_positions(grid), frames_on(source.home.ct or source.home.spect, grid, same_pixels=True)
    items: list[Dataset] = []
    packed: list[bytes] = []
    waiting: list[NDArray[np.bool_]] = []
    for number, k, plane in _frames(case, rows):
        items.append(_frame_item(number, k, positions[k], sources.get(k)))
        waiting.append(plane)
        if len(waiting) == FRAMES_AT_ONCE:
            packed.append(_packed(waiting))
            waiting = []
    packed.append(_packed(waiting))
    ds.PerFrameFunctionalGroupsSequence, ds.NumberOfFrames = items, len(items)
    bits = b"".join(packed)
    ds.PixelData = bits + b"\0" * (len(bits) % 2)
    return ds


def _frames(case: Case, rows: Sequence[Json]) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
    """Yield segment number, slice and plane of every slice that holds any of a region."""
    for number, row in enumerate(rows, start=1):
        mask = _ascending(case, row)
        for k in np.flatnonzero(mask.any(axis=(1, 2))):
            yield number, int(k), mask[k]


def _ascending(case: Case, row: Json) -> NDArray[np.bool_]:
    mask = case.mask(row)
    return mask if np.linalg.det(case.contours.grid.direction) > 0 else mask[::-1]


def _packed(planes: Sequence[NDArray[np.bool_]]) -> bytes:
    return b"" if not planes else np.packbits(np.concatenate([plane.ravel() for plane in planes]), bitorder="little").tobytes()


def _frame_item(number: int, k: int, position: NDArray[Any], derived_from: SourceFrame | None) -> Dataset:
    item, content, plane, segment = Dataset(), Dataset(), Dataset(), Dataset()
    content.DimensionIndexValues = [number, k + 1]
    item.FrameContentSequence = [content]
    plane.ImagePositionPatient = decimals(*position)
    item.PlanePositionSequence = [plane]
    segment.ReferencedSegmentNumber = number
    item.SegmentIdentificationSequence = [segment]
    item.DerivationImageSequence = _derivation(derived_from)
    return item


def _derivation(frame: SourceFrame | None) -> list[Dataset]:
    return [] if frame is None else [derivation([frame.reference()], SEGMENTED, in_place=True)]
