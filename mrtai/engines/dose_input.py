"""What every dose engine checks and does alike before it starts."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrtai.units import WATER_DENSITY_KG_PER_ML
from mrtai.values.image import Image, Quantity
from mrtai.values.refusal import DosimetryError

AIR_DENSITY_KG_PER_ML: Final = 0.1 * WATER_DENSITY_KG_PER_ML
"""Below this a voxel counts as air. Activity found there is blur from its neighbours; dividing its energy by the mass of a gas
would make a dose of hundreds of Gy that no tissue receives, so energy is divided by this density at least."""


def checked(tia: Image, density: Image) -> None:
    """Refuse maps of the wrong quantity, on different grids, or with negative decays or density."""
    tia.require(Quantity.TIME_INTEGRATED_ACTIVITY)
    density.require(Quantity.DENSITY)
    if not tia.grid.same_as(density.grid):
        raise DosimetryError(
            "activity and density lie on different grids",
            where="dose",
            found=f"{tia.grid.shape} and {density.grid.shape} voxels (z, y, x), or shifted",
            remedy="resample the density onto the activity's grid",
            code="FOREIGN_GRID",
        )
    for name, image in (("TIA", tia), ("density", density)):
        if float(image.voxels.min()) < 0:
            raise DosimetryError(
                f"negative {name}",
                where="dose",
                found=f"minimum {float(image.voxels.min()):.3g} {image.quantity.value}",
                remedy="check the map's units and rescaling",
                code="NEGATIVE_INPUT",
            )


def deposit_density_kg_per_ml(density_kg_per_ml: NDArray[Any]) -> NDArray[Any]:
    """Return the density [kg/mL] that electron energy is divided by, shape (z, y, x): the voxel's own, but not below air's."""
    floored: NDArray[Any] = np.maximum(density_kg_per_ml, np.float32(AIR_DENSITY_KG_PER_ML))
    return floored


def bounding_box(used: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the slices that hold every used voxel, shape ``(z, y, x)``; the whole lattice where there is none."""
    if not used.any():
        return tuple(slice(0, n) for n in used.shape)
    found = []
    for axis in range(3):
        there = np.flatnonzero(used.any(axis=tuple(k for k in range(3) if k != axis)))
        found.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(found)
