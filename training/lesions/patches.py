"""Patches drawn from volumes, on the device that holds them, the same for the same key."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from mrtai.engines.lesion_input import HOUNSFIELD, LESION_CONTRACT, LOG_UPTAKE, PARENCHYMA, PHYSIOLOGICAL
from mrtai.simulate.solids import rotation
from training.lesions.data import QUANTITIES, Volume

OUTSIDE: Final = np.array([channel.seen_outside for channel in LESION_CONTRACT.channels], dtype=np.float32)
"""What each channel says beyond the image."""

TILT: Final = 0.12
STRETCH: Final = (0.85, 1.2)
"""Every patch is turned by up to so much [rad] about x and y, twice that about z, and stretched."""

ROOM: Final = 1.4
"""How much longer a patch is cut out than used, so that what is turned fills it."""

LARGEST_CUT: Final = 15
"""Voxels taken from each end of a real volume, at random, whenever a patch is drawn from it."""


def batch(
    real: Sequence[Volume], made: Sequence[Volume], *, size: int, edge: int, key: Sequence[int], device: str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return patches ``(n, channels, edge, edge, edge)`` with their labels ``(n, 1, edge, edge, edge)``, the same for the same ``key``.

    Half of them are real where there are real volumes and simulated ones.
    """
    rng = np.random.default_rng(key)
    pools = [pool for pool in (real, made) if pool]
    chosen = [pool[int(rng.integers(len(pool)))] for n in range(size) for pool in [pools[n % len(pools)]]]
    outside, wide = torch.from_numpy(OUTSIDE).to(device)[None, :, None, None, None], 2 * int(edge * ROOM / 2)
    image = torch.zeros((size, len(QUANTITIES), wide, wide, wide), device=device)
    lesion = torch.zeros((size, 1, wide, wide, wide), device=device)
    for n, volume in enumerate(chosen):
        # relative to what lies outside, which is 0 then: interpolation fills up with that
        _fill(image[n], lesion[n, 0], volume, outside[0], rng)
    turned = _turned(torch.cat([image, lesion], dim=1), edge, rng)
    return _varied(turned[:, :-1] + outside, (turned[:, -1:] >= 0.5).long(), rng, [volume.is_real for volume in chosen])


def _turned(patches: torch.Tensor, edge: int, rng: np.random.Generator) -> torch.Tensor:
    """Return the middle of patches ``(n, channels, z, y, x)``, each turned and stretched a little."""
    size, wide = patches.shape[0], patches.shape[-1]
    rows = [rotation(rng.uniform(-TILT, TILT, 3) * (1, 1, 2)) * rng.uniform(*STRETCH) * edge / wide for _ in range(size)]
    theta = torch.from_numpy(np.pad(np.stack(rows), ((0, 0), (0, 0), (0, 1))).astype(np.float32)).to(patches.device)  # x, y, z
    grid = torch.nn.functional.affine_grid(theta, [size, 1, edge, edge, edge], align_corners=False)
    return torch.nn.functional.grid_sample(patches, grid, align_corners=False)


def _fill(image: torch.Tensor, lesion: torch.Tensor, volume: Volume, outside: torch.Tensor, rng: np.random.Generator) -> None:
    """Write a patch of the volume, less what lies outside, into ``image`` and ``lesion``, in place."""
    edge, shape = lesion.shape[-1], np.array(volume.lesion.shape)
    start = _centre(volume, rng) - edge // 2 + rng.integers(-edge // 6, edge // 6 + 1, 3)
    low, high = np.maximum(start, 0), np.minimum(start + edge, shape)
    if volume.is_real:
        # crops end at a fixed distance from their lesion: where the image ends must tell nothing
        ends = np.minimum(rng.integers(0, LARGEST_CUT, (2, 3)), shape // 5)
        low, high = np.maximum(low, ends[0]), np.minimum(high, shape - ends[1])
    there = tuple(slice(int(a), int(max(a, b))) for a, b in zip(low, high, strict=True))
    here = tuple(slice(int(a - s), int(max(a, b) - s)) for a, b, s in zip(low, high, start, strict=True))
    image[(slice(None), *here)] = volume.image[(slice(None), *there)].float() - outside
    lesion[here] = volume.lesion[there].float()


def _centre(volume: Volume, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the middle of a patch: in a lesion, at high uptake that is none, or anywhere."""
    kind = rng.random()
    places = volume.lesions if kind < 0.5 and len(volume.lesions) else volume.hot
    if kind < 0.8 and len(places):
        return np.array(places[rng.integers(len(places))], dtype=np.int64)
    return np.array([rng.integers(n) for n in volume.lesion.shape])


def _varied(image: torch.Tensor, lesion: torch.Tensor, rng: np.random.Generator, real: Sequence[bool]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return patches with another body level, mirrored, with CT or organs left out now and then."""
    index = {quantity: number for number, quantity in enumerate(QUANTITIES)}
    log_channel, size = LESION_CONTRACT.channels[index[LOG_UPTAKE]], len(real)

    def by_patch(values: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(values).to(image.device)[:, None, None, None]

    relative = torch.expm1(image[:, index[LOG_UPTAKE]] * log_channel.scale + log_channel.shift)
    levelled = relative * by_patch(rng.lognormal(0.0, 0.25, size).astype(np.float32))
    image[:, index[LOG_UPTAKE]] = (torch.log1p(levelled) - log_channel.shift) / log_channel.scale
    without_ct, without_organs = by_patch(rng.random(size) < 0.35), by_patch(rng.random(size) < 0.25)
    image[:, index[HOUNSFIELD]] = image[:, index[HOUNSFIELD]].masked_fill(without_ct, float(OUTSIDE[index[HOUNSFIELD]]))
    for quantity in (PHYSIOLOGICAL, PARENCHYMA):
        image[:, index[quantity]] = image[:, index[quantity]].masked_fill(without_organs, 0.0)
    mirrored = rng.random((size, 3)) < 0.5
    for n, crop in enumerate(real):
        # head and belly stay where they are, except in crops that show no whole body
        axes = [axis + 1 for axis in ((0, 1, 2) if crop else (2,)) if mirrored[n, axis]]
        if axes:
            image[n], lesion[n] = image[n].flip(axes), lesion[n].flip(axes)
    return image, lesion
