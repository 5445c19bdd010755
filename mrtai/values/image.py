"""Voxels that know what they are and where they lie."""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrtai.values.grid import Grid

Voxels = NDArray[Any]


class Quantity(Enum):
    """What a map's numbers mean; the value is the unit used inside the package."""

    HOUNSFIELD = "HU"
    ACTIVITY_CONCENTRATION = "Bq/mL"
    TIME_INTEGRATED_ACTIVITY = "Bq s/mL"
    ABSORBED_DOSE = "Gy"
    DOSE_RATE = "Gy/s"
    DENSITY = "kg/mL"


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A map: ``voxels`` of shape ``(z, y, x)``, read-only, finite, of one ``quantity`` on one ``grid``."""

    voxels: Voxels
    quantity: Quantity
    grid: Grid

    def __post_init__(self) -> None:
        if self.voxels.shape != self.grid.shape:
            raise ValueError(f"{self.quantity.name}: voxels {self.voxels.shape} do not fill the grid {self.grid.shape}")
        if self.voxels.dtype.kind == "f" and not np.isfinite(self.voxels).all():
            raise ValueError(f"{self.quantity.name}: voxels must be finite")
        view = self.voxels.view()
        view.setflags(write=False)
        object.__setattr__(self, "voxels", view)

    def require(self, quantity: Quantity) -> "Image":
        """Return the image itself, or raise ``ValueError`` when it is not a map of ``quantity``."""
        if self.quantity is not quantity:
            raise ValueError(f"a map of {quantity.name} [{quantity.value}] is needed, got {self.quantity.name} [{self.quantity.value}]")
        return self

    def on(self, grid: Grid) -> "Image":
        """Return the same voxels on another grid of equal shape (a moved patient)."""
        return replace(self, grid=grid)
