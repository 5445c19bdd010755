"""Lesions stay themselves from cycle to cycle: registered, matched, named and told."""

from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache

import numpy as np
import pytest

from mrtai.engines.align import RigidAligner
from mrtai.engines.given_labels import GivenLabels
from mrtai.engines.lesion_tracking import Tracked, identified
from mrtai.physics.align_scans import on_one_grid
from mrtai.physics.cumulative import cumulated
from mrtai.values.cumulative import DOSE, CountedCycle, CycleRegion, Uncertain
from mrtai.values.earlier_lesions import EarlierLesions
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.study import Administration, Cycle, TimePoint
from tests.physics.lesion_phantoms import ball, centres_mm, organs

GRID = Grid.axial((40, 44, 52), (6.0, 6.0, 6.0))
GIVEN_AT = datetime(2026, 3, 2, 9, 30)
SHIFT_MM = np.array([14.0, -9.0, 11.0])
A, B, C, D, E = (0, 0, 80), (55, 10, 35), (-55, -20, 20), (0, 30, -30), (45, -20, -75)
KIDNEYS = (((60, 40, -30), 26), ((-60, 40, -30), 26), ((-60, -10, 60), 35))
ALIGNER = RigidAligner()


def ct(shift_mm=(0.0, 0.0, 0.0)):
    """Return a torso with organs that lies elsewhere by ``shift_mm``."""
    at = centres_mm(GRID) - np.array(shift_mm)
    hounsfield = np.where(np.linalg.norm(at / (140, 100, 125), axis=-1) < 1, 20.0, -1000.0)
    for centre, radius in KIDNEYS:
        hounsfield += 180 * ball(np.array(centre) + shift_mm, radius, GRID)
    hounsfield[np.linalg.norm(at[..., :2] - (0, 70), axis=-1) < 18] = 500
    return Image(hounsfield.astype(np.float32), Quantity.HOUNSFIELD, GRID)


def aligned(number, shift_mm=(0.0, 0.0, 0.0)):
    spect = Image(np.ones(GRID.shape, dtype=np.float32), Quantity.ACTIVITY_CONCENTRATION, GRID)
    started = GIVEN_AT + timedelta(days=60 * number, hours=24)
    point = TimePoint(1, started, 24.0, 1800.0, spect, ct(shift_mm), None, f"{number:064x}", "scan", "header")
    given = Administration("Lu-177", "DOTATATE", 7.4e9, started - timedelta(hours=24))
    return on_one_grid(Cycle("P-0123", number, given, (point,)), ALIGNER)


def drawn(shift_mm=(0.0, 0.0, 0.0), **lesions):
    moved = {name: (np.array(centre) + shift_mm, radius) for name, (centre, radius) in lesions.items()}
    return organs(GRID, kidney_left=(np.array(KIDNEYS[0][0]) + shift_mm, KIDNEYS[0][1]), **moved)


def tracked(number, earlier=(), shift_mm=(0.0, 0.0, 0.0), **lesions):
    return identified(drawn(shift_mm, **lesions), aligned(number, shift_mm), tuple(earlier), ALIGNER)


def kept(labels, number, shift_mm=(0.0, 0.0, 0.0)):
    """Return a cycle's lesions as the next one is given them."""
    lesions = {value: name for value, name in labels.names.items() if name in labels.tracking_uids}
    voxels = np.where(np.isin(labels.voxels, list(lesions)), labels.voxels, 0)
    alone = replace(labels, voxels=voxels, names=lesions, flags={})
    return EarlierLesions(number, alone, ct(shift_mm), None)


def codes(labels, name):
    return [flag.code for flag in labels.flags.get(name, ())]


@cache
def first():
    return tracked(1, lesion_1=(A, 14), lesion_2=(B, 20), lesion_3=(C, 12), lesion_4=(D, 10))


def test_in_the_first_cycle_every_lesion_gets_a_uid_and_keeps_its_name():
    assert set(first().tracking_uids) == {"lesion_1", "lesion_2", "lesion_3", "lesion_4"}
    assert len(set(first().tracking_uids.values())) == 4
    assert all(uid.startswith("2.25.") for uid in first().tracking_uids.values())
    assert first().flags == {}
    assert first().tracking_uids == tracked(1, lesion_1=(A, 14), lesion_2=(B, 20), lesion_3=(C, 12), lesion_4=(D, 10)).tracking_uids


@cache
def second():
    """Cycle 2, patient moved, numbers permuted: A and D are there, B split, C vanished, E is new."""
    lesions = {"lesion_1": (D, 10), "lesion_2": ((48, 10, 35), 12), "lesion_3": ((68, 10, 35), 7), "lesion_4": (E, 12), "lesion_5": (A, 13)}
    return tracked(2, [kept(first(), 1)], SHIFT_MM, **lesions)


def test_lesions_of_the_next_cycle_keep_their_names_and_uids_though_the_patient_lies_elsewhere():
    before, after = first().tracking_uids, second().tracking_uids
    assert set(after) == {"lesion_4", "lesion_2", "lesion_5", "lesion_6", "lesion_1"}
    assert [after[name] for name in ("lesion_1", "lesion_2", "lesion_4")] == [before[name] for name in ("lesion_1", "lesion_2", "lesion_4")]
    assert not {after["lesion_5"], after["lesion_6"]} & set(before.values())
    assert np.array_equal(second().mask("lesion_4"), drawn(SHIFT_MM, lesion_1=(D, 10)).mask("lesion_1"))


def test_split_vanished_and_new_lesions_are_told():
    assert codes(second(), "lesion_5") == ["LESION_SPLIT"]
    assert codes(second(), "lesion_6") == ["LESION_NEW"]
    assert codes(second(), "") == ["LESIONS_VANISHED"]
    assert "lesion_3" in second().flags[""][0].text
    assert [codes(second(), name) for name in ("lesion_1", "lesion_2", "lesion_4")] == [[], [], []]


def test_lesions_that_grew_together_are_told():
    apart = tracked(1, lesion_1=((-16, 0, 20), 15), lesion_2=((18, 0, 20), 10))
    grown = tracked(2, [kept(apart, 1)], SHIFT_MM, lesion_1=((0, 0, 20), 32))
    assert grown.tracking_uids == {"lesion_1": apart.tracking_uids["lesion_1"]}
    assert codes(grown, "lesion_1") == ["LESION_MERGED"]
    assert "lesion_2" in grown.flags["lesion_1"][0].text
    assert codes(grown, "") == []


def test_a_lesion_that_was_away_for_a_cycle_is_still_itself():
    third = tracked(3, [kept(first(), 1), kept(second(), 2, SHIFT_MM)], lesion_1=(C, 11), lesion_2=(A, 14))
    assert third.tracking_uids == {name: first().tracking_uids[name] for name in ("lesion_1", "lesion_3")}
    assert codes(third, "lesion_3") == []


def test_names_that_a_person_gave_are_left_and_only_the_uid_tells():
    labels = Tracked(GivenLabels(drawn(lesion_1=(B, 20), lesion_2=(A, 14))), ALIGNER, (kept(first(), 1),), rename=False)(aligned(2))
    assert {name: labels.tracking_uids[name] for name in ("lesion_1", "lesion_2")} == {
        "lesion_1": first().tracking_uids["lesion_2"],
        "lesion_2": first().tracking_uids["lesion_1"],
    }


def counted(number, labels, gray):
    at = GIVEN_AT + timedelta(days=60 * number)
    rows = tuple(CycleRegion(name, "lesion", (), uid, False, {DOSE: Uncertain(gray, 0.1)}) for name, uid in labels.tracking_uids.items())
    return CountedCycle("P-0123", number, "signed", False, "Lu-177", "DOTATATE", 7.4e9, at, frozenset({f"{number:064x}"}), rows)


def test_doses_of_cycles_add_up_by_lesion():
    sums = cumulated([counted(1, first(), 10.0), counted(2, second(), 4.0)], {}, None).regions
    by_uid = {row.tracking_uid: row.sums[DOSE].value_gy for row in sums}
    assert by_uid[first().tracking_uids["lesion_2"]] == pytest.approx(14.0)
    assert by_uid[first().tracking_uids["lesion_3"]] == pytest.approx(10.0)
    assert by_uid[second().tracking_uids["lesion_6"]] == pytest.approx(4.0)
    assert all(flag.code != "LESION_IDENTITY_BY_NAME" for row in sums for flag in row.flags)
