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
    """Input ``(n, channels, z, y, x)``, axes multiples of 8; ``(n, 4, z, y, x)`` out: log of dose/base, and log of its sd/base.

    Two of each: for a base by the iterative Yang method, and for one by recovery, which leave different errors of the same scans.
    Batch norm, not instance norm: what a voxel's dose is must not depend on what else its window shows.
    """

    def __init__(self, channels: tuple[int, ...] = CHANNELS, planes: int = 4) -> None:
        """Make the network; untrained, it gives the base's own dose. ``planes`` of its answer: 2 without those of recovered bases."""
        super().__init__()
        strides = (1,) + (2,) * (len(channels) - 2)
        self.body = UNet(3, len(DOSE_NET_CONTRACT.channels), _FEATURES, channels, strides, num_res_units=2, norm="BATCH")
        self.head = torch.nn.Conv3d(_FEATURES, planes, 1)
        torch.nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor([0.0, -1.5, 0.0, -1.5])[:planes])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logarithms."""
        answer = self.head(self.body(image))
        change, sd = LARGEST_LOG * torch.tanh(answer / LARGEST_LOG), answer.clamp(*LOG_SD)
        return torch.cat([change[:, :1], sd[:, 1:2], change[:, 2:3], sd[:, 3:]], dim=1)


class Answers(torch.nn.Module):
    """What is shipped: the answers of one network to maps as scanned and of another, or the same, to maps with recovery."""

    def __init__(self, scanned: torch.nn.Module, recovered: torch.nn.Module) -> None:
        """Take two networks."""
        super().__init__()
        self.scanned, self.recovered = scanned, recovered

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the two logarithms ``(n, 2, z, y, x)`` of either base."""
        return self.scanned(image)[:, :2], self.recovered(image)[:, 2:]


def of_base(answer: torch.Tensor, recovered: torch.Tensor) -> torch.Tensor:
    """Return the two logarithms ``(n, 2, z, y, x)`` of an answer ``(n, 4, z, y, x)`` that are of each sample's base, ``(n,)``."""
    return torch.where(recovered.view(-1, 1, 1, 1, 1), answer[:, 2:], answer[:, :2])
