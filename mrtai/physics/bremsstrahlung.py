"""The photons that a nuclide's electrons make while they stop."""

from typing import Final

import numpy as np

from mrtai.physics.electrons import bremsstrahlung, bremsstrahlung_shape, collision_loss, elements_of
from mrtai.physics.materials import MATERIALS, WATER
from mrtai.values.cross_sections import CrossSections
from mrtai.values.grid import Array
from mrtai.values.spectrum import Spectrum

LOWEST_MEV: Final = 0.01
"""Softer photons are absorbed where they are made."""

LINES: Final = 24
POINTS: Final = 400


def bremsstrahlung_lines(spectrum: Spectrum, cross_sections: CrossSections, material: int = WATER) -> Array:
    """Return the thick-target spectrum of all electrons in a material as lines, shape ``(lines, 2)``: MeV and photons per decay.

        N(k) dk = dk ∫ dT n(> T) (dσ/dk)(T) / S(T)

    with n(> T) the number of electrons per decay emitted above T and S the total stopping power.
    """
    top = max([float(part[:, 0].max()) for part in (spectrum.electrons, spectrum.betas) if part.size], default=0.0)
    if top <= LOWEST_MEV:
        return np.empty((0, 2))
    mass = {int(z): float(a) for z, a in zip(cross_sections.z, cross_sections.atomic_mass, strict=True)}
    elements = elements_of(MATERIALS[material], mass)
    borders = np.geomspace(LOWEST_MEV, top, LINES + 1)
    photon = np.sqrt(borders[1:] * borders[:-1])
    energy = np.geomspace(LOWEST_MEV, top, POINTS)
    _, hard, soft = bremsstrahlung(energy, elements, LOWEST_MEV)
    loss = collision_loss(energy, MATERIALS[material], elements) + hard + soft
    shape = sum(n * bremsstrahlung_shape(energy[:, None], photon, z) for z, n in zip(elements.z, elements.atoms_per_g, strict=True))
    number = np.trapezoid((_emitted_above(spectrum, energy) / loss)[:, None] * shape, energy, axis=0) * np.log(borders[1] / borders[0])
    return np.stack([photon, number], axis=1)


def _emitted_above(spectrum: Spectrum, energy_mev: Array) -> Array:
    above = (spectrum.electrons[:, 1] * (spectrum.electrons[:, 0] > energy_mev[:, None])).sum(axis=1)
    if spectrum.betas.size:
        energy, number = spectrum.betas.T
        cumulated = np.concatenate([[0.0], np.cumsum(0.5 * (number[1:] + number[:-1]) * np.diff(energy))])
        above = above + cumulated[-1] - np.interp(energy_mev, energy, cumulated)
    return np.asarray(above, dtype=np.float64)
