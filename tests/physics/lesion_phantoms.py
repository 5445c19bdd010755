"""Spheres of known volume in a warm body, blurred and noisy as a SPECT shows them."""

import numpy as np
from scipy import ndimage

from mrtai.units import FWHM_PER_SIGMA
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels

GRID = Grid.axial((48, 56, 64), (4.8, 4.8, 4.8))
FWHM_MM = 11.0


def centres_mm(grid=GRID):
    z, y, x = np.indices(grid.shape)
    return np.stack([x, y, z], axis=-1) @ grid.affine[:3, :3].T + grid.origin_mm


def ball(centre_mm, radius_mm, grid=GRID):
    """Return the share of each voxel that a sphere fills, by 5 x 5 x 5 points, on an axial grid."""
    share = np.zeros(grid.shape)
    reach = radius_mm + grid.spacing_mm.max()
    low = np.clip(np.floor((np.array(centre_mm) - reach - grid.origin_mm) / grid.spacing_mm).astype(int)[::-1], 0, None)
    high = np.ceil((np.array(centre_mm) + reach - grid.origin_mm) / grid.spacing_mm).astype(int)[::-1] + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    x, y, z = (
        ((np.arange(5 * n) - 2) / 5 * step + origin - middle)
        for n, step, origin, middle in zip(grid.shape[::-1], grid.spacing_mm, grid.origin_mm, centre_mm, strict=True)
    )
    fine = tuple(slice(5 * a, 5 * b) for a, b in zip(low, high, strict=True))
    inside = z[fine[0]][:, None, None] ** 2 + y[fine[1]][:, None] ** 2 + x[fine[2]] ** 2 < radius_mm**2
    nz, ny, nx = (n // 5 for n in inside.shape)
    share[box] = inside.reshape(nz, 5, ny, 5, nx, 5).mean(axis=(1, 3, 5))
    return share


def radius_of_ml(volume_ml):
    return (0.75 * volume_ml * 1000 / np.pi) ** (1 / 3)


def body(grid=GRID):
    at = centres_mm(grid) / (130, 110, 130)
    return np.linalg.norm(at, axis=-1) < 1


def seen(concentration, *, noise=0.1, seed=1, grid=GRID, fwhm_mm=FWHM_MM):
    """Return the image of a true concentration: blurred, then log-normal noise with the grain of a reconstruction."""
    blurred = ndimage.gaussian_filter(concentration, fwhm_mm / FWHM_PER_SIGMA / grid.spacing_mm[::-1])
    grain = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=grid.shape), 1.0)
    return Image((blurred * np.exp(noise * grain / grain.std())).astype(np.float32), Quantity.ACTIVITY_CONCENTRATION, grid)


def organs(grid=GRID, **balls):
    """Return spherical organs, ``name=(centre_mm, radius_mm)``, as labels."""
    voxels, names = np.zeros(grid.shape, dtype=np.uint8), {}
    for value, (name, (centre, radius)) in enumerate(balls.items(), start=1):
        voxels[ball(centre, radius, grid) > 0.5] = value
        names[value] = name
    return Labels(voxels, names, grid)


def volumes_ml(numbers, grid=GRID):
    return np.bincount(numbers.ravel())[1:] * grid.voxel_ml
