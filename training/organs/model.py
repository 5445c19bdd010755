"""The network of `organs-ct`: what is where at 12 mm, its shape at 6 mm, its outline at 3 mm."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets import UNet

from mrtai.io.hashes import file_sha256
from training.exported import read_tensors
from training.organs.tissues import CLASSES

CHANNELS: Final = (32, 64, 128, 256)
PARTS: Final = ("coarse", "middle", "fine")
_SCORES: Final = 16
"""Channels that the last layers work on: a multiple of 16 is a fifth faster on a CPU than one a class; the rest is cut off."""


class OrganNet(torch.nn.Module):
    """CT in ``(n, 1, z, y, x)``, one score a class out ``(n, classes, z, y, x)``.

    ``coarse``, a residual U-Net, sees the picture averaged to a quarter of its resolution: organs are recognised by what surrounds
    them, and there a sample costs a hundredth, so that it can see a hundred times the torsos. ``middle`` and ``fine`` correct its
    scores at twice and four times the resolution.
    """

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        """Make the network with random weights; axes of the input are multiples of 16 for four numbers of channels."""
        super().__init__()
        half = tuple(max(c // 2, 4) for c in channels[:3])
        self.coarse = UNet(3, 1, _SCORES, channels, (1,) + (2,) * (len(channels) - 2), num_res_units=2)
        self.middle = UNet(3, 1 + _SCORES, _SCORES, half, (1, 2), num_res_units=2)
        self.fine = torch.nn.Sequential(
            Convolution(3, 1 + _SCORES, _SCORES),
            Convolution(3, _SCORES, _SCORES),
            Convolution(3, _SCORES, _SCORES, kernel_size=1, conv_only=True),
        )

    def forward(self, image: torch.Tensor, coarser: int = 1) -> torch.Tensor:
        """Return the scores of ``image`` on its own lattice, whose voxels are ``coarser`` (1, 2 or 4) times those of the full picture."""
        scores: torch.Tensor = self.coarse(_averaged(image, 4 // coarser))
        if coarser <= 2:
            scores = _corrected(self.middle, _averaged(image, 2 // coarser), scores)
        if coarser == 1:
            scores = _corrected(self.fine, image, scores)
        return scores[:, : len(CLASSES)]


def _averaged(image: torch.Tensor, width: int) -> torch.Tensor:
    return image if width == 1 else torch.nn.functional.avg_pool3d(image, width)


def _corrected(part: torch.nn.Module, image: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Return scores of half the resolution, brought to that of ``image`` and corrected there."""
    wide = torch.nn.functional.interpolate(scores, scale_factor=2.0, mode="trilinear", align_corners=False)
    corrected: torch.Tensor = wide + part(torch.cat([image, wide], dim=1))
    return corrected


def begun_from(weights: Path, net: OrganNet, parts: tuple[str, ...] = PARTS) -> int:
    """Give ``parts`` of ``net`` the weights of an exported ONNX file where name and shape agree, and return how many tensors did.

    ``ValueError`` where none does: the file is another network's.
    """
    own, (stored, nodes) = net.state_dict(), read_tensors(weights)
    for node in nodes:
        if node.op_type == "PRelu":  # the exporter reshapes and renames these; the node's path still tells where they belong
            path = ".".join(part.rsplit(".", 1)[-1] for part in node.name.split("/")[1:-1])
            stored[f"{path}.weight"] = stored[node.input[1]].flatten()
    fitting = {
        name: tensor for name, tensor in stored.items() if name in own and name.startswith(parts) and tensor.shape == own[name].shape
    }
    if not fitting:
        raise ValueError(f"{weights} holds no weights of this network")
    net.load_state_dict({**own, **fitting})
    return len(fitting)


@dataclass(frozen=True, slots=True)
class Borrowed:
    """Parts of the network that are taken from another exported model, where its own did not become better."""

    parts: tuple[str, ...] = ()
    model: Path | None = None

    def told(self) -> str:
        """Return it for the card."""
        if self.model is None:
            return ""
        return f"; parts {', '.join(self.parts)} taken from weights of SHA-256 {file_sha256(self.model)}"


NOTHING: Final = Borrowed()


def weights_of(work: Path, borrowed: Borrowed = NOTHING) -> OrganNet:
    """Return the trained network of a work folder."""
    net, own = OrganNet(), torch.load(work / "weights.pt", map_location="cpu", weights_only=True)
    if borrowed.model is not None:
        begun_from(borrowed.model, net, borrowed.parts)
        own = {name: value for name, value in own.items() if not name.startswith(borrowed.parts)}
    net.load_state_dict({**net.state_dict(), **own})
    return net.eval()


def digest(net: torch.nn.Module) -> str:
    """Return the SHA-256 of all weights of a network, by which an evaluation knows whose it is."""
    parts = [value.detach().cpu().contiguous().numpy().tobytes() for _, value in sorted(net.state_dict().items())]
    return hashlib.sha256(b"".join(parts)).hexdigest()
