"""Photons sorted into groups of energy: what each removes, hands over, and scatters to lower groups."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from mrtai.physics.materials import MATERIALS, WATER
from mrtai.physics.photons import energy_transfer, klein_nishina_cm2, mixed, per_electron_scattering
from mrtai.units import ELECTRON_MASS_MEV, HC_MEV_ANGSTROM
from mrtai.values.cross_sections import CrossSections
from mrtai.values.grid import Array

LOWEST_MEV: Final = 0.02
"""Below, the mean free path in tissue is a centimetre at most: such photons are absorbed where they are."""
WIDTH: Final = 1.15
"""Ratio of a group's borders. What Compton scattering keeps inside its own group, 13 % of its energy at most, keeps its direction
too and goes on unscattered; narrower groups would count such forward scattering as isotropic."""


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Groups from high to low energy; coefficients in cm²/g by material.

    Attributes:
        energy_mev: of a group, shape ``(groups,)``.
        source_mev: energy emitted per decay in each material, shape ``(materials, groups)``.
        removal: shape ``(materials, groups)``: energy leaves the group's beam.
        transfer: shape ``(materials, groups)``: energy handed to electrons, with that of photons below all groups.
        scatter: shape ``(materials, groups, groups)``: energy that goes on in a lower group.
    """

    energy_mev: Array
    source_mev: Array
    removal: Array
    transfer: Array
    scatter: Array


def photon_groups(lines: Array, cross_sections: CrossSections) -> Groups:
    """Return the groups that the ``lines`` and their scatter need; MeV and photons per decay, shape ``(materials, lines, 2)``.

    All materials have the same energies.
    """
    materials = len(MATERIALS)
    energies = lines[0, :, 0]
    used = (energies >= LOWEST_MEV) & (lines[:, :, 1].max(axis=0) > 0)
    if not used.any():
        none = np.empty((materials, 0))
        return Groups(np.empty(0), none, none, none, np.empty((materials, 0, 0)))
    energies, yields = energies[used], lines[:, used, 1]
    count = int(np.ceil(np.log(energies.max() / LOWEST_MEV) / np.log(WIDTH))) + 1
    borders = LOWEST_MEV * WIDTH ** np.arange(count, -1, -1.0)  # falling
    group = np.clip(np.searchsorted(-borders, -energies, side="right") - 1, 0, count - 1)
    source: Array = np.stack([np.bincount(group, weights=energies * each, minlength=count) for each in yields])
    energy = np.sqrt(borders[:-1] * borders[1:])
    # a group that lines feed has their own mean energy
    number = np.bincount(group, weights=yields[WATER], minlength=count)
    energy[number > 0] = source[WATER][number > 0] / number[number > 0]
    parts = [_of_material(index, energy, borders, cross_sections) for index in range(len(MATERIALS))]
    removal, transfer, scatter = (np.array([part[n] for part in parts]) for n in range(3))
    return Groups(energy, source, removal, transfer, scatter)


def _of_material(index: int, energy: Array, borders: Array, cross_sections: CrossSections) -> tuple[Array, Array, Array]:
    material = MATERIALS[index]
    log = np.log(cross_sections.energy_mev)

    def at(table: Array) -> Array:
        return np.interp(np.log(energy), log, table)

    transfer = at(energy_transfer(cross_sections, material))
    compton = at(mixed(cross_sections.incoherent, cross_sections, material))
    pair = at(mixed(cross_sections.pair, cross_sections, material))
    photo = at(mixed(cross_sections.photoelectric, cross_sections, material))
    scatter = compton[:, None] * _scattered_share(energy, borders, per_electron_scattering(cross_sections, material), cross_sections)
    # the quanta of a pair's positron
    quanta = np.clip(np.searchsorted(-borders, -ELECTRON_MASS_MEV, side="right") - 1, 0, energy.size - 1)
    scatter[:, quanta] += pair * np.minimum(2.0 * ELECTRON_MASS_MEV / energy, 1.0)
    below = compton + photo + pair - transfer - scatter.sum(axis=1)  # energy scattered below all groups is absorbed where it is
    own = np.diag(scatter).copy()
    np.fill_diagonal(scatter, 0.0)
    return compton + photo + pair - own, transfer + np.maximum(below, 0.0), scatter


def _scattered_share(energy: Array, borders: Array, function: Array, cross_sections: CrossSections) -> Array:
    """Return the share of a photon's energy that one Compton collision sends to each group, shape ``(groups, groups)``."""
    cosine, weight = np.polynomial.legendre.leggauss(600)
    result = np.zeros((energy.size, energy.size))
    for g, e in enumerate(energy):
        momentum = e / HC_MEV_ANGSTROM * np.sqrt(0.5 * (1.0 - cosine))
        chance = klein_nishina_cm2(np.array(e), cosine) * np.interp(momentum, cross_sections.x_per_angstrom, function) * weight
        kept = 1.0 / (1.0 + e / ELECTRON_MASS_MEV * (1.0 - cosine))
        group = np.searchsorted(-borders, -e * kept, side="right") - 1
        used = group < energy.size
        result[g] = np.bincount(np.maximum(group[used], g), weights=(chance * kept)[used], minlength=energy.size) / chance.sum()
    return result
