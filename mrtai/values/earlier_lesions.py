"""The lesions of an earlier cycle, where they lay then, with the image that says where that was."""

from dataclasses import dataclass

from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels


@dataclass(frozen=True, slots=True, eq=False)
class EarlierLesions:
    """Contours of lesions, each with its tracking UID, in the space of ``ct`` and ``spect``; at least one of them is there.

    Attributes:
        cycle: its number.
        labels: lesions alone.
    """

    cycle: int
    labels: Labels
    ct: Image | None
    spect: Image | None

    def __post_init__(self) -> None:
        if self.ct is None and self.spect is None:
            raise ValueError("earlier lesions: an image is needed to say where they lay")
        if set(self.labels.names.values()) != set(self.labels.tracking_uids):
            raise ValueError("earlier lesions: every one needs its tracking UID")
        if self.ct is not None:
            self.ct.require(Quantity.HOUNSFIELD)
        if self.spect is not None:
            self.spect.require(Quantity.ACTIVITY_CONCENTRATION)
