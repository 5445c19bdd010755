"""Objects read for the proof, by routes that share nothing with the writers: GDCM, and the bytes themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pydicom
import SimpleITK
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mrtai.physics.outline import area_and_centroid
from mrtai.units import ML_PER_MM3
from mrtai.values.grid import Array

DOSE_GRID_SCALING: Final = "3004|000e"
BITS_PER_BYTE: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Voxels ``(z, y, x)`` of a file, to be multiplied by ``scale``, and the ``(4, 4)`` matrix from index (x, y, z) to LPS mm."""

    voxels: NDArray[Any]
    affine: Array
    scale: float = 1.0

    def at(self, places_mm: Array) -> Array:
        """Return the values at places ``(n, 3)`` by the nearest voxel; 0 outside."""
        inverse = np.linalg.inv(self.affine)
        index = np.rint(places_mm @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.int64)
        inside = np.all((index >= 0) & (index < np.array(self.voxels.shape[::-1])), axis=1)
        values = np.zeros(len(places_mm))
        values[inside] = self.voxels[tuple(index[inside].T[::-1])].astype(np.float64) * self.scale
        return values


def read_rtdose(path: Path, header: Dataset) -> Volume:
    """Return the dose [Gy] by GDCM, which takes geometry and frame offsets from the file itself."""
    image = SimpleITK.ReadImage(str(path))
    stored = SimpleITK.GetArrayFromImage(image)  # a view would outlive the image
    scaling = float(image.GetMetaData(DOSE_GRID_SCALING)) if image.HasMetaDataKey(DOSE_GRID_SCALING) else float(header.DoseGridScaling)
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return Volume(stored, affine, scaling)


def read_float_map(ds: Dataset) -> Volume:
    """Return a floating-point map by its bytes and the positions of its frames."""
    voxels = np.frombuffer(ds.FloatPixelData, "<f4").reshape(int(ds.NumberOfFrames), int(ds.Rows), int(ds.Columns))
    positions = np.array([_position(item) for item in ds.PerFrameFunctionalGroupsSequence])
    mapping = _mapping(ds)
    affine = _affine(ds.SharedFunctionalGroupsSequence[0], positions)
    values = voxels * np.float32(mapping.RealWorldValueSlope) + np.float32(mapping.RealWorldValueIntercept)
    return Volume(values, affine)


def _mapping(ds: Dataset) -> Dataset:
    for group in (ds.SharedFunctionalGroupsSequence[0], ds.PerFrameFunctionalGroupsSequence[0]):
        if "RealWorldValueMappingSequence" in group:
            mapping: Dataset = group.RealWorldValueMappingSequence[0]
            return mapping
    raise ValueError("a parametric map without real-world value mapping")


def _position(item: Dataset) -> list[float]:
    return [float(x) for x in item.PlanePositionSequence[0].ImagePositionPatient]


def _affine(shared: Dataset, positions: Array) -> Array:
    across = np.array([float(x) for x in shared.PlaneOrientationSequence[0].ImageOrientationPatient]).reshape(2, 3)
    row_mm, column_mm = (float(x) for x in shared.PixelMeasuresSequence[0].PixelSpacing)
    step = positions[1] - positions[0] if len(positions) > 1 else np.cross(across[0], across[1]) * _thickness(shared)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([across[0] * column_mm, across[1] * row_mm, step])
    affine[:3, 3] = positions[0]
    return affine


def _thickness(shared: Dataset) -> float:
    measures = shared.PixelMeasuresSequence[0]
    return float(measures.get("SpacingBetweenSlices") or measures.SliceThickness)


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """One segment's frames: planes ``(n, y, x)`` with their positions; ``affine`` without the step from frame to frame."""

    label: str
    planes: NDArray[np.bool_]
    positions_mm: Array
    across: Array
    step_mm: float

    @property
    def volume_ml(self) -> float:
        """Voxels times in-plane area and slice spacing."""
        pixel_mm2 = float(np.linalg.norm(np.cross(self.across[:, 0], self.across[:, 1])))
        return float(self.planes.sum()) * pixel_mm2 * self.step_mm * ML_PER_MM3

    @property
    def centroid_mm(self) -> Array:
        """Mean place of the voxels."""
        n, y, x = np.nonzero(self.planes)
        centroid: Array = (self.positions_mm[n] + np.column_stack([x, y]) @ self.across.T).mean(axis=0)
        return centroid

    def contains(self, places_mm: Array) -> NDArray[np.bool_]:
        """Return for places ``(n, 3)`` whether the nearest voxel of the nearest plane is in the segment."""
        unit = self.across / np.linalg.norm(self.across, axis=0)
        normal = np.cross(unit[:, 0], unit[:, 1])
        heights = self.positions_mm @ normal
        order = np.argsort(heights)
        where = np.clip(np.searchsorted(heights[order], places_mm @ normal - self.step_mm / 2), 0, len(order) - 1)
        frame = order[where]
        beside = places_mm - self.positions_mm[frame]
        index = np.rint(beside @ unit / np.linalg.norm(self.across, axis=0)).astype(np.int64)
        near = np.abs(beside @ normal) <= self.step_mm / 2 + 1e-3
        inside = near & np.all((index >= 0) & (index < np.array(self.planes.shape[:0:-1])), axis=1)
        found = np.zeros(len(places_mm), dtype=np.bool_)
        found[inside] = self.planes[frame[inside], index[inside, 1], index[inside, 0]]
        return found


def read_segments(path: Path) -> dict[int, Segment]:
    """Return every segment by its number: bits decoded by GDCM for binary frames, by the bytes for a label map."""
    ds = pydicom.dcmread(path)
    frames = ds.PerFrameFunctionalGroupsSequence
    labels = {int(item.SegmentNumber): str(item.SegmentLabel) for item in ds.SegmentSequence}
    positions = np.array([_position(item) for item in frames])
    shared = ds.SharedFunctionalGroupsSequence[0]
    in_plane = _affine(shared, positions[:1])[:3, :2]
    step_mm = _thickness(shared)
    shape = (len(frames), int(ds.Rows), int(ds.Columns))
    if ds.SegmentationType == "LABELMAP":
        values = np.frombuffer(ds.PixelData, "<u2" if ds.BitsAllocated == 16 else np.uint8)[: int(np.prod(shape))].reshape(shape)
        return {n: Segment(label, values == n, positions, in_plane, step_mm) for n, label in labels.items() if n and (values == n).any()}
    if np.prod(shape) % BITS_PER_BYTE:  # GDCM loses the bits of a last byte that is not full
        bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), count=int(np.prod(shape)), bitorder="little")
        decoded = bits.reshape(shape)
    else:
        del ds.PixelData
        decoded = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).reshape(shape)
    numbers = np.array([int(item.SegmentIdentificationSequence[0].ReferencedSegmentNumber) for item in frames])
    found = {}
    for n in np.unique(numbers).tolist():
        mine = numbers == n
        found[n] = Segment(labels[n], decoded[mine] != 0, positions[mine], in_plane, step_mm)
    return found


def contour_measures(ds: Dataset, step_mm: float) -> dict[int, tuple[str, float, Array]]:
    """Return name, volume [mL] and centroid (LPS mm) of every ROI, by the formulas for polygons, without any raster."""
    names = {int(item.ROINumber): str(item.ROIName) for item in ds.StructureSetROISequence}
    measures = {}
    for roi in ds.ROIContourSequence:
        parts = [_polygon(contour) for contour in roi.ContourSequence]
        area = sum(part[0] for part in parts)
        centroid = sum((part[0] * part[1] for part in parts), np.zeros(3)) / area
        number = int(roi.ReferencedROINumber)
        measures[number] = (names[number], area * step_mm * ML_PER_MM3, centroid)
    return measures


def _polygon(contour: Dataset) -> tuple[float, Array]:
    """Return the area [mm²] and centroid of a planar polygon in space."""
    corners = np.array([float(x) for x in contour.ContourData]).reshape(-1, 3)
    here = corners - corners[0]
    normal = np.cross(here, np.roll(here, -1, axis=0)).sum(axis=0)
    normal /= np.linalg.norm(normal)
    first = here[np.argmax(np.linalg.norm(here, axis=1))]
    first = first / np.linalg.norm(first)
    second = np.cross(normal, first)
    area, centre = area_and_centroid(np.column_stack([here @ first, here @ second]))
    centroid: Array = corners[0] + centre[0] * first + centre[1] * second
    return abs(area), centroid


def frame_positions_mm(ds: Dataset) -> Array:
    """Return the positions of all frames, shape ``(frames, 3)``, LPS millimetres."""
    return np.array([_position(item) for item in ds.PerFrameFunctionalGroupsSequence])


def slice_steps_mm(ds: Dataset) -> dict[str, float]:
    """Return thickness and spacing of the slices as the object states them [mm]."""
    measures = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    return {name: float(measures[name].value) for name in ("SliceThickness", "SpacingBetweenSlices") if name in measures}


def source_slices(headers: Sequence[Dataset]) -> list[tuple[str, int | None, Array]]:
    """Return instance UID, frame number (None in a file of one) and position [LPS mm] of every slice of a source."""
    first = headers[0]
    if "DetectorInformationSequence" not in first:
        return [(str(h.SOPInstanceUID), None, np.array(h.ImagePositionPatient, dtype=float)) for h in headers]
    detector = first.DetectorInformationSequence[0]
    placed = detector if "ImagePositionPatient" in detector else first
    row, column = np.array(placed.ImageOrientationPatient, dtype=float).reshape(2, 3)
    step = np.cross(row, column) * float(first.SpacingBetweenSlices)
    vector = [int(k) for k in np.atleast_1d(first.get("SliceVector", np.arange(int(first.NumberOfFrames)) + 1))]
    start = np.array(placed.ImagePositionPatient, dtype=float)
    return [(str(first.SOPInstanceUID), frame, start + step * (k - 1)) for frame, k in enumerate(vector, start=1)]
