"""Kinetics voxel by voxel: each follows its region's curve with an amplitude and a speed of its own.

A region's fit has terms aᵢ exp(-(λ_phys + kᵢ) t). A voxel in it follows A(t) = a Σ wᵢ exp(-(λ_phys + kᵢ s) t) with wᵢ = aᵢ/Σ|a|, a ≥ 0
and a factor s on all biological rates, by least squares with the penalty (ln s/spread)². The amplitude follows in closed form, so
one number is left to search: every candidate ln s has its curve in a table that all voxels of the region share, and a parabola
through the best three refines it. That costs a multiplication and an addition a candidate and scan, and no exponential.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.stats import chi2

from mrtai.engines.threads import parallel
from mrtai.physics.kinetics import ABSOLUTE_SD, RegionFits
from mrtai.units import SECONDS_PER_HOUR
from mrtai.values.grid import Array
from mrtai.values.image import Image, Quantity
from mrtai.values.nuclide import Nuclide

SPREAD: Final = 0.3
"""Standard deviation of ln s between voxels of one region, a choice: half the spread between patients, so that noise of 20 % in a
voxel moves its integral by a few per cent, and a focus that keeps its activity twice as long is still seen."""

FASTEST: Final = 8.0
"""Largest s; the smallest is its inverse."""

NODES: Final = 129
"""Candidates of ln s: 3.2 % apart, 0.01 % in Ã after the parabola."""

COARSE: Final = 8
"""Every so many candidates are tried first, then halves of the step around the best. Curves of several terms seen by two scans may
have two valleys of like depth; then scans do not tell which, and the penalty does."""

MOST_FOR_NOISE: Final = 20_000
"""Voxels of a region from which its noise is found: enough for 2 % of it."""

LEAST_NOISE: Final = 1e-3
"""Of a region's mean: without noise at all the penalty would have no weight to be measured against."""

LEAST_ACTIVE: Final = 0.5
"""Voxels below this share of their region's mean do not tell its noise: most of a remainder is air, where there is none."""

LEAST_SEEN: Final = 1e-20
"""Of the Σ E² of the region's own curve: a candidate whose curve is gone before the scans leaves its amplitude to rounding."""

UNSEEN: Final = 1e300
"""Σ E² that gives such a candidate no amplitude; finite, so that no product of it is undefined."""


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Curves of every region at every candidate, in units of each scan's noise.

    ``shape`` (regions, nodes, scans): curve of amplitude 1 over σ; ``certainty`` (regions, scans): 1/σ, 0 for a scan that does not
    count; ``squares``, ``mixed``, ``slopes`` (regions, nodes): Σ E², Σ E E', Σ E'² with E' = dE/d ln s; ``integral``, ``change``
    (regions, nodes): Ã of amplitude 1 [h] and its derivative; ``penalty`` (nodes); ``precision``: 1/spread².
    """

    shape: Array
    certainty: Array
    squares: Array
    mixed: Array
    slopes: Array
    integral: Array
    change: Array
    penalty: Array
    precision: float


@dataclass(frozen=True, slots=True, eq=False)
class VoxelTia:
    """Maps of Ã [Bq s/mL] and its standard uncertainty, on one grid.

    Attributes:
        spread_evenly: label values without any positive voxel, filled evenly.
        factor: by name of the regions whose voxels have curves, what the sum over them was multiplied with to be the region's own Ã.
    """

    tia: Image
    sd: Image
    spread_evenly: tuple[int, ...]
    factor: Mapping[str, float]


def tables(terms: Sequence[Array], t_h: Array, sd: Array, physical_per_h: float, spread: float = SPREAD) -> Tables:
    """Return the tables of regions.

    Args:
        terms: per region, shape ``(terms, 2)``: amplitudes and rates [1/h] of its curve.
        t_h: shape ``(scans,)``.
        sd: noise of a voxel, shape ``(regions, scans)`` in the unit of the activities; infinite for a scan that does not count.
        physical_per_h: λ_phys.
        spread: standard deviation of ln s; infinite for none.
    """
    ln_s = np.linspace(-np.log(FASTEST), np.log(FASTEST), NODES)
    precision = 0.0 if np.isinf(spread) else 1.0 / spread**2
    certainty = 1.0 / sd
    curves, integrals = [], []
    for of in terms:
        weight, biological = of[:, 0] / np.abs(of[:, 0]).sum(), np.maximum(of[:, 1] - physical_per_h, 0.0)
        rates = physical_per_h + np.exp(ln_s)[:, None] * biological
        curves.append(np.einsum("i,git->gt", weight, np.exp(-rates[:, :, None] * t_h)))
        integrals.append((1.0 / rates) @ weight)
    shape = np.array(curves).reshape(len(terms), NODES, t_h.size) * certainty[:, None, :]
    integral = np.array(integrals).reshape(len(terms), NODES)
    change = np.gradient(shape, ln_s, axis=1, edge_order=2) if len(terms) else shape
    squares = np.square(shape).sum(axis=2)
    return Tables(
        shape=shape,
        certainty=certainty,
        squares=np.where(squares > LEAST_SEEN * squares[:, NODES // 2 : NODES // 2 + 1], squares, UNSEEN),
        mixed=(shape * change).sum(axis=2),
        slopes=np.square(change).sum(axis=2),
        integral=integral,
        change=np.gradient(integral, ln_s, axis=1, edge_order=2) if len(terms) else integral,
        penalty=precision * np.square(ln_s),
        precision=precision,
    )


@njit(cache=True, nogil=True)
def _overlap(activity, voxel, shape, certainty, region, node):
    total = 0.0
    for scan in range(shape.shape[2]):
        total += activity[scan, voxel] * certainty[region, scan] * shape[region, node, scan]
    return total


@njit(cache=True, nogil=True)
def _cost(activity, voxel, region, node, shape, certainty, squares, penalty):
    """Return χ² less what no candidate changes, and the best amplitude."""
    amplitude = _overlap(activity, voxel, shape, certainty, region, node) / squares[region, node]
    if amplitude <= 0.0:
        return penalty[node], 0.0
    return penalty[node] - amplitude * amplitude * squares[region, node], amplitude


@njit(cache=True, nogil=True)
def one_voxel(activity, voxel, region, shape, certainty, squares, mixed, slopes, integral, change, penalty, precision):
    """Return Ã [activity · h] of a voxel and its standard uncertainty; compiled for CPU and GPU alike."""
    # outwards from the region's own curve, so that of equals (no activity, no biological rate) it is the nearest that stays
    middle = penalty.size // 2
    node = middle
    best, amplitude = _cost(activity, voxel, region, node, shape, certainty, squares, penalty)
    for ring in range(1, middle // COARSE + 1):
        for side in (-1, 1):
            candidate = middle + side * ring * COARSE
            cost, a = _cost(activity, voxel, region, candidate, shape, certainty, squares, penalty)
            if cost < best:
                best, node, amplitude = cost, candidate, a
    step = COARSE // 2
    while step > 0:
        centre = node
        for side in (-1, 1):
            candidate = centre + side * step
            if 0 <= candidate < penalty.size:
                cost, a = _cost(activity, voxel, region, candidate, shape, certainty, squares, penalty)
                if cost < best:
                    best, node, amplitude = cost, candidate, a
        step //= 2
    tia = amplitude * integral[region, node]
    if amplitude > 0.0 and 0 < node < penalty.size - 1:
        below, a_below = _cost(activity, voxel, region, node - 1, shape, certainty, squares, penalty)
        above, a_above = _cost(activity, voxel, region, node + 1, shape, certainty, squares, penalty)
        bend = below - 2.0 * best + above
        if bend > 0.0:
            x = 0.5 * (below - above) / bend
            left, right = a_below * integral[region, node - 1], a_above * integral[region, node + 1]
            tia += x * (0.5 * (right - left) + 0.5 * x * (left - 2.0 * tia + right))
    # information on (a, ln s), turned over by hand
    first, cross = squares[region, node], amplitude * mixed[region, node]
    second = amplitude * amplitude * slopes[region, node] + precision
    by_amplitude, by_speed = integral[region, node], amplitude * change[region, node]
    determinant = first * second - cross * cross
    if determinant <= 1e-12 * first * second:
        return tia, by_amplitude / first**0.5
    variance = by_amplitude * by_amplitude * second - 2.0 * by_amplitude * by_speed * cross + by_speed * by_speed * first
    return tia, (variance / determinant) ** 0.5


@njit(cache=True, nogil=True)
def _some(first, last, activity, region, shape, certainty, squares, mixed, slopes, integral, change, penalty, precision, tia, sd):
    for voxel in range(first, last):
        if region[voxel] >= 0:
            tia[voxel], sd[voxel] = one_voxel(
                activity, voxel, region[voxel], shape, certainty, squares, mixed, slopes, integral, change, penalty, precision
            )


def fitted_voxels(
    activity: NDArray[np.float32], region: NDArray[np.int32], of: Tables, *, threads: int = 1, device: str = "cpu"
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return Ã of every voxel [unit of activity · h] and its standard uncertainty, each of shape ``(voxels,)``.

    Args:
        activity: shape ``(scans, voxels)``.
        region: index into the tables' regions, shape ``(voxels,)``; negative for a voxel that is left at zero.
        of: the regions' tables.
        threads: of the CPU.
        device: ``cpu`` or ``cuda``.
    """
    tia, sd = np.zeros(region.size, np.float32), np.zeros(region.size, np.float32)
    arrays = (of.shape, of.certainty, of.squares, of.mixed, of.slopes, of.integral, of.change, of.penalty)
    if device == "cuda":
        from mrtai.engines.voxel_fit_gpu import on_gpu

        on_gpu(activity, region, arrays, of.precision, tia, sd)
        return tia, sd
    ends = np.linspace(0, region.size, threads + 1).astype(np.int64)
    parallel(lambda row: _some(ends[row], ends[row + 1], activity, region, *arrays, of.precision, tia, sd), threads)
    return tia, sd


def voxel_tia(
    spects: Sequence[Image],
    fits: RegionFits,
    nuclide: Nuclide,
    t_h: Array,
    *,
    threads: int = 1,
    device: str = "cpu",
    spread: float = SPREAD,
) -> VoxelTia:
    """Return the TIA map of a cycle fitted voxel by voxel, each region's sum scaled to the region's own Ã, with its uncertainty.

    Weights are common to a region's voxels: the noise of a voxel in a scan is a share φ of the region's mean there, found from how far
    the voxels lie from their own curves. Regions whose fit has no exponentials (trapezoids) share their Ã by activity alone, and those
    without a positive voxel evenly; nothing is known of a voxel there, so that its uncertainty is set to all of its Ã.

    Args:
        spects: activity maps [Bq/mL] on the grid of ``fits.labels``, one a scan.
        fits: curves of the exclusive regions and the remainder.
        nuclide: for the physical decay.
        t_h: hours after the administration, shape ``(scans,)``.
        threads: of the CPU.
        device: ``cpu`` or ``cuda``.
        spread: standard deviation of ln s between a region's voxels.
    """
    labels = fits.labels
    names = {0: "remainder", **labels.names}
    flat = labels.voxels.ravel()
    activity = np.stack([spect.require(Quantity.ACTIVITY_CONCENTRATION).voxels.ravel() for spect in spects]).astype(np.float32, copy=False)
    curved = [value for value in fits.tia_bq_s if (fit := fits.fits[names[value]]) is not None and fit.terms.size]
    index = np.full(int(max([0, *fits.tia_bq_s, *labels.names])) + 1, -1, np.int32)
    index[curved] = np.arange(len(curved))
    terms = [fits.fits[names[value]].terms for value in curved]  # type: ignore[union-attr]
    noise = np.array([_noise(activity[:, flat == value], fits, names[value], t_h, nuclide.decay_per_h) for value in curved]).reshape(
        len(curved), t_h.size
    )
    of = tables(terms, t_h, noise, nuclide.decay_per_h, spread)
    tia, sd = fitted_voxels(activity, index[flat], of, threads=threads, device=device)
    for value in set(fits.tia_bq_s) - set(curved):
        mask = flat == value
        tia[mask] = np.maximum(fits.time_shares[value] @ activity[:, mask], 0.0)
        sd[mask] = tia[mask]
    factor, even = _scaled(tia, sd, flat, fits, names, labels.grid.voxel_ml)
    maps = [Image(values.reshape(labels.grid.shape), Quantity.TIME_INTEGRATED_ACTIVITY, labels.grid) for values in (tia, sd)]
    return VoxelTia(maps[0], maps[1], even, factor)


def _noise(voxels: NDArray[np.float32], fits: RegionFits, name: str, t_h: Array, physical_per_h: float) -> Array:
    """Return a voxel's noise in each scan, ``(scans,)``, from ``voxels`` (scans, voxels); infinite in scans that do not see the region.

    With amplitude and speed free a voxel's χ² has two degrees of freedom less than scans (with two scans amplitude alone, one less);
    its median over the voxels is that of noise, whatever a few hot or cold spots do. A scan's mean counts as at least ``ABSOLUTE_SD`` of
    the largest, as for the region's curve: else one near or below zero would rule every voxel's fit.
    """
    fit = fits.fits[name]
    used = np.isin(np.arange(t_h.size) + 1, fits.seen_in[name])
    mean = np.where(used, np.maximum(voxels.mean(axis=1), 0.0), 0.0)
    if fit is None or not used.any() or mean.max() <= 0:
        return np.full(t_h.size, np.inf)
    mean = np.where(used, np.maximum(mean, ABSOLUTE_SD * mean.max()), np.inf)
    scans, share = int(used.sum()), 1.0
    if scans > 1:
        of = tables([fit.terms], t_h, mean[None], physical_per_h)
        shape = of.shape[0] if scans > 2 else of.shape[0][NODES // 2 : NODES // 2 + 1]
        some = voxels[:, :: -(-voxels.shape[1] // MOST_FOR_NOISE)] / mean[:, None]
        level = some.mean(axis=0)
        some = some[:, level >= min(LEAST_ACTIVE * level.mean(), level.max())]
        explained = np.square(np.maximum(shape @ some, 0.0)) / np.square(shape).sum(axis=1)[:, None]
        chi_square = np.square(some).sum(axis=0) - explained.max(axis=0)
        share = float(np.sqrt(max(np.median(chi_square), 0.0) / chi2.median(scans - min(scans - 1, 2))))
    noise: Array = max(share, LEAST_NOISE) * mean
    return noise


def _scaled(
    tia: NDArray[np.float32], sd: NDArray[np.float32], flat: NDArray[Any], fits: RegionFits, names: Mapping[int, str], voxel_ml: float
) -> tuple[dict[str, float], tuple[int, ...]]:
    """Scale both maps in place so that each region sums to its own Ã [Bq s]; return the factors and what was filled evenly."""
    factors, even = {}, []
    for value, whole in fits.tia_bq_s.items():
        mask = flat == value
        if not mask.any():
            continue
        total = float(tia[mask].sum(dtype=np.float64)) * voxel_ml
        if total <= 0:
            tia[mask] = sd[mask] = whole / (int(mask.sum()) * voxel_ml)
            even.append(value)
            continue
        fit = fits.fits[names[value]]
        if fit is not None and fit.terms.size:
            factors[names[value]] = whole / (total * SECONDS_PER_HOUR)
        tia[mask] *= whole / total
        sd[mask] *= whole / total
    return factors, tuple(even)
