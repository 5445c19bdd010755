"""Where blur moves a region's activity: how much stays within its outline, and what the rest falls on.

The point spread is a Gaussian of a given FWHM. What a region of any shape keeps of its own activity is the mean of its blurred outline
within it. The sphere that keeps as much stands for the region wherever something is known of spheres only: far from its smallest
radius a region loses in proportion to surface over volume, so the two have nearly the same one.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import brentq

from mrtai.physics.resample import shares_of
from mrtai.physics.uncertainty_inputs import content_ml
from mrtai.units import FWHM_PER_SIGMA
from mrtai.values.grid import Array, Grid
from mrtai.values.labels import Labels

REACH: Final = 4.0
"""Standard deviations beyond which a point spread holds nothing."""

ENOUGH_VOXELS: Final = 100_000
COARSEST: Final = 4.0
"""A lattice of so many points, so many to a FWHM, says the same of a region as a finer one.

What is lost is right to a²/(12 σ²) for faces along the lattice and a sixth of that for spheres, a the edge of its voxels: 1 and 0.2 %
at 2.5 mm under 11 mm, 9 and 1.3 % at 4.8 mm."""

SPHERES_ML: Final = (1e-4, 1e7)

FINER: Final = 0.8
"""Contours on voxels below this share of the image's fill parts of them."""

FARTHEST_STEP: Final = 6.0
"""Points of the lattice of a haze to its standard deviation."""

AS_UNSURE: Final = 2.0
"""Where others show so many times a region's own concentration, what is left of a voxel without them is as unsure as how alike the parts
of the region are: what was moved is known to 12 % (``region_uncertainty.UNEVEN``), own parts are taken to differ by twice that."""

MOST_TIMES: Final = 1e3
"""Beyond which no voxel counts less: a region that is nothing but spill everywhere still has a mean."""


def kept_share(mask: NDArray[np.bool_], spacing_mm: Array, fwhm_mm: float) -> float:
    """Return which share of its own activity an even region keeps within its outline.

    Args:
        mask: the region, shape ``(z, y, x)``; beyond the array there is none of it.
        spacing_mm: of its voxels ``(x, y, z)``.
        fwhm_mm: of the point spread.
    """
    inside = mask[ndimage.find_objects(mask.astype(np.uint8))[0]]
    spacing = spacing_mm[::-1]
    thinner = np.floor(np.cbrt(max(np.count_nonzero(inside) / ENOUGH_VOXELS, 1.0)) * spacing.min() / spacing)
    step = np.clip(np.minimum(thinner, fwhm_mm / COARSEST / spacing), 1, None).astype(int)
    inside = inside[tuple(slice(s // 2, None, s) for s in step)]
    sigma = fwhm_mm / FWHM_PER_SIGMA / (spacing * step)
    padded = np.pad(inside.astype(np.float32), [(int(np.ceil(REACH * s)),) * 2 for s in sigma])
    blurred = ndimage.gaussian_filter(padded, sigma, mode="constant", truncate=REACH)
    return float(blurred[padded > 0].mean(dtype=np.float64))


def equivalent_sphere_ml(kept: float, fwhm_mm: float) -> float:
    """Return the volume of the sphere that keeps that share of its activity, within 0.1 µL and 10 m³."""

    def excess(log_volume: float) -> float:
        volume_ml = float(np.exp(log_volume))
        return float(content_ml(volume_ml, volume_ml, fwhm_mm)) / volume_ml - kept

    low, high = np.log(SPHERES_ML).tolist()
    if excess(low) >= 0 or excess(high) <= 0:
        return SPHERES_ML[0] if excess(low) >= 0 else SPHERES_ML[1]
    return float(np.exp(brentq(excess, low, high, xtol=1e-6)))


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """Which share of each voxel the regions fill, and the rest of the body: what blur is weighed with.

    Attributes:
        values: label values of the regions that reach the grid; the body in no region comes last, as 0.
        where: of each region, the slices ``(z, y, x)`` that it reaches.
        shares: of each region, in those slices.
        grid: of the scans.
    """

    values: tuple[int, ...]
    where: tuple[tuple[slice, ...], ...]
    shares: tuple[NDArray[np.float32], ...]
    grid: Grid

    @property
    def volumes(self) -> Array:
        """Volume of each region in voxels of the grid, shape ``(regions,)``."""
        return np.array([share.sum(dtype=np.float64) for share in self.shares])

    def held(self, bq_per_ml: Array) -> NDArray[np.float32]:
        """Return the image of these concentrations, shape ``(regions,)``, on the grid, shape ``(z, y, x)``."""
        image = np.zeros(self.grid.shape, dtype=np.float32)
        for box, share, level in zip(self.where, self.shares, bq_per_ml, strict=True):
            image[box] += share * np.float32(level)
        return image

    def means(self, voxels: NDArray[np.float32], view: NDArray[np.bool_] | None = None) -> Array:
        """Return a scan's mean in each region, where voxels count by the share that it fills, shape ``(regions,)``.

        ``view``: where the scan reaches, shape of the grid, None for everywhere; of what it does not see at all the mean is 0.
        """
        found = []
        for box, share in zip(self.where, self.shares, strict=True):
            weight = share if view is None else share * view[box]
            total = float(weight.sum(dtype=np.float64))
            found.append(float((voxels[box] * weight).sum(dtype=np.float64)) / total if total > 0 else 0.0)
        return np.array(found)


def filled(contours: Labels, grid: Grid, body: NDArray[np.bool_]) -> Filled:
    """Return the shares that regions fill of a grid's voxels, those of a region in no voxel left out; ``body``: shape of the grid."""
    rest = np.ones(grid.shape, dtype=np.float32)
    found: dict[int, tuple[tuple[slice, ...], NDArray[np.float32]]] = {}
    for value, box in enumerate(ndimage.find_objects(contours.voxels), start=1):
        reached = None if box is None or value not in contours.names else shares_of(contours, value, box, grid)
        if reached is not None and reached[1].sum() > 0:
            found[value] = reached
            rest[reached[0]] -= reached[1]
    drawn = rest < 1.0
    rest = np.where(body | drawn, np.clip(rest, 0.0, 1.0), np.float32(0.0))
    if rest.sum() > 0:
        found[0] = (tuple(slice(0, n) for n in grid.shape), rest)
    return Filled(tuple(found), tuple(where for where, _ in found.values()), tuple(shares for _, shares in found.values()), grid)


def sigma_of_shares(fwhm_mm: float, grid: Grid, drawn: Grid) -> Array:
    """Return what is left of a measured resolution for shares of voxels to be blurred with [mm], shape ``(3,)`` along x, y, z.

    Spheres that are measured by shares see the point spread, the image's voxels, a²/12, and the shares' averaging, as much again. Shares
    that are blurred and weighed bring both along; where contours lie on voxels as coarse as the image's, only one.
    """
    sigma_mm = fwhm_mm / FWHM_PER_SIGMA
    voxels = 2.0 if float(drawn.spacing_mm.mean()) < FINER * float(grid.spacing_mm.mean()) else 1.0
    squared = sigma_mm**2 - voxels * grid.spacing_mm**2 / 12.0
    return np.asarray(np.sqrt(np.maximum(squared, (sigma_mm / 2.0) ** 2)))


@dataclass(frozen=True, slots=True, eq=False)
class Blurred:
    """What a Gaussian makes of each region's even activity: kept, since which voxels count is said anew again and again.

    Attributes:
        regions: with their shares.
        shares: of each region, its blurred share and the slices ``(z, y, x)`` of the grid that it reaches.
    """

    regions: Filled
    shares: tuple[tuple[NDArray[np.float32], tuple[slice, ...]], ...]

    def overlaps(self, counted: Filled, rows: Sequence[int] | None = None) -> Array:
        """Return what is shown in one region of another, shape ``(regions, regions)``, or those rows of it.

        Row i, column j: the mean in i, per concentration in j. Rows add up to 1 but for what is beside the body. ``counted``: how much
        each voxel of a region counts in its mean.
        """
        of = range(len(counted.values)) if rows is None else rows
        common = [[_overlap(*shown, counted.shares[i], counted.where[i]) for shown in self.shares] for i in of]
        return np.asarray(np.array(common) / counted.volumes[list(of), None])

    def image(self, bq_per_ml: Array) -> NDArray[np.float32]:
        """Return the image of these concentrations, shape ``(regions,)``, as it is shown, shape ``(z, y, x)``."""
        image = np.zeros(self.regions.grid.shape, dtype=np.float32)
        for (share, box), level in zip(self.shares, bq_per_ml, strict=True):
            image[box] += share * np.float32(level)
        return image


def blurred(regions: Filled, sigma_mm: Array) -> Blurred:
    """Return the regions blurred by a Gaussian; ``sigma_mm``: along x, y, z, shape ``(3,)``."""
    sigma = sigma_mm[::-1] / regions.grid.spacing_mm[::-1]
    margin = np.ceil(REACH * sigma).astype(int)
    found = []
    for box, share in zip(regions.where, regions.shares, strict=True):
        grown = tuple(
            slice(max(span.start - m, 0), min(span.stop + m, n)) for span, m, n in zip(box, margin, regions.grid.shape, strict=True)
        )
        inside = tuple((span.start - out.start, out.stop - span.stop) for span, out in zip(box, grown, strict=True))
        # where the body goes on beyond the image, as much comes from there as goes
        found.append((ndimage.gaussian_filter(np.pad(share, inside), sigma, mode="reflect", truncate=REACH), grown))
    return Blurred(regions, tuple(found))


def near(regions: Filled, sigma_mm: Array) -> Array:
    """Return what a Gaussian shows in one region of another where all voxels count, shape ``(regions, regions)``; see ``Blurred``."""
    return blurred(regions, sigma_mm).overlaps(regions)


@dataclass(frozen=True, slots=True, eq=False)
class Hazes:
    """The same of a haze so wide that lattices of some centimetres say the same of it.

    Attributes:
        step: voxels ``(z, y, x)`` of the image to a cell of the lattice.
        cells: the haze of each region, shape ``(regions, z, y, x)``.
    """

    step: NDArray[np.int_]
    cells: Array

    def overlaps(self, counted: Filled, rows: Sequence[int] | None = None) -> Array:
        """Return what is shown in one region of another, shape ``(regions, regions)``; see ``Blurred.overlaps``."""
        of = range(len(counted.values)) if rows is None else rows
        seen = _coarse(counted, self.step, of).reshape(len(of), -1)
        common = seen @ self.cells.reshape(len(self.cells), -1).T / np.prod(self.step)
        return np.asarray(common / counted.volumes[list(of), None])


def hazes(regions: Filled, sigma_mm: float) -> Hazes:
    """Return what a haze of that standard deviation makes of each region's even activity."""
    step = np.maximum(np.round(sigma_mm / FARTHEST_STEP / regions.grid.spacing_mm[::-1]).astype(int), 1)
    sigma = sigma_mm / regions.grid.spacing_mm[::-1] / step
    coarse = _coarse(regions, step, range(len(regions.values)))
    return Hazes(step, np.array([ndimage.gaussian_filter(one, sigma, mode="reflect", truncate=REACH) for one in coarse]))


def _coarse(regions: Filled, step: NDArray[np.int_], which: Sequence[int]) -> Array:
    """Return the shares of these regions, summed over cells of so many voxels, shape ``(regions, z, y, x)``."""
    size = [-(-n // s) for n, s in zip(regions.grid.shape, step, strict=True)]
    coarse = np.zeros((len(which), *size))
    for cells, index in zip(coarse, which, strict=True):
        box, share = regions.where[index], regions.shares[index]
        first = [span.start // s for span, s in zip(box, step, strict=True)]
        number = [-(-span.stop // s) - f for span, s, f in zip(box, step, first, strict=True)]
        ends = [(span.start - f * s, (f + n) * s - span.stop) for span, s, f, n in zip(box, step, first, number, strict=True)]
        z, y, x = step.tolist()
        whole = np.pad(share, ends).reshape(number[0], z, number[1], y, number[2], x).sum(axis=(1, 3, 5), dtype=np.float64)
        cells[tuple(slice(f, f + n) for f, n in zip(first, number, strict=True))] = whole
    return coarse


def left_alone(regions: Filled, cameras: Sequence[Blurred], bq_per_ml: Array, which: Collection[int]) -> Filled:
    """Return the regions where voxels of some count the less, the more of the others' activity blur shows in them.

    Where others show r times a region's own concentration in the scan where that is most, a voxel counts 1/(1 + (r/2)²) of the share that
    the region fills, see ``AS_UNSURE``: nearly all where r is below 1, next to nothing beside a hot lesion.

    Args:
        regions: with their shares.
        cameras: what each scan makes of them.
        bq_per_ml: what they hold about, shape ``(scans, regions)``.
        which: indices of the regions that are weighed so.
    """
    others = {index: np.zeros_like(regions.shares[index]) for index in which}
    for camera, of_scan in zip(cameras, bq_per_ml, strict=True):
        shown = camera.image(of_scan)
        for index in which:
            # a scan that shows nothing of a region says nothing of it
            if of_scan[index] > 0:
                share, grown = camera.shares[index]
                box = regions.where[index]
                own = share[tuple(slice(s.start - g.start, s.stop - g.start) for s, g in zip(box, grown, strict=True))]
                times = np.minimum(shown[box] / of_scan[index] - own, MOST_TIMES)
                np.maximum(others[index], times, out=others[index], casting="same_kind")
    shares = list(regions.shares)
    for index in which:
        shares[index] = shares[index] / (1.0 + np.square(others[index] / np.float32(AS_UNSURE)))
    return replace(regions, shares=tuple(shares))


def _overlap(shown: NDArray[np.float32], grown: tuple[slice, ...], share: NDArray[np.float32], where: tuple[slice, ...]) -> float:
    """Return the sum of a blurred region times the share that another fills."""
    both = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(grown, where, strict=True)]
    if any(start >= stop for start, stop in both):
        return 0.0
    of_shown = tuple(slice(start - a.start, stop - a.start) for (start, stop), a in zip(both, grown, strict=True))
    of_share = tuple(slice(start - b.start, stop - b.start) for (start, stop), b in zip(both, where, strict=True))
    return float((shown[of_shown] * share[of_share]).sum(dtype=np.float64))
