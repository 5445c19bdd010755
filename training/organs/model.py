"""The network of `organs-ct`."""

import torch
from monai.networks.nets import UNet

from training.organs.tissues import CLASSES

CHANNELS = (24, 48, 96, 192, 256)
_SCORES = 16
"""Channels that the last layers work on: a multiple of 16 is a fifth faster on a CPU than one a class; the rest is cut off."""


class OrganNet(torch.nn.Module):
    """A residual U-Net: CT in ``(n, 1, z, y, x)``, one score a class out ``(n, classes, z, y, x)``.

    Its first step halves the resolution, so most of the work is done at 6 mm and the scores still come at 3 mm: a torso takes
    seconds on a CPU.
    """

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        """Make the network with random weights; axes of the input are multiples of two to the number of steps."""
        super().__init__()
        strides = (2,) * (len(channels) - 1)
        self.net = UNet(3, 1, _SCORES, channels, strides, num_res_units=2, norm="INSTANCE")

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the scores of ``image``."""
        scores: torch.Tensor = self.net(image)
        return scores[:, : len(CLASSES)]
