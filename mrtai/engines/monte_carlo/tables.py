"""Physics of all materials packed into arrays that compiled code reads, for CPU and GPU alike.

Lengths in cm, masses in g, energies in MeV. All tables over energy are evenly spaced in its logarithm.
"""

from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.integrate import cumulative_trapezoid

from mrtai.physics.electrons import (
    Elements,
    bremsstrahlung,
    bremsstrahlung_shape,
    collision_loss,
    elements_of,
    moller_inverse_path,
    transport_coefficients,
)
from mrtai.physics.materials import MATERIALS, WATER
from mrtai.physics.photons import attenuation, energy_transfer, mixed, per_electron_scattering, squared_form_factor
from mrtai.values.cross_sections import CrossSections
from mrtai.values.grid import Array

ELECTRON_ENERGIES_MEV: Final = np.geomspace(1e-3, 5.0, 400)
FORM_POINTS: Final = 512
FORM_TOP_PER_ANGSTROM: Final = 12.0
QUANTILES: Final = 65

# columns of the photon table
TOTAL, TRANSFER, COHERENT, INCOHERENT, PHOTO = range(5)
# columns of the electron table
LOSS, HARD_COLLISION, HARD_PHOTON, FIRST, SECOND, RANGE, PHOTONS_LEFT = range(7)


class Cuts(NamedTuple):
    """Energies [MeV] below which particles stop and are not set free, and the longest steps.

    Attributes:
        electron_mev: electrons below stop where they are.
        photon_mev: photons below are absorbed where they are.
        delta_mev: collisions above set free an electron that is followed.
        step_loss: largest share of its energy that an electron loses in a step.
        step_scatter: longest step in first transport mean free paths.
    """

    electron_mev: float
    photon_mev: float
    delta_mev: float
    step_loss: float
    step_scatter: float


VOXEL_CUTS: Final = Cuts(0.02, 0.01, 0.03, 0.12, 0.25)
KERNEL_CUTS: Final = Cuts(0.002, 0.002, 0.006, 0.04, 0.06)
PHOTON_KERNEL_CUTS: Final = Cuts(0.02, 0.002, 0.03, 0.12, 0.2)
"""The electrons of photons matter within millimetres, where they are few: coarser steps do."""


class Tables(NamedTuple):
    """What transport reads.

    Attributes:
        photon: shape ``(materials, energies, 5)``: μ/ρ, μ_tr/ρ, and the cumulated shares of coherent, incoherent, photoelectric.
        photon_log: first log energy and inverse spacing of the photon table; ``electron_log`` of the electron table.
        scattering: incoherent scattering function per electron, shape ``(materials, momenta)``, with ``per_momentum`` points per 1/Å.
        form: cumulated squared form factor, shape ``(materials, FORM_POINTS)``, over ``form_x2`` (x² [1/Å²]).
        electron: shape ``(materials, energies, 7)``; see the column names.
        hard_photon: quantiles of ln(k/cut)/ln(T/cut) of bremsstrahlung photons k above the cut in water, shape ``(energies, QUANTILES)``;
            the shape hardly depends on the material.
        energies: energies [MeV] of the electron table.
    """

    photon: Any
    photon_log: Any
    scattering: Any
    per_momentum: float
    form: Any
    form_x2: Any
    electron: Any
    electron_log: Any
    hard_photon: Any
    energies: Any


@lru_cache(maxsize=4)
def tables(cross_sections: CrossSections, cuts: Cuts) -> Tables:
    """Return the packed physics of all ``MATERIALS`` for the cuts."""
    mass = {int(z): float(a) for z, a in zip(cross_sections.z, cross_sections.atomic_mass, strict=True)}
    elements = [elements_of(material, mass) for material in MATERIALS]
    form_x2 = np.concatenate([[0.0], np.geomspace(1e-6, FORM_TOP_PER_ANGSTROM**2, FORM_POINTS - 1)])
    log_photon, log_electron = np.log(cross_sections.energy_mev), np.log(ELECTRON_ENERGIES_MEV)
    return Tables(
        photon=np.stack([_photon(cross_sections, index) for index in range(len(MATERIALS))]),
        photon_log=np.array([log_photon[0], 1.0 / (log_photon[1] - log_photon[0])]),
        scattering=np.stack([per_electron_scattering(cross_sections, material) for material in MATERIALS]),
        per_momentum=float(1.0 / (cross_sections.x_per_angstrom[1] - cross_sections.x_per_angstrom[0])),
        form=np.stack([_form(cross_sections, index, form_x2) for index in range(len(MATERIALS))]),
        form_x2=form_x2,
        electron=np.stack([_electron(index, elements[index], cuts) for index in range(len(MATERIALS))]),
        electron_log=np.array([log_electron[0], 1.0 / (log_electron[1] - log_electron[0])]),
        hard_photon=_hard_photons(elements[WATER], cuts.photon_mev),
        energies=ELECTRON_ENERGIES_MEV,
    )


def _photon(cross_sections: CrossSections, index: int) -> Array:
    material = MATERIALS[index]
    total = attenuation(cross_sections, material)
    parts = [
        mixed(part, cross_sections, material) for part in (cross_sections.coherent, cross_sections.incoherent, cross_sections.photoelectric)
    ]
    shares = np.cumsum(parts, axis=0) / total
    return np.stack([total, energy_transfer(cross_sections, material), *shares], axis=1)


def _form(cross_sections: CrossSections, index: int, x2: Array) -> Array:
    squared = squared_form_factor(cross_sections, MATERIALS[index])
    values = np.interp(np.sqrt(x2), cross_sections.x_per_angstrom, squared)
    cumulated: Array = cumulative_trapezoid(values, x2, initial=0.0)
    return cumulated


def _electron(index: int, elements: Elements, cuts: Cuts) -> Array:
    material, energy = MATERIALS[index], ELECTRON_ENERGIES_MEV
    number, hard, soft = bremsstrahlung(energy, elements, cuts.photon_mev)
    everything = collision_loss(energy, material, elements) + hard + soft
    log = np.log(energy)
    first, second = transport_coefficients(energy, elements, cuts.delta_mev)
    range_g_per_cm2 = cumulative_trapezoid(energy / everything, log, initial=0.0) + energy[0] / everything[0]
    photons_left = cumulative_trapezoid(number * energy / everything, log, initial=0.0)
    return np.stack(
        [
            collision_loss(energy, material, elements, cuts.delta_mev) + soft,
            np.where(energy > 2.0 * cuts.delta_mev, moller_inverse_path(energy, elements, cuts.delta_mev), 0.0),
            number,
            first,
            second,
            range_g_per_cm2,
            photons_left,
        ],
        axis=1,
    )


def _hard_photons(elements: Elements, cut_mev: float) -> Array:
    fraction = np.linspace(0.0, 1.0, 256)
    result = np.tile(np.linspace(0.0, 1.0, QUANTILES), (ELECTRON_ENERGIES_MEV.size, 1))
    for row, energy in zip(result, ELECTRON_ENERGIES_MEV, strict=True):
        if energy > cut_mev:
            k = cut_mev * (energy / cut_mev) ** fraction
            per_log = sum(n * bremsstrahlung_shape(energy, k, z) for z, n in zip(elements.z, elements.atoms_per_g, strict=True))
            cumulated = cumulative_trapezoid(per_log, fraction, initial=0.0)
            if cumulated[-1] > 0:
                row[:] = np.interp(np.linspace(0.0, 1.0, QUANTILES), cumulated / cumulated[-1], fraction)
    return result
