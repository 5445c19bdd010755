"""A second engine's opinion: how far two dose engines disagree in a region, and when a person must know."""

from typing import Final

from mrtai.values.flag import Flag, Severity
from mrtai.values.report import Check

MOST_DIFFERENCE: Final = 0.05
"""Twice what the convolution was measured to err in soft tissue; above it one of the two engines is wrong there."""

SURE_SD: Final = 2.0
"""Standard deviations by which a difference must exceed the check's own statistics."""


def compared(region: str, dose_gy: float, check_gy: float, check_sd_gy: float | None) -> Check:
    """Return the comparison of the draft's mean dose [Gy] with the check's; scalars, no arrays of any shape."""
    return Check(region, check_gy, check_sd_gy, dose_gy / check_gy - 1.0 if check_gy > 0 else None)


def disagreement_flags(check: Check, engines: tuple[str, str]) -> tuple[Flag, ...]:
    """Return the flag of a region whose two engines differ; ``engines`` are the draft's and the check's names."""
    if check.difference is None or abs(check.difference) <= MOST_DIFFERENCE:
        return ()
    figures = f"{check.difference:+.1%} against {engines[1]} (statistics {check.relative_sd:.1%})"
    if abs(check.difference) > SURE_SD * check.relative_sd:
        text = f"The mean dose by {engines[0]} differs by {figures}; more than {MOST_DIFFERENCE:.0%} was not expected."
        return (Flag("ENGINES_DISAGREE", Severity.REVIEW, text, "Look at the maps of both engines before using this dose."),)
    text = f"The mean dose by {engines[0]} differs by {figures}, which the statistics of so few histories may explain."
    return (Flag("CHECK_TOO_UNCERTAIN", Severity.INFO, text, "Raise check_histories in the protocol to know."),)
