"""A network of known weights: what it draws can be said in advance."""

import numpy as np
import torch

from mrtai.values.bundle import Channel, InputContract
from training.export import Model, export

CONTRACT = InputContract((Channel("HU", -1000.0, 1000.0, 0.0, 1000.0, -1000.0),), 3.0, (32, 32, 32))
CLASSES = ("background", "body", "lung_left", "liver")


class ByNumber(torch.nn.Module):
    """Air below -227 HU, `lung_left` to -85, body to 45, liver above; scores fall off smoothly."""

    def __init__(self):
        super().__init__()
        self.middles = torch.nn.Parameter(torch.tensor([-1.0, -0.02, -0.15, 0.11]).reshape(1, 4, 1, 1, 1))
        self.widths = torch.nn.Parameter(torch.tensor([0.5, 0.05, 0.05, 0.05]).reshape(1, 4, 1, 1, 1))

    def forward(self, image):
        return -(((image - self.middles) / self.widths) ** 2)


def write_bundle(folder, network=None, classes=CLASSES, contract=CONTRACT):
    """Write a bundle into ``folder`` and return it."""
    model = Model(folder.name, "1.2.3", "organs", "by CT number", contract, classes, {}, "", {}, {}, (), "none")
    sample = np.linspace(-1, 1, 16**3 * len(contract.channels), dtype=np.float32).reshape(len(contract.channels), 16, 16, 16)
    export(network or ByNumber(), folder, model, [sample])
    return folder
