"""What tissues are made of, and which tissue a density means."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrtai.units import KG_PER_GRAM


@dataclass(frozen=True, slots=True)
class Material:
    """A mixture of elements.

    Attributes:
        fractions: mass fraction by atomic number.
        mean_excitation_ev: mean excitation energy I.
        density_g_per_ml: where its density effect is evaluated: that of the tissue, without the air between.
    """

    name: str
    fractions: dict[int, float]
    mean_excitation_ev: float
    density_g_per_ml: float


# Compositions: Schneider 2000 and ICRU 44 as listed in NIST's tables; I: ICRU 37 and 49 (water 75 eV, as the reference kernels use).
MATERIALS: Final = (
    Material("air", {6: 0.000124, 7: 0.755268, 8: 0.231781, 18: 0.012827}, 85.7, 1.205e-3),
    Material("lung", {1: 0.103, 6: 0.105, 7: 0.031, 8: 0.749, 11: 0.002, 15: 0.002, 16: 0.003, 17: 0.003, 19: 0.002}, 75.2, 1.05),
    Material("adipose", {1: 0.114, 6: 0.598, 7: 0.007, 8: 0.278, 11: 0.001, 16: 0.001, 17: 0.001}, 64.8, 0.95),
    Material(
        "soft_tissue",
        {1: 0.102, 6: 0.143, 7: 0.034, 8: 0.708, 11: 0.002, 15: 0.003, 16: 0.003, 17: 0.002, 19: 0.003},
        74.7,
        1.06,
    ),
    Material(
        "cortical_bone",
        {1: 0.034, 6: 0.155, 7: 0.042, 8: 0.435, 11: 0.001, 12: 0.002, 15: 0.103, 16: 0.003, 20: 0.225},
        112.0,
        1.92,
    ),
    Material("water", {1: 0.111894, 8: 0.888106}, 75.0, 1.0),
)
NAMES: Final = tuple(material.name for material in MATERIALS)
WATER: Final = NAMES.index("water")

_BORDERS_KG_PER_ML: Final = np.array([0.1, 0.6, 0.98, 1.12]) * KG_PER_GRAM
"""Below: air, lung, adipose, soft tissue; above: cortical bone's composition at that density."""


def material_map(density_kg_per_ml: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the index into ``MATERIALS`` that each density [kg/mL] means where nothing else says more, of the same shape."""
    return np.searchsorted(_BORDERS_KG_PER_ML, density_kg_per_ml, side="right").astype(np.uint8)
