"""Activity that blur moved out of a region's contour, given back by a recovery coefficient and taken from where it fell.

What is measured in a hot region is m = b + RC (c - b): its own concentration c, and that of what surrounds it, b, as the blur weighs it.
RC is the curve's at the sphere that keeps as much of its activity as the region's own shape does (``spill``). A region that is not
hotter than its surroundings is left as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.physics.measure import REMAINDER, activities_bq
from mrtai.physics.recovery import LEAST_RECOVERY, coefficient
from mrtai.physics.resample import shares_of
from mrtai.physics.spill import equivalent_sphere_ml, falls_on, kept_share
from mrtai.values.calibration import Recovery
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Array
from mrtai.values.image import Image
from mrtai.values.labels import Labels
from mrtai.values.protocol import PARTIAL_VOLUME
from mrtai.values.regions import is_lesion

OFF, RECOVERY = PARTIAL_VOLUME

COMPACT: Final = frozenset(
    {
        *("kidney_left", "kidney_right", "liver", "spleen", "pancreas", "thyroid_gland", "adrenal_gland_left", "adrenal_gland_right"),
        *("parotid_left", "parotid_right", "submandibular_left", "submandibular_right"),
    }
)
"""Organs whose outline is that of their uptake; what is hollow, or hot in a part of itself, has no one concentration to give back.
Lesions are compact, too."""

MOST_TAKEN: Final = 0.5
"""A region that owes more than half of its activity to its neighbours is not known by taking it from them."""


@dataclass(frozen=True, slots=True)
class PartialVolume:
    """What blur did, by region name.

    Attributes:
        coefficients: recovery coefficient of each scan, of compact regions.
        activity_bq: activity [Bq] of each scan with what blur moved given back, and taken where it fell (the remainder too).
        sphere_ml: volume of the sphere that keeps as much of its activity, of all regions drawn.
        contrast: share of each scan's measured concentration that stands above the surroundings; negative where it lies below.
    """

    coefficients: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    activity_bq: Mapping[str, Array] = field(default_factory=dict)
    sphere_ml: Mapping[str, float] = field(default_factory=dict)
    contrast: Mapping[str, Array] = field(default_factory=dict)


NONE: Final = PartialVolume()


def is_compact(name: str) -> bool:
    """Return True for regions that blur's losses are given back to."""
    return name in COMPACT or is_lesion(name)


def partial_volume(
    spects: Sequence[Image],
    curves: Sequence[Recovery | None],
    contours: Labels,
    labels: Labels,
    body: NDArray[np.bool_],
    fwhm_mm: float,
) -> PartialVolume:
    """Return what blur did to all regions, with coefficients and corrected activities of the compact ones where all scans have a curve.

    Args:
        spects: scans on the common grid.
        curves: the recovery curve of each scan, None where there is none.
        contours: regions on the grid they were drawn on, whose shapes count.
        labels: the same regions on the common grid.
        body: outline on the common grid, shape ``(z, y, x)``.
        fwhm_mm: resolution of the scans; what a shape's sphere is hardly depends on it.
    """
    known = [curve for curve in curves if curve is not None]
    activity_bq = np.array([list(activities_bq(spect, labels).values()) for spect in spects])
    names = {**labels.names, 0: REMAINDER}
    concentration = _concentrations(spects, labels, body)
    coefficients, given_back, falls, spheres_ml, contrast = {}, {}, {}, {}, {}
    voxels, boxes = np.bincount(labels.voxels.ravel(), minlength=len(concentration[0])), ndimage.find_objects(contours.voxels)
    for value, name in labels.names.items():
        box = boxes[value - 1] if value <= len(boxes) else None
        if box is None or not voxels[value]:
            continue
        spheres_ml[name] = equivalent_sphere_ml(kept_share(contours.voxels[box] == value, contours.grid.spacing_mm, fwhm_mm), fwhm_mm)
        shares, beside = falls_on(labels, value, body, fwhm_mm)
        own, around = concentration[:, value], concentration @ shares - concentration[:, 0] * beside
        contrast[name] = np.divide(own - around, own, out=np.zeros_like(own), where=own > 0).clip(-1.0, 1.0)
        if is_compact(name) and len(known) == len(curves):
            coefficients[name] = tuple(coefficient(curve, spheres_ml[name]) for curve in known)
            lost = np.maximum(
                around + (_mean_by_share(spects, contours, (value, box), own) - around) / np.array(coefficients[name]) - own, 0.0
            )
            lost = np.where(own > around, lost, 0.0)
            given_back[name], falls[name] = (
                lost * voxels[value] * labels.grid.voxel_ml,
                dict(zip(names.values(), shares[list(names)], strict=True)),
            )
    measured = dict(zip(names.values(), activity_bq.T, strict=True))
    return PartialVolume(coefficients, _moved_back(measured, given_back, falls), spheres_ml, contrast)


def _mean_by_share(spects: Sequence[Image], contours: Labels, drawn: tuple[int, tuple[slice, ...]], own: Array) -> Array:
    """Return a region's mean [Bq/mL] of each scan as recovery coefficients are measured: voxels count by the share that it fills.

    Whole voxels that lie mostly within see a twelfth of their square less of blur, 2 to 5 % of a lesion's activity. ``drawn``: label
    value and box of the contour; ``own``: the mean of whole voxels.
    """
    found = shares_of(contours, *drawn, spects[0].grid)
    if found is None or not found[1].sum() > 0:
        return own
    where, shares = found
    return np.array([float((spect.voxels[where] * shares).sum(dtype=np.float64)) for spect in spects]) / float(shares.sum(dtype=np.float64))


def _concentrations(spects: Sequence[Image], labels: Labels, body: NDArray[np.bool_]) -> Array:
    """Return mean concentrations [Bq/mL] by label value, shape ``(scans, values + 1)``; at 0 of the body in no region."""
    seen = body | (labels.voxels > 0)
    values, size = labels.voxels[seen], int(max(labels.names, default=0)) + 1
    voxels = np.maximum(np.bincount(values, minlength=size), 1)
    return np.array([np.bincount(values, weights=spect.voxels[seen], minlength=size) / voxels for spect in spects])


def _moved_back(
    measured: Mapping[str, Array], given_back: Mapping[str, Array], falls: Mapping[str, Mapping[str, float]]
) -> dict[str, Array]:
    """Return activities [Bq] of the scans by name of what gets some back, and of what it is taken from."""
    moved = {name: measured[name] + back for name, back in given_back.items()}
    # what one corrected region spilt into another is in the latter's surroundings already
    for name in measured.keys() - given_back.keys():
        taken = sum((back * falls[of][name] for of, back in given_back.items()), np.zeros(()))
        if np.any(taken > 0):
            moved[name] = measured[name] - np.minimum(taken, MOST_TAKEN * np.maximum(measured[name], 0.0))
    return moved


def recovery_flags(recovered: float | None, partial_volume: str = RECOVERY) -> tuple[Flag, ...]:
    """Return a flag where more than two thirds of a region's activity come from the curve, not from the scan, or are missing."""
    if recovered is None or recovered >= LEAST_RECOVERY:
        return ()
    if partial_volume == OFF:
        text = (
            f"Blur leaves {recovered:.0%} of the region's contrast inside it and nothing is given back: no stated uncertainty holds that."
        )
        return (Flag("RECOVERY_MISSING", Severity.REVIEW, text, "Compare the dose with recovery, stated beside it."),)
    text = f"Only {recovered:.0%} of the region's contrast is recovered: its activity is mostly the recovery curve's word."
    return (Flag("RECOVERY_LOW", Severity.REVIEW, text, "Judge the value without recovery, too; it is stated beside it."),)


def curve_flags(partial_volume: str, curves: Sequence[Recovery | None]) -> tuple[Flag, ...]:
    """Return a flag where recovery was asked for and scans have no curve."""
    if partial_volume == OFF or all(curve is not None for curve in curves):
        return ()
    text = "The protocol asks for partial-volume correction, but not every scan has a recovery curve: nothing was corrected."
    remedy = "Give a calibration with [recovery] (mrtai calibrate), or set [recovery] in the protocol."
    return (Flag("NO_RECOVERY_CURVE", Severity.REVIEW, text, remedy),)
