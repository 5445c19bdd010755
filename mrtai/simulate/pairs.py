"""Mean dose per region straight from the formulas of the anatomy, sharing no code with any dose engine.

    D(y) = 1/ρ(y) ∫ dr E'ₑ(r) ⟨q(y + rΩ)⟩_Ω + 1/ρ_water ∫ dr E'ᵧ(r) ⟨q(y + rΩ)⟩_Ω ,   q: decays per volume,

averaged over the region's volume. Electrons leave their energy in the tissue itself and are divided by its own density;
photons are dose to water and not divided by density. Both kernels are those of unbounded water.

The integrals are sums over pairs of points: targets on a 2 mm lattice of the anatomy, jittered in their cell, drawn more often
where the dose is expected to be high (and weighted back), sources at the kernel's distances from them in random directions.
Wherever tissues meet, both are looked up by formula. A sum over whole 2 mm voxels would give surfaces a staircase, up to half
as large again as the surface, and overstate by as much the energy that electrons of short range carry across it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.simulate.anatomy import OUTSIDE
from mrtai.simulate.lattice import LATTICE_MM, MIXED, Lattice
from mrtai.units import JOULES_PER_MEV, WATER_DENSITY_KG_PER_ML
from mrtai.values.grid import Array
from mrtai.values.kernel import PointKernel

RELATIVE_SE = 0.003
"""Standard error aimed at, relative to the region's mean dose; 0.5 % is promised."""

BATCH = 40_000
LARGEST_BATCHES = 300
LEAST_PROBABILITY = 0.25
"""Of a lattice cell, relative to its region's mean: bounds the weights."""

LARGEST_REACH_MM = 8.0


@dataclass(frozen=True, slots=True)
class MeanDose:
    """Volume-mean absorbed dose with its standard error."""

    dose_gy: float
    sd_gy: float


@dataclass(frozen=True, slots=True, eq=False)
class _Radiation:
    """One part of a kernel: its energy [MeV], how it is spread over distance, and mL per kg of each tissue it heats."""

    energy_mev: float
    r_edges_mm: Array
    cumulative: Array
    ml_per_kg: Array


@dataclass(frozen=True, slots=True, eq=False)
class _Targets:
    """Cells that a region reaches into, the running probability of drawing them, and that probability over its mean."""

    centres_mm: NDArray[np.float32]
    cumulative: Array
    importance: Array
    in_region: NDArray[np.bool_]


def mean_doses(cells: Lattice, tia_bq_s: Mapping[str, float], kernel: PointKernel, rng: np.random.Generator) -> dict[str, MeanDose]:
    """Return the mean dose of every exclusive region and of ``remainder`` (the body in no region).

    Args:
        cells: the anatomy.
        tia_bq_s: time-integrated activity by region; regions without are cold.
        kernel: energy around a point source.
        rng: for target points, directions and distances.
    """
    number = cells.anatomy.region_of_tissue
    per_ml = np.array([tia_bq_s.get(name, 0.0) for name in cells.regions]) / cells.volume_ml
    q_of_tissue = np.where(number == OUTSIDE, 0.0, per_ml[np.maximum(number, 0)])
    radiations = (
        _radiation(kernel.r_edges_mm, kernel.electron_mev, 1 / cells.density_kg_per_ml),
        _radiation(kernel.r_edges_mm, kernel.photon_mev, np.full(number.size, 1 / WATER_DENSITY_KG_PER_ML)),
    )
    spread = min(kernel.electron_range_mm / 3, LARGEST_REACH_MM) / LATTICE_MM
    expected = ndimage.gaussian_filter(q_of_tissue.astype(np.float32)[cells.centre], spread)
    return {
        name: _mean_dose(cells, _targets(cells, region, expected), radiations, q_of_tissue, rng)
        for region, name in enumerate(cells.regions)
    }


def _mean_dose(
    cells: Lattice, targets: _Targets, radiations: tuple[_Radiation, _Radiation], q_of_tissue: Array, rng: np.random.Generator
) -> MeanDose:
    """Return the mean dose of one region from as many pairs as its standard error needs, each batch where the error is."""
    sums = [_batch(cells, targets, radiation, q_of_tissue, rng) for radiation in radiations]
    for _ in range(LARGEST_BATCHES):
        dose, error = np.array([_ratio(s) for s in sums]).T
        if np.hypot(*error) <= RELATIVE_SE * dose.sum():
            break
        worst = int(np.argmax(error))
        sums[worst] = sums[worst] + _batch(cells, targets, radiations[worst], q_of_tissue, rng)
    return MeanDose(float(dose.sum()), float(np.hypot(*error)))


def _batch(cells: Lattice, targets: _Targets, radiation: _Radiation, q_of_tissue: Array, rng: np.random.Generator) -> Array:
    """Return Σw, Σwf, Σw², Σw²f, Σw²f² of a batch of pairs: w weight of the target, f its dose [Gy]."""
    cell = np.searchsorted(targets.cumulative, rng.random(BATCH)).clip(0, targets.cumulative.size - 1)
    target_mm = targets.centres_mm[cell] + rng.uniform(-LATTICE_MM / 2, LATTICE_MM / 2, (BATCH, 3)).astype(np.float32)
    tissue = cells.tissue_at(target_mm)
    inside = targets.in_region[tissue]
    # one distance from each of as many equal shares of the energy
    share = (np.arange(BATCH) + rng.random(BATCH)) / BATCH
    distance_mm = np.interp(share, radiation.cumulative, radiation.r_edges_mm).astype(np.float32)
    direction = rng.standard_normal((BATCH, 3), dtype=np.float32)
    direction *= (distance_mm / np.linalg.norm(direction, axis=1))[:, None]
    q_per_ml = q_of_tissue[cells.tissue_at((target_mm + direction)[inside])]
    w = 1.0 / targets.importance[cell[inside]]
    f = q_per_ml * radiation.ml_per_kg[tissue[inside]] * (radiation.energy_mev * JOULES_PER_MEV)
    return np.array([w.sum(), w @ f, w @ w, (w * w) @ f, (w * w) @ (f * f)])


def _ratio(sums: Array) -> tuple[float, float]:
    """Return the weighted mean Σwf/Σw and its standard error."""
    w, wf, ww, wwf, wwff = sums
    mean = wf / w
    return mean, float(np.sqrt(max(wwff - 2 * mean * wwf + mean * mean * ww, 0.0))) / w


def _radiation(r_edges_mm: Array, energy_mev: Array, ml_per_kg: Array) -> _Radiation:
    total = float(energy_mev.sum())
    shares = energy_mev / total if total > 0 else np.full(energy_mev.size, 1 / energy_mev.size)
    return _Radiation(total, r_edges_mm, np.concatenate([[0.0], np.cumsum(shares)]), ml_per_kg)


def _targets(cells: Lattice, region: int, expected: NDArray[np.float32]) -> _Targets:
    in_region = np.zeros(MIXED + 1, dtype=np.bool_)
    in_region[: len(cells.anatomy.tissues)] = cells.anatomy.region_of_tissue == region
    box = ndimage.find_objects(in_region[cells.centre].astype(np.uint8))[0]
    z, y, x = (slice(max(part.start - 1, 0), part.stop + 1) for part in box)
    held = in_region[cells.centre[z, y, x]]
    # cells whose centre lies outside may still hold a corner of the region
    near = held | (ndimage.binary_dilation(held, np.ones((3, 3, 3))) & (cells.filled[z, y, x] == MIXED))
    index = np.stack(np.nonzero(near)[::-1], axis=1) + (x.start, y.start, z.start)
    weight = expected[z, y, x][near].astype(np.float64)
    weight = weight + LEAST_PROBABILITY * weight.mean() if weight.any() else np.ones(weight.size)
    centres_mm = (index * LATTICE_MM + cells.grid.origin_mm).astype(np.float32)
    return _Targets(centres_mm, np.cumsum(weight) / weight.sum(), weight / weight.mean(), in_region)
