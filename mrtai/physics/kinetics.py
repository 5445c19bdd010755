"""From aligned scans to one fitted curve a region."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mrtai.physics.curve_checks import error_flags
from mrtai.physics.integrate import time_shares
from mrtai.physics.interval_shape import ENDS_Z, probability_off
from mrtai.physics.measure import REMAINDER, activities_bq
from mrtai.physics.partial_volume import NONE, RECOVERY, PartialVolume
from mrtai.values.curve import Curve, Fit
from mrtai.values.flag import Flag, Severity
from mrtai.values.grid import Array
from mrtai.values.image import Image
from mrtai.values.labels import Labels
from mrtai.values.protocol import Protocol
from mrtai.values.refusal import DosimetryError
from mrtai.values.report import Aligned

TacModel = Callable[[Curve], Fit]

LEAST_SHARE_IN_VIEW: Final = 0.98
"""A scan that sees less of a region than this does not count for its curve."""

LEAST_REMAINDER_IN_VIEW: Final = 0.95
"""The rest of a body that goes on beyond the view is never seen whole; a patient who lies 2 cm higher loses this much of it."""

MOST_SCALED: Final = 0.05
"""Voxels whose curves differ add up to another curve than the region's; beyond this the difference is worth a look."""

ABSOLUTE_SD: Final = 0.01
"""Least standard uncertainty of an activity in units of the region's largest: noise and residual scatter do not fade with the
region, and without it a late point near zero would rule the fit."""


@dataclass(frozen=True, slots=True, eq=False)
class RegionFits:
    """Curves of the exclusive regions and the remainder.

    Attributes:
        labels: the regions on the common grid.
        fits: by region name; None where no curve could be integrated.
        curves: measured activity of every scan by region name, also of scans that were left out of a fit.
        seen_in: by region name, indices (1, 2, …) of the scans that see it whole.
        empty: regions without any positive activity: no curve, and no decays of their own.
        flags: by region name, why a fit is missing or doubtful beyond the fit's own flags.
        tia_bq_s, time_shares: by label value, for the map; regions without fit are left to zero.
        recovery: least recovery coefficient of the scans by name of the compact regions; empty where no recovery curve is known.
        other_tia_bq_s: by label value, the integral with recovery where the draft's is without, and the other way round.
        blur: what it did to the regions' activities.
    """

    labels: Labels
    fits: Mapping[str, Fit | None]
    curves: Mapping[str, Curve]
    seen_in: Mapping[str, tuple[int, ...]]
    flags: Mapping[str, tuple[Flag, ...]]
    tia_bq_s: Mapping[int, float]
    time_shares: Mapping[int, Array]
    common_relative_sd: float
    empty: frozenset[str]
    recovery: Mapping[str, float] = field(default_factory=dict)
    other_tia_bq_s: Mapping[int, float] = field(default_factory=dict)
    blur: PartialVolume = NONE

    def with_even(self, values: tuple[int, ...]) -> "RegionFits":
        """Return the fits with a flag on the regions whose TIA had to be spread evenly over their voxels."""
        names = {0: REMAINDER, **self.labels.names}
        text = "No voxel of the region is positive in the scans; its integral was spread evenly over its voxels."
        flag = Flag("SPREAD_EVENLY", Severity.REVIEW, text, "Check contour, registration and scatter correction.")
        extra = {names[value]: (*self.flags[names[value]], flag) for value in values}
        return replace(self, flags={**self.flags, **extra})

    def with_factors(self, factors: Mapping[str, float], spects: Sequence[Image]) -> "RegionFits":
        """Return the fits with a flag on the regions whose voxels' own curves had to be scaled noticeably to add up to the region's.

        What recovery makes of a region's points beyond what the scans ``spects`` show of it is no matter of curves.
        """
        sums = [activities_bq(spect, self.labels) for spect in spects]
        values = {name: value for value, name in {0: REMAINDER, **self.labels.names}.items()}
        shown = {name: float(self.time_shares[values[name]] @ [of[name] for of in sums]) for name in factors}
        meant = {name: float(self.time_shares[values[name]] @ self.curves[name].activity_bq) for name in factors}
        factors = {name: factor * shown[name] / meant[name] for name, factor in factors.items() if meant[name] > 0}
        far = {name: factor for name, factor in factors.items() if abs(factor - 1.0) > MOST_SCALED}
        extra = {name: (*self.flags[name], _scaled_flag(factor)) for name, factor in far.items()}
        return replace(self, flags={**self.flags, **extra})


def _scaled_flag(factor: float) -> Flag:
    text = f"The integrals of the region's voxels were scaled by {factor:.2f} to add up to the region's own."
    return Flag("VOXELS_SCALED", Severity.REVIEW, text, "Its voxels do not share one curve: judge the map there, or divide the region.")


def region_fits(aligned: Aligned, labels: Labels, protocol: Protocol, model: TacModel, blur: PartialVolume = NONE) -> RegionFits:
    """Return the fits of all exclusive regions and the remainder; a region that cannot be fitted is withheld, not the case.

    ``blur``: what it did to the regions; given back or only shown, as the protocol says.
    """
    points = aligned.cycle.time_points
    sums = [activities_bq(spect, labels) for spect in aligned.spects]
    corrects = protocol.partial_volume == RECOVERY
    t_h = np.array([point.t_h for point in points])
    curves: dict[str, Curve] = {}
    fits: dict[str, Fit | None] = {}
    seen: dict[str, tuple[int, ...]] = {}
    flags: dict[str, tuple[Flag, ...]] = {}
    tia: dict[int, float] = {}
    shares: dict[int, Array] = {}
    other: dict[int, float] = {}
    common = max((point.calibration_sd or 0.0 for point in points), default=0.0)
    for value, name in {**labels.names, 0: REMAINDER}.items():
        found = np.array([scan[name] for scan in sums])
        whole = blur.activity_bq.get(name, found)
        curves[name] = _measured(name, t_h, whole if corrects else found, protocol)
        used = _whole_in_view(aligned, labels, value)
        seen[name] = tuple(points[i].index for i in np.flatnonzero(used))
        fits[name], flags[name] = _fit(curves[name], used, model)
        fit = fits[name]
        if fit is not None:
            fits[name] = fit = with_common(fit, common)
            tia[value] = fit.tia_bq_s
            shares[value] = np.zeros(t_h.size)
            shares[value][used] = time_shares(t_h[used], fit.terms)
            if name in blur.activity_bq:
                alternative, _ = _fit(_measured(name, t_h, found if corrects else whole, protocol), used, model)
                other[value] = fit.tia_bq_s if alternative is None else alternative.tia_bq_s
    if not tia:
        raise _nothing_integrated(flags)
    empty = frozenset(name for name, curve in curves.items() if fits[name] is None and seen[name] and not np.any(curve.activity_bq > 0))
    recovery = {name: min(of_scans) for name, of_scans in blur.coefficients.items()}
    return RegionFits(labels, fits, curves, seen, flags, tia, shares, common, empty, recovery, other, blur)


def _measured(name: str, t_h: Array, activity_bq: Array, protocol: Protocol) -> Curve:
    sd = np.maximum(protocol.activity_sd_relative * np.abs(activity_bq), ABSOLUTE_SD * np.abs(activity_bq).max())
    return Curve(name, t_h, activity_bq, sd)


def _nothing_integrated(flags: Mapping[str, tuple[Flag, ...]]) -> DosimetryError:
    reasons = [(name, flag) for name, own in flags.items() for flag in own if flag.severity is Severity.WITHHELD]
    told = [f"{name}: {flag.text}" for name, flag in reasons] or ["no region with activity"]
    remedy = reasons[0][1].remedy if reasons else "check the contours and the scans' units"
    return DosimetryError("no region's curve could be integrated", where="kinetics", found=told[0], remedy=remedy, code="NO_CURVE")


def with_common(fit: Fit, common_relative_sd: float) -> Fit:
    """Return the fit with an uncertainty common to all scans added to that of its integral."""
    if fit.tia_sd_bq_s is None or common_relative_sd == 0.0:
        return fit
    widened = with_integral(fit, fit.tia_bq_s, float(np.hypot(fit.tia_sd_bq_s, common_relative_sd * fit.tia_bq_s)))
    stated = {flag.code for flag in fit.flags}
    return replace(widened, flags=(*fit.flags, *(flag for flag in error_flags(widened) if flag.code not in stated)))


def with_integral(fit: Fit, tia_bq_s: float, tia_sd_bq_s: float) -> Fit:
    """Return the fit with another integral and standard uncertainty; its error keeps the shape of its distribution."""
    changed = replace(fit, tia_bq_s=tia_bq_s, tia_sd_bq_s=tia_sd_bq_s)
    if fit.tia_sd_bq_s is None or fit.tia_68_bq_s is None or fit.tia_95_bq_s is None:
        return changed
    own, wanted = fit.tia_sd_bq_s / fit.tia_bq_s, tia_sd_bq_s / tia_bq_s
    ends = np.array([fit.tia_95_bq_s[0], *fit.tia_68_bq_s, fit.tia_95_bq_s[1]]) / fit.tia_bq_s
    deviates = (ends - 1.0) / own if own > 0 else ENDS_Z
    lowest, low, high, highest = np.maximum(1.0 + wanted * deviates, 0.0).tolist()
    off = probability_off((low, high), (lowest, highest))
    if fit.probability_off is not None:
        # what the fit's own distribution says beyond the ends of its intervals stays
        off = float(np.clip(off + fit.probability_off - probability_off((ends[1], ends[2]), (ends[0], ends[3])), 0.0, 1.0))
    return replace(
        changed,
        tia_68_bq_s=(low * tia_bq_s, high * tia_bq_s),
        tia_95_bq_s=(lowest * tia_bq_s, highest * tia_bq_s),
        probability_off=off,
    )


def _whole_in_view(aligned: Aligned, labels: Labels, value: int) -> NDArray[np.bool_]:
    """Return which scans see the region whole, boolean ``(scans,)``; of the remainder, as much of the body as the first one sees."""
    scans = len(aligned.spects)
    if not aligned.in_view:
        return np.ones(scans, dtype=np.bool_)
    mask = (labels.voxels == value) & (aligned.body if value == 0 else True)
    if not mask.any():
        return np.full(scans, value == 0)
    least = LEAST_REMAINDER_IN_VIEW if value == 0 else LEAST_SHARE_IN_VIEW
    return np.array([float(view[mask].mean()) >= least for view in aligned.in_view])


def _fit(curve: Curve, used: NDArray[np.bool_], model: TacModel) -> tuple[Fit | None, tuple[Flag, ...]]:
    if not used.any():
        text = "No scan sees a single voxel of the region on the dose grid."
        return None, (Flag("REGION_NOT_SEEN", Severity.WITHHELD, text, "Check the contour: it is smaller than a voxel or out of view."),)
    flags: tuple[Flag, ...] = ()
    if not used.all():
        left_out = (np.flatnonzero(~used) + 1).tolist()
        text = f"Scan {', '.join(map(str, left_out))} sees only part of the region and was left out of its curve."
        flags = (Flag("ORGAN_CUT_BY_VIEW", Severity.REVIEW, text, "Judge the curve without this scan, or position the patient alike."),)
        curve = Curve(curve.region, curve.t_h[used], curve.activity_bq[used], curve.activity_sd_bq[used])
    if not np.any(curve.activity_bq > 0):
        text = "No scan shows positive activity in the region: it has no integral, and its dose is what its neighbours give it."
        return None, (*flags, Flag("NO_ACTIVITY", Severity.REVIEW, text, "Check the contour, if activity was expected here."))
    try:
        return model(curve), flags
    except DosimetryError as refusal:
        return None, (*flags, Flag(refusal.code, Severity.WITHHELD, f"{refusal.what}: found {refusal.found}.", refusal.remedy))
