"""Which lesion is which: one to one in space, whatever their numbers, with splits, merges, and those that came and went."""

import numpy as np
import pytest

from mrtai.physics.lesion_identity import GATE_MM, matched, renamed
from mrtai.values.grid import Grid
from tests.physics.lesion_phantoms import GRID, organs

FINE = Grid.axial((80, 90, 102), (3.0, 3.0, 3.0))
A, B, C, D = (0, 0, 75), (60, 20, 25), (-60, -20, -25), (0, 40, -75)


def drawn(grid=GRID, **lesions):
    return organs(grid, **lesions)


def test_numbers_that_changed_places_are_found_by_place():
    now = drawn(lesion_1=(A, 12), lesion_2=(B, 14), lesion_3=(C, 10))
    then = drawn(FINE, lesion_2=(A, 13), lesion_3=(B, 12), lesion_1=(C, 12))
    found = matched(now, then)
    assert found.same == {"lesion_1": "lesion_2", "lesion_2": "lesion_3", "lesion_3": "lesion_1"}
    assert (found.split_from, found.merged, found.vanished, found.new) == ({}, {}, (), ())


def test_one_vanished_and_one_is_new():
    found = matched(drawn(lesion_1=(A, 12), lesion_2=(D, 14)), drawn(lesion_1=(C, 12), lesion_2=(A, 12)))
    assert found.same == {"lesion_1": "lesion_2"}
    assert found.vanished == ("lesion_1",)
    assert found.new == ("lesion_2",)


def test_of_a_lesion_that_split_the_larger_part_stays_itself():
    then = drawn(lesion_1=((0, 0, 0), 30), lesion_2=(A, 10))
    now = drawn(lesion_1=(A, 10), lesion_2=((-14, 0, 0), 14), lesion_3=((18, 0, 0), 9))
    found = matched(now, then)
    assert found.same == {"lesion_1": "lesion_2", "lesion_2": "lesion_1"}
    assert found.split_from == {"lesion_3": "lesion_1"}
    assert found.new == ()


def test_of_lesions_that_merged_the_larger_gives_its_name_and_the_other_is_told():
    then = drawn(lesion_1=((-14, 0, 0), 14), lesion_2=((18, 0, 0), 9))
    found = matched(drawn(lesion_1=((0, 0, 0), 30)), then)
    assert found.same == {"lesion_1": "lesion_1"}
    assert found.merged == {"lesion_1": ("lesion_2",)}
    assert found.vanished == ()


def test_a_small_lesion_is_found_within_the_gate_and_not_beyond():
    then = drawn(lesion_1=((0, 0, 0), 6))
    near, far = (drawn(lesion_7=((GATE_MM + shift, 0, 0), 6)) for shift in (-2, 5))
    assert matched(near, then).same == {"lesion_7": "lesion_1"}
    assert matched(far, then).same == {}
    assert matched(far, then).new == ("lesion_7",)


def test_the_pairing_is_the_best_of_all_and_not_the_nearest_first():
    # the nearest pair of all, now's first and then's second, would leave the two others alone
    then = drawn(FINE, lesion_1=((0, 0, 0), 5), lesion_2=((13, 0, 0), 5))
    now = drawn(FINE, lesion_1=((12, 0, 0), 5), lesion_2=((25, 0, 0), 5))
    assert matched(now, then).same == {"lesion_1": "lesion_1", "lesion_2": "lesion_2"}


def test_nothing_then_or_nothing_now_is_all_new_or_all_vanished():
    some, none = drawn(lesion_1=(A, 12)), drawn()
    assert matched(some, none).new == ("lesion_1",)
    assert matched(none, some).vanished == ("lesion_1",)


def test_new_lesions_get_numbers_that_none_had():
    names = renamed(("lesion_1", "lesion_2", "lesion_3"), {"lesion_2": "lesion_1"}, ("lesion_1", "lesion_4"))
    assert names == {"lesion_1": "lesion_5", "lesion_2": "lesion_1", "lesion_3": "lesion_6"}


@pytest.mark.parametrize("seed", range(3))
def test_matching_is_the_same_for_any_order_of_numbers(seed):
    rng = np.random.default_rng(seed)
    places = [(A, 12), (B, 9), (C, 14), (D, 8)]
    then = drawn(**{f"lesion_{n}": place for n, place in enumerate(places, start=1)})
    order = rng.permutation(4)
    now = drawn(**{f"lesion_{n}": places[k] for n, k in enumerate(order, start=1)})
    assert matched(now, then).same == {f"lesion_{n}": f"lesion_{k + 1}" for n, k in enumerate(order, start=1)}
