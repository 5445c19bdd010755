"""Gates that hold scans and contours against each other: activity beside its contours, a scan off scale, a hot spot inside an organ.

| code | tells |
| --- | --- |
| ``ACTIVITY_DISPLACED`` | a scan's activity fits the contours better when it is moved |
| ``SCAN_OFF_SCALE`` | all regions miss their curves by the same factor |
| ``PHASE_MISSING`` | all regions fall slower late than early, each in its own way |
| ``HOT_SPOT`` | uptake inside liver or spleen that stands out as a lesion would |
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from mrtai.physics.curves import activity_bq
from mrtai.physics.kinetics import RegionFits
from mrtai.physics.partial_volume import is_compact
from mrtai.physics.uptake import summed_uptake
from mrtai.units import FWHM_PER_SIGMA
from mrtai.values.curve import Fit
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Array
from mrtai.values.image import Image
from mrtai.values.labels import Labels
from mrtai.values.report import Aligned

MOST_DISPLACED_MM: Final = 7.0
"""More than breathing and noise move the activity of all organs together."""

SEARCHED_MM: Final = 25.0
MOST_OFF_SCALE: Final = 0.03
ALIKE: Final = 0.8
LEAST_REGIONS: Final = 5
"""So many regions must agree before a scan is blamed for what one curve's wrong shape would explain as well."""

MOST_UNLIKE: Final = 0.25
"""By how much the middle one of the regions differs from their median in what they miss their curves by, relative to that median.

A scan's factor is one and the same, but for noise; curves that bend do so each in its own way; and a few cold regions show their
neighbours' activity more than their own. Of three scans, one of them 15 % off, it is 0.05 in virtual patients and below 0.25 in all
but a few in a thousand of draws with 1 % of noise, in two of three with 2 %; with two phases (shares 0.2 to 0.8, half-lives of 15 to
40 and 60 to 110 h) one in eleven lies below."""

EVEN_ORGANS: Final = ("liver", "spleen")
STANDS_OUT: Final = 2.0
LEAST_SPOT_ML: Final = 2.0
SPILLS_MM: Final = 15.0
"""So far a hot neighbour still spills over."""


def displaced_flags(aligned: Aligned, labels: Labels, fwhm_mm: float) -> tuple[Flag, ...]:
    """Return a flag for every scan whose activity lies beside the contours."""
    flags = []
    for point, spect in zip(aligned.cycle.time_points, aligned.spects, strict=True):
        shift_mm = displacement_mm(spect, labels, fwhm_mm)
        far_mm = float(np.linalg.norm(shift_mm))
        if far_mm > MOST_DISPLACED_MM:
            along = ", ".join(f"{axis} {mm:+.0f}" for axis, mm in zip("xyz", shift_mm, strict=True))
            text = f"The activity of scan {point.index} lies {far_mm:.0f} mm beside the contours ({along} mm)."
            remedy = "Check the registration of this scan, and of its SPECT to its CT; correct it and run the case again."
            flags.append(Flag("ACTIVITY_DISPLACED", Severity.REVIEW, text, remedy))
    return tuple(flags)


def displacement_mm(spect: Image, labels: Labels, fwhm_mm: float) -> Array:
    """Return by how much the activity is moved, shape ``(3,)`` LPS, from where compact regions, each even and blurred, would show it.

    It is where the correlation of the two is largest; zero where no region is compact and hot.
    """
    expected, box = _expected(spect, labels, fwhm_mm)
    if expected is None:
        return np.zeros(3)
    spacing = spect.grid.spacing_mm[::-1]
    seen = spect.voxels[box].astype(np.float32)
    # an even background must pull nowhere: without its mean it ends at the box as it does beyond it
    seen -= seen.mean()
    shape = [int(fft.next_fast_len(2 * n)) for n in seen.shape]
    product = fft.rfftn(seen, shape) * np.conj(fft.rfftn(expected - expected.mean(), shape))
    correlation = fft.fftshift(fft.irfftn(product, shape))
    middle = np.array(shape) // 2
    reach = np.minimum(np.ceil(SEARCHED_MM / spacing).astype(int), middle - 1)
    near = correlation[tuple(slice(m - r, m + r + 1) for m, r in zip(middle, reach, strict=True))]
    peak = np.array(np.unravel_index(int(near.argmax()), near.shape))
    steps = peak - reach + [_vertex(near, peak, axis) for axis in range(3)]
    shift: Array = spect.grid.direction @ (steps * spacing)[::-1]
    return shift


def _expected(spect: Image, labels: Labels, fwhm_mm: float) -> tuple[NDArray[np.float32] | None, tuple[slice, ...]]:
    """Return the picture of the compact hot regions alone, and the box ``(z, y, x)`` around them that it fills."""
    values = [value for value, name in labels.names.items() if is_compact(name) and np.any(labels.voxels == value)]
    whole = float(spect.voxels.mean(dtype=np.float64))
    level = {value: float(spect.voxels[labels.voxels == value].mean(dtype=np.float64)) for value in values}
    level = {value: mean for value, mean in level.items() if mean > 2 * max(whole, 0.0)}
    if not level:
        return None, ()
    table = np.zeros(int(labels.voxels.max()) + 1, dtype=np.float32)
    for value, mean in level.items():
        table[value] = mean
    picture = table[labels.voxels]
    margin = np.ceil(SEARCHED_MM / spect.grid.spacing_mm[::-1]).astype(int)
    spans = ndimage.find_objects((picture > 0).astype(np.uint8))[0]
    box = tuple(slice(max(s.start - m, 0), s.stop + m) for s, m in zip(spans, margin, strict=True))
    return ndimage.gaussian_filter(picture[box], fwhm_mm / FWHM_PER_SIGMA / spect.grid.spacing_mm[::-1]), box


def _vertex(values: NDArray[np.float32], peak: NDArray[np.int_], axis: int) -> float:
    """Return where between voxels a parabola through a peak and its neighbours is highest, in voxels from the peak."""
    if not 0 < peak[axis] < values.shape[axis] - 1:
        return 0.0
    before, at, after = (float(values[tuple(peak + step * np.eye(3, dtype=int)[axis])]) for step in (-1, 0, 1))
    bend = before - 2 * at + after
    return 0.0 if bend >= 0 else 0.5 * (before - after) / bend


def scale_flags(fits: RegionFits) -> tuple[Flag, ...]:
    """Return a flag when most regions lie above and below their curves at the same scans.

    Washout in phases makes ln A(t) convex, as does a first or last scan that reads too high; regions then tell by how much they differ.
    Concave it can only be by a scan that is off, or by an uptake that goes on.
    """
    scans = max((curve.t_h.size for curve in fits.curves.values()), default=0)
    rows = [
        _missed(fit)
        for fit in fits.fits.values()
        if fit is not None and fit.terms.size and fit.curve.t_h.size == scans >= 3 and np.all(fit.curve.activity_bq > 0)
    ]
    if len(rows) < LEAST_REGIONS:
        return ()
    residuals = np.array(rows)  # (regions, scans)
    common = np.median(residuals, axis=0)
    worst = int(np.abs(common).argmax())
    alike = float(np.mean(np.sign(residuals[:, worst]) == np.sign(common[worst])))
    if abs(common[worst]) <= MOST_OFF_SCALE or alike < ALIKE:
        return ()
    missed = residuals[:, worst]
    bends = np.polyfit(next(fit.curve.t_h for fit in fits.fits.values() if fit is not None and fit.curve.t_h.size == scans), common, 2)[0]
    if bends > 0 and float(np.median(np.abs(missed - common[worst]))) > MOST_UNLIKE * abs(common[worst]):
        text = f"Regions lie up to {np.abs(missed).max():.0%} off their curves, each by its own share: they fall slower late than early."
        return (Flag("PHASE_MISSING", Severity.INFO, text, "Choose a model with another phase, or add a scan."),)
    text = (
        f"{alike:.0%} of {len(rows)} regions lie {'above' if common[worst] > 0 else 'below'} their curves at scan {worst + 1}, "
        f"by {abs(common[worst]):.0%} in the middle: that scan is off scale, or the curves lack a phase that all regions have."
    )
    remedy = "Check that all scans have the right calibration, decay reference and time; if so, choose a model with another phase."
    return (Flag("SCAN_OFF_SCALE", Severity.REVIEW, text, remedy),)


def _missed(fit: Fit) -> Array:
    """Return by how much ln A lies above the curve in every scan; of one exponential above the straight line of equal weights.

    With the fit's own weights a late scan that hardly counts would take what a scan is off by, in some regions and not in others.
    """
    t_h, log_activity = fit.curve.t_h, np.log(fit.curve.activity_bq)
    if len(fit.terms) == 1:
        return np.asarray(log_activity - np.polyval(np.polyfit(t_h, log_activity, 1), t_h))
    return np.asarray(log_activity - np.log(activity_bq(fit.terms, t_h)))


def hot_spot_flags(aligned: Aligned, labels: Labels) -> dict[str, tuple[Flag, ...]]:
    """Return flags by name of even organs that hold a spot which stands out of them and borders on no hot region drawn."""
    uptake = summed_uptake(aligned)
    smooth = ndimage.gaussian_filter(uptake.voxels.astype(np.float32), 1.0)
    return {name: flags for name in EVEN_ORGANS if name in labels.names.values() and (flags := _spots(name, smooth, labels))}


def _spots(name: str, smooth: NDArray[np.float32], labels: Labels) -> tuple[Flag, ...]:
    organ = labels.mask(name)
    counts, sums = (np.bincount(labels.voxels.ravel(), weights=of, minlength=max(labels.names) + 1) for of in (None, smooth.ravel()))
    own = float(np.median(smooth[organ])) if organ.any() else 0.0
    # a gallbladder or bowel is no sphere, but spills as one
    near = [value for value, other in labels.names.items() if other != name and (is_compact(other) or sums[value] > own * counts[value])]
    others = np.isin(labels.voxels, near)
    far = ndimage.distance_transform_edt(~others, labels.grid.spacing_mm[::-1]) > SPILLS_MM if others.any() else np.ones_like(organ)
    searched = organ & far
    if not searched.any():
        return ()
    ordinary = float(np.median(smooth[searched]))
    pieces, _ = ndimage.label(searched & (smooth > STANDS_OUT * ordinary) & (ordinary > 0))
    sizes_ml = np.bincount(pieces.ravel())[1:] * labels.grid.voxel_ml
    spots: Sequence[float] = sizes_ml[sizes_ml >= LEAST_SPOT_ML].tolist()
    if not spots:
        return ()
    listed = ", ".join(f"{ml:.0f} mL" for ml in sorted(spots, reverse=True)[:5])
    text = f"Uptake above {STANDS_OUT:g} times the {name}'s own lies inside it ({listed}): a lesion may have been left in its contour."
    return (Flag("HOT_SPOT", Severity.REVIEW, text, "Draw the lesion, or confirm that the uptake is the organ's."),)
