"""RT Structure Set: outlines along voxel edges, slice by slice, holes kept by channels (PS3.3 C.8.8.6.3)."""

from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from mrtai.io.dicom_source import Source
from mrtai.io.dicom_write import codes
from mrtai.io.dicom_write.geometry import decimals
from mrtai.io.dicom_write.header import describe, finish
from mrtai.io.dicom_write.references import derive_from, series_references
from mrtai.io.dicom_write.source_frames import SourceFrame, frames_on
from mrtai.io.read_case import Case, Json
from mrtai.physics.outline import outlines
from mrtai.values.grid import Grid

DETACHED_STUDY: Final = "1.2.840.10008.3.1.2.3.1"
COLOURS: Final = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
"""Okabe and Ito's palette, which people with colour blindness tell apart."""


def rtstruct(case: Case, source: Source) -> Dataset:
    """Return the structure set of every drawn region, ROI numbers in the order of the results; regions may overlap."""
    ds = Dataset()
    describe(ds, source, modality="RTSTRUCT", number=9204, description=f"Regions {case.title}", made_at=case.written_at)
    del ds.ContentDate, ds.ContentTime
    ds.OperatorsName = ""
    ds.StructureSetLabel, ds.StructureSetName = "DOSIMETRY", f"Regions {case.title}"[:64]
    ds.StructureSetDate, ds.StructureSetTime = ds.SeriesDate, ds.SeriesTime
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = source.home.frame_of_reference, ""
    headers = source.home.ct or source.home.spect
    ds.ReferencedFrameOfReferenceSequence = [_frame_of_reference(source)]
    ds.StructureSetROISequence, ds.ROIContourSequence, ds.RTROIObservationsSequence = [], [], []
    images = frames_on(headers, case.contours.grid, same_pixels=False)
    for number, row in enumerate(case.drawn, start=1):
        ds.StructureSetROISequence.append(_roi(case, source, row, number))
        ds.ROIContourSequence.append(_contours(case, row, number, images))
        ds.RTROIObservationsSequence.append(_observation(row, number))
    derive_from(ds, headers)
    ds.ApprovalStatus = "UNAPPROVED"
    return finish(ds, RTStructureSetStorage)


def _frame_of_reference(source: Source) -> Dataset:
    frame, study = Dataset(), Dataset()
    frame.FrameOfReferenceUID = source.home.frame_of_reference
    headers = source.home.ct or source.home.spect
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = DETACHED_STUDY, headers[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = []
    for series in series_references(headers):
        images = series.ReferencedInstanceSequence
        del series.ReferencedInstanceSequence
        series.ContourImageSequence = images
        study.RTReferencedSeriesSequence.append(series)
    frame.RTReferencedStudySequence = [study]
    return frame


def _roi(case: Case, source: Source, row: Json, number: int) -> Dataset:
    item = Dataset()
    item.ROINumber, item.ReferencedFrameOfReferenceUID = number, source.home.frame_of_reference
    item.ROIName = str(row["name"])[:64]
    automatic = case.results["engines"]["segmenter"] != "given-labels"
    item.ROIGenerationAlgorithm = "AUTOMATIC" if automatic else "MANUAL"
    return item


def _contours(case: Case, row: Json, number: int, images: dict[int, SourceFrame]) -> Dataset:
    item = Dataset()
    item.ROIDisplayColor, item.ReferencedROINumber = list(COLOURS[(number - 1) % len(COLOURS)]), number
    item.ContourSequence = []
    grid, mask = case.contours.grid, case.mask(row)
    for k in np.flatnonzero(mask.any(axis=(1, 2))):
        for polygon in outlines(mask[k]):
            item.ContourSequence.append(_contour(polygon, int(k), grid, images.get(int(k))))
    return item


def _contour(polygon: np.ndarray, k: int, grid: Grid, image: SourceFrame | None) -> Dataset:
    contour = Dataset()
    if image is not None:
        contour.ContourImageSequence = [image.reference()]
    index = np.column_stack([polygon, np.full(len(polygon), float(k))])
    corners_mm = index @ grid.affine[:3, :3].T + grid.origin_mm
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(polygon)
    contour.ContourData = decimals(*np.round(corners_mm, 4).ravel())
    return contour


def _observation(row: Json, number: int) -> Dataset:
    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = number
    item.ROIObservationLabel = str(row["name"])[:16].strip()
    _, kind, side = codes.category_and_type(row["name"], row["kind"])
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning
    if side is not None:
        code.SegmentedPropertyTypeModifierCodeSequence = [side]
    item.RTROIIdentificationCodeSequence = [code]
    item.RTROIInterpretedType, item.ROIInterpreter = "GTV" if row["kind"] == "lesion" else "ORGAN", ""
    return item
