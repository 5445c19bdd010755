"""Rigid registration with SimpleITK, and a gate that keeps the identity when moving did not help."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from mrtai.physics.resample import averaged, resampled
from mrtai.physics.similarity import dice, mutual_information
from mrtai.physics.tissue import BODY_SHARE_OF_HIGHEST
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Array, Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.report import Alignment

logger = logging.getLogger(__name__)

WORKING_MM: Final = 4.0
"""Registration runs on voxels of this size: full resolution costs ten times more and gains 0.2 mm."""

LEAST_MOVE_MM: Final = 0.5
"""Less than this is below what registration resolves here; the identity is kept and nothing is interpolated."""

LEAST_GAIN: Final = 1e-3
"""Relative gain of mutual information below which moving did not help."""

DOUBTFUL_RESIDUAL_MM: Final = 4.8
"""A residual of one usual SPECT voxel is worth a look."""

DOUBTFUL_OVERLAP: Final = 0.9

CT_WINDOW_HU: Final = (-1000.0, 600.0)


@dataclass(frozen=True, slots=True)
class RigidAligner:
    """Six degrees of freedom, Mattes mutual information, three resolutions, from the identity and from the bodies' centres.

    Attributes:
        seed: of the metric's random sampling; one thread, so that a result repeats bit by bit.
    """

    seed: int = 7

    def __call__(self, fixed: Image, moving: Image) -> Alignment:
        """Return the transform from ``moving`` to ``fixed`` space; see ``ports.Aligner``."""
        if fixed.grid.same_as(moving.grid) and np.array_equal(fixed.voxels, moving.voxels):
            return Alignment(np.eye(4), False, 0.0, 0.0, 0.0, 1.0, 1.0)
        grid = _working_grid(fixed.grid)
        target, body = _prepared(fixed, grid)
        source_grid = _working_grid(moving.grid)
        source, source_body = _prepared(moving, source_grid)
        start = self._start(target, source, body, source_body)
        try:
            first = self._registered(target, source, body, start, seed=self.seed, shrink=(4, 2, 1))
            second = self._registered(target, source, body, first, seed=self.seed + 1, shrink=(1,))
        except RuntimeError as fault:  # ITK's one exception: no overlap, no contrast, too few voxels
            return _failed(target, source, (body, source_body), fault)
        points = _body_points(body, grid)
        residual_mm = float(np.sqrt(np.mean(np.sum((_moved(points, first) - _moved(points, second)) ** 2, axis=1))))
        return self._gated(target, source, (body, source_body), _inverse(first), residual_mm)

    def _start(self, target: Image, source: Image, body: NDArray[np.bool_], source_body: NDArray[np.bool_]) -> Array:
        centred = np.eye(4)
        centred[:3, 3] = _centre(source_body, source.grid) - _centre(body, target.grid)
        choices = (np.eye(4), centred)
        return max(choices, key=lambda to_source: _similarity(target, source, body, _inverse(to_source)))

    def _registered(
        self, target: Image, source: Image, body: NDArray[np.bool_], start: Array, *, seed: int, shrink: tuple[int, ...]
    ) -> Array:
        """Return the ``(4, 4)`` matrix from target to source space, as ITK asks for it."""
        method = sitk.ImageRegistrationMethod()
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # sums in another order would differ in the last bits
        method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=48)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(0.1, seed=seed)
        method.SetMetricFixedMask(_sitk(body.astype(np.uint8), target.grid))
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(learningRate=2.0, minStep=1e-3, numberOfIterations=150, relaxationFactor=0.6)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel(list(shrink))
        method.SetSmoothingSigmasPerLevel([2.0 * (factor - 1) for factor in shrink])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        transform = sitk.Euler3DTransform()
        transform.SetCenter(_centre(body, target.grid).tolist())
        _set_matrix(transform, start)
        method.SetInitialTransform(transform, inPlace=True)
        method.Execute(_sitk(target.voxels, target.grid), _sitk(source.voxels, source.grid))
        return _matrix(transform)

    def _gated(
        self, target: Image, source: Image, bodies: tuple[NDArray[np.bool_], NDArray[np.bool_]], to_fixed: Array, residual_mm: float
    ) -> Alignment:
        body, source_body = bodies
        points = _body_points(body, target.grid)
        before, after = (_similarity(target, source, body, matrix) for matrix in (np.eye(4), to_fixed))
        overlaps = [_overlap(body, target.grid, source_body, source.grid, matrix) for matrix in (np.eye(4), to_fixed)]
        move_mm = float(np.linalg.norm(_moved(points, to_fixed) - points, axis=1).max())
        small = move_mm < LEAST_MOVE_MM or 0 <= after - before < LEAST_GAIN * max(before, 1e-9)
        worse = after < before or overlaps[1] < overlaps[0] - 0.02
        moved = not (small or worse)
        flags = _doubts(worse and not small, residual_mm, overlaps[1] if moved else overlaps[0])
        matrix = to_fixed if moved else np.eye(4)
        return Alignment(matrix, moved, residual_mm, before, after if moved else before, overlaps[0], overlaps[1 if moved else 0], flags)


def _failed(target: Image, source: Image, bodies: tuple[NDArray[np.bool_], NDArray[np.bool_]], fault: RuntimeError) -> Alignment:
    """Return the identity with a flag: a scan that cannot be registered may still lie where it should."""
    logger.info("registration failed: %s", " ".join(str(fault).split())[-200:])
    text = "Registration of this scan onto the first failed; it was left where it was."
    flag = Flag(
        "REGISTRATION_FAILED", Severity.REVIEW, text, "Look at the overlay of this scan and the first before trusting its activities."
    )
    similarity = _similarity(target, source, bodies[0], np.eye(4))
    overlap = _overlap(bodies[0], target.grid, bodies[1], source.grid, np.eye(4))
    return Alignment(np.eye(4), False, None, similarity, similarity, overlap, overlap, (flag,))


def _doubts(worse: bool, residual_mm: float, overlap: float) -> tuple[Flag, ...]:
    flags = []
    remedy = "Look at the overlay of this scan and the first; contour this scan itself if they disagree."
    if worse:
        text = "Registration did not make this scan more alike to the first; it was left where it was."
        flags.append(Flag("REGISTRATION_DID_NOT_HELP", Severity.REVIEW, text, remedy))
    if residual_mm > DOUBTFUL_RESIDUAL_MM:
        text = f"Two registrations of this scan disagree by {residual_mm:.1f} mm."
        flags.append(Flag("REGISTRATION_UNSTABLE", Severity.REVIEW, text, remedy))
    if overlap < DOUBTFUL_OVERLAP:
        text = f"The body outlines of this scan and the first overlap by {overlap:.0%} only."
        flags.append(Flag("REGISTRATION_OVERLAP_LOW", Severity.REVIEW, text, remedy))
    return tuple(flags)


def _working_grid(grid: Grid) -> Grid:
    factor = np.maximum(1.0, WORKING_MM / grid.spacing_mm)
    count = np.maximum(np.round(np.array(grid.shape[::-1]) / factor).astype(int), 1)
    spacing = grid.spacing_mm * np.array(grid.shape[::-1]) / count
    origin = grid.origin_mm + grid.direction @ (0.5 * (spacing - grid.spacing_mm))
    return Grid((int(count[2]), int(count[1]), int(count[0])), spacing, origin, grid.direction)


def _prepared(image: Image, grid: Grid) -> tuple[Image, NDArray[np.bool_]]:
    """Return the image at working resolution with a tamed range, and a rough body mask."""
    coarse = averaged(image, grid).voxels
    if image.quantity is Quantity.HOUNSFIELD:
        voxels = np.clip(coarse, *CT_WINDOW_HU)
        body = voxels > -400.0
    else:
        # the square root evens out hot lesions and background
        voxels = np.sqrt(np.clip(coarse, 0.0, float(np.quantile(coarse, 0.9995))))
        body = coarse > BODY_SHARE_OF_HIGHEST * float(np.quantile(coarse, 0.999))
    if not body.any():
        body = np.ones_like(body)
    return Image(voxels.astype(np.float32), image.quantity, grid), body


def _similarity(target: Image, source: Image, body: NDArray[np.bool_], to_fixed: Array) -> float:
    outside = CT_WINDOW_HU[0] if target.quantity is Quantity.HOUNSFIELD else 0.0
    carried = resampled(source.on(source.grid.moved(to_fixed)), target.grid, order=1, outside=outside)
    return mutual_information(target.voxels[body], carried.voxels[body])


def _overlap(body: NDArray[np.bool_], grid: Grid, moving_body: NDArray[np.bool_], moving_grid: Grid, to_fixed: Array) -> float:
    carried = Image(moving_body.astype(np.float32), Quantity.DENSITY, moving_grid.moved(to_fixed))
    seen = Image(np.ones(moving_grid.shape, dtype=np.float32), Quantity.DENSITY, carried.grid)
    in_view = resampled(seen, grid, order=1).voxels > 0.5
    return dice(body & in_view, resampled(carried, grid, order=1).voxels > 0.5)


def _body_points(body: NDArray[np.bool_], grid: Grid) -> Array:
    """Return the corners of the body's bounding box in LPS millimetres, shape ``(8, 3)``."""
    where = np.argwhere(body)
    low, high = where.min(axis=0)[::-1], where.max(axis=0)[::-1]
    ends = np.array([[(low, high)[a][0], (low, high)[b][1], (low, high)[c][2]] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    points: Array = ends @ grid.affine[:3, :3].T + grid.origin_mm
    return points


def _centre(body: NDArray[np.bool_], grid: Grid) -> Array:
    centre: Array = grid.affine[:3, :3] @ np.argwhere(body).mean(axis=0)[::-1] + grid.origin_mm
    return centre


def _inverse(matrix: Array) -> Array:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def _moved(points: Array, matrix: Array) -> Array:
    moved: Array = points @ matrix[:3, :3].T + matrix[:3, 3]
    return moved


def _sitk(voxels: NDArray[Any], grid: Grid) -> Any:
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels))
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.origin_mm.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def _set_matrix(transform: Any, matrix: Array) -> None:
    centre = np.array(transform.GetCenter())
    transform.SetMatrix(matrix[:3, :3].ravel().tolist(), 1e-6)
    transform.SetTranslation((matrix[:3, 3] + matrix[:3, :3] @ centre - centre).tolist())


def _matrix(transform: Any) -> Array:
    matrix = np.eye(4)
    rotation = np.array(transform.GetMatrix()).reshape(3, 3)
    centre, shift = np.array(transform.GetCenter()), np.array(transform.GetTranslation())
    matrix[:3, :3] = rotation
    matrix[:3, 3] = centre + shift - rotation @ centre
    return matrix


def write_transform(alignment: Alignment, path: Path) -> None:
    """Write the rigid transform as ITK stores it: from the fixed image's points to the moving image's."""
    transform = sitk.Euler3DTransform()
    _set_matrix(transform, _inverse(alignment.transform))
    sitk.WriteTransform(transform, str(path))
