"""What the patient's own matter does to the photon dose: a ratio to unbounded water, from rays in many directions.

Energy fluence in groups of photon energy is carried through a coarse lattice along 64 directions, attenuated by what lies there;
what is scattered starts anew, evenly in all directions, in the groups that Klein and Nishina send it to. The same lattice filled
and surrounded with water gives the denominator, so that what such a coarse model gets wrong cancels to first order. Vacuum
around the body, air in the lungs, bone's attenuation and its greater energy transfer at low energies do not cancel.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mrtai.engines.convolution.lattice import Factor, block_mean, block_sum, coarsening, refined
from mrtai.engines.threads import parallel
from mrtai.physics.materials import MATERIALS, WATER, material_map
from mrtai.physics.scatter_groups import Groups, photon_groups
from mrtai.physics.tissue import matter
from mrtai.units import CM_PER_MM, GRAM_PER_KG
from mrtai.values.cross_sections import CrossSections
from mrtai.values.grid import Array, Grid
from mrtai.values.image import Image

DIRECTIONS_PER_OCTANT: Final = 8
WATER_AROUND_MM: Final = 150.0
"""Two mean free paths of a gamma of 200 keV: water further out sends back less than 1 % of the dose at the border."""

COARSE_MM: Final = 10.0
MOST_BLOCKS: Final = 500_000
"""Of the lattice with its water; a larger image gets larger blocks."""


def photon_ratio(tia: Image, density: Image, lines: Array, cross_sections: CrossSections, threads: int) -> NDArray[np.float32]:
    """Return photon dose in the body's own matter over photon dose in unbounded water, shape ``(z, y, x)``.

    Args:
        tia: decays per mL.
        density: kg/mL; all that ``matter`` does not count as the body is vacuum.
        lines: photons per decay in each material, shape ``(materials, lines, 2)``: MeV and yield.
        cross_sections: of photons in the elements.
        threads: of the CPU.
    """
    groups = photon_groups(lines, cross_sections)
    if groups.source_mev.sum() <= 0:
        return np.ones(tia.grid.shape, dtype=np.float32)
    factor = _factor(tia.grid)
    edge_cm = np.array(factor[::-1]) * tia.grid.spacing_mm * CM_PER_MM
    kinds = material_map(density.voxels)
    inside = np.where(matter(density), density.voxels * np.float32(GRAM_PER_KG), np.float32(0))
    present = [index for index in range(len(MATERIALS)) if np.any((kinds == index) & (inside > 0))]
    gram_per_cm3 = {index: block_mean(np.where(kinds == index, inside, np.float32(0)), factor) for index in present}
    born_in = {index: block_sum(np.where(kinds == index, tia.voxels, np.float32(0)), factor) for index in np.unique(kinds)}
    here = _fluence(born_in, gram_per_cm3, groups, edge_cm, threads)
    margin = np.ceil(WATER_AROUND_MM * CM_PER_MM / edge_cm[::-1]).astype(int)
    padded = np.pad(block_sum(tia.voxels, factor), [(m, m) for m in margin])
    water = {WATER: np.ones(padded.shape, dtype=np.float32)}
    core = tuple(slice(m, -m) for m in margin)
    there = _kerma(_fluence({WATER: padded}, water, groups, edge_cm, threads)[(slice(None), *core)], groups, WATER)
    floor = 1e-6 * float(there.max())
    result = np.ones(tia.grid.shape, dtype=np.float32)
    for index in present:
        ratio = refined(_kerma(here, groups, index) / np.maximum(there, floor), factor, tia.grid.shape)
        np.copyto(result, ratio, where=kinds == index)
    return result


def _factor(grid: Grid) -> Factor:
    """Return how many voxels ``(z, y, x)`` make a block: about ``COARSE_MM``, and no more than ``MOST_BLOCKS`` with their water."""
    coarse_mm = COARSE_MM
    while True:
        factor = coarsening(grid.spacing_mm, coarse_mm)
        blocks_mm = np.array(factor) * grid.spacing_mm[::-1]
        blocks = np.prod(np.array(grid.shape) / factor + 2.0 * WATER_AROUND_MM / blocks_mm)
        if blocks <= MOST_BLOCKS:
            return factor
        coarse_mm *= 1.2


def _kerma(fluence: NDArray[Any], groups: Groups, material: int) -> NDArray[np.float32]:
    """Return dose in one material of the groups' energy fluence, on any scale."""
    dose: NDArray[np.float32] = np.tensordot(groups.transfer[material].astype(np.float32), fluence, axes=1)
    return dose


def _fluence(
    born_in: Mapping[int, NDArray[Any]], gram_per_cm3: Mapping[int, NDArray[Any]], groups: Groups, edge_cm: Array, threads: int
) -> NDArray[Any]:
    """Return the energy fluence rate of every group, shape ``(groups, z, y, x)``, of decays in each material; any common scale."""
    count = groups.energy_mev.size
    fluence = np.zeros((count, *next(iter(born_in.values())).shape), dtype=np.float32)
    scattered = np.zeros_like(fluence)
    for g in range(count):
        source = scattered[g] + sum(np.float32(groups.source_mev[index, g]) * decays for index, decays in born_in.items())
        if not source.any():
            continue
        attenuation = np.zeros(source.shape, dtype=np.float32)
        for index, density in gram_per_cm3.items():
            attenuation += np.float32(groups.removal[index, g]) * density
        fluence[g] = _swept(source, attenuation, edge_cm, threads)
        for index, density in gram_per_cm3.items():
            for lower in range(g + 1, count):
                if groups.scatter[index, g, lower] > 0:
                    scattered[lower] += np.float32(groups.scatter[index, g, lower]) * density * fluence[g]
    return fluence


def directions() -> Array:
    """Return unit vectors evenly over one octant, shape ``(DIRECTIONS_PER_OCTANT, 3)``; their mirror images fill the sphere."""
    plastic = 1.32471795724474602596
    n = np.arange(DIRECTIONS_PER_OCTANT)
    cosine = (n + 0.5) / DIRECTIONS_PER_OCTANT
    phi = 0.5 * np.pi * ((0.5 + n / plastic) % 1.0)
    sine = np.sqrt(1.0 - cosine**2)
    return np.stack([sine * np.cos(phi), sine * np.sin(phi), cosine], axis=1)


def _swept(source: NDArray[Any], attenuation: NDArray[Any], edge_cm: Array, threads: int) -> NDArray[Any]:
    """Return the fluence of an isotropic source over all directions, weighted evenly."""
    wanted = [(direction, octant) for direction in directions() for octant in range(8)]
    partial = np.zeros((threads, *source.shape), dtype=np.float32)

    def work(row: int) -> None:
        for direction, octant in wanted[row::threads]:
            flips = tuple(slice(None, None, -1 if octant >> axis & 1 else 1) for axis in (2, 1, 0))
            per_cm = direction / edge_cm
            _sweep(source[flips], attenuation[flips], per_cm[0], per_cm[1], per_cm[2], partial[row][flips])

    parallel(work, threads)
    total: NDArray[Any] = partial.sum(axis=0) / np.float32(len(wanted))
    return total


@njit(cache=True, nogil=True)
def _sweep(source, attenuation, ax, ay, az, fluence):
    """Add one direction's fluence, all its components positive: each cell hands on to its three neighbours downstream.

    With s the mean way through a cell, what comes in decays by exp(-μ s); in + source·s = out + μ s · mean holds exactly.
    """
    nz, ny, nx = source.shape
    s = 1.0 / (ax + ay + az)
    wx, wy, wz = ax * s, ay * s, az * s
    above = np.zeros((ny, nx), dtype=np.float32)
    last, gone, escape = -1.0, 0.0, 1.0
    for k in range(nz):
        for j in range(ny):
            before = np.float32(0.0)
            for i in range(nx):
                beside = above[j - 1, i] if j > 0 else np.float32(0.0)
                # ``above`` still holds the slab before at [j, i], and this slab's values at rows before j
                incoming = wx * before + wy * beside + wz * above[j, i]
                x = attenuation[k, j, i] * s
                q = source[k, j, i] * s
                if incoming == 0.0 and q == 0.0:
                    above[j, i] = 0.0
                    before = np.float32(0.0)
                    continue
                if x > 1e-3:
                    if x != last:  # the same in all of a lattice of water
                        gone = 1.0 - np.exp(-x)
                        escape = gone / x
                        last = x
                    out = incoming * (1.0 - gone) + q * escape
                    mean = incoming * escape + q * (1.0 - escape) / x
                else:
                    out = incoming * (1.0 - x) + q * (1.0 - 0.5 * x)
                    mean = incoming * (1.0 - 0.5 * x) + q * 0.5
                fluence[k, j, i] += mean
                above[j, i] = out
                before = np.float32(out)
