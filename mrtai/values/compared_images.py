"""What a case keeps of its way from image to dose, so that any step of it can be taken again."""

from dataclasses import dataclass

from mrtai.values.labels import Labels
from mrtai.values.protocol import Protocol
from mrtai.values.study import Cycle


@dataclass(frozen=True, slots=True, eq=False)
class CycleImages:
    """One side's images and choices.

    Attributes:
        cycle: the scans as they lie on the grid of the reference scan, which alone has its CT.
        contours: regions on the grid they were drawn on; ``labels`` the same on the grid of the scans, as that case measured in them.
        protocol: with kinetics, dose engine and partial volume as they were chosen for that case.
        whole: True where every scan saw every region whole.
    """

    cycle: Cycle
    contours: Labels
    labels: Labels
    protocol: Protocol
    whole: bool
