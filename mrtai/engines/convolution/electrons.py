"""Short-range energy by superposition over neighbours, right in matter of any density.

In a uniform medium of density ρ electrons reach as far in g/cm² as in water, so the energy E(n; ρ) left ``n`` voxels away is
water's kernel on voxels scaled by ρ (O'Connor 1957). Between unlike voxels

    w(s → t) = E(n; ρ̄) ρ_t / ρ̄

with ρ̄ the mean density on the way, in which source and target count by their geometric mean. For neighbours that is right at
both ends: where electrons reach far, w ∝ ρ_t; where they reach less than a voxel, what crosses the face does not depend on ρ_t,
since E ∝ 1/ρ there. It is reciprocal, ρ_s w(s → t) = ρ_t w(t → s), as it must be. The weights of a source are scaled to a sum of
one, so that no energy is made or lost; what would be left outside the body is lost, not piled up inside.
"""

from functools import lru_cache
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.engines.threads import parallel
from mrtai.physics.kernel import electron_octant
from mrtai.units import WATER_DENSITY_KG_PER_ML
from mrtai.values.grid import Array
from mrtai.values.kernel import PointKernel

RELATIVE_DENSITIES: Final = np.geomspace(0.2, 2.8, 14)
"""Of water; lighter matter counts as the first: a few voxels of gas, whose electrons would cross half the image."""

DIRECTIONS: Final = 8192
"""Per octant when kernels are put on voxels: 0.3 %."""

NEGLIGIBLE: Final = 2e-6
"""Share of the energy below which a voxel is not visited."""

UNIFORM: Final = 1.03
"""Where densities around a voxel differ by less than this ratio, the kernel of its own density is used as it stands."""


def electron_energy(decays: NDArray[Any], density_kg_per_ml: NDArray[Any], inside: NDArray[np.bool_], spacing_mm: Array,
                    kernel: PointKernel, threads: int) -> NDArray[np.float32]:  # fmt: skip
    """Return the energy [MeV] that short-range radiation leaves in each voxel, shape ``(z, y, x)``.

    Args:
        decays: in each voxel, shape ``(z, y, x)``.
        density_kg_per_ml: of each voxel.
        inside: where there is matter.
        spacing_mm: voxel edges ``(x, y, z)``.
        kernel: of water; its electron column is used.
        threads: of the CPU.
    """
    if not kernel.electron_mev.any():
        return np.zeros(decays.shape, dtype=np.float32)
    octants = _octants(kernel, tuple(np.asarray(spacing_mm).tolist()))
    relative = np.where(inside, np.clip(density_kg_per_ml / WATER_DENSITY_KG_PER_ML, *RELATIVE_DENSITIES[[0, -1]]), 0.0).astype(np.float32)
    reach = np.array([_reach(octant) for octant in octants])
    lightest, uniform = _surroundings(relative, reach[int(np.abs(RELATIVE_DENSITIES - 1.0).argmin())])
    result = np.zeros((threads, *decays.shape), dtype=np.float32)
    log = np.log(RELATIVE_DENSITIES)
    scale = np.array([log[0], 1.0 / (log[1] - log[0])])
    mev = float(kernel.electron_mev.sum())
    # the largest share of all energy that goes ``n`` voxels away in matter of this density or denser
    most = np.maximum.accumulate(octants[::-1] / max(mev, 1e-30), axis=0)[::-1].copy()

    def work(row: int) -> None:
        _superposed(decays, relative, lightest, uniform, octants, most, reach, scale, mev, row, threads, result[row])

    parallel(work, threads)
    energy: NDArray[np.float32] = result.sum(axis=0)
    return energy


@lru_cache(maxsize=8)
def _octants(kernel: PointKernel, spacing_mm: tuple[float, ...]) -> NDArray[np.float32]:
    """Return the kernel in voxels for every one of ``RELATIVE_DENSITIES``, shape ``(densities, z, y, x)``."""
    steps = [int(np.ceil(kernel.electron_range_mm / (RELATIVE_DENSITIES[0] * edge))) + 2 for edge in spacing_mm[::-1]]
    octants = np.zeros((RELATIVE_DENSITIES.size, *steps), dtype=np.float32)
    for target, relative in zip(octants, RELATIVE_DENSITIES, strict=True):
        one = electron_octant(kernel, np.array(spacing_mm) * relative, (steps[0], steps[1], steps[2]), DIRECTIONS)
        target[: one.shape[0], : one.shape[1], : one.shape[2]] = one
    return octants


def _reach(octant: NDArray[Any]) -> list[int]:
    """Return the number of steps ``(z, y, x)`` beyond which no voxel gets more than ``NEGLIGIBLE``."""
    used = octant > NEGLIGIBLE * octant.sum()
    return [int(np.flatnonzero(used.any(axis=tuple(k for k in range(3) if k != axis)))[-1]) for axis in range(3)]


def _surroundings(relative: NDArray[np.float32], reach: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the lightest matter within the reach of water's electrons, and where all of it is alike and no vacuum among it."""
    size = tuple(2 * int(n) + 1 for n in reach)
    matter = np.where(relative > 0, relative, np.float32(np.inf))
    lightest = ndimage.minimum_filter(matter, size=size, mode="constant", cval=np.inf)
    alike = ndimage.maximum_filter(relative, size=size, mode="constant", cval=0.0) <= UNIFORM * lightest
    return lightest, alike & (ndimage.minimum_filter(relative, size=size, mode="constant", cval=0.0) > 0)


@njit(cache=True)
def _place(relative, scale, last):
    """Return a density's place between ``RELATIVE_DENSITIES``: lower index and fraction above it."""
    place = min(max((np.log(relative) - scale[0]) * scale[1], 0.0), last - 1e-3)
    low = int(place)
    return low, place - low


@njit(cache=True, nogil=True)
def _superposed(decays, relative, lightest, uniform, octants, most, reach, scale, mev, row, rows, result):
    nz, ny, nx = decays.shape
    last = octants.shape[0] - 1
    weights = np.zeros((2 * octants.shape[1] + 1, 2 * octants.shape[2] + 1, 2 * octants.shape[3] + 1))
    for k in range(row, nz, rows):  # rows take slabs in turn
        for j in range(ny):
            for i in range(nx):
                if decays[k, j, i] == 0.0 or relative[k, j, i] == 0.0:
                    continue
                # neighbours are visited as far as the lightest matter around lets electrons go
                thin, _ = _place(lightest[k, j, i], scale, last)
                rz, ry, rx = reach[thin]
                if uniform[k, j, i]:
                    low, part = _place(relative[k, j, i], scale, last)
                    _uniform(decays[k, j, i], k, j, i, low, part, rz, ry, rx, octants, result)
                else:
                    _mixed(decays[k, j, i] * mev, k, j, i, relative, rz, ry, rx, octants, most[thin], scale, last, weights, result)


@njit(cache=True)
def _uniform(decays, k, j, i, low, part, rz, ry, rx, octants, result):
    nz, ny, nx = result.shape
    for dz in range(-rz, rz + 1):
        for dy in range(-ry, ry + 1):
            for dx in range(-rx, rx + 1):
                a, b, c = k + dz, j + dy, i + dx
                if 0 <= a < nz and 0 <= b < ny and 0 <= c < nx:
                    p, q, r = abs(dz), abs(dy), abs(dx)
                    result[a, b, c] += decays * (octants[low, p, q, r] * (1.0 - part) + octants[low + 1, p, q, r] * part)


@njit(cache=True)
def _weight(k, j, i, dz, dy, dx, relative, octants, scale, last):
    """Return w(s → t), and whether ``t`` is matter of the body."""
    nz, ny, nx = relative.shape
    own = relative[k, j, i]
    samples = min(max(abs(dz), abs(dy), abs(dx)), 6)
    between = 0.0
    target = own
    there = True
    for n in range(1, samples + 1):
        t = n / samples
        a, b, c = k + int(round(dz * t)), j + int(round(dy * t)), i + int(round(dx * t))
        # the vacuum outside counts as the source's own matter: what goes there is lost in the way it would be absorbed
        here = own
        if 0 <= a < nz and 0 <= b < ny and 0 <= c < nx and relative[a, b, c] > 0:
            here = relative[a, b, c]
        elif n == samples:
            there = False
        if n == samples:
            target = here
        else:
            between += here
    mean = own if samples == 0 else (between + np.sqrt(own * target)) / samples
    low, part = _place(mean, scale, last)
    p, q, r = abs(dz), abs(dy), abs(dx)
    return (octants[low, p, q, r] * (1.0 - part) + octants[low + 1, p, q, r] * part) * target / mean, there


@njit(cache=True)
def _mixed(emitted_mev, k, j, i, relative, rz, ry, rx, octants, most, scale, last, weights, result):
    total = 0.0
    for dz in range(-rz, rz + 1):
        for dy in range(-ry, ry + 1):
            for dx in range(-rx, rx + 1):
                weight = 0.0
                if most[abs(dz), abs(dy), abs(dx)] > NEGLIGIBLE:
                    weight, there = _weight(k, j, i, dz, dy, dx, relative, octants, scale, last)
                    total += weight
                    if not there:
                        weight = 0.0
                weights[dz + rz, dy + ry, dx + rx] = weight
    scaled = emitted_mev / total
    for dz in range(-rz, rz + 1):
        for dy in range(-ry, ry + 1):
            for dx in range(-rx, rx + 1):
                weight = weights[dz + rz, dy + ry, dx + rx]
                if weight > 0.0:
                    result[k + dz, j + dy, i + dx] += scaled * weight
