"""Contours as an exclusive label map with names."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrtai.values.flag import Flag
from mrtai.values.grid import Grid

VIRTUAL_ORIGIN = "virtual patient (truth)"
"""Origin of contours that a simulator knows instead of drawing them."""


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Regions of one grid; every voxel belongs to at most one region.

    Attributes:
        voxels: integers of shape ``(z, y, x)``; 0 is no region.
        names: region name by label value; every value that occurs has one.
        grid: where the voxels lie.
        source_names: name in the source (RTSTRUCT, SEG) by label value, where it differs.
        origin: where the contours come from, for the report ("RTSTRUCT", "given labels.nii.gz", "organs-ct@1.0.0").
        flags: what makes contours doubtful, by region name; under ``""`` what concerns them all.
        tracking_uids: what identifies a lesion over scans and cycles, by region name, where anything does.
    """

    voxels: NDArray[np.integer[Any]]
    names: Mapping[int, str]
    grid: Grid
    source_names: Mapping[int, str] = field(default_factory=dict)
    origin: str = "given"
    flags: Mapping[str, tuple[Flag, ...]] = field(default_factory=dict)
    tracking_uids: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.voxels.shape != self.grid.shape:
            raise ValueError(f"labels: voxels {self.voxels.shape} do not fill the grid {self.grid.shape}")
        nameless = sorted(set(np.unique(self.voxels).tolist()) - {0} - set(self.names))
        if nameless:
            raise ValueError(f"labels: values {nameless} have no name")
        if len(set(self.names.values())) != len(self.names):
            raise ValueError(f"labels: names must differ, got {sorted(self.names.values())}")
        view = self.voxels.view()
        view.setflags(write=False)
        object.__setattr__(self, "voxels", view)
        object.__setattr__(self, "names", MappingProxyType(dict(sorted(self.names.items()))))
        object.__setattr__(self, "source_names", MappingProxyType(dict(self.source_names)))
        object.__setattr__(self, "flags", MappingProxyType({name: tuple(flags) for name, flags in self.flags.items()}))
        object.__setattr__(self, "tracking_uids", MappingProxyType(dict(self.tracking_uids)))

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Return the voxels of region ``name``, shape ``(z, y, x)``; ``KeyError`` when there is no such region."""
        value = {n: v for v, n in self.names.items()}[name]
        inside: NDArray[np.bool_] = self.voxels == value
        return inside

    def with_flags(self, flags: Mapping[str, tuple[Flag, ...]]) -> "Labels":
        """Return the contours with further flags by region name."""
        return replace(self, flags={**self.flags, **{name: (*self.flags.get(name, ()), *further) for name, further in flags.items()}})
