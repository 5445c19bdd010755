"""Mean dose per region straight from the formulas of the anatomy, sharing no code with any dose engine.

    D(y) = 1/ρ(y) ∫ dr E'ₑ(r) ⟨q(y + rΩ)⟩_Ω + 1/ρ_water ∫ dr E'ᵧ(r) ⟨q(y + rΩ)⟩_Ω ,   q: decays per volume,

averaged over the region's volume. Electrons leave their energy in the tissue itself and are divided by its own density;
photons are dose to water and not divided by density. Both kernels are those of unbounded water.

The integrals are sums over pairs of points: targets on a 2 mm lattice of the anatomy, jittered in their cell, drawn more often
where the dose is expected to vary most (and weighted back), sources at the kernel's distances from them in random directions.
Where tissues meet, electrons look both up by formula (photons, which cross surfaces anyway, at sub-points 0.7 mm apart). A sum
over whole 2 mm voxels would give surfaces a staircase, up to half as large again as the surface, and overstate by as much the
energy that electrons of short range carry across it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.simulate.anatomy import OUTSIDE
from mrtai.simulate.lattice import LATTICE_MM, Lattice
from mrtai.units import JOULES_PER_MEV, WATER_DENSITY_KG_PER_ML
from mrtai.values.grid import Array
from mrtai.values.kernel import PointKernel

RELATIVE_SE = 0.003
"""Standard error aimed at, relative to the region's mean dose; 0.5 % is promised."""

BATCH = 40_000
LARGEST_BATCHES = 600
LEAST_PROBABILITY = 0.25
"""Of a lattice cell, relative to its region's mean: bounds the weights."""

ELECTRON_REACH_MM = (1.0, 4.0)
PHOTON_REACH_MM = 12.0
"""Widths of the blur that guesses where in a region the pairs vary most; they steer the drawing, not the result."""


@dataclass(frozen=True, slots=True)
class MeanDose:
    """Volume-mean absorbed dose with its standard error."""

    dose_gy: float
    sd_gy: float


@dataclass(frozen=True, slots=True, eq=False)
class _Radiation:
    """One part of a kernel.

    Attributes:
        energy_mev: per decay; ``cumulative`` its share within each of ``r_edges_mm``.
        ml_per_kg: of each tissue it heats.
        reach_mm: about how far it goes.
        by_formula: True where the surface's shape matters to it.
    """

    energy_mev: float
    r_edges_mm: Array
    cumulative: Array
    ml_per_kg: Array
    reach_mm: float
    by_formula: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Targets:
    """Cells that a region reaches into, the running probability of drawing them, and that probability over its mean."""

    centres_mm: NDArray[np.float32]
    cumulative: Array
    importance: Array
    in_region: NDArray[np.bool_]


def mean_doses(
    cells: Lattice, tia_bq_s: Mapping[str, float], kernel: PointKernel, rng: np.random.Generator, relative_se: float = RELATIVE_SE
) -> dict[str, MeanDose]:
    """Return the mean dose of every exclusive region and of ``remainder`` (the body in no region).

    Args:
        cells: the anatomy.
        tia_bq_s: time-integrated activity by region; regions without are cold.
        kernel: energy around a point source.
        rng: for target points, directions and distances.
        relative_se: standard error to stop at, relative to the region's mean dose.
    """
    number = cells.anatomy.region_of_tissue
    per_ml = np.array([tia_bq_s.get(name, 0.0) for name in cells.regions]) / cells.volume_ml
    q_of_tissue = np.where(number == OUTSIDE, 0.0, per_ml[np.maximum(number, 0)])
    water = np.full(number.size, 1 / WATER_DENSITY_KG_PER_ML)
    electron_reach_mm = float(np.clip(kernel.electron_range_mm / 4, *ELECTRON_REACH_MM))
    radiations = (
        _radiation(kernel.r_edges_mm, kernel.electron_mev, 1 / cells.density_kg_per_ml, electron_reach_mm, by_formula=True),
        _radiation(kernel.r_edges_mm, kernel.photon_mev, water, PHOTON_REACH_MM, by_formula=False),
    )
    # the best probability of a target goes with the root mean square of what it may see
    squared = (q_of_tissue**2).astype(np.float32)[cells.cells.centre]
    expected = [np.sqrt(ndimage.gaussian_filter(squared, part.reach_mm / LATTICE_MM, truncate=3.0)) for part in radiations]
    parts = list(zip(radiations, expected, strict=True))
    return {name: _mean_dose(cells, region, parts, q_of_tissue, (rng, relative_se)) for region, name in enumerate(cells.regions)}


def _mean_dose(
    cells: Lattice,
    region: int,
    parts: list[tuple[_Radiation, NDArray[np.float32]]],
    q_of_tissue: Array,
    drawn_until: tuple[np.random.Generator, float],
) -> MeanDose:
    """Return the mean dose of one region from as many pairs as its standard error needs, each batch where the error is."""
    rng, relative_se = drawn_until
    drawn = [(_targets(cells, region, expected), radiation) for radiation, expected in parts]
    sums = [_batch(cells, targets, radiation, q_of_tissue, rng) for targets, radiation in drawn]
    for _ in range(LARGEST_BATCHES):
        dose, error = np.array([_ratio(s) for s in sums]).T
        if np.hypot(*error) <= relative_se * dose.sum():
            break
        worst = int(np.argmax(error))
        sums[worst] = sums[worst] + _batch(cells, *drawn[worst], q_of_tissue, rng)
    return MeanDose(float(dose.sum()), float(np.hypot(*error)))


def _batch(cells: Lattice, targets: _Targets, radiation: _Radiation, q_of_tissue: Array, rng: np.random.Generator) -> Array:
    """Return Σw, Σwf, Σw², Σw²f, Σw²f² of a batch of pairs: w weight of the target, f its dose [Gy]."""
    even = np.arange(BATCH) / BATCH
    cell = np.searchsorted(targets.cumulative, even + rng.random(BATCH) / BATCH).clip(0, targets.cumulative.size - 1)
    target_mm = targets.centres_mm[cell] + rng.uniform(-LATTICE_MM / 2, LATTICE_MM / 2, (BATCH, 3)).astype(np.float32)
    tissue = cells.tissue_at(target_mm, by_formula=radiation.by_formula)
    inside = targets.in_region[tissue]
    # one distance from each of as many equal shares of the energy, in random order
    share = rng.permutation(even) + rng.random(BATCH) / BATCH
    distance_mm = np.interp(share, radiation.cumulative, radiation.r_edges_mm).astype(np.float32)
    direction = rng.standard_normal((BATCH, 3), dtype=np.float32)
    direction *= (distance_mm / np.linalg.norm(direction, axis=1))[:, None]
    q_per_ml = q_of_tissue[cells.tissue_at((target_mm + direction)[inside], by_formula=radiation.by_formula)]
    w = 1.0 / targets.importance[cell[inside]]
    f = q_per_ml * radiation.ml_per_kg[tissue[inside]] * (radiation.energy_mev * JOULES_PER_MEV)
    return np.array([w.sum(), w @ f, w @ w, (w * w) @ f, (w * w) @ (f * f)])


def _ratio(sums: Array) -> tuple[float, float]:
    """Return the weighted mean Σwf/Σw and its standard error."""
    w, wf, ww, wwf, wwff = sums
    mean = wf / w
    return mean, float(np.sqrt(max(wwff - 2 * mean * wwf + mean * mean * ww, 0.0))) / w


def _radiation(r_edges_mm: Array, energy_mev: Array, ml_per_kg: Array, reach_mm: float, *, by_formula: bool) -> _Radiation:
    total = float(energy_mev.sum())
    shares = energy_mev / total if total > 0 else np.full(energy_mev.size, 1 / energy_mev.size)
    return _Radiation(total, r_edges_mm, np.concatenate([[0.0], np.cumsum(shares)]), ml_per_kg, reach_mm, by_formula)


def _targets(cells: Lattice, region: int, expected: NDArray[np.float32]) -> _Targets:
    in_region = cells.anatomy.region_of_tissue == region
    centre = cells.cells.centre
    box = ndimage.find_objects(in_region[centre].astype(np.uint8))[0]
    z, y, x = (slice(max(part.start - 1, 0), part.stop + 1) for part in box)
    held = in_region[centre[z, y, x]]
    # cells whose centre lies outside may still hold a corner of the region
    near = held | (ndimage.binary_dilation(held, np.ones((3, 3, 3))) & (cells.border_row[z, y, x] >= 0))
    index = np.stack(np.nonzero(near)[::-1], axis=1) + np.array([x.start, y.start, z.start])
    weight = expected[z, y, x][near].astype(np.float64)
    weight = weight + LEAST_PROBABILITY * weight.mean() if weight.any() else np.ones(weight.size)
    centres_mm = (index * LATTICE_MM + cells.cells.grid.origin_mm).astype(np.float32)
    return _Targets(centres_mm, np.cumsum(weight) / weight.sum(), weight / weight.mean(), in_region)
