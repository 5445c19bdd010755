from datetime import UTC, datetime

import numpy as np
import pytest

from mrtai.engines.given_labels import GivenLabels
from mrtai.physics.align_scans import on_one_grid
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from mrtai.values.refusal import DosimetryError
from mrtai.values.report import Alignment
from mrtai.values.study import Administration, Cycle, TimePoint

GRID = Grid.axial((12, 12, 12), (4.0, 4.0, 4.0))
OTHER = Grid.axial((10, 12, 14), (4.0, 4.0, 4.0))
SHIFT = np.eye(4)
SHIFT[:3, 3] = (8.0, 0.0, 0.0)


def labels(grid, names=None):
    voxels = np.zeros(grid.shape, dtype=np.uint8)
    voxels[4:7, 4:7, 4:7], voxels[8, 8, 8] = 1, 2
    return Labels(voxels, names or {1: "spleen", 2: "liver"}, grid)


def aligned(*contours):
    def point(index, grid, drawn):
        spect = Image(np.ones(grid.shape, dtype=np.float32), Quantity.ACTIVITY_CONCENTRATION, grid)
        at = datetime(2026, 3, 2 + index, tzinfo=UTC)
        return TimePoint(index, at, 24.0 * index, None, spect, None, drawn, "0" * 64, "scan", "header")

    points = tuple(point(n, grid, drawn) for n, (grid, drawn) in enumerate(zip((GRID, OTHER), contours, strict=True), start=1))
    given = Administration("Lu-177", "DOTATATE", 7.4e9, datetime(2026, 3, 2, tzinfo=UTC))
    return on_one_grid(Cycle("P-0", 1, given, points), lambda fixed, moving: Alignment(SHIFT, True, 0.1, 0.5, 0.9, 0.9, 1.0))


def test_the_studys_own_contours_of_the_first_scan_come_first():
    first, second = labels(GRID), labels(OTHER)
    assert GivenLabels()(aligned(first, second)).grid.same_as(GRID)


def test_contours_of_a_later_scan_are_carried_by_its_alignment():
    carried = GivenLabels()(aligned(None, labels(OTHER)))
    assert carried.grid.origin_mm == pytest.approx(OTHER.origin_mm + SHIFT[:3, 3])


def test_given_labels_lie_on_a_scan_and_say_on_which():
    study = aligned(labels(GRID), None)
    assert GivenLabels(labels(OTHER))(study).origin == "given, taken as drawn on scan 2"
    foreign = Grid.axial(GRID.shape, (4.0, 4.0, 4.1))
    with pytest.raises(DosimetryError, match="labels on a foreign grid"):
        GivenLabels(labels(foreign))(study)


def test_a_contour_of_the_whole_body_is_what_lies_in_no_region():
    given = GivenLabels(labels(GRID, {1: "body", 2: "liver"}))(aligned(None, None))
    assert dict(given.names) == {2: "liver"}
    assert np.unique(given.voxels).tolist() == [0, 2]


def test_nothing_drawn_is_refused():
    with pytest.raises(DosimetryError, match="no contours"):
        GivenLabels()(aligned(None, None))
    with pytest.raises(DosimetryError, match="contours are empty"):
        GivenLabels(Labels(np.zeros(GRID.shape, dtype=np.uint8), {1: "liver"}, GRID))(aligned(None, None))
