"""What the lesion network sees of an image, computed once for training and inference.

The scale of a SPECT is unknown (agent, time, decay), so uptake is given relative to the *body level*, the median of the body,
found from the uptake alone: the same with and without a CT, with hot organs in view or not.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.engines.prepare import Map, lattice, normalised, on_lattice
from mrtai.values.bundle import Channel, InputContract
from mrtai.values.grid import Grid
from mrtai.values.labels import Labels
from mrtai.values.refusal import DosimetryError

Voxels = NDArray[np.float32]

LOG_UPTAKE: Final = "log(1 + uptake / body level)"
LOCAL_SHARE: Final = "share of the local maximum"
HOUNSFIELD: Final = "HU"
PHYSIOLOGICAL: Final = "organs with physiological uptake"
PARENCHYMA: Final = "organs that bear lesions"

PAIRED: Final = ("kidney", "parotid", "submandibular", "adrenal_gland")
SINGLE: Final = ("urinary_bladder", "stomach", "duodenum", "small_bowel", "colon", "gallbladder", "esophagus", "brain", "heart")
PHYSIOLOGICAL_ORGANS: Final = frozenset((*SINGLE, "thyroid_gland", *(f"{name}_{side}" for name in PAIRED for side in ("left", "right"))))
PARENCHYMA_ORGANS: Final = frozenset(("liver", "spleen"))

LESION_CONTRACT: Final = InputContract(
    channels=(
        Channel(LOG_UPTAKE, 0.0, 7.0, 0.7, 1.0, 0.0),
        Channel(LOCAL_SHARE, 0.0, 1.0, 0.5, 0.5, 0.0),
        Channel(HOUNSFIELD, -250.0, 350.0, 50.0, 300.0, -1000.0),
        Channel(PHYSIOLOGICAL, 0.0, 1.0, 0.0, 1.0, 0.0),
        Channel(PARENCHYMA, 0.0, 1.0, 0.0, 1.0, 0.0),
    ),
    spacing_mm=4.0,
    patch=(64, 64, 64),
)
"""What the shipped lesion network was trained on; an exported bundle states its own."""

LOCAL_REACH_MM = 24.0
BODY_SHARE = 0.2
"""Of the body level; what lies below is air with scatter and noise."""


def lesion_input(
    uptake: NDArray[np.generic], grid: Grid, ct: Map | None, contract: InputContract, *, organs: Labels | None = None
) -> tuple[Voxels, Grid]:
    """Return the network's input, shape ``(channels, z, y, x)``, and its lattice, which covers the uptake image.

    Args:
        uptake: SPECT or PET in any unit that grows with concentration, ``(z, y, x)``.
        grid: of the uptake.
        ct: HU with their grid; without, the channel says air everywhere.
        contract: the bundle's; channels in any order, by their quantity.
        organs: contours of organs, on any grid; without, their channels are 0.

    Raises:
        DosimetryError: there is no uptake in the image.
    """
    target = lattice(grid, contract.spacing_mm)
    relative = relative_uptake(on_lattice(uptake, grid, target, 0.0))
    make: dict[str, Callable[[Channel], Voxels]] = {
        LOG_UPTAKE: lambda _: np.log1p(relative),
        LOCAL_SHARE: lambda _: local_share(relative, contract.spacing_mm),
        HOUNSFIELD: lambda channel: _hounsfield(ct, target, channel.outside),
        PHYSIOLOGICAL: lambda _: organ_share(organs, PHYSIOLOGICAL_ORGANS, target),
        PARENCHYMA: lambda _: organ_share(organs, PARENCHYMA_ORGANS, target),
    }
    unknown = [channel.quantity for channel in contract.channels if channel.quantity not in make]
    if unknown:
        raise ValueError(f"lesion input: channels {unknown} unknown; known are {sorted(make)}")
    return np.stack([normalised(make[channel.quantity](channel), channel) for channel in contract.channels]), target


def relative_uptake(uptake: Voxels) -> Voxels:
    """Return uptake over the body level, never negative, ``(z, y, x)``."""
    positive = np.maximum(uptake, 0.0)
    relative: Voxels = (positive / np.float32(body_level(positive))).astype(np.float32)
    return relative


def body_level(uptake: NDArray[np.generic]) -> float:
    """Return the median uptake of the body: the median of what exceeds a fifth of that median, found by repetition from the mean."""
    values = np.asarray(uptake, dtype=np.float64).ravel()
    values = np.sort(values[values > 0])
    if not values.size or not np.isfinite(values[-1]):
        raise DosimetryError(
            "finite uptake is needed to look for lesions",
            where="uptake image",
            found="no voxel above zero" if not values.size else "infinite voxels",
            remedy="check that the image is a SPECT or PET of a patient",
            code="NO_UPTAKE",
        )
    level = float(values.mean())
    for _ in range(30):
        above = values[np.searchsorted(values, BODY_SHARE * level, side="right") :]
        level = float(above[above.size // 2])
    return level


def local_share(relative: Voxels, spacing_mm: float) -> Voxels:
    """Return uptake over the largest within ``LOCAL_REACH_MM`` along each axis, or over the body level where that is larger."""
    size = 2 * int(LOCAL_REACH_MM / spacing_mm + 0.5) + 1
    largest = ndimage.maximum_filter(relative, size, mode="nearest")
    share: Voxels = relative / np.maximum(largest, np.float32(1.0))
    return share


def organ_share(organs: Labels | None, names: frozenset[str], target: Grid) -> Voxels:
    """Return which share of each voxel of ``target`` the organs of those names fill, ``(z, y, x)``."""
    values = [] if organs is None else [value for value, name in organs.names.items() if name in names]
    if organs is None or not values:
        return np.zeros(target.shape, dtype=np.float32)
    return on_lattice(np.isin(organs.voxels, values), organs.grid, target, 0.0)


def _hounsfield(ct: Map | None, target: Grid, outside: float) -> Voxels:
    return np.full(target.shape, outside, dtype=np.float32) if ct is None else on_lattice(*ct, target, outside)
