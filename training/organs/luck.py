"""Random numbers for a batch of pictures: the few that describe a picture from the CPU, those of every voxel on the device."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

REACH: Final = 3
"""Voxels to either side that a blur averages over: enough for a Gaussian of one voxel and a half."""


class Luck:
    """Draws for ``pictures`` pictures at once; one number a picture has shape ``(pictures, 1, 1, 1)``."""

    def __init__(self, seed: int | tuple[int, ...], pictures: int, device: str = "cpu") -> None:
        """Begin anew: the same seed gives the same numbers, those of voxels only on the same kind of device."""
        self.rng, self.pictures, self.device = np.random.default_rng(seed), pictures, device
        self._voxels = torch.Generator(device).manual_seed(int(self.rng.integers(2**62)))

    def uniform(self, low: float, high: float) -> torch.Tensor:
        """Return one number a picture between ``low`` and ``high``."""
        return self.sent(self.rng.uniform(low, high, self.pictures))

    def normal(self, mean: float, sd: float) -> torch.Tensor:
        """Return one number a picture around ``mean``."""
        return self.sent(self.rng.normal(mean, sd, self.pictures))

    def chance(self, share: float) -> torch.Tensor:
        """Return True for a ``share`` of the pictures."""
        return self.uniform(0, 1) < share

    def sent(self, numbers: NDArray[np.float64]) -> torch.Tensor:
        """Return one number a picture on the device."""
        return torch.from_numpy(numbers.astype(np.float32)).to(self.device).view(-1, 1, 1, 1)

    def white(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Return white noise of unit standard deviation, ``(pictures, *shape)``."""
        return torch.randn((self.pictures, *shape), generator=self._voxels, device=self.device)

    def smooth(self, shape: tuple[int, ...], scale: float) -> torch.Tensor:
        """Return smooth noise of unit standard deviation whose bumps are some ``scale`` voxels wide, ``(pictures, z, y, x)``."""
        cells = [int(np.ceil(n / max(scale, 1.0))) + 3 for n in shape]
        wide = torch.nn.functional.interpolate(self.white((1, *cells)), size=shape, mode="trilinear", align_corners=True)[:, 0]
        return wide / wide.std(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)


def blurred(image: torch.Tensor, sigma: torch.Tensor, axes: tuple[int, ...] = (1, 2, 3)) -> torch.Tensor:
    """Return pictures ``(n, z, y, x)`` blurred by a Gaussian of ``sigma`` voxels, ``(n, 1, 1, 1)``, along some axes; edges go on."""
    steps = torch.arange(-REACH, REACH + 1, device=image.device)
    weights = torch.exp(-0.5 * (steps / sigma.clamp(min=0.1)) ** 2)  # (n, 1, 1, steps)
    weights = weights / weights.sum(dim=3, keepdim=True)
    for axis in axes:
        length = image.shape[axis]
        ends = image.narrow(axis, 0, 1), image.narrow(axis, length - 1, 1)
        longer = torch.cat([ends[0]] * REACH + [image] + [ends[1]] * REACH, dim=axis)
        image = weights[..., :1] * longer.narrow(axis, 0, length)
        for step in range(1, 2 * REACH + 1):
            image = image + weights[..., step : step + 1] * longer.narrow(axis, step, length)
    return image
