"""Point kernels of water from our own Monte Carlo: what the convolution rests on."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrtai.engines.monte_carlo.shells import around_a_point
from mrtai.engines.monte_carlo.source import Emission, electrons, photons
from mrtai.engines.monte_carlo.tables import KERNEL_CUTS, PHOTON_KERNEL_CUTS, Cuts, tables
from mrtai.physics.materials import WATER
from mrtai.units import MM_PER_CM
from mrtai.values.cross_sections import CrossSections
from mrtai.values.grid import Array
from mrtai.values.kernel import PointKernel
from mrtai.values.spectrum import Spectrum

FIRST_SHELL_CM: Final = 1e-3
SHELLS_PER_DECADE: Final = 60
SHELLS: Final = 1 + 5 * SHELLS_PER_DECADE
"""To one metre: what lies beyond is below 0.2 % of a hard photon's energy."""

BATCHES: Final = 10
SHORT_RANGE_SHARE: Final = 1.0 - 1e-5
"""Of the electrons' energy lies within what the kernel calls their range."""


@dataclass(frozen=True, slots=True, eq=False)
class WaterKernel:
    """A point kernel with the relative standard deviation of each shell, shape ``(shells,)``, NaN where nothing was scored."""

    kernel: PointKernel
    electron_relative_sd: Array
    photon_relative_sd: Array


def water_kernel(spectrum: Spectrum, cross_sections: CrossSections, *, histories: int, seed: int = 7, threads: int = 1) -> WaterKernel:
    """Return the energy around a point source in unbounded water from ``histories`` electrons and as many photons.

    The photon column holds what photons leave behind, those of bremsstrahlung and annihilation among them.
    """
    batches = shell_energy(electrons(spectrum), KERNEL_CUTS, cross_sections, histories, seed, threads)
    batches += shell_energy(photons(spectrum), PHOTON_KERNEL_CUTS, cross_sections, histories, seed + 1, threads)
    mean = batches.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        sd = batches.std(axis=0, ddof=1) / np.sqrt(BATCHES) / mean
    edges_mm = np.concatenate([[0.0], FIRST_SHELL_CM * MM_PER_CM * 10.0 ** (np.arange(SHELLS) / SHELLS_PER_DECADE)])
    return WaterKernel(
        PointKernel(
            nuclide=spectrum.nuclide,
            r_edges_mm=edges_mm,
            electron_mev=mean[0],
            photon_mev=mean[1],
            electron_range_mm=_range_mm(edges_mm, mean[0]),
            source=f"mrtai Monte Carlo in water, {histories} histories each of electrons and photons, seed {seed}",
        ),
        sd[0],
        sd[1],
    )


def shell_energy(emission: Emission, cuts: Cuts, cross_sections: CrossSections, histories: int, seed: int, threads: int) -> NDArray[Any]:
    """Return the energy per decay [MeV] of each batch by electrons and photons: shape ``(batches, 2, shells)``."""
    result = np.zeros((BATCHES, 2, SHELLS))
    if emission.mev_per_decay <= 0:
        return result
    each = histories // BATCHES
    for number in range(BATCHES):
        tally = np.zeros((threads, 2, SHELLS))
        shells = (FIRST_SHELL_CM, SHELLS_PER_DECADE / np.log(10.0))
        these = range(number * each, (number + 1) * each)
        around_a_point(these, seed, WATER, tables(cross_sections, cuts), cuts, emission, shells, tally)
        result[number] = tally.sum(axis=0) * (emission.mev_per_decay / each)
    return result


def _range_mm(edges_mm: Array, electron_mev: Array) -> float:
    """Return the shell border within which the electrons leave ``SHORT_RANGE_SHARE`` of their energy."""
    total = electron_mev.sum()
    if total <= 0:
        return float(edges_mm[1])
    return float(edges_mm[1 + int(np.searchsorted(np.cumsum(electron_mev), SHORT_RANGE_SHARE * total))])
