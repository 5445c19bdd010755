"""Photons in matter: cross sections of mixtures, and the energy that they hand to electrons.

Mass cross sections are in cm²/g, energies in MeV.
"""

from functools import cache

import numpy as np

from mrtai.physics.materials import MATERIALS, Material
from mrtai.units import (
    CLASSICAL_ELECTRON_RADIUS_CM,
    ELECTRON_MASS_MEV,
    FINE_STRUCTURE,
    HC_MEV_ANGSTROM,
)
from mrtai.values.cross_sections import CrossSections
from mrtai.values.grid import Array


def klein_nishina_cm2(energy_mev: Array, cosine: Array) -> Array:
    """Return dσ/dΩ [cm²/sr] of a free electron at rest; arguments of any shape broadcast."""
    ratio = 1.0 / (1.0 + energy_mev / ELECTRON_MASS_MEV * (1.0 - cosine))
    squared: Array = 0.5 * CLASSICAL_ELECTRON_RADIUS_CM**2 * ratio**2 * (ratio + 1.0 / ratio - (1.0 - cosine**2))
    return squared


def klein_nishina_total_cm2(energy_mev: Array) -> Array:
    """Return the cross section [cm²] of a free electron at rest, of the energies' shape."""
    cosine, weight = np.polynomial.legendre.leggauss(128)
    total: Array = 2.0 * np.pi * (klein_nishina_cm2(np.asarray(energy_mev)[..., None], cosine) * weight).sum(axis=-1)
    return total


def pair_cm2(energy_mev: Array) -> Array:
    """Return the pair cross section [cm²] of an unscreened nucleus of Z = 1, of the energies' shape; ∝ Z².

    Maximon 1968 (J Res NBS 72B:79): series near threshold below 2.1 MeV, asymptotic series above, both better than 1e-4.
    """
    k = np.asarray(energy_mev, dtype=np.float64) / ELECTRON_MASS_MEV
    k = np.maximum(k, 2.0)
    eps = (2.0 * k - 4.0) / (2.0 + k + 2.0 * np.sqrt(2.0 * k))
    near = 2.0 * np.pi / 3.0 * ((k - 2.0) / k) ** 3 * (1.0 + eps / 2 + 23 / 40 * eps**2 + 11 / 60 * eps**3 + 29 / 960 * eps**4)
    log = np.log(2.0 * k)
    zeta3 = 1.2020569031595942
    far = (
        28 / 9 * log
        - 218 / 27
        + (2 / k) ** 2 * (6 * log - 3.5 + 2 / 3 * log**3 - log**2 - np.pi**2 / 3 * log + 2 * zeta3 + np.pi**2 / 6)
        - (2 / k) ** 4 * (3 / 16 * log + 1 / 8)
        - (2 / k) ** 6 * (29 / (9 * 256) * log - 77 / (27 * 512))
    )
    return FINE_STRUCTURE * CLASSICAL_ELECTRON_RADIUS_CM**2 * np.where(k < 4.0, near, far)


def mixed(per_element: Array, cross_sections: CrossSections, material: Material) -> Array:
    """Return the mass-weighted sum over a material's elements of a table of shape ``(elements, …)``: shape ``(…)``."""
    share = np.array([material.fractions.get(int(z), 0.0) for z in cross_sections.z]) / sum(material.fractions.values())
    return np.tensordot(share, per_element, axes=1)


def per_electron_scattering(cross_sections: CrossSections, material: Material) -> Array:
    """Return the incoherent scattering function per electron, from 0 to 1: shape ``(momenta,)``."""
    per_mass = 1.0 / cross_sections.atomic_mass
    bound = mixed(cross_sections.scattering_function * per_mass[:, None], cross_sections, material)
    return bound / float(mixed(cross_sections.z * per_mass, cross_sections, material))


def squared_form_factor(cross_sections: CrossSections, material: Material) -> Array:
    """Return the sum of the elements' squared form factors per gram, on an arbitrary scale: shape ``(momenta,)``."""
    return mixed(cross_sections.form_factor**2 / cross_sections.atomic_mass[:, None], cross_sections, material)


def attenuation(cross_sections: CrossSections, material: Material) -> Array:
    """Return μ/ρ [cm²/g] with coherent scattering: shape ``(energies,)``."""
    parts = (cross_sections.photoelectric, cross_sections.coherent, cross_sections.incoherent, cross_sections.pair)
    return sum((mixed(part, cross_sections, material) for part in parts), np.zeros(cross_sections.energy_mev.size))


@cache
def mean_transfer(cross_sections: CrossSections, material_name: str) -> Array:
    """Return the mean share of its energy that an incoherently scattered photon hands over, with binding: shape ``(energies,)``."""
    material = next(m for m in MATERIALS if m.name == material_name)
    function = per_electron_scattering(cross_sections, material)
    cosine, weight = np.polynomial.legendre.leggauss(400)
    energy = cross_sections.energy_mev[:, None]
    momentum = energy / HC_MEV_ANGSTROM * np.sqrt(0.5 * (1.0 - cosine))
    bound = np.interp(momentum, cross_sections.x_per_angstrom, function)
    density = klein_nishina_cm2(energy, cosine) * bound * weight
    kept = 1.0 / (1.0 + energy / ELECTRON_MASS_MEV * (1.0 - cosine))
    share: Array = (density * (1.0 - kept)).sum(axis=1) / density.sum(axis=1)
    return share


def energy_transfer(cross_sections: CrossSections, material: Material) -> Array:
    """Return μ_tr/ρ [cm²/g]: shape ``(energies,)``.

    The photoelectric effect hands over everything: fluorescence of tissue (calcium 3.7 keV) is absorbed within 0.1 mm.
    """
    energy = cross_sections.energy_mev
    photo = mixed(cross_sections.photoelectric, cross_sections, material)
    compton = mixed(cross_sections.incoherent, cross_sections, material) * mean_transfer(cross_sections, material.name)
    pair = mixed(cross_sections.pair, cross_sections, material) * np.maximum(1.0 - 2.0 * ELECTRON_MASS_MEV / energy, 0.0)
    return photo + compton + pair
