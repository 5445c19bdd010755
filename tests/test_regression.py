"""Doses of the locked phantoms are what they were, unless CHANGELOG.md says that they change."""

import pytest

from benchmarks.regression import CHANGELOG, Change, _with_absent, changes, read_reference, run, unannounced
from benchmarks.regression_cases import REAL_CASES, small_cases

LOG = """# Changelog

## Unreleased

- Doses change: kidneys, lesion_1: up to 2 %: recovery by surface.
- Something else.

## 0.1.0

- Doses change: all regions: up to 50 %: long ago.
"""


def test_no_dose_of_the_locked_phantoms_moved_unannounced():
    reference = read_reference()
    assert {case for case, _ in reference} >= set(small_cases())
    silent = unannounced(changes(reference, run(small=True)), CHANGELOG.read_text("utf-8"))
    assert not silent, "\n".join(map(str, silent))


@pytest.mark.parametrize(
    ("region", "factor", "announced"),
    [
        ("kidneys", 1.004, True),  # below 0.5 %: no change at all
        ("kidneys", 0.985, True),
        ("lesion_1", 1.019, True),
        ("lesion_1", 1.03, False),
        ("spleen", 1.01, False),
    ],
)
def test_a_change_is_announced_by_name_and_size_under_unreleased(region, factor, announced):
    reference = {("case", "kidneys"): 4.0, ("case", "lesion_1"): 20.0, ("case", "spleen"): 5.0}
    doses = {name: gy * (factor if name == region else 1.0) for (_, name), gy in reference.items()}
    assert (unannounced(changes(reference, {"case": doses}), LOG) == []) is announced


def test_a_region_that_comes_or_goes_is_a_change_and_a_new_case_is_none():
    reference = {("case", "kidneys"): 4.0, ("case", "spleen"): 5.0}
    found = changes(reference, {"case": {"kidneys": 4.0, "liver": 1.0}, "another": {"kidneys": 9.0}})
    assert found == [Change("case", "spleen", 5.0, None), Change("case", "liver", None, 1.0)]
    assert unannounced(found, LOG) == found and str(found[0]) == "case: spleen is gone"


def test_a_case_whose_data_are_not_here_keeps_its_doses_in_the_table():
    (real,) = REAL_CASES
    reference = {("phantom", "liver"): 1.0, ("a case that is no more", "liver"): 1.0, (real, "lesion_1"): 18.0, (real, "body"): 0.2}
    kept = _with_absent(reference, {"phantom": {"liver": 1.001}})
    assert kept == {"phantom": {"liver": 1.001}, real: {"lesion_1": 18.0, "body": 0.2}}
