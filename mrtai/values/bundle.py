"""Trained models as the house sees them: what they must be given, what they answer, and which file holds their weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

OUR_AXES: Final = "SPL"
DIRECTIONS: Final = ("SI", "PA", "LR")
LARGEST_WINDOW: Final = 512
LARGEST_SPACING_MM: Final = 50.0


def require_axes(axes: str) -> None:
    """Raise ``ValueError`` where three letters do not name one direction of each patient axis."""
    if sorted(next((n for n, pair in enumerate(DIRECTIONS) if letter in pair), -1) for letter in axes) != [0, 1, 2]:
        raise ValueError(f"axes: one letter each of SI, PA and LR is needed, got {axes!r}")


@dataclass(frozen=True, slots=True)
class Channel:
    """One input channel: values are clipped to ``low`` … ``high``, then become ``(value - shift) / scale``.

    Attributes:
        quantity: what the values mean: ``HU``, ``SUV``, or a name that the model's card explains.
        outside: the value where the image does not reach (air is -1000 HU).
        stretched: the image's own lowest and highest value within ``low`` … ``high`` become 0 and 1 before shift and scale.
    """

    quantity: str
    low: float
    high: float
    shift: float
    scale: float
    outside: float
    stretched: bool = False

    def __post_init__(self) -> None:
        numbers = (self.low, self.high, self.shift, self.scale, self.outside)
        if not all(isfinite(number) for number in numbers) or self.low >= self.high or self.scale == 0:
            raise ValueError(f"channel {self.quantity}: finite numbers, low below high and a scale are needed, got {numbers}")

    @property
    def seen_outside(self) -> float:
        """What the network sees where the image does not reach."""
        return (min(max(self.outside, self.low), self.high) - self.shift) / self.scale


@dataclass(frozen=True, slots=True)
class InputContract:
    """The lattice a model was trained on: along the patient axes, ``(z, y, x)``, LPS.

    Attributes:
        channels: in the order of the network's input.
        spacing_mm: edge of its cubic voxels.
        patch: voxels of one window ``(z, y, x)``, whatever ``axes`` the network wants.
        axes: where the network's own three axes lead, in nibabel's letters: ``SPL`` is our ``(z, y, x)``, ``RAS`` MONAI's usual order.
    """

    channels: tuple[Channel, ...]
    spacing_mm: float
    patch: tuple[int, int, int]
    axes: str = OUR_AXES

    def __post_init__(self) -> None:
        if not self.channels or not 0 < self.spacing_mm < LARGEST_SPACING_MM:
            raise ValueError(f"contract: a channel and a spacing are needed, got {len(self.channels)} and {self.spacing_mm} mm")
        if len(self.patch) != 3 or not all(0 < n <= LARGEST_WINDOW for n in self.patch):
            raise ValueError(f"contract: a window of three lengths up to {LARGEST_WINDOW} voxels is needed, got {self.patch}")
        require_axes(self.axes)


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
        caution: what every report says of this model, where it does less well than it should; empty where it does.
        caution_regions: the regions that it does less well, all where none is named.
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
    caution: str = ""
    caution_regions: tuple[str, ...] = ()
    intended_use: str = ""

    def __post_init__(self) -> None:
        if not self.classes or min(self.classes) < 1:
            raise ValueError(f"classes: regions of channels from 1 are needed, got channels {sorted(self.classes)}")
        object.__setattr__(self, "classes", MappingProxyType(dict(sorted(self.classes.items()))))

    @property
    def label(self) -> str:
        """Name and version as the report gives them: ``organs-ct@1.0.0``."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A verified model that draws nothing: it takes numbers and answers numbers, as its engine knows them.

    Attributes:
        task: what it does: ``kinetics``.
        weights: the ONNX file; ``sha256`` its digest.
        envelope: ranges of its inputs within which it was trained, by name; outside them its engine does without it.
        caution, intended_use: as of a ``Bundle``.
    """

    name: str
    version: str
    task: str
    weights: Path
    sha256: str
    envelope: Mapping[str, Any] = field(default_factory=dict)
    caution: str = ""
    intended_use: str = ""

    @property
    def label(self) -> str:
        """Name and version as the report gives them: ``curve-net@1.0.0``."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an ONNX file does with one window: channels it took, channels it gave."""

    inputs: int
    outputs: int
