"""The network of `lesions`, and its answer for a whole image."""

from typing import Final

import numpy as np
import torch
from monai.networks.nets import UNet
from numpy.typing import NDArray

from mrtai.engines.lesion_input import LESION_CONTRACT

CHANNELS: Final = (16, 32, 64, 128)
CLASSES: Final = ("background", "lesion")


def lesion_net(channels: tuple[int, ...] = CHANNELS) -> UNet:
    """Return a residual U-Net with random weights: input ``(n, channels, z, y, x)``, scores ``(n, classes, z, y, x)``.

    Batch norm, not instance norm: what a voxel is must not depend on what else its window happens to show, and the level of uptake counts.
    """
    return UNet(3, len(LESION_CONTRACT.channels), len(CLASSES), channels, (2,) * (len(channels) - 1), num_res_units=2, norm="BATCH")


def shares(network: torch.nn.Module, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the share of each class, ``(classes, z, y, x)``, of a whole input ``(channels, z, y, x)`` in one window."""
    # as far as the windows of the engine reach, so that both see the same rim
    rest = [(max(64, -(-n // 8) * 8) - n) for n in image.shape[1:]]
    outside = [(np.clip(c.outside, c.low, c.high) - c.shift) / c.scale for c in LESION_CONTRACT.channels]
    planes = [np.pad(plane, [(0, n) for n in rest], constant_values=value) for plane, value in zip(image, outside, strict=True)]
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        scores = network.eval()(torch.from_numpy(np.stack(planes)[None].astype(np.float32))).float()
    z, y, x = image.shape[1:]
    answer: NDArray[np.float32] = torch.softmax(scores, dim=1)[0, :, :z, :y, :x].numpy()
    return answer
