"""What cannot be, or hardly can: checks that end in a flag, never in a guess."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from mrtai.physics.decay import remaining
from mrtai.physics.kinetics import RegionFits
from mrtai.physics.partial_volume import curve_flags
from mrtai.units import BQ_PER_MBQ, LN2, SECONDS_PER_HOUR
from mrtai.values.flag import Flag, Severity
from mrtai.values.nuclide import Nuclide
from mrtai.values.protocol import Protocol
from mrtai.values.report import Aligned

MOST_IN_VIEW: Final = 1.10
"""Share of the decayed administered activity above which calibration or record must be wrong."""


SAME_VISIT_H: Final = 2.0
"""Scans this close tell the curve almost the same: the second is a repetition, not the protocol's next one."""


def visits(t_h: Sequence[float]) -> int:
    """Return how many visits scans at these times [h] make: one that starts within two hours of the visit's first belongs to it."""
    count, first = 0, -math.inf
    for time_h in sorted(t_h):
        if time_h - first > SAME_VISIT_H:
            count, first = count + 1, time_h
    return count


def physical_ceiling_h(nuclide: Nuclide) -> float:
    """Return the largest possible ã = Ã/A₀ [h] of a source: the mean life T½/ln 2."""
    return nuclide.half_life_h / LN2


def tiac_h(tia_bq_s: float, administered_bq: float) -> float:
    """Return the time-integrated activity coefficient ã = Ã/A₀ [h]."""
    return tia_bq_s / administered_bq / SECONDS_PER_HOUR


def case_flags(aligned: Aligned, fits: RegionFits, nuclide: Nuclide, protocol: Protocol) -> tuple[Flag, ...]:
    """Return flags of the whole case: a protocol for something else, scans missing, doubtful contours, too much activity."""
    curves = [point.recovery or protocol.recovery for point in aligned.cycle.time_points]
    flags = [*_protocol_flags(aligned, protocol), *fits.labels.flags.get("", ()), *curve_flags(protocol.partial_volume, curves)]
    given = aligned.cycle.administration.administered_bq
    for point, spect in zip(aligned.cycle.time_points, aligned.spects, strict=True):
        in_view = float(spect.voxels.sum(dtype=np.float64)) * spect.grid.voxel_ml
        left = given * float(remaining(point.t_h, nuclide.half_life_h))
        if in_view > MOST_IN_VIEW * left:
            text = (
                f"Scan {point.index} shows {in_view / BQ_PER_MBQ:.0f} MBq, "
                f"{in_view / left:.0%} of what is left of the administered activity without any excretion."
            )
            flags.append(
                Flag("ACTIVITY_ABOVE_ADMINISTERED", Severity.REVIEW, text, "Check calibration, decay reference and the injection record.")
            )
    return (*flags, *ceiling_flags(sum(fits.tia_bq_s.values()), given, nuclide))


def _protocol_flags(aligned: Aligned, protocol: Protocol) -> tuple[Flag, ...]:
    flags = []
    stated, expected = (_letters(agent) for agent in (aligned.cycle.administration.agent, protocol.agent))
    if expected not in stated and not (stated and stated in expected):
        text = f"The protocol {protocol.name} is for {protocol.agent}; the study says {aligned.cycle.administration.agent or 'nothing'}."
        remedy = "Choose the protocol of this agent, or state the agent in study.toml."
        flags.append(Flag("AGENT_DIFFERS", Severity.REVIEW, text, remedy))
    found = visits([point.t_h for point in aligned.cycle.time_points])
    if found < len(aligned.cycle.time_points):
        text = (
            f"Scans start within {SAME_VISIT_H:.0f} h of each other: repeated ones count as one of the {protocol.expected_scans} expected."
        )
        flags.append(
            Flag("SCAN_REPEATED", Severity.REVIEW, text, "If one of them failed, take it out of the study and submit the case again.")
        )
    if found < protocol.expected_scans:
        text = f"{found} of {protocol.expected_scans} scans of the protocol are there: the draft is provisional."
        flags.append(Flag("FEWER_SCANS", Severity.REVIEW, text, "Wait for the missing scans, or judge whether these are enough."))
    return tuple(flags)


def _letters(agent: str) -> str:
    return "".join(letter for letter in agent.casefold() if letter.isalnum())


def ceiling_flags(tia_bq_s: float, administered_bq: float | None, nuclide: Nuclide) -> tuple[Flag, ...]:
    """Return a flag when ã exceeds the physical ceiling; none where the administered activity is not known."""
    if administered_bq is None or tiac_h(tia_bq_s, administered_bq) <= physical_ceiling_h(nuclide):
        return ()
    coefficient_h = tiac_h(tia_bq_s, administered_bq)
    text = f"ã of {coefficient_h:.0f} h is above the physical ceiling of {physical_ceiling_h(nuclide):.0f} h."
    return (Flag("TIA_ABOVE_CEILING", Severity.REVIEW, text, "Check calibration, decay reference and the administered activity."),)


def region_flags(
    name: str, tia_bq_s: float, mean_gy: float, administered_bq: float, protocol: Protocol, nuclide: Nuclide
) -> tuple[Flag, ...]:
    """Return flags of one region: integral above the ceiling, dose outside the plausible range or above the protocol's limit."""
    flags = [*ceiling_flags(tia_bq_s, administered_bq, nuclide)]
    gy_per_gbq = mean_gy / (administered_bq / (BQ_PER_MBQ * 1e3))
    low, high = _plausible(name, protocol)
    if not low <= gy_per_gbq <= high:
        text = f"{gy_per_gbq:.3g} Gy/GBq lies outside the usual {low:g} to {high:g} Gy/GBq of this region."
        flags.append(Flag("DOSE_IMPLAUSIBLE", Severity.REVIEW, text, "Check contour, calibration and the administered activity."))
    limit = protocol.dose_limits_gy.get(name)
    if limit is not None and mean_gy > limit:
        text = f"The absorbed dose of {mean_gy:.1f} Gy is above the protocol's {limit:g} Gy."
        flags.append(Flag("DOSE_ABOVE_LIMIT", Severity.REVIEW, text, "A physician decides on further cycles."))
    return tuple(flags)


def _plausible(name: str, protocol: Protocol) -> tuple[float, float]:
    family = "lesion" if name.startswith(("lesion_", "tumour")) else name
    return protocol.plausible_gy_per_gbq.get(family, (0.0, float("inf")))
