"""How much uptake there would be without lesions: body, organs and what spills over from them."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.units import FWHM_PER_SIGMA
from mrtai.values.grid import Grid
from mrtai.values.labels import Labels

PARENCHYMA: Final = frozenset(("liver", "spleen"))
"""Organs whose own uptake is high and even, so that what stands a little out of it is a lesion."""

ALWAYS: Final = frozenset(
    {
        *("kidney_left", "kidney_right", "urinary_bladder", "stomach", "duodenum", "small_bowel", "colon", "gallbladder", "esophagus"),
        *("adrenal_gland_left", "adrenal_gland_right", "parotid_left", "parotid_right", "submandibular_left", "submandibular_right"),
    }
)
"""Organs that take up, excrete or hold what is given, with any agent."""

BY_AGENT: Final = {
    "iodide": frozenset(),
    "dotatate": frozenset(("thyroid_gland", "pancreas")),
    "dotatoc": frozenset(("thyroid_gland", "pancreas")),
    "dotanoc": frozenset(("thyroid_gland", "pancreas")),
    "fdg": frozenset(("brain", "heart", "thyroid_gland")),
}
"""Further ones by a word in the agent's name. A thyroid that is treated with iodide is a target."""

EVEN: Final = 2.0
"""Uptake below this multiple of the lower quartile counts as the organ's own: up to three quarters of it may be lesions."""


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """What is expected without lesions.

    Attributes:
        level: uptake by voxel, shape ``(z, y, x)``; ``physiological`` voxels of organs whose uptake is no lesion.
        parenchyma: voxels of organs that are searched by their own level.
        log_sd: spread of the smoothed uptake around the level, in the body and in the parenchyma.
    """

    level: NDArray[np.float32]
    physiological: NDArray[np.bool_]
    parenchyma: NDArray[np.bool_]
    log_sd: tuple[float, float]


def physiological(agent: str) -> frozenset[str]:
    """Return the names of organs whose uptake of this agent is physiological, liver and spleen apart."""
    words = agent.casefold()
    return ALWAYS.union(*(names for word, names in BY_AGENT.items() if word in words))


def background(
    uptake: NDArray[Any], body: NDArray[np.bool_], organs: Labels, agent: str, *, fwhm_mm: float, margin_mm: float
) -> Background:
    """Return what is expected: levels of body and organs, blurred by the scanner, and organs' own uptake where it is physiological.

    Args:
        uptake: smoothed, any unit, ``(z, y, x)``.
        body: outline of the patient, of the same shape.
        organs: contours on the same grid.
        agent: what is imaged.
        fwhm_mm: resolution of the image.
        margin_mm: organs may lie so far from where the CT shows them.
    """
    hot = _of(organs, physiological(agent))
    own = {name: mask for name in organs.names.values() if (mask := organs.mask(name) & ~hot & body).any()}
    known = np.any([hot, *own.values()], axis=0)
    free = body & ~ndimage.binary_dilation(known, iterations=_steps(fwhm_mm, organs.grid))
    rest = free if free.any() else body & ~known
    ordinary = even_level(uptake[rest])
    flat = np.where(body, ordinary, 0.0).astype(np.float32)
    for mask in own.values():
        flat[mask] = max(even_level(uptake[mask]), ordinary)
    # breathing and a shifted CT: the organ's uptake may lie a little beside it
    near = ndimage.binary_dilation(hot, iterations=_steps(margin_mm, organs.grid)) if hot.any() else hot
    flat[near] = np.maximum(flat[near], uptake[near])
    level = np.maximum(ndimage.gaussian_filter(flat, _sigma(fwhm_mm, organs.grid)), ordinary).astype(np.float32)
    parenchyma = _of(organs, PARENCHYMA)
    spread = log_sd(uptake[rest] / level[rest]), log_sd(uptake[parenchyma] / level[parenchyma])
    return Background(level, hot, parenchyma, spread)


def even_level(values: NDArray[Any]) -> float:
    """Return the level of a tissue that lesions may lie in: the median of what is near its lower quartile, any shape; 0 for nothing."""
    positive = values[values > 0]
    if not positive.size:
        return 0.0
    return float(np.median(positive[positive <= EVEN * np.quantile(positive, 0.25)]))


def log_sd(ratio: NDArray[Any]) -> float:
    """Return a standard deviation of the logarithm from the lower half of the distribution, which no lesion widens, any shape; 0 for none.

    Noise of a reconstruction is near log-normal where there is little uptake: the upper half reaches further than the lower.
    """
    positive = ratio[ratio > 0]
    return float(np.log(np.median(positive) / np.quantile(positive, 0.1587))) if positive.size else 0.0


def _of(organs: Labels, names: frozenset[str]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.isin(organs.voxels, [value for value, name in organs.names.items() if name in names])
    return found


def _steps(length_mm: float, grid: Grid) -> int:
    return max(round(length_mm / float(grid.spacing_mm.mean())), 1)


def _sigma(fwhm_mm: float, grid: Grid) -> tuple[float, ...]:
    return tuple(float(one) for one in (fwhm_mm / FWHM_PER_SIGMA / grid.spacing_mm)[::-1])
