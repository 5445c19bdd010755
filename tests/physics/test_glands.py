"""Glands of the head that take up PSMA ligands are told where their place is in view and nothing drew them."""

from dataclasses import replace

import numpy as np
import pytest

from mrtai.physics.glands import gland_flags, with_gland_flags
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels

STEP_MM = 5.0
LUNG_TOP = 40


def scan(above_mm, names=("lung_left", "liver")):
    """A CT whose data end a distance above the lungs, which end at slice 40, with padding above."""
    layers = LUNG_TOP + round(above_mm / STEP_MM)
    grid = Grid.axial((layers + 3, 20, 20), (STEP_MM,) * 3)
    hu = np.full(grid.shape, -1000.0, np.float32)
    hu[:layers, 5:15, 5:15] = 40
    voxels = np.zeros(grid.shape, np.uint8)
    voxels[20:LUNG_TOP, 6:12, 6:9] = 1
    voxels[5:15, 6:12, 6:9] = 2
    extra = {3 + n: name for n, name in enumerate(names[2:])}
    return Labels(voxels, {1: names[0], 2: names[1], **extra}, grid, origin="organs-ct@1.0.0"), Image(hu, Quantity.HOUNSFIELD, grid)


@pytest.mark.parametrize("agent", ["PSMA-617", "psma-I&T", "177Lu-PSMA"])
def test_a_head_in_view_is_told_for_psma(agent):
    (flag,) = gland_flags(*scan(250), agent)
    assert (flag.code, flag.severity) == ("GLANDS_NOT_SEGMENTED", "info")
    assert "parotid, submandibular and lacrimal glands were not segmented: organs-ct@1.0.0 does not draw them" in flag.text
    assert "mrtai models add" in flag.remedy and "--labels" in flag.remedy


@pytest.mark.parametrize(("above_mm", "told"), [(0, False), (115, False), (125, True)])
def test_the_neck_alone_is_no_head(above_mm, told):
    assert bool(gland_flags(*scan(above_mm), "PSMA-617")) == told


def test_other_agents_need_no_such_note():
    assert gland_flags(*scan(250), "DOTATATE") == ()


def test_only_what_was_not_drawn_is_told():
    some = scan(250, ("lung_left", "liver", "parotid_left", "parotid_right", "submandibular_left"))
    (flag,) = gland_flags(*some, "PSMA-617")
    assert "the lacrimal glands were not segmented" in flag.text
    every = scan(250, ("lung_left", "liver", "parotid_left", "submandibular_left", "lacrimal_left"))
    assert gland_flags(*every, "PSMA-617") == ()


def test_without_lungs_nothing_tells_where_the_head_is():
    assert gland_flags(*scan(250, ("spleen", "liver")), "PSMA-617") == ()


def test_the_note_stands_beside_what_was_told_before():
    labels, ct = scan(250)
    before = Flag("CT_UNFAMILIAR", Severity.REVIEW, "…", "…")
    told = with_gland_flags(replace(labels, flags={"": (before,)}), ct, "PSMA-617").flags[""]
    assert [flag.code for flag in told] == ["CT_UNFAMILIAR", "GLANDS_NOT_SEGMENTED"]
    assert with_gland_flags(labels, ct, "DOTATATE") is labels
