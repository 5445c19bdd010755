"""A phantom of known activity as the clinical scanner sees it, in counts.

The counts are those of a tomogram corrected for attenuation: scaled so that a source gives what it would give in air. A calibration's
sensitivity is then the camera's ``sensitivity_cps_per_mbq`` itself; ``survival`` lowers the recorded counts and so raises the noise.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrtai.physics.decay import remaining
from mrtai.physics.phantom_spheres import sphere_shares
from mrtai.physics.quantify import bq_per_ml_per_count, mean_decay_during_scan
from mrtai.physics.resample import overlap_average
from mrtai.simulate.noise import noisy
from mrtai.simulate.scanner import SPECT_GRID, Camera, seen
from mrtai.units import BQ_PER_MBQ, MM3_PER_ML, SECONDS_PER_HOUR
from mrtai.values.grid import Array, Grid
from mrtai.values.nuclide import Nuclide
from mrtai.values.phantom import Phantom, Tomogram
from mrtai.values.refusal import DosimetryError

CYLINDER_RADIUS_MM: Final = 100.0
DURATION_S: Final = 1800.0
SERIAL: Final = "VIRTUAL-1"
COLLIMATOR: Final = "MELP"
_FINE: Final = 9
"""Sub-points per edge of a voxel for the cylinder."""


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """What a phantom holds at its ``measured_at`` [Bq/mL], voxels filled by shares, ``(z, y, x)`` on ``grid``."""

    concentration: NDArray[np.float32]
    grid: Grid


def cylinder(phantom: Phantom, grid: Grid = SPECT_GRID) -> Filled:
    """Return spheres in a cylinder of 20 cm diameter along z, centred on (0, 0, 0) and as long as the phantom's volume makes it.

    Raises:
        DosimetryError: a sphere that does not lie in the cylinder, or a cylinder that the view does not hold.
    """
    half_mm = cylinder_half_length_mm(phantom)
    _require_inside(phantom, half_mm, grid)
    volume = np.zeros(grid.shape)
    around = np.zeros(grid.shape)
    cut = _disc(grid)[None] * _slab(grid, half_mm)[:, None, None]
    for sphere in phantom.spheres:
        box, shares = sphere_shares(grid, np.array(sphere.centre_mm), sphere.diameter_mm / 2)
        # sub-points count volumes to a percent; what was filled in is exact
        exact = shares * (sphere.volume_ml / (shares.sum() * grid.voxel_ml))
        volume[box] += sphere.concentration_bq_per_ml * exact
        around[box] += exact
    volume += phantom.around_bq_per_ml * np.clip(cut - around, 0.0, None)
    return Filled(volume.astype(np.float32), grid)


def cylinder_half_length_mm(phantom: Phantom) -> float:
    """Return half the length of the cylinder that holds the phantom's volume beside its spheres."""
    volume_ml = phantom.volume_ml + sum(sphere.volume_ml for sphere in phantom.spheres)
    return volume_ml * MM3_PER_ML / (np.pi * CYLINDER_RADIUS_MM**2) / 2


def tomogram(filled: Filled, phantom: Phantom, nuclide: Nuclide, *, t_h: float, camera: Camera, rng: np.random.Generator) -> Tomogram:
    """Return what the clinical scanner makes of a phantom ``t_h`` hours after its activity was measured."""
    left = float(remaining(t_h, nuclide.half_life_h)) * mean_decay_during_scan(DURATION_S, nuclide.half_life_h * SECONDS_PER_HOUR)
    blurred = seen(filled.concentration, filled.grid, camera) * np.float32(left)
    activity_mbq = float(blurred.sum(dtype=np.float64)) * filled.grid.voxel_ml / BQ_PER_MBQ
    recorded = camera.counts(activity_mbq, DURATION_S)
    per_count = bq_per_ml_per_count(
        camera.sensitivity_cps_per_mbq,
        heads=camera.heads,
        views_per_head=camera.views,
        seconds_per_view=DURATION_S / camera.views,
        voxel_ml=filled.grid.voxel_ml,
        decay_during_scan=1.0,
    )
    return Tomogram(
        counts=noisy(blurred, recorded, camera.views, rng).astype(np.float64) / per_count,
        grid=filled.grid,
        started_at=phantom.measured_at + timedelta(hours=t_h),
        nuclide=nuclide.name,
        heads=camera.heads,
        views_per_head=camera.views,
        seconds_per_view=DURATION_S / camera.views,
        recorded_counts=float(rng.poisson(recorded)),
        camera_serial=SERIAL,
        collimator=COLLIMATOR,
    )


def averaged_on(voxels: NDArray[np.float32], source: Grid, grid: Grid = SPECT_GRID) -> Filled:
    """Return a finer map of concentration [Bq/mL], ``(z, y, x)``, on the scanner's grid; activity is kept."""
    return Filled(overlap_average(voxels, source, grid), grid)


def _disc(grid: Grid) -> Array:
    """Return the share of each column of voxels within the cylinder's circle, ``(y, x)``."""
    y, x = (_fine_mm(grid, axis) for axis in (1, 0))
    inside = y[:, None] ** 2 + x[None, :] ** 2 < CYLINDER_RADIUS_MM**2
    share = inside.reshape(grid.shape[1], _FINE, grid.shape[2], _FINE).mean(axis=(1, 3))
    # the circle's area exactly
    area_mm2 = float(share.sum() * grid.spacing_mm[0] * grid.spacing_mm[1])
    disc: Array = share * (np.pi * CYLINDER_RADIUS_MM**2 / area_mm2)
    return disc


def _slab(grid: Grid, half_mm: float) -> Array:
    """Return the share of each slice between the cylinder's ends, ``(z,)``."""
    step = float(grid.spacing_mm[2])
    z_mm = grid.origin_mm[2] + step * np.arange(grid.shape[0])
    slab: Array = np.clip(np.minimum(z_mm + step / 2, half_mm) - np.maximum(z_mm - step / 2, -half_mm), 0.0, None) / step
    return slab


def _fine_mm(grid: Grid, axis: int) -> Array:
    step = float(grid.spacing_mm[axis])
    count = grid.shape[2 - axis] * _FINE
    fine: Array = grid.origin_mm[axis] - step / 2 + step * (np.arange(count) + 0.5) / _FINE
    return fine


def _require_inside(phantom: Phantom, half_mm: float, grid: Grid) -> None:
    for sphere in phantom.spheres:
        x, y, z = sphere.centre_mm
        radius = sphere.diameter_mm / 2
        if np.hypot(x, y) + radius > CYLINDER_RADIUS_MM or abs(z) + radius > half_mm:
            raise _refusal(
                f"the {sphere.diameter_mm:g} mm sphere sticks out of the cylinder", f"its centre at {x:g}, {y:g}, {z:g} mm", half_mm
            )
    view_mm = grid.shape[0] * float(grid.spacing_mm[2]) / 2
    if half_mm > view_mm:
        raise _refusal("the cylinder is longer than the scanner's view", f"{2 * half_mm:.0f} mm for {2 * view_mm:.0f} mm", half_mm)


def _refusal(what: str, found: str, half_mm: float) -> DosimetryError:
    remedy = f"change volume_ml or centre_mm; the cylinder ends at {CYLINDER_RADIUS_MM:g} mm from its axis and at z = ±{half_mm:.0f} mm"
    return DosimetryError(what, where="phantom", found=found, remedy=remedy, code="PHANTOM_FILE")
