"""The network of `lesions`: what is a lesion at 8 mm, its outline at 4 mm; and its answer for a whole image."""

import math
from typing import Final

import numpy as np
import torch
from monai.networks.blocks import Convolution
from monai.networks.nets import UNet
from numpy.typing import NDArray

from mrtai.engines.lesion_input import LESION_CONTRACT
from mrtai.engines.prepare import filled_up
from training.precision import mixed

CHANNELS: Final = (24, 48, 96, 128, 160)
CLASSES: Final = ("background", "lesion")
_SCORES: Final = 16
"""Channels handed from coarse to fine: a multiple of 16 is fast on a CPU."""

DRAWN_FROM: Final = 0.35
"""Share of a lesion from which the trained network is to draw one: ``training.lesions.measure --choose``, and what the gate lets pass."""


class LesionNet(torch.nn.Module):
    """Input ``(n, channels, z, y, x)``, axes multiples of 16; scores out ``(n, classes, z, y, x)``.

    ``coarse``, a residual U-Net, sees the image averaged to half its resolution: there a kidney is told from a lesion by what surrounds
    it, at an eighth of the cost. ``fine`` corrects its scores at full resolution. Batch norm, not instance norm: what a voxel is must not
    depend on what else its window shows, and the level of uptake counts.
    """

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        """Make the network with random weights."""
        super().__init__()
        inputs, strides = len(LESION_CONTRACT.channels), (1,) + (2,) * (len(channels) - 2)
        self.coarse = UNet(3, inputs, _SCORES, channels, strides, num_res_units=2, norm="BATCH")
        self.fine = torch.nn.Sequential(
            Convolution(3, inputs + _SCORES, _SCORES, norm="BATCH"),
            Convolution(3, _SCORES, _SCORES, norm="BATCH"),
            Convolution(3, _SCORES, _SCORES, kernel_size=1, conv_only=True),
        )

    def forward(self, image: torch.Tensor, coarser: int = 1) -> torch.Tensor:
        """Return the scores of ``image`` on its own lattice, whose voxels are ``coarser`` (1 or 2) times those of the full image."""
        if coarser == 2:  # a plain number, fixed in the exported graph
            scores: torch.Tensor = self.coarse(image)
            return scores[:, : len(CLASSES)]
        below = self.coarse(torch.nn.functional.avg_pool3d(image, 2))
        wide = torch.nn.functional.interpolate(below, scale_factor=2.0, mode="trilinear", align_corners=False)
        corrected: torch.Tensor = wide + self.fine(torch.cat([image, wide], dim=1))
        return corrected[:, : len(CLASSES)]


def drawing_from(share: float, network: LesionNet) -> LesionNet:
    """Return the network with its answers moved, in place, so that what was ``share`` is one half: there every model's lesions begin."""
    last = network.get_parameter(f"fine.{len(network.fine) - 1}.conv.bias")
    with torch.no_grad():
        last[CLASSES.index("lesion")] += math.log((1 - share) / share)
    return network


def shares(network: torch.nn.Module, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the share of each class, ``(classes, z, y, x)``, of a whole input ``(channels, z, y, x)`` in one window.

    Mean of the patient and its mirror image, as the engine has it.
    """
    # as far as the windows of the engine reach, so that both see the same rim
    padded = filled_up(image, [max(64, -(-n // 16) * 16) for n in image.shape[1:]], LESION_CONTRACT.channels)
    device = next(network.parameters()).device
    with torch.inference_mode(), mixed(device.type):
        seen = torch.from_numpy(padded[None]).to(device)
        both = [torch.softmax(network.eval()(one).float(), dim=1) for one in (seen, seen.flip(-1))]
    z, y, x = image.shape[1:]
    answer: NDArray[np.float32] = ((both[0] + both[1].flip(-1)) / 2)[0, :, :z, :y, :x].cpu().numpy()
    return answer
