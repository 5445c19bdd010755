"""A dose map by kind of radiation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from types import MappingProxyType

import numpy as np

from mrtai.values.flag import Flag
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity

RADIATIONS = ("electron", "photon", "alpha")


@dataclass(frozen=True, slots=True, eq=False)
class Dose:
    """Absorbed dose [Gy] by radiation type on one grid, with its uncertainty where the engine knows one.

    ``parts`` maps ``electron``, ``photon`` or ``alpha`` to a map of absorbed dose; ``sd`` is one standard deviation of the total.
    ``by_nuclide`` splits the same total among a nuclide and its progeny; empty where only one nuclide decays.
    ``flags`` tell of doubts that the engine has; ``deblurred`` is True where it took back what blur had moved out of regions.
    ``learned`` is True where a network changed what transport alone gives.
    """

    parts: Mapping[str, Image]
    sd: Image | None = None
    by_nuclide: Mapping[str, Image] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()
    deblurred: bool = False
    learned: bool = False

    def __post_init__(self) -> None:
        if not self.parts or set(self.parts) - set(RADIATIONS):
            raise ValueError(f"dose: parts named {RADIATIONS} needed, got {sorted(self.parts)}")
        for part in (*self.parts.values(), *self.by_nuclide.values()):
            if not part.require(Quantity.ABSORBED_DOSE).grid.same_as(self.grid):
                raise ValueError("dose: all parts must lie on one grid")
        object.__setattr__(self, "parts", MappingProxyType(dict(self.parts)))
        object.__setattr__(self, "by_nuclide", MappingProxyType(dict(self.by_nuclide)))

    @property
    def grid(self) -> Grid:
        """The grid all parts share."""
        return next(iter(self.parts.values())).grid

    @property
    def total(self) -> Image:
        """Sum over the radiation types [Gy]: physical dose, no RBE."""
        voxels = reduce(np.add, (part.voxels for part in self.parts.values()))
        return Image(voxels, Quantity.ABSORBED_DOSE, self.grid)
