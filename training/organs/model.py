"""The network of `organs-ct`: what is where at 6 mm, and its outline at 3 mm."""

from typing import Final

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets import UNet

from training.organs.tissues import CLASSES

CHANNELS: Final = (16, 32, 64, 128, 256)
COARSER: Final = 2
_SCORES: Final = 16
"""Channels that the last layers work on: a multiple of 16 is a fifth faster on a CPU than one a class; the rest is cut off."""


class OrganNet(torch.nn.Module):
    """CT in ``(n, 1, z, y, x)``, one score a class out ``(n, classes, z, y, x)``.

    ``coarse``, a residual U-Net, works on the picture averaged to half its resolution: organs are recognised by what surrounds
    them, and an eighth of the voxels lets it see eight times the torsos in the same time. ``fine`` moves its outlines on the full
    picture.
    """

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        """Make the network with random weights; axes of the input are multiples of ``2 ** len(channels)``."""
        super().__init__()
        strides = (1,) + (2,) * (len(channels) - 2)
        self.coarse = UNet(3, 1, _SCORES, channels, strides, num_res_units=2, norm="INSTANCE")
        self.fine = torch.nn.Sequential(
            Convolution(3, 1 + _SCORES, _SCORES, norm="INSTANCE"),
            Convolution(3, _SCORES, _SCORES, norm="INSTANCE"),
            Convolution(3, _SCORES, _SCORES, kernel_size=1, conv_only=True),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the scores of ``image``."""
        coarse = self.coarse(torch.nn.functional.avg_pool3d(image, COARSER))
        wide = torch.nn.functional.interpolate(coarse, scale_factor=float(COARSER), mode="trilinear", align_corners=False)
        scores: torch.Tensor = wide + self.fine(torch.cat([image, wide], dim=1))
        return scores[:, : len(CLASSES)]

    def at_half_resolution(self, image: torch.Tensor) -> torch.Tensor:
        """Return the coarse scores of a picture that has half the resolution already."""
        scores: torch.Tensor = self.coarse(image)
        return scores[:, : len(CLASSES)]
