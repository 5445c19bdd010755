"""What contours and dose maps of two sides say of each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels


@dataclass(frozen=True, slots=True, eq=False)
class CycleMaps:
    """Contours and dose of one side, in the place of the reference scan.

    Attributes:
        contours: regions on the grid they were drawn on; ``labels`` the same on the grid of the dose.
        dose: absorbed dose [Gy], None where that side has contours alone.
        members: by name of a union its contours; a contour under another name in the report is a union of one.
    """

    contours: Labels
    labels: Labels
    dose: Image | None
    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dose is not None and not self.dose.require(Quantity.ABSORBED_DOSE).grid.same_as(self.labels.grid):
            raise ValueError("maps: the labels must lie on the grid of the dose")

    def contour(self, name: str) -> NDArray[np.bool_] | None:
        """Return the voxels of a region where it was drawn, shape ``(z, y, x)``; None where nobody drew it."""
        return self.masked(self.contours, name)

    def on_dose(self, name: str) -> NDArray[np.bool_] | None:
        """Return the voxels of a region on the grid of the dose, shape ``(z, y, x)``; None where nobody drew it."""
        return self.masked(self.labels, name)

    def masked(self, labels: Labels, name: str) -> NDArray[np.bool_] | None:
        """Return the voxels of a region in these contours on whatever grid, shape ``(z, y, x)``; None where it has none."""
        values = {own: value for value, own in labels.names.items()}
        wanted = self.members.get(name, (name,))
        if not wanted or any(member not in values for member in wanted):
            return None
        mask: NDArray[np.bool_] = np.isin(labels.voxels, [values[member] for member in wanted])
        return mask if mask.any() else None


@dataclass(frozen=True, slots=True)
class Criterion:
    """A gamma criterion: dose difference [%] and distance to agreement [mm].

    ``local``: per cent of the manual dose at the point, else of its maximum.
    """

    percent: float
    mm: float
    local: bool = False


@dataclass(frozen=True, slots=True)
class GammaPassed:
    """How many points of the manual dose map the automatic one passes; ``points`` above the cut-off and inside both maps."""

    criterion: Criterion
    points: int
    passed: int


@dataclass(frozen=True, slots=True)
class ContourAgreement:
    """Two contours of one region.

    Attributes:
        mean_surface_mm: mean distance of one surface to the other, both ways together; None where the contours have no surface.
        surface_95_mm: the larger of both ways' 95th percentiles.
        volume_ratio: automatic to manual.
    """

    dice: float
    mean_surface_mm: float | None
    surface_95_mm: float | None
    volume_ratio: float


@dataclass(frozen=True, slots=True)
class DvhAgreement:
    """Doses of one region's volume on both sides [Gy]; ``d98`` is received by at least 98 % of it.

    ``receiving``: share of the automatic region that gets at least the manual side's D50, which half of that one gets.
    """

    auto_gy: Mapping[str, float]
    manual_gy: Mapping[str, float]
    receiving: float


@dataclass(frozen=True, slots=True)
class MapShares:
    """What the contour and all else add to ln(auto/manual) of a region's mean dose, each dose map averaged in each contour."""

    contour: float
    rest: float


@dataclass(frozen=True, slots=True)
class RegionMaps:
    """What the maps say of one region of one cycle, None where a side has no such map."""

    patient: str
    cycle: int
    region: str
    contour: ContourAgreement | None
    dvh: DvhAgreement | None
    gamma: tuple[GammaPassed, ...] = ()
    shares: MapShares | None = None


@dataclass(frozen=True, slots=True)
class CycleGamma:
    """Gamma of one cycle's whole dose maps."""

    patient: str
    cycle: int
    gamma: tuple[GammaPassed, ...]


@dataclass(frozen=True, slots=True)
class MapsCompared:
    """All that contours and maps say of two sides."""

    regions: tuple[RegionMaps, ...] = ()
    cycles: tuple[CycleGamma, ...] = ()
