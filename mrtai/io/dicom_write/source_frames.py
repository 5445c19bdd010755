"""Slices of the source: one a file for CT and PT, one a frame for NM, whose place stands in its detector's item."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from mrtai.io.dicom_source import Source
from mrtai.io.dicom_write.geometry import decimals, place_plane
from mrtai.io.dicom_write.references import reference_to
from mrtai.values.grid import Array, Grid

SAME_PLACE_MM: Final = 0.01
"""Headers round positions to about this much."""

CT_CLASS: Final = "1.2.840.10008.5.1.4.1.1.2"
LOSSY: Final = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


@dataclass(frozen=True, slots=True, eq=False)
class SourceFrame:
    """One slice of the source: its header, its frame number (from 1) in a file of several, and the centre of its first voxel."""

    header: Dataset
    number: int | None
    position_mm: Array

    def reference(self) -> Dataset:
        """Return an item that names the slice."""
        item = reference_to(self.header)
        if self.number is not None:
            item.ReferencedFrameNumber = self.number
        return item


def source_frames(headers: Sequence[Dataset]) -> list[SourceFrame]:
    """Return every slice of a series that says where it lies."""
    if len(headers) == 1 and "DetectorInformationSequence" in headers[0]:
        return _frames_of_tomogram(headers[0])
    return [SourceFrame(header, None, _numbers(header.ImagePositionPatient)) for header in headers if "ImagePositionPatient" in header]


def frames_on(headers: Sequence[Dataset], grid: Grid, *, same_pixels: bool) -> dict[int, SourceFrame]:
    """Return the slice of the source by the slice of the grid that lies on it.

    Args:
        headers: one series.
        grid: where objects are drawn.
        same_pixels: True where the first voxels and the numbers of rows and columns must agree too, not the planes alone.
    """
    found: dict[int, SourceFrame] = {}
    if same_pixels and (headers[0].Rows, headers[0].Columns) != grid.shape[1:]:
        return found
    for frame in source_frames(headers):
        beside = frame.position_mm - grid.origin_mm
        height_mm = float(beside @ grid.direction[:, 2])
        k = round(height_mm / grid.spacing_mm[2])
        apart = beside - grid.direction[:, 2] * k * grid.spacing_mm[2]
        far_mm = float(np.abs(apart).max()) if same_pixels else abs(float(apart @ grid.direction[:, 2]))
        if 0 <= k < grid.shape[0] and far_mm < SAME_PLACE_MM:
            found[k] = frame
    return found


def stand_in(source: Source, grid: Grid) -> Dataset:
    """Return a header of one plane on the grid, nameless, for a library that wants a source image to begin with.

    The library takes its geometry for granted at the root of a header, where NM has none, and quotes what it is given in warnings;
    patient, study and references are ours to write.
    """
    home = source.home.spect[0]
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID, header.SeriesInstanceUID, header.StudyInstanceUID = CT_CLASS, "0", "0", "0"
    header.Modality, header.FrameOfReferenceUID, header.PositionReferenceIndicator = "CT", source.home.frame_of_reference, ""
    header.PatientID, header.PatientName, header.PatientBirthDate, header.PatientSex = "P", "", "", ""
    header.AccessionNumber = header.StudyID = header.StudyDate = header.StudyTime = header.ReferringPhysicianName = ""
    place_plane(header, grid)
    header.SpacingBetweenSlices = decimals(grid.spacing_mm[2])[0]
    for name in LOSSY:
        if name in home:
            setattr(header, name, home[name].value)
    return header


def _frames_of_tomogram(header: Dataset) -> list[SourceFrame]:
    """Return the frames of a reconstructed tomogram; a negative spacing stacks against row × column (PS3.3 C.8.4.15)."""
    detector = header.DetectorInformationSequence[0]
    placed = detector if "ImagePositionPatient" in detector else header
    across = _numbers(placed.ImageOrientationPatient).reshape(2, 3)
    step_mm = np.cross(across[0], across[1]) * float(header.SpacingBetweenSlices)
    slices = np.atleast_1d(np.array(header.get("SliceVector", range(1, int(header.NumberOfFrames) + 1)), dtype=np.int64))
    origin_mm = _numbers(placed.ImagePositionPatient)
    return [SourceFrame(header, n, origin_mm + step_mm * (k - 1)) for n, k in enumerate(slices.tolist(), start=1)]


def _numbers(values: Sequence[object]) -> Array:
    numbers: Array = np.array([float(str(x)) for x in values], dtype=np.float64)
    return numbers
