"""The map in which lesions are looked for: less noisy than any scan, in the reference scan's unit, without doubtful scans."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from mrtai.physics.uptake import summed_uptake
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.report import Aligned, Alignment
from mrtai.values.study import Administration, Cycle, TimePoint

GRID = Grid.axial((12, 12, 12), (4.8, 4.8, 4.8))
GIVEN_AT = datetime(2026, 3, 2, 9, 30)
STILL = Alignment(np.eye(4), False, 0.0, 0.0, 0.0, 1.0, 1.0)
DOUBTFUL = replace(STILL, flags=(Flag("REGISTRATION_UNSTABLE", Severity.REVIEW, "", ""),))


def aligned(levels, *, alignments=(STILL, STILL, STILL), views=()):
    rng = np.random.default_rng(3)
    noise = [1 + 0.2 * rng.standard_normal(GRID.shape) for _ in levels]
    spects = [
        Image((level * one).astype(np.float32), Quantity.ACTIVITY_CONCENTRATION, GRID) for level, one in zip(levels, noise, strict=True)
    ]
    points = tuple(
        TimePoint(n, GIVEN_AT + timedelta(hours=24 * n), 24.0 * n, 1800.0, spect, None, None, f"{n}", "scan", "header")
        for n, spect in enumerate(spects, start=1)
    )
    cycle = Cycle("P-1", 1, Administration("Lu-177", "DOTATATE", 7.4e9, GIVEN_AT), points)
    density = Image(np.full(GRID.shape, 1e-3, np.float32), Quantity.DENSITY, GRID)
    return Aligned(cycle, tuple(spects), alignments, 0, density, np.ones(GRID.shape, np.bool_), (), views)


def test_the_sum_has_less_noise_at_the_level_of_the_reference_scan():
    uptake = summed_uptake(aligned((100.0, 50.0, 25.0))).voxels
    assert uptake.mean() == pytest.approx(100.0, rel=0.01)
    # of weights 4:2:1 the variance is 21/49 of one scan's
    assert uptake.std() == pytest.approx(20.0 * np.sqrt(21 / 49), rel=0.05)


def test_a_scan_of_doubtful_registration_is_left_out():
    both = aligned((100.0, 50.0), alignments=(STILL, DOUBTFUL))
    assert summed_uptake(both) is both.spects[0]


def test_where_one_scan_does_not_see_the_others_stand_for_it():
    half = np.ones(GRID.shape, np.bool_)
    half[6:] = False
    both = aligned((100.0, 50.0), alignments=(STILL, STILL), views=(np.ones(GRID.shape, np.bool_), half))
    uptake = summed_uptake(both).voxels
    assert uptake[:6].mean() == pytest.approx(uptake[6:].mean(), rel=0.02)
    assert np.allclose(uptake[6:], both.spects[0].voxels[6:], rtol=1e-5)
