"""Every scan of a cycle on the grid of the first complete one, with the density there."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrtai.physics.resample import averaged, resampled, within
from mrtai.physics.tissue import body_from_activity, body_outline, density, water_in
from mrtai.values.flag import Flag, Severity
from mrtai.values.image import Image, Quantity
from mrtai.values.report import Aligned, Alignment
from mrtai.values.study import Cycle, TimePoint

Aligner = Callable[[Image, Image], Alignment]

MOST_OUTSIDE_CT: Final = 0.05

IDENTITY: Final = Alignment(np.eye(4), False, 0.0, 0.0, 0.0, 1.0, 1.0)


def on_one_grid(cycle: Cycle, aligner: Aligner) -> Aligned:
    """Return the scans on the reference scan's SPECT grid: the first with a CT, else the first.

    A later scan is registered by its CT where both have one, else by its SPECT, and its SPECT is interpolated once.
    """
    points = cycle.time_points
    reference = next((i for i, point in enumerate(points) if point.ct is not None), 0)
    home = points[reference]
    alignments = tuple(IDENTITY if i == reference else _aligned_to(home, point, aligner) for i, point in enumerate(points))
    spects, views = zip(*(_carried(point, alignment, home) for point, alignment in zip(points, alignments, strict=True)), strict=True)
    density_map, body, flags = _matter(home)
    return Aligned(cycle, spects, alignments, reference, density_map, body, flags, views)


def _aligned_to(home: TimePoint, point: TimePoint, aligner: Aligner) -> Alignment:
    if home.ct is not None and point.ct is not None:
        return aligner(home.ct, point.ct)
    return aligner(home.spect, point.spect)


def _carried(point: TimePoint, alignment: Alignment, home: TimePoint) -> tuple[Image, NDArray[np.bool_]]:
    """Return the SPECT on the reference grid and where its field of view reaches there."""
    moved = point.spect.on(point.spect.grid.moved(alignment.transform)) if alignment.moved else point.spect
    grid = home.spect.grid
    if moved.grid.same_as(grid):
        return moved, np.ones(grid.shape, dtype=np.bool_)
    return resampled(moved, grid), within(moved.grid, grid)


def _matter(home: TimePoint) -> tuple[Image, NDArray[np.bool_], tuple[Flag, ...]]:
    grid = home.spect.grid
    if home.ct is None:
        body = body_from_activity(home.spect)
        text = "There is no CT: the body was taken as water inside the outline of the activity."
        flag = Flag("NO_CT_DENSITY_ONE", Severity.REVIEW, text, "Add the CT of one scan; doses in lung and bone are wrong without it.")
        return water_in(body, grid), body, (flag,)
    density_map = averaged(density(home.ct), grid)
    body = body_outline(density_map, home.spect)
    if not body.any():
        body = density_map.require(Quantity.DENSITY).voxels > 0
    return density_map, body, uncovered(outside_ct(home.ct, home.spect))


def outside_ct(ct: Image, activity: Image) -> float:
    """Return the share of a map of activity, or of its integral, that lies where the CT does not reach."""
    covered = within(ct.grid, activity.grid)
    total = float(np.abs(activity.voxels).sum(dtype=np.float64))
    return float(np.abs(activity.voxels[~covered]).sum(dtype=np.float64)) / total if total > 0 else 0.0


def uncovered(outside: float) -> tuple[Flag, ...]:
    """Return a flag when much of the activity, ``outside``, lies where the CT does not reach, so that no dose can be given there."""
    if outside <= MOST_OUTSIDE_CT:
        return ()
    text = f"{outside:.0%} of the activity in view lies outside the CT; there is no density and no dose there."
    return (Flag("CT_DOES_NOT_COVER", Severity.REVIEW, text, "Use a CT that covers the SPECT, or mind the missing part."),)
