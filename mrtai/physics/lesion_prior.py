"""Lesions that another image shows, searched for where it shows them: kept where they are not seen, and told."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.physics.lesions import Mask, Scene, outlined, widened
from mrtai.values.flag import Flag, Severity

MARGIN_MM: Final = 10.0
"""How far from where it was a lesion is searched: breathing, and what registration leaves."""

FAINT_CONTRAST: Final = 1.5
FAINT_PARENCHYMA_CONTRAST: Final = 1.25
FAINT_SDS: Final = 2.5
"""A place that is known is one place, not thousands: less is needed for a lesion there than anywhere."""

FOUND_BY_PRIOR: Final = Flag(
    "LESION_FOUND_BY_PET",
    Severity.INFO,
    "Too faint to be found in the SPECT alone; the PET before the therapy shows it, and the SPECT was searched there.",
    "None needed; look at the contour where the lesion matters.",
)
NOT_SEEN: Final = Flag(
    "LESION_NOT_SEEN_IN_SPECT",
    Severity.REVIEW,
    "The PET before the therapy shows this lesion, the SPECT does not; its contour is that of the PET.",
    "Check whether the lesion is gone, or takes up too little; its activity and dose are those of what lies there.",
)


@dataclass(frozen=True, slots=True, eq=False)
class Searched:
    """Lesions by number, with what there is to say of each; ``out_of_view`` counts those of the prior that the image does not show."""

    numbers: NDArray[np.int32]
    flags: Mapping[int, tuple[Flag, ...]]
    out_of_view: int


def searched(prior: NDArray[np.int32], found: NDArray[np.int32], seen: Scene, *, margin_mm: float = MARGIN_MM) -> Searched:
    """Return the lesions found, and those of the ``prior`` that were not, each outlined anew where the image shows it faintly.

    Args:
        prior: the other image's lesions by number on this image's grid, ``(z, y, x)``.
        found: this image's own lesions by number, of the same shape.
        seen: this image.
        margin_mm: how far from the prior's contour a lesion is searched.
    """
    numbers, missing = found.copy(), 0
    flags: dict[int, tuple[Flag, ...]] = {}
    steps = max(round(margin_mm / float(seen.uptake.grid.spacing_mm.mean())), 1)
    faint = _faint(seen)
    for number, box in enumerate(ndimage.find_objects(prior), start=1):
        if box is None:
            continue
        near = widened(box, prior.shape, steps + 2)
        own = (prior[near] == number) & seen.body[near] & ~seen.there.physiological[near]
        if not own.any():
            missing += 1
            continue
        around = ndimage.binary_dilation(own, iterations=steps)
        if np.any(found[near][around]):
            continue
        mask = _faintly_seen(faint, near, around & seen.body[near] & ~seen.there.physiological[near])
        flag = NOT_SEEN if mask is None else FOUND_BY_PRIOR
        free = (own if mask is None else mask) & (numbers[near] == 0)
        if free.any():
            new = int(numbers.max()) + 1
            numbers[near][free] = new
            flags[new] = (flag,)
    return Searched(numbers, flags, missing)


def _faint(seen: Scene) -> Scene:
    """Return the scene with the contrast that is enough at a known place; noise still counts, less often."""
    body, organ = (float(np.exp(FAINT_SDS * sd)) for sd in seen.there.log_sd)
    contrasts = max(FAINT_CONTRAST, body), max(FAINT_PARENCHYMA_CONTRAST, organ)
    there = replace(seen.there, log_sd=(0.0, 0.0))
    return replace(seen, there=there, search=replace(seen.search, contrast=contrasts[0], parenchyma_contrast=contrasts[1]))


def _faintly_seen(faint: Scene, near: tuple[slice, ...], allowed: Mask) -> Mask | None:
    """Return the outline around the hottest peak among the voxels allowed, None where nothing stands out there."""
    smooth, level = faint.smooth[near], faint.there.level[near]
    # a peak, not the slope of a neighbour
    peaks = allowed & (smooth >= ndimage.maximum_filter(smooth, 3)) & (smooth >= faint.least[near] * level)
    if not peaks.any():
        return None
    top = np.unravel_index(np.argmax(np.where(peaks, smooth, -np.inf)), smooth.shape)
    mask = outlined(faint, near, allowed & (smooth > level), float(level[top]))
    return mask if mask.sum() * faint.uptake.grid.voxel_ml >= faint.search.smallest_ml else None
