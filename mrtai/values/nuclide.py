"""A radionuclide as dosimetry needs it."""

from dataclasses import dataclass

import numpy as np

from mrtai.units import LN2, SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Nuclide:
    """Half-life and mean energies per decay, from one named decay-data library.

    Attributes:
        name: as in ICRP 107, ``Lu-177``.
        half_life_h: physical half-life.
        electron_mev_per_decay: betas, positrons, conversion and Auger electrons.
        photon_mev_per_decay: gammas, X rays and annihilation quanta.
        alpha_mev_per_decay: alphas with recoil.
        source: the library the numbers come from.
    """

    name: str
    half_life_h: float
    electron_mev_per_decay: float
    photon_mev_per_decay: float
    alpha_mev_per_decay: float
    source: str

    def __post_init__(self) -> None:
        if not (np.isfinite(self.half_life_h) and self.half_life_h > 0):
            raise ValueError(f"{self.name}: half-life must be positive, got {self.half_life_h} h")

    @property
    def decay_per_h(self) -> float:
        """Physical decay constant λ [1/h]."""
        return LN2 / self.half_life_h

    @property
    def decay_per_s(self) -> float:
        """Physical decay constant λ [1/s]."""
        return self.decay_per_h / SECONDS_PER_HOUR
