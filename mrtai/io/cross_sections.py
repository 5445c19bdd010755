"""Photon cross sections of the elements from a published library, read at the door."""

from functools import cache
from typing import Final

import numpy as np

from mrtai.physics.materials import MATERIALS
from mrtai.physics.photons import klein_nishina_total_cm2, pair_cm2
from mrtai.units import AVOGADRO_PER_MOL, KEV_PER_MEV
from mrtai.values.cross_sections import CrossSections
from mrtai.values.grid import Array

LIBRARY_TOP_MEV: Final = 0.8
"""Where the library's tables end. Above: Klein–Nishina for free electrons, E⁻² for coherent scattering and the last slope of the
photoelectric effect (each below 0.2 % of all attenuation there), and pair production."""

ENERGIES_MEV: Final = np.geomspace(1e-3, 5.0, 600)
MOMENTA_PER_ANGSTROM: Final = np.linspace(0.0, 12.0, 1201)


@cache
def photon_cross_sections() -> CrossSections:
    """Return the cross sections of every element that our materials are made of.

    Photoelectric, coherent and incoherent cross sections, form factors and scattering functions: xraylib (Elam 2002, Hubbell
    1975), to 0.8 MeV; pair production: Maximon 1968.
    """
    import xraylib

    elements = sorted({z for material in MATERIALS for z in material.fractions})
    mass = np.array([xraylib.AtomicWeight(z) for z in elements])
    inside = ENERGIES_MEV < LIBRARY_TOP_MEV
    below_kev, above_mev = ENERGIES_MEV[inside] * KEV_PER_MEV, ENERGIES_MEV[~inside]

    def table(function: object, above: Array) -> Array:
        low = np.array([[function(z, float(e)) for e in below_kev] for z in elements])  # type: ignore[operator]
        return np.hstack([low, above])

    edges_kev = np.array([0.9, 1.0]) * LIBRARY_TOP_MEV * KEV_PER_MEV - 0.01
    last = np.array([[[function(z, float(e)) for e in edges_kev] for z in elements] for function in (xraylib.CS_Photo, xraylib.CS_Rayl)])
    slope = np.log(last[0, :, 1] / last[0, :, 0]) / np.log(edges_kev[1] / edges_kev[0])
    ratio = above_mev / (edges_kev[1] / KEV_PER_MEV)
    atoms_per_g = AVOGADRO_PER_MOL / mass[:, None]
    z = np.array(elements, dtype=np.float64)
    momenta = MOMENTA_PER_ANGSTROM
    return CrossSections(
        z=z,
        atomic_mass=mass,
        energy_mev=ENERGIES_MEV,
        photoelectric=table(xraylib.CS_Photo, last[0, :, 1:] * ratio ** slope[:, None]),
        coherent=table(xraylib.CS_Rayl, last[1, :, 1:] * ratio**-2.0),
        incoherent=table(xraylib.CS_Compt, atoms_per_g * z[:, None] * klein_nishina_total_cm2(above_mev)),
        pair=atoms_per_g * z[:, None] ** 2 * pair_cm2(ENERGIES_MEV),
        x_per_angstrom=momenta,
        form_factor=np.array([[xraylib.FF_Rayl(n, float(x)) for x in momenta] for n in elements]),
        scattering_function=np.array([[0.0, *(xraylib.SF_Compt(n, float(x)) for x in momenta[1:])] for n in elements]),
        source=f"xraylib {xraylib.__version__} (Elam 2002, Hubbell 1975); above 0.8 MeV Klein-Nishina; pair: Maximon 1968",
    )
