"""Contours that somebody else drew: a file, or the study's own SEG or RTSTRUCT."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy import ndimage

from mrtai.physics.organ_positions import swapped
from mrtai.values.flag import Flag
from mrtai.values.grid import Grid
from mrtai.values.labels import Labels
from mrtai.values.refusal import DosimetryError
from mrtai.values.report import Aligned

REST: Final = ("body", "remainder")


@dataclass(frozen=True, slots=True, eq=False)
class GivenLabels:
    """Takes ``labels`` when given, else the contours that came with the earliest scan, the reference scan first.

    ``labels`` must lie on the grid of one of the study's CTs or SPECTs; contours of a later scan are carried by its alignment.
    """

    labels: Labels | None = None

    def __call__(self, aligned: Aligned) -> Labels:
        """Return the contours in the reference scan's space; see ``ports.Segmenter``."""
        order = sorted(range(len(aligned.cycle.time_points)), key=lambda scan: (scan != aligned.reference, scan))
        for scan in order:
            point = aligned.cycle.time_points[scan]
            if self.labels is None and point.contours is not None:
                return _carried(point.contours, aligned, scan)
            if self.labels is not None and any(self.labels.grid.same_as(grid) for grid in _grids(aligned, scan)):
                # several scans may share one lattice: geometry cannot tell, so the report says which was assumed
                taken = replace(self.labels, origin=f"{self.labels.origin}, taken as drawn on scan {point.index}")
                return _carried(taken, aligned, scan)
        if self.labels is None:
            raise DosimetryError(
                "no contours",
                where="study",
                found="no SEG, no RTSTRUCT and no segmentation model in the protocol",
                remedy="give a label map with --labels",
                code="NO_CONTOURS",
            )
        spacing = np.round(self.labels.grid.spacing_mm, 3).tolist()
        raise DosimetryError(
            "labels on a foreign grid",
            where="--labels",
            found=f"{self.labels.grid.shape} voxels (z, y, x) of {spacing} mm, no scan has this grid",
            remedy="draw or resample them on the CT or the SPECT of one of the scans",
            code="FOREIGN_GRID",
        )


def _sides(labels: Labels) -> dict[str, tuple[Flag, ...]]:
    """Return flags by name of regions that lie on the wrong side: a person's hand slips, and exports mirror."""
    values = [value for value in labels.names if np.any(labels.voxels == value)]
    centres = ndimage.center_of_mass(np.ones_like(labels.voxels), labels.voxels, values)
    centres_mm = {labels.names[v]: (labels.grid.affine @ [*centre[::-1], 1.0])[:3] for v, centre in zip(values, centres, strict=True)}
    found: dict[str, tuple[Flag, ...]] = {}
    for name, flag in swapped(centres_mm):
        found[name] = (*found.get(name, ()), flag)
    return found


def _without_rest(labels: Labels) -> Labels:
    """Return the labels without a contour of the whole body or its rest: the report sums these up from what lies in no region."""
    rest = [value for value, name in labels.names.items() if name in REST]
    if not rest:
        return labels
    names = {value: name for value, name in labels.names.items() if value not in rest}
    return replace(labels, voxels=np.where(np.isin(labels.voxels, rest), 0, labels.voxels), names=names)


def _grids(aligned: Aligned, scan: int) -> tuple[Grid, ...]:
    point = aligned.cycle.time_points[scan]
    return (point.spect.grid,) if point.ct is None else (point.ct.grid, point.spect.grid)


def _carried(labels: Labels, aligned: Aligned, scan: int) -> Labels:
    if not labels.voxels.any():
        raise DosimetryError(
            "contours are empty", where="contours", found="no voxel in any region", remedy="check the label map", code="EMPTY"
        )
    labels = _without_rest(labels)
    alignment = aligned.alignments[scan]
    labels = labels.with_flags(_sides(labels))
    return replace(labels, grid=labels.grid.moved(alignment.transform)) if alignment.moved else labels
