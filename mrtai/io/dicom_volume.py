"""From slices and frames to one volume on one grid: order, spacing and orientation are read, checked and never assumed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mrtai.io.dicom_pixels import finite, require_honest_size, stored_values
from mrtai.io.dicom_tree import Instance, Series
from mrtai.values.grid import Array, Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.refusal import DosimetryError

SPACING_TOLERANCE: Final = 0.05
"""Share of the slice spacing by which a slice may lie off the regular lattice (headers round to 0.1 mm)."""

TILT_TOLERANCE: Final = 1e-3
"""Sideways step over step along the normal: 0.06 degrees; in a short stack rounded positions alone lean by more."""

SHIFT_TOLERANCE_MM: Final = 0.1
SHIFT_TOLERANCE: Final = 0.01
"""A slice may lie off the line through the first and the last by 0.1 mm or 1 % of the slice spacing, whichever is more."""

NOT_A_VOLUME: Final = frozenset({"LOCALIZER", "SCOUT", "MPR", "SECONDARY"})
DUPLICATE_MM: Final = 1e-3
AIR_HU: Final = -1024


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Where slices lie: the grid in ascending order along the normal, and the position in the source of each of its slices."""

    grid: Grid
    order: tuple[int, ...]


def place_slices(series: Series) -> Placement:
    """Return the grid of a series of single-slice files.

    Raises:
        DosimetryError: missing geometry, slices that differ in shape or orientation, duplicated or missing slices, a slice shifted
            sideways, or gantry tilt.
    """
    headers = [instance.header for instance in series.instances]
    _require_alike(headers, series.where)
    across = orientation(headers[0], series.where)
    positions = np.array([_position(header, series.where) for header in headers])
    normal = np.cross(across[0], across[1])
    order = np.argsort(positions @ normal, kind="stable")
    along = (positions @ normal)[order]
    spacing_mm = _slice_spacing(along, headers[0], series)
    _require_straight(positions[order], spacing_mm, series.where)
    _require_upright(positions[order], normal, series.where)
    row_mm, column_mm = pixel_spacing(headers[0], series.where)
    shape = (len(headers), int(headers[0].Rows), int(headers[0].Columns))
    direction = np.column_stack([across[0], across[1], normal])
    grid = Grid(shape, np.array([column_mm, row_mm, spacing_mm]), positions[order[0]], direction)
    return Placement(grid, tuple(int(i) for i in order))


def place_frames(instance: Instance) -> Placement:
    """Return the grid of a reconstructed multi-frame NM tomogram, with the frame of each of its slices.

    A positive SpacingBetweenSlices stacks along row × column of the first frame, a negative one against it (PS3.3 C.8.4.15).
    """
    require_honest_size(instance)
    header = instance.header
    detector = next(iter(header.get("DetectorInformationSequence", None) or ()), Dataset())
    placed = detector if "ImagePositionPatient" in detector else header
    across = orientation(placed, instance.name)
    origin = _position(placed, instance.name)
    normal = np.cross(across[0], across[1])
    row_mm, column_mm = pixel_spacing(header, instance.name)
    step_mm = float(header.get("SpacingBetweenSlices", 0) or 0)
    if step_mm == 0:
        raise no_geometry("no SpacingBetweenSlices (0018,0088)", instance.name)
    slices = _slice_of_frame(header, instance.name)
    frames = np.argsort(slices)
    if step_mm < 0:
        frames = frames[::-1]
        origin = origin + normal * step_mm * (len(slices) - 1)
    shape = (len(slices), int(header.Rows), int(header.Columns))
    direction = np.column_stack([across[0], across[1], normal])
    return Placement(Grid(shape, np.array([column_mm, row_mm, abs(step_mm)]), origin, direction), tuple(int(i) for i in frames))


def is_volume(ct: Series) -> bool:
    """Say whether a CT series is a stack of original slices."""
    kind = {str(value).upper() for value in ct.first.get("ImageType", None) or ()}
    return not kind & NOT_A_VOLUME and len(ct.instances) > 1


def read_ct(series: Series) -> Image:
    """Return a CT in Hounsfield units: int16 where whole numbers allow, else float32; padding becomes air."""
    placement = place_slices(series)
    slices = [_hounsfield(series.instances[i]) for i in placement.order]
    voxels = np.stack(slices)
    whole = bool(np.all(voxels == np.rint(voxels))) and abs(voxels).max() <= np.iinfo(np.int16).max
    return Image(voxels.astype(np.int16) if whole else voxels, Quantity.HOUNSFIELD, placement.grid)


def rescale(header: Dataset, where: str, *, required: bool) -> tuple[float, float]:
    """Return slope and intercept of the modality rescale; refuses a slope that is zero, negative or not a number."""
    if required and header.get("RescaleSlope") is None:
        raise DosimetryError(
            "no rescale slope (0028,1053)", where=where, found="an empty value", remedy="export the series again", code="RESCALE_MISSING"
        )
    slope = float(1.0 if header.get("RescaleSlope") is None else header.RescaleSlope)
    if slope == 0 or slope < 0:
        raise DosimetryError(
            "the rescale slope (0028,1053) is not positive",
            where=where,
            found=f"{slope:g}",
            remedy="export the series again",
            code="ZERO_RESCALE_SLOPE",
        )
    return slope, float(header.get("RescaleIntercept", 0) or 0)


def orientation(header: Dataset, where: str) -> Array:
    """Return the directions of the column and row index, shape ``(2, 3)``, made exactly perpendicular unit vectors."""
    numbers = header.get("ImageOrientationPatient")
    across = np.array([float(x) for x in numbers], dtype=np.float64).reshape(2, 3) if numbers is not None and len(numbers) == 6 else None
    if across is None or not np.allclose(across @ across.T, np.eye(2), atol=1e-3):
        raise no_geometry("no usable ImageOrientationPatient (0020,0037)", where)
    across[0] /= np.linalg.norm(across[0])
    across[1] -= across[0] * (across[1] @ across[0])
    across[1] /= np.linalg.norm(across[1])
    return across


def pixel_spacing(header: Dataset, where: str) -> tuple[float, float]:
    """Return the distance between rows and between columns [mm]."""
    spacing = header.get("PixelSpacing")
    if spacing is None or len(spacing) != 2 or not all(0 < float(x) < float("inf") for x in spacing):
        raise no_geometry("no usable PixelSpacing (0028,0030)", where)
    return float(spacing[0]), float(spacing[1])


def no_geometry(what: str, where: str) -> DosimetryError:
    """Return the refusal of a volume that cannot be placed."""
    return DosimetryError(what, where=where, found="an empty or impossible value", remedy="export it with its geometry", code="NO_GEOMETRY")


def _hounsfield(instance: Instance) -> NDArray[np.float32]:
    slope, intercept = rescale(instance.header, instance.name, required=True)
    stored = stored_values(instance)[0]
    voxels = finite(stored * np.float64(slope) + intercept, instance.name)
    padding = instance.header.get("PixelPaddingValue")
    if padding is not None:
        voxels[stored == int(padding)] = AIR_HU
    return voxels


def _require_alike(headers: Sequence[Dataset], where: str) -> None:
    for name in ("Rows", "Columns"):
        sizes = {int(header.get(name, 0) or 0) for header in headers}
        if len(sizes) > 1:
            raise no_geometry(f"slices differ in {name}", where)
        if sizes == {0}:
            raise no_geometry(f"no {name}", where)
    for name in ("ImageOrientationPatient", "PixelSpacing"):
        values = [[float(x) for x in header.get(name) or ()] for header in headers]
        if len({len(v) for v in values}) > 1 or np.ptp(np.array(values), axis=0).max(initial=0.0) > 1e-4:
            raise no_geometry(f"slices differ in {name}", where)


def _position(header: Dataset, where: str) -> Array:
    numbers = header.get("ImagePositionPatient")
    if numbers is None or len(numbers) != 3:
        raise no_geometry("no ImagePositionPatient (0020,0032)", where)
    position: Array = np.array([float(x) for x in numbers], dtype=np.float64)
    return position


def _slice_spacing(along: Array, header: Dataset, series: Series) -> float:
    stated = int(header.get("NumberOfSlices", 0) or 0)
    if along.size == 1:
        thickness = float(header.get("SliceThickness", 0) or 0)
        if thickness <= 0:
            raise no_geometry("one slice without SliceThickness (0018,0050)", series.where)
        return thickness
    gaps = np.diff(along)
    if gaps.min() < DUPLICATE_MM:
        raise _slices(
            "duplicated slice", "DUPLICATE_SLICE", f"{int(np.sum(gaps < DUPLICATE_MM)) + 1} slices at {along[gaps.argmin()]:.2f} mm", series
        )
    usual = float(np.sort(gaps)[(gaps.size - 1) // 2])  # the lower median: of two gaps the smaller is the regular one
    if np.abs(gaps - usual).max() > 2 * SPACING_TOLERANCE * usual or _off_lattice(along) > SPACING_TOLERANCE * usual:
        at = int(np.abs(gaps - usual).argmax())
        found = f"a step of {gaps[at]:.2f} mm after {along[at]:.2f} mm where {usual:.2f} mm is usual"
        raise _slices("missing slice", "MISSING_SLICE", found, series)
    if along.size < stated:
        raise _slices("missing slice", "MISSING_SLICE", f"{along.size} of {stated} slices", series)
    return float((along[-1] - along[0]) / (along.size - 1))


def _off_lattice(along: Array) -> float:
    return float(np.abs(along - np.linspace(along[0], along[-1], along.size)).max())


def _require_straight(positions: Array, spacing_mm: float, where: str) -> None:
    """Refuse slices shifted against their neighbours: positions, shape ``(slices, 3)``, in order along the normal."""
    if len(positions) < 3:
        return
    path = positions[-1] - positions[0]
    from_first = positions - positions[0]
    off_mm = np.linalg.norm(from_first - np.outer(from_first @ path, path) / (path @ path), axis=1)
    if off_mm.max() > max(SHIFT_TOLERANCE_MM, SHIFT_TOLERANCE * spacing_mm):
        raise DosimetryError(
            "a slice is shifted sideways",
            where=where,
            found=f"slice {int(off_mm.argmax()) + 1} of {len(positions)}, {off_mm.max():.2f} mm off the line of the others",
            remedy="export the series again, or resample it to a regular grid first",
            code="SLICE_SHIFTED",
        )


def _require_upright(positions: Array, normal: Array, where: str) -> None:
    if len(positions) < 2:
        return
    path = positions[-1] - positions[0]
    along = float(path @ normal)
    sideways_mm = float(np.linalg.norm(path - along * normal))
    tilt = sideways_mm / along
    if tilt > TILT_TOLERANCE and sideways_mm > SHIFT_TOLERANCE_MM:
        raise DosimetryError(
            "gantry tilt: the slices are not stacked along their normal",
            where=where,
            found=f"{np.degrees(np.arctan(tilt)):.2f} degrees",
            remedy="resample the series to an orthogonal grid first",
            code="GANTRY_TILT",
        )


def _slice_of_frame(header: Dataset, where: str) -> NDArray[Any]:
    frames = int(header.get("NumberOfFrames", 1) or 1)
    vector = header.get("SliceVector")
    slices = np.arange(1, frames + 1) if vector is None else np.atleast_1d(np.array(vector, dtype=np.int64))
    if slices.size != frames or sorted(slices.tolist()) != list(range(1, frames + 1)):
        raise DosimetryError(
            "frames are not one slice each",
            where=where,
            found=f"{frames} frames for {len(set(slices.tolist()))} slices",
            remedy="export one energy window, one time and every slice once",
            code="DUPLICATE_SLICE" if len(set(slices.tolist())) < slices.size else "MISSING_SLICE",
        )
    return slices


def _slices(what: str, code: str, found: str, series: Series) -> DosimetryError:
    return DosimetryError(what, where=series.where, found=found, remedy="export the whole series once more", code=code)
