"""The network of `dose-net`: a residual U-Net whose answer multiplies the dose it is given."""

from typing import Final

import torch
from monai.networks.nets import UNet

from mrtai.engines.dose_net_input import DOSE_NET_CONTRACT

CHANNELS: Final = (32, 48, 64, 64)
_FEATURES: Final = 16
LARGEST_LOG: Final = 2.0
"""Of the factor on the dose, either way: e² = 7."""
LOG_SD: Final = (-5.0, 2.0)


class DoseNet(torch.nn.Module):
    """Input ``(n, channels, z, y, x)``, axes multiples of 8; ``(n, 2, z, y, x)`` out: log of dose/base, and log of its sd/base.

    Batch norm, not instance norm: what a voxel's dose is must not depend on what else its window shows.
    """

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        """Make the network; untrained, it gives the base's own dose."""
        super().__init__()
        strides = (1,) + (2,) * (len(channels) - 2)
        self.body = UNet(3, len(DOSE_NET_CONTRACT.channels), _FEATURES, channels, strides, num_res_units=2, norm="BATCH")
        self.head = torch.nn.Conv3d(_FEATURES, 2, 1)
        torch.nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor([0.0, -1.5]))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the two logarithms."""
        answer = self.head(self.body(image))
        change = LARGEST_LOG * torch.tanh(answer[:, :1] / LARGEST_LOG)
        return torch.cat([change, answer[:, 1:].clamp(*LOG_SD)], dim=1)
