"""What a nuclide emits, line by line."""

from dataclasses import dataclass

import numpy as np

from mrtai.values.grid import Array


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Emissions of one nuclide per decay, progeny not included.

    Attributes:
        photons: gamma and X lines, shape ``(lines, 2)``: MeV and yield. Annihilation quanta are not among them: the positrons make them.
        electrons: conversion and Auger lines, shape ``(lines, 2)``: MeV and yield.
        betas: spectrum of all betas, shape ``(points, 2)``: MeV and electrons per MeV; empty where there are none.
        positrons: share of the betas that are positrons.
    """

    nuclide: str
    photons: Array
    electrons: Array
    betas: Array
    positrons: float

    @property
    def betas_per_decay(self) -> float:
        """Number of betas in one decay."""
        return float(np.trapezoid(self.betas[:, 1], self.betas[:, 0])) if self.betas.size else 0.0
