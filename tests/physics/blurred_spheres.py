"""Spheres blurred by a Gaussian, in closed form, and tomograms of them without noise."""

from datetime import datetime

import numpy as np
from scipy.special import erf

from mrtai.values.grid import Grid
from mrtai.values.phantom import Phantom, Sphere, Tomogram

AT = datetime(2026, 1, 12, 8, 0)
SIGMA_MM = 5.0
GRID = Grid.axial((40, 44, 44), (4.0, 4.0, 4.0))
HALF_LIFE_H = 159.5
SENSITIVITY, HEADS, VIEWS, SECONDS = 9.0, 2, 60, 30.0
BACKGROUND, HOT = 1.0e5, 1.0e6
SPHERES = tuple(
    Sphere(diameter, centre, HOT)
    for diameter, centre in ((16.0, (42.0, 1.0, 3.0)), (24.0, (-20.0, 38.0, -3.0)), (40.0, (-18.0, -34.0, 1.0)))
)
BOX_ML = GRID.voxel_ml * 20 * 34 * 34


def phantom(spheres=SPHERES, **changes):
    spheres_ml = sum(sphere.volume_ml for sphere in spheres)
    volume_ml = BOX_ML - spheres_ml
    return Phantom("Lu-177", BACKGROUND * volume_ml, AT, volume_ml, spheres, **changes)


def mean_recovery(diameter_mm, sigma_mm):
    """Return the mean of a Gaussian-blurred unit sphere within its own surface."""
    u, q = diameter_mm / sigma_mm, np.sqrt(2 / np.pi)
    e = np.exp(-u * u / 2)
    i0, i1 = erf(u / np.sqrt(2)) - q * u * e, q * (2 - (u * u + 2) * e)
    i3 = q * (8 - (u**4 + 4 * u * u + 8) * e)
    return i0 - 1.5 * i1 / u + i3 / (2 * u**3)


def blurred_sphere(grid, centre_mm, radius_mm, sigma_mm=SIGMA_MM):
    """Return a unit sphere convolved with a Gaussian at the voxel centres."""
    z, y, x = np.meshgrid(*(grid.origin_mm[a] + grid.spacing_mm[a] * np.arange(grid.shape[2 - a]) for a in (2, 1, 0)), indexing="ij")
    r = np.maximum(np.sqrt((x - centre_mm[0]) ** 2 + (y - centre_mm[1]) ** 2 + (z - centre_mm[2]) ** 2), 1e-6)
    s2 = np.sqrt(2) * sigma_mm
    edge = np.exp(-(((radius_mm - r) / s2) ** 2)) - np.exp(-(((radius_mm + r) / s2) ** 2))
    return 0.5 * (erf((radius_mm + r) / s2) + erf((radius_mm - r) / s2)) - sigma_mm / (r * np.sqrt(2 * np.pi)) * edge


def scan(of, *, t_h=3.0, shift_mm=(0.0, 0.0, 0.0), tau_us=0.0, sensitivity=SENSITIVITY, grid=GRID):
    """Return the counts of a box with blurred spheres, with dead time on all counts alike."""
    box = np.zeros(grid.shape)
    box[10:30, 5:39, 5:39] = of.around_bq_per_ml
    concentration = box
    for sphere in of.spheres:
        blurred = blurred_sphere(grid, np.add(sphere.centre_mm, shift_mm), sphere.diameter_mm / 2)
        concentration = concentration + (sphere.concentration_bq_per_ml - of.around_bq_per_ml) * blurred
    x = np.log(2) * (VIEWS * SECONDS / 3600) / HALF_LIFE_H
    left = 2 ** (-t_h / HALF_LIFE_H) * (1 - np.exp(-x)) / x
    # the phantom's total exactly, wherever the box of voxels rounds it
    concentration *= of.total_bq / (concentration.sum() * grid.voxel_ml)
    counts = concentration * left * grid.voxel_ml / 1e6 * sensitivity * HEADS * VIEWS * SECONDS
    seconds = HEADS * VIEWS * SECONDS
    rate = 0.4 * counts.sum() / seconds
    lost = np.exp(-rate * tau_us * 1e-6)
    return Tomogram(counts * lost, grid, AT, "Lu-177", HEADS, VIEWS, SECONDS, rate * lost * seconds, "CAM-1", "MEGP")
