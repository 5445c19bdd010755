"""Biological effect of a dose that is given slowly."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mrtai.units import LN2
from mrtai.values.grid import Array
from mrtai.values.image import Image, Quantity

Dose = TypeVar("Dose", float, Array)


def lea_catcheside(terms: Array, repair_half_life_h: float) -> float:
    """Return the Lea–Catcheside factor G of a dose rate ∝ Σ a e^{-λt}, terms of shape ``(terms, 2)`` as (a, λ [1/h]).

    G = (2/D²) Σ_ij a_i a_j / ((λ_i + λ_j)(λ_i + μ)) with D = Σ a/λ; T_rep / (T_rep + T_eff) for a single exponential.
    """
    amplitude, rate = terms[:, 0], terms[:, 1]
    mu = LN2 / repair_half_life_h
    total = float(np.sum(amplitude / rate))
    pairs = np.outer(amplitude, amplitude) / (np.add.outer(rate, rate) * (rate + mu)[:, None])
    return float(2.0 * pairs.sum() / total**2)


def bed_gy(dose_gy: Dose, g: float, alpha_beta_gy: float) -> Dose:
    """Return BED = D + G D² / (α/β) [Gy]."""
    return dose_gy + g * dose_gy**2 / alpha_beta_gy


def eqd2_gy(biologically_effective_gy: Dose, alpha_beta_gy: float) -> Dose:
    """Return EQD2 = BED / (1 + 2 Gy / (α/β)) [Gy]: the same effect in fractions of 2 Gy."""
    return biologically_effective_gy / (1.0 + 2.0 / alpha_beta_gy)


def rbe_weighted_gy(by_radiation_gy: Mapping[str, float], rbe: Mapping[str, float]) -> float:
    """Return Σ RBE_r D_r [Gy RBE], a radiation without a factor counting once.

    A site sets the factors; none is assumed. BED and EQD2 are not made of it: they stay those of the physical dose.
    """
    return sum(rbe.get(radiation, 1.0) * gray for radiation, gray in by_radiation_gy.items())


def biological_maps(dose: Image, regions: Sequence[tuple[NDArray[np.bool_], float, float]]) -> dict[str, Image]:
    """Return voxel-wise BED and EQD2 [Gy] in the regions whose parameters are known, 0 elsewhere; empty where none has them.

    Args:
        dose: absorbed dose [Gy].
        regions: mask of shape ``(z, y, x)``, Lea–Catcheside factor and α/β [Gy] of each.
    """
    if not regions:
        return {}
    voxels = dose.require(Quantity.ABSORBED_DOSE).voxels
    bed, eqd2 = np.zeros_like(voxels), np.zeros_like(voxels)
    for mask, g, alpha_beta_gy in regions:
        here = bed_gy(voxels[mask], g, alpha_beta_gy)
        bed[mask], eqd2[mask] = here, eqd2_gy(here, alpha_beta_gy)
    return {"BED": replace(dose, voxels=bed), "EQD2": replace(dose, voxels=eqd2)}
