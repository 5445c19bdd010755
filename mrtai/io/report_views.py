"""The maps of a report as a reader looks at them: in patient order, cropped to the body, cut into planes.

Patient order is ``(z, y, x)`` with z to the head, y to the back and x to the left. Pictures follow the radiological
convention: the patient's right is on the left of the screen, front is up, head is up.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mrtai.physics.resample import cropped, resampled
from mrtai.units import BQ_PER_MBQ, GRAM_PER_KG
from mrtai.values.grid import Array, Grid
from mrtai.values.report import RegionDose, Report

Pixels = NDArray[Any]

ANATOMY_STEP_MM = 2.4
"""CT is shown about this fine, whatever the SPECT's voxel size."""

AIR_HU = -1000.0
CT_WINDOW_HU = (-160.0, 240.0)
DENSITY_WINDOW_G_PER_ML = (0.0, 1.6)
MARGIN_VOXELS = 2


class Plane(Enum):
    """A cut through the patient; the value names the screen's left, right, top and bottom."""

    AXIAL = ("R", "L", "A", "P")
    CORONAL = ("R", "L", "H", "F")
    SAGITTAL = ("A", "P", "H", "F")


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """Maps of one report in patient order on one cropped grid.

    Attributes:
        spacing_mm: voxel edges ``(x, y, z)``.
        anatomy: CT [HU] or density [g/mL], ``fine`` times finer along every axis; ``window`` its grey range.
        has_ct: False when density is shown for want of a CT.
        spects_mbq_per_ml: one map per scan, ``(z, y, x)``; ``dose_gy`` likewise.
        labels: region values, ``(z, y, x)``; ``names`` what they mean.
    """

    spacing_mm: tuple[float, float, float]
    anatomy: Pixels
    fine: int
    window: tuple[float, float]
    has_ct: bool
    spects_mbq_per_ml: tuple[Pixels, ...]
    dose_gy: Pixels
    labels: Pixels
    names: dict[int, str]


def views(report: Report) -> Views:
    """Return the report's maps in patient order, cropped to body and contours with a small margin."""
    grid = report.dose.grid
    box = _bounding_box((np.asarray(report.aligned.body) > 0) | (report.labels.voxels > 0), grid.shape)
    part = cropped(grid, box)
    point = report.aligned.cycle.time_points[report.aligned.reference]
    fine = max(1, round(float(part.spacing_mm.min()) / ANATOMY_STEP_MM))
    if point.ct is not None:
        anatomy = resampled(point.ct, refined(part, fine), order=1, outside=AIR_HU).voxels
    else:
        anatomy = resampled(report.aligned.density, refined(part, fine), order=1).voxels * GRAM_PER_KG
    return Views(
        spacing_mm=patient_spacing_mm(part),
        anatomy=in_patient_order(anatomy, part),
        fine=fine,
        window=CT_WINDOW_HU if point.ct is not None else DENSITY_WINDOW_G_PER_ML,
        has_ct=point.ct is not None,
        spects_mbq_per_ml=tuple(in_patient_order(s.voxels[box] / BQ_PER_MBQ, part) for s in report.aligned.spects),
        dose_gy=in_patient_order(report.dose.total.voxels[box], part),
        labels=in_patient_order(report.labels.voxels[box], part),
        names=dict(report.labels.names),
    )


def in_patient_order(voxels: Pixels, grid: Grid) -> Pixels:
    """Return voxels ``(z, y, x)`` of an array on ``grid`` turned so that z runs to the head, y to the back, x to the left.

    An oblique grid is turned by whole quarter turns to the nearest such order.
    """
    axis_of = _array_axis_of(grid)
    turned: Pixels = voxels.transpose([2 - axis_of[patient] for patient in (2, 1, 0)])
    signs = [grid.direction[patient, axis_of[patient]] for patient in (2, 1, 0)]
    flipped: Pixels = turned[tuple(slice(None, None, -1) if sign < 0 else slice(None) for sign in signs)]
    return flipped


def patient_spacing_mm(grid: Grid) -> tuple[float, float, float]:
    """Return voxel edges along the patient's ``(x, y, z)`` for an array in patient order."""
    x, y, z = (float(grid.spacing_mm[axis]) for axis in _array_axis_of(grid))
    return x, y, z


def refined(grid: Grid, factor: int) -> Grid:
    """Return the grid with every voxel cut into ``factor`` parts along each axis; its outer faces stay where they are."""
    shape = (grid.shape[0] * factor, grid.shape[1] * factor, grid.shape[2] * factor)
    first = np.full(3, 0.5 / factor - 0.5)
    origin = grid.affine[:3, :3] @ first + grid.origin_mm
    return replace(grid, shape=shape, spacing_mm=grid.spacing_mm / factor, origin_mm=origin)


def picture(volume: Pixels, plane: Plane, index: int) -> Pixels:
    """Return the cut as it is drawn, rows from top to bottom, of a volume in patient order."""
    where = {
        Plane.AXIAL: (index,),
        Plane.CORONAL: (slice(None, None, -1), index),
        Plane.SAGITTAL: (slice(None, None, -1), slice(None), index),
    }
    cut: Pixels = volume[where[plane]]
    return cut


def anatomy_picture(shown: Views, plane: Plane, index: int) -> Pixels:
    """Return the cut through the anatomy at slice ``index`` of the coarser maps, ``fine`` times finer in the plane."""
    return picture(shown.anatomy, plane, index * shown.fine + shown.fine // 2)


def size_mm(shown: Views, plane: Plane) -> tuple[float, float]:
    """Return width and height of a cut."""
    nz, ny, nx = shown.dose_gy.shape
    x, y, z = nx * shown.spacing_mm[0], ny * shown.spacing_mm[1], nz * shown.spacing_mm[2]
    return {Plane.AXIAL: (x, y), Plane.CORONAL: (x, z), Plane.SAGITTAL: (y, z)}[plane]


def outlines(mask: Pixels) -> list[Array]:
    """Return the borders of a mask as closed lines, each ``(points, 2)`` of x and y in pixels from the upper left corner."""
    lines = contour_generator(z=np.pad(mask.astype(np.float64), 1)).lines(0.5)
    return [np.asarray(line, dtype=np.float64) - 0.5 for line in lines]


def hottest(regions: tuple[RegionDose, ...], names: set[str], *, lesion: bool) -> str | None:
    """Return the drawn lesion, or else kidney, of greatest mean dose; None when there is none."""
    doses = {
        region.name: region.dose.mean_gy
        for region in regions
        if region.dose and region.name in names and (region.kind == "lesion" if lesion else region.name.startswith("kidney"))
    }
    return max(doses, key=doses.__getitem__, default=None)


def focus_in(shown: Views, name: str | None) -> tuple[int, int, int]:
    """Return ``(z, y, x)`` of the voxel of region ``name`` nearest to its centre, or of the greatest dose."""
    inside = np.argwhere(shown.labels == {n: v for v, n in shown.names.items()}.get(name or "", -1))
    if not len(inside):
        z, y, x = np.unravel_index(int(np.argmax(shown.dose_gy)), shown.dose_gy.shape)
        return int(z), int(y), int(x)
    z, y, x = inside[np.argmin(((inside - inside.mean(axis=0)) ** 2).sum(axis=1))]
    return int(z), int(y), int(x)


def _array_axis_of(grid: Grid) -> tuple[int, int, int]:
    """Return for the patient's x, y and z the array axis (0 = x, 1 = y, 2 = z) that runs most along it."""
    _, axis = linear_sum_assignment(-np.abs(grid.direction))
    return int(axis[0]), int(axis[1]), int(axis[2])


def _bounding_box(body: Pixels, shape: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    def span(axis: int) -> slice:
        others = tuple(a for a in range(3) if a != axis)
        hit = np.flatnonzero(body.any(axis=others))
        if not hit.size:
            return slice(0, shape[axis])
        return slice(max(0, int(hit[0]) - MARGIN_VOXELS), min(shape[axis], int(hit[-1]) + 1 + MARGIN_VOXELS))

    return span(0), span(1), span(2)
