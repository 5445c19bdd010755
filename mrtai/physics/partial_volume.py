"""Activity that blur moved out of a region's contour, given back by the recovery coefficient of its volume.

What is measured in a hot object is c = b + RC (c₀ - b): its own concentration c₀, and that of what surrounds it, b. A region that is not
hotter than its surroundings is left as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.physics.recovery import LEAST_RECOVERY, coefficient
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
"""Organs near enough to a sphere; the curve of spheres says nothing of long, hollow or thin ones. Lesions are compact, too."""


@dataclass(frozen=True, slots=True)
class PartialVolume:
    """What blur did, by region name: recovery coefficient of each scan, and the activity [Bq] of each scan with it given back."""

    coefficients: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    activity_bq: Mapping[str, Array] = field(default_factory=dict)


NONE: Final = PartialVolume()


def is_compact(name: str) -> bool:
    """Return True for regions that the recovery of spheres holds for."""
    return name in COMPACT or is_lesion(name)


def partial_volume(
    spects: Sequence[Image], curves: Sequence[Recovery], contours: Labels, labels: Labels, body: NDArray[np.bool_]
) -> PartialVolume:
    """Return coefficients and corrected activities of the compact regions.

    Args:
        spects: scans on the common grid.
        curves: the recovery curve of each scan.
        contours: regions on the grid they were drawn on, whose volumes count.
        labels: the same regions on the common grid.
        body: outline on the common grid, shape ``(z, y, x)``.
    """
    coefficients, activity_bq = {}, {}
    for name in filter(is_compact, labels.names.values()):
        mask, volume_ml = labels.mask(name), float(contours.mask(name).sum()) * contours.grid.voxel_ml
        if mask.any() and volume_ml > 0:
            around = surroundings(labels, name, body)
            coefficients[name] = tuple(coefficient(curve, volume_ml) for curve in curves)
            pairs = zip(spects, coefficients[name], strict=True)
            activity_bq[name] = np.array([_given_back(spect, mask, around, recovered) for spect, recovered in pairs])
    return PartialVolume(coefficients, activity_bq)


def surroundings(labels: Labels, name: str, body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the region, or the rest of the body, that most of a region's outer layer belongs to, shape ``(z, y, x)``."""
    mask = labels.mask(name)
    layer = ndimage.binary_dilation(mask) & ~mask & body
    host = int(np.bincount(labels.voxels[layer]).argmax()) if layer.any() else 0
    found: NDArray[np.bool_] = (labels.voxels == host) & body
    return found


def _given_back(spect: Image, mask: NDArray[np.bool_], around: NDArray[np.bool_], recovered: float) -> float:
    measured = float(spect.voxels[mask].mean(dtype=np.float64))
    level = max(float(spect.voxels[around].mean(dtype=np.float64)), 0.0) if around.any() else 0.0
    concentration = level + (measured - level) / recovered if measured > level else measured
    return concentration * int(mask.sum()) * spect.grid.voxel_ml


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
