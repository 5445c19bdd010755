"""What a simulated camera recovers of spheres, and the recovery curve that a phantom of them gives."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrtai.physics.calibrate import fitted_recovery
from mrtai.simulate.scanner import SPECT_GRID, Camera, seen
from mrtai.values.calibration import Recovery
from mrtai.values.grid import Grid
from mrtai.values.phantom import SphereRecovery

DIAMETERS_MM: Final = (10, 13, 17, 22, 28, 37, 50, 60, 80)
FINER: Final = 4
"""Sub-points along an edge of a voxel, by which spheres fill them."""

SIDE: Final = 46
PLACES: Final = 4
"""A sphere's place on the voxels, drawn so many times."""

NOISE_SD: Final = 0.001
"""Of a coefficient; spheres without noise still differ by how they lie on the voxels."""


def spheres(camera: Camera) -> tuple[list[float], list[float]]:
    """Return volume [mL] and recovery of spheres without background or noise, as a camera shows them on its own voxels."""
    edge_mm = float(SPECT_GRID.spacing_mm[0])
    grid, rng = Grid.axial((SIDE,) * 3, (edge_mm,) * 3), np.random.default_rng(1)
    places = rng.uniform(-0.5, 0.5, (PLACES, 3)) * edge_mm
    volumes_ml, recovered = [], []
    for diameter_mm in DIAMETERS_MM:
        volumes_ml.append(np.pi / 6 * diameter_mm**3 / 1000)
        shares = [_share(diameter_mm / 2, place, edge_mm) for place in places]
        recovered.append(float(np.mean([(seen(share, grid, camera) * share).sum() / share.sum() for share in shares])))
    return volumes_ml, recovered


def _share(radius_mm: float, place_mm: NDArray[np.float64], edge_mm: float) -> NDArray[np.float32]:
    """Return which share of each voxel a sphere fills that lies a little beside the middle, shape ``(z, y, x)``."""
    steps_mm = (np.arange(SIDE * FINER) - (SIDE * FINER - 1) / 2) * edge_mm / FINER
    axes = np.meshgrid(*[steps_mm] * 3, indexing="ij", sparse=True)
    distance_mm = np.sqrt(sum(np.square(axis - offset) for axis, offset in zip(axes, place_mm, strict=True)))
    fine = np.clip((radius_mm - distance_mm) * FINER / edge_mm + 0.5, 0, 1).astype(np.float32)
    shares: NDArray[np.float32] = fine.reshape(SIDE, FINER, SIDE, FINER, SIDE, FINER).mean(axis=(1, 3, 5))
    return shares


def curve(camera: Camera) -> Recovery:
    """Return the recovery curve that a phantom of those spheres gives."""
    volumes_ml, recovered = spheres(camera)
    points = [SphereRecovery(d, v, rc, NOISE_SD) for d, v, rc in zip(DIAMETERS_MM, volumes_ml, recovered, strict=True)]
    return fitted_recovery(points)[0]
