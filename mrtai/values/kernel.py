"""Energy around a point source."""

from dataclasses import dataclass

import numpy as np

from mrtai.values.grid import Array


@dataclass(frozen=True, slots=True, eq=False)
class PointKernel:
    """Mean energy per decay that a point source leaves in spherical shells of unbounded water.

    Attributes:
        r_edges_mm: shell borders, shape ``(shells + 1,)``, increasing from 0.
        electron_mev: short-range energy per decay in each shell, shape ``(shells,)``: electrons and positrons up to their range.
        photon_mev: long-range energy per decay in each shell: photons, and the bremsstrahlung beyond the electrons' range.
        electron_range_mm: radius that divides the two for electrons.
        source: where the numbers come from.
    """

    nuclide: str
    r_edges_mm: Array
    electron_mev: Array
    photon_mev: Array
    electron_range_mm: float
    source: str

    def __post_init__(self) -> None:
        shells = self.r_edges_mm.size - 1
        if self.electron_mev.shape != (shells,) or self.photon_mev.shape != (shells,):
            raise ValueError(f"{self.nuclide}: {shells} shells but {self.electron_mev.shape} and {self.photon_mev.shape} energies")
        if self.r_edges_mm[0] != 0 or np.any(np.diff(self.r_edges_mm) <= 0):
            raise ValueError(f"{self.nuclide}: shell borders must increase from 0")
