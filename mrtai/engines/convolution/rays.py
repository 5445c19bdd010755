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
from mrtai.units import CM_PER_MM, GRAM_PER_KG, PLASTIC_NUMBER
from mrtai.values.cross_sections import CrossSections
from mrtai.values.grid import Array, Grid
from mrtai.values.image import Image

DIRECTIONS_PER_OCTANT: Final = 8
WATER_AROUND_MM: Final = 150.0
"""Two mean free paths of a gamma of 200 keV: water further out sends back less than 1 % of the dose at the border."""

COARSE_MM: Final = 10.0
THIN: Final = 1e-3
"""Optical length of a cell below which exp(-x) is a straight line."""

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
    if not present:
        return np.ones(tia.grid.shape, dtype=np.float32)
    gram_per_cm3 = {index: block_mean(np.where(kinds == index, inside, np.float32(0)), factor) for index in present}
    born_in = {index: block_sum(np.where(kinds == index, tia.voxels, np.float32(0)), factor) for index in np.unique(kinds)}
    here = _fluence(born_in, gram_per_cm3, groups, edge_cm, threads)
    margin = np.ceil(WATER_AROUND_MM * CM_PER_MM / edge_cm[::-1]).astype(int)
    padded = np.pad(block_sum(tia.voxels, factor), [(m, m) for m in margin])
    water = {WATER: np.ones((1, 1, padded.shape[2]), dtype=np.float32)}
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
        attenuation = np.sum([np.float32(groups.removal[index, g]) * density for index, density in gram_per_cm3.items()], axis=0)
        fluence[g] = _swept(source, attenuation, edge_cm, threads)
        for index, density in gram_per_cm3.items():
            for lower in range(g + 1, count):
                if groups.scatter[index, g, lower] > 0:
                    scattered[lower] += np.float32(groups.scatter[index, g, lower]) * density * fluence[g]
    return fluence


def directions() -> Array:
    """Return unit vectors evenly over one octant, shape ``(DIRECTIONS_PER_OCTANT, 3)``; their mirror images fill the sphere."""
    n = np.arange(DIRECTIONS_PER_OCTANT)
    cosine = (n + 0.5) / DIRECTIONS_PER_OCTANT
    phi = 0.5 * np.pi * ((0.5 + n / PLASTIC_NUMBER) % 1.0)
    sine = np.sqrt(1.0 - cosine**2)
    return np.stack([sine * np.cos(phi), sine * np.sin(phi), cosine], axis=1)


def _swept(source: NDArray[Any], attenuation: NDArray[Any], edge_cm: Array, threads: int) -> NDArray[Any]:
    """Return the fluence of an isotropic source over all directions, weighted evenly.

    Args:
        source: shape ``(z, y, x)``.
        attenuation: of the same shape, 1/cm; that of one cell where all are alike.
        edge_cm: edges of a cell ``(x, y, z)``.
        threads: of the CPU.
    """
    whole = directions()
    # those of one direction stay together: what a cell lets through is the same for its mirror images
    wanted = np.array_split(np.arange(8 * len(whole)), threads)
    partial = np.zeros((threads, *source.shape), dtype=np.float32)

    def work(row: int) -> None:
        for number in np.unique(wanted[row] // 8):
            per_cm = whole[number] / edge_cm
            way_cm = 1.0 / per_cm.sum()
            shares = (per_cm * way_cm).astype(np.float32)
            kept, mean, late = _through(attenuation.astype(np.float64) * way_cm)
            born = source * np.float32(way_cm)
            for octant in wanted[row][wanted[row] // 8 == number] % 8:
                back_z, back_y, back_x = (bool(octant >> axis & 1) for axis in (2, 1, 0))
                _sweep(born, kept, mean, late, shares[0], shares[1], shares[2], back_z, back_y, back_x, partial[row])

    parallel(work, threads)
    total: NDArray[Any] = partial.sum(axis=0) / np.float32(8 * len(whole))
    return total


def _through(x: Array) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return, for optical lengths x of cells: exp(-x), its mean (1 - exp(-x))/x over the cell, and (1 - mean)/x."""
    thick = x > THIN
    safe = np.where(thick, x, 1.0)
    kept = np.exp(-x)
    mean = np.where(thick, (1.0 - kept) / safe, 1.0 - 0.5 * x)
    late = np.where(thick, (1.0 - mean) / safe, 0.5)
    return kept.astype(np.float32), mean.astype(np.float32), late.astype(np.float32)


@njit(cache=True, nogil=True, fastmath={"contract"})
def _sweep(born, kept, escape, late, wx, wy, wz, back_z, back_y, back_x, fluence):
    """Add one direction's fluence: each cell hands on to its three neighbours downstream, in shares that add up to 1.

    With s the mean way through a cell, what comes in decays by exp(-μ s); in + source·s = out + μ s · mean holds exactly.
    ``born`` is source·s; ``back_z`` … say along which axes the direction is negative. Only along x must a cell wait for the last one:
    all else is done for whole rows.
    """
    nz, ny, nx = born.shape
    # what leaves each cell of the slab before, and of this slab's rows before the present one
    left = np.zeros((ny, nx), dtype=np.float32)
    nothing = np.zeros(nx, dtype=np.float32)
    aside = np.empty(nx, dtype=np.float32)
    before = np.empty(nx, dtype=np.float32)
    for a in range(nz):
        k = nz - 1 - a if back_z else a
        cell_k = k % kept.shape[0]
        for b in range(ny):
            j = ny - 1 - b if back_y else b
            cell_j = j % kept.shape[1]
            beside = left[j + 1 if back_y else j - 1] if b > 0 else nothing
            row, q, target = left[j], born[k, j], fluence[k, j]
            keep, mean, rest = kept[cell_k, cell_j], escape[cell_k, cell_j], late[cell_k, cell_j]
            busy = False
            for i in range(nx):
                busy |= row[i] + beside[i] + q[i] != 0
            if not busy:
                continue
            for i in range(nx):
                aside[i] = wy * beside[i] + wz * row[i]
            for i in range(nx):
                row[i] = aside[i] * keep[i] + q[i] * mean[i]
            last = np.float32(0)
            for n in range(nx):
                i = nx - 1 - n if back_x else n
                before[i] = last
                last = row[i] + last * (wx * keep[i])
                row[i] = last
            for i in range(nx):
                target[i] += (aside[i] + wx * before[i]) * mean[i] + q[i] * rest[i]
