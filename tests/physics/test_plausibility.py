"""Checks that end in a flag."""

import pytest

from mrtai.physics.plausibility import visits


@pytest.mark.parametrize(
    ("t_h", "expected"),
    [
        ([24.0], 1),
        ([24.0, 96.0, 168.0], 3),
        ([24.0, 24.5, 96.0], 2),
        ([96.0, 24.5, 24.0], 2),
        ([1.0, 4.0, 24.0], 3),
        # three within two hours of the first are one visit; a chain of short steps is not
        ([24.0, 25.0, 26.0], 1),
        ([24.0, 25.5, 27.0], 2),
    ],
)
def test_a_repeated_scan_is_no_further_visit(t_h, expected):
    assert visits(t_h) == expected
