"""A trained model as the house sees it: what it must be given, what it answers, and which file holds its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Channel:
    """One input channel: values are clipped to ``low`` … ``high``, then become ``(value - shift) / scale``.

    Attributes:
        quantity: what the values mean: ``HU``, ``SUV``, or a name that the model's card explains.
        outside: the value where the image does not reach (air is -1000 HU).
    """

    quantity: str
    low: float
    high: float
    shift: float
    scale: float
    outside: float


@dataclass(frozen=True, slots=True)
class InputContract:
    """The lattice a model was trained on: along the patient axes, ``(z, y, x)``, LPS.

    Attributes:
        channels: in the order of the network's input.
        spacing_mm: edge of its cubic voxels.
        patch: voxels of one window ``(z, y, x)``.
    """

    channels: tuple[Channel, ...]
    spacing_mm: float
    patch: tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A verified model.

    Attributes:
        name, version: ``organs-ct``, ``1.0.0``.
        task: what it draws: ``organs`` or ``lesions``.
        weights: the ONNX file; ``sha256`` its digest.
        contract: what it must be given.
        classes: region name by output channel; channel 0 is the background and not named, ``body`` the body in no region.
        envelope: statistics of what it was trained on, by which a gate knows a foreign image.
        intended_use: one sentence of its card.
    """

    name: str
    version: str
    task: str
    weights: Path
    sha256: str
    contract: InputContract
    classes: Mapping[int, str]
    envelope: Mapping[str, Any] = field(default_factory=dict)
    intended_use: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", MappingProxyType(dict(sorted(self.classes.items()))))

    @property
    def label(self) -> str:
        """Name and version as the report gives them: ``organs-ct@1.0.0``."""
        return f"{self.name}@{self.version}"
