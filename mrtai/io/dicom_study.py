"""A DICOM study: one patient's cycle with its time points, CTs and contours."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mrtai.io.clock import hours_between, require_distinct, seconds_between
from mrtai.io.dicom_administration import started_at
from mrtai.io.dicom_contours import Contours, read_rtstruct, read_seg, referenced
from mrtai.io.dicom_cycle import Scan, Settled, all_of_one_cycle, of_one_cycle, one_per_visit, scans_of, settled_administration
from mrtai.io.dicom_decay import DecayReference, decay_reference, header_reference, series_seconds, start_factors, unproven_reference
from mrtai.io.dicom_patient import identity_of, of_one_patient
from mrtai.io.dicom_spect import Scale, concentration, is_spect, negative_voxels, place_spect, scale_of
from mrtai.io.dicom_tree import Instance, Series
from mrtai.io.dicom_volume import is_volume, read_ct
from mrtai.io.prior_pet import diagnostic_pets, with_prior_series
from mrtai.io.pseudonym import pseudonym
from mrtai.io.study_toml import StatedStudy
from mrtai.io.tables import nuclide
from mrtai.units import SECONDS_PER_DAY, SECONDS_PER_HOUR
from mrtai.values.calibration import Calibration
from mrtai.values.flag import Flag, Severity
from mrtai.values.image import Image
from mrtai.values.protocol import Protocol
from mrtai.values.refusal import DosimetryError
from mrtai.values.study import Cycle, InputFile, Override, TimePoint

SAME_VISIT_S: Final = SECONDS_PER_DAY / 4
"""CT and SPECT of one visit start within this time; the scans of a cycle are further apart."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which part of the study is wanted and how it is read."""

    protocol: Protocol
    patient: str | None
    cycle: str | None
    stated: StatedStudy
    calibrations: tuple[Calibration, ...]
    pseudonym_key: bytes
    whole: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Visit:
    """One time point as read, with everything that was read for it."""

    point: TimePoint
    inputs: tuple[InputFile, ...]
    overrides: tuple[Override, ...]
    contour_uids: frozenset[str]


def read_dicom_study(series: Sequence[Series], choice: Choice) -> Cycle:
    """Return the cycle asked for; its SPECTs are in Bq/mL at the start of each acquisition."""
    own = of_one_patient(series, choice.patient)
    name = pseudonym(*identity_of(own), choice.pseudonym_key)
    activity = [one for one in own if is_spect(one)]
    pets = diagnostic_pets(activity, choice.stated, choice.protocol.nuclide)
    spects = [one for one in activity if one not in pets]
    if not spects:
        raise DosimetryError(
            "no quantitative SPECT or PET",
            where="study",
            found=", ".join(sorted({f"{one.modality} series" for one in own})),
            remedy="add PT series or reconstructed NM tomograms (RECON TOMO)",
            code="NO_SPECT",
        )
    table = nuclide(choice.protocol.nuclide)
    found = scans_of(spects, choice.stated, table)
    if choice.whole:
        members, number = all_of_one_cycle(found, choice.cycle, stated_at=choice.stated.administered_at)
    else:
        members, number = of_one_cycle(found, choice.cycle, stated_at=choice.stated.administered_at)
    scans = one_per_visit(members)
    require_distinct([scan.started_at for scan in scans], "study")
    settled = settled_administration(scans, choice.stated, choice.protocol)
    visits = [_visit(index, scan, own, settled, choice) for index, scan in enumerate(scans, start=1)]
    used = frozenset[str]().union(*(visit.contour_uids for visit in visits))
    cycle = Cycle(
        pseudonym=name,
        number=number,
        administration=settled.administration,
        time_points=tuple(visit.point for visit in visits),
        overrides=settled.overrides + tuple(one for visit in visits for one in visit.overrides),
        flags=settled.flags + _unattached(own, used),
        inputs=tuple(one for visit in visits for one in visit.inputs),
    )
    return with_prior_series(cycle, pets, own, choice.stated.prior)


def _visit(index: int, scan: Scan, own: Sequence[Series], settled: Settled, choice: Choice) -> _Visit:
    series, t_h = scan.series, _hours_after(settled, scan)
    spect, scale, reference = _quantified(scan, settled, choice.calibrations)
    ct_series, ct_flags = _ct_of(scan, own)
    ct = read_ct(ct_series) if ct_series else None
    contours, objects = _contours_of(own, series, spect, ct_series, ct)
    flags = (*_timing_flags(scan, settled, reference), *ct_flags, *scale.flags, *negative_voxels(spect))
    point = TimePoint(
        index=index,
        started_at=scan.started_at,
        t_h=t_h,
        duration_s=series_seconds(series),
        spect=spect,
        ct=ct,
        contours=contours.labels if contours else None,
        series_uid_sha256=hashlib.sha256(series.uid.encode()).hexdigest(),
        decay_referred_to="administration" if reference is DecayReference.ADMINISTRATION else "scan",
        calibration=scale.source,
        calibration_sd=scale.relative_sd,
        dead_time_factor=scale.dead_time_factor,
        recovery=scale.recovery,
        dead_time_tau_relative_sd=scale.dead_time_tau_relative_sd,
        flags=flags + (contours.flags if contours else ()),
    )
    read = (*series.inputs, *(ct_series.inputs if ct_series else ()), *(InputFile(one.uid, one.sha256) for one in objects))
    return _Visit(point, read, _scan_overrides(index, scan), frozenset(one.uid for one in objects))


def _hours_after(settled: Settled, scan: Scan) -> float:
    at = settled.administration.at
    t_h = hours_between(at, scan.started_at)
    if t_h <= 0:
        raise DosimetryError(
            "the scan starts before the administration",
            where=scan.series.where,
            found=f"scan {scan.started_at.isoformat()}, administration {at.isoformat()}",
            remedy="correct the times, or state administered_at in study.toml",
            code="SCAN_BEFORE_ADMINISTRATION",
        )
    return t_h


def _quantified(scan: Scan, settled: Settled, calibrations: Sequence[Calibration]) -> tuple[Image, Scale, DecayReference]:
    """Return the map [Bq/mL] at the start of acquisition, where its scale comes from, and the instant it was stored for."""
    series, administration = scan.series, settled.administration
    # the camera corrected for decay with its own half-life, from the administration it knew of
    half_life_s = scan.stated.half_life_s or nuclide(administration.nuclide).half_life_h * SECONDS_PER_HOUR
    known_at = scan.stated.at or administration.at
    reference = decay_reference(series, scan.person, administered_at=known_at, start=scan.started_at, half_life_s=half_life_s)
    placement = place_spect(series)
    scale = scale_of(
        series,
        voxel_ml=placement.grid.voxel_ml,
        nuclide=administration.nuclide,
        started_at=scan.started_at,
        calibrations=calibrations,
    )
    since_s = seconds_between(known_at, scan.started_at)
    factors = start_factors(series, reference, since_administration_s=since_s, half_life_s=half_life_s)
    return concentration(series, placement, factors * scale.concentration_per_value), scale, reference


def _ct_of(scan: Scan, own: Sequence[Series]) -> tuple[Series | None, tuple[Flag, ...]]:
    """Return the CT of the same frame of reference nearest in time, or the one that ``study.toml`` names."""
    named = scan.person.ct if scan.person else None
    cts = [one for one in own if one.modality == "CT" and (one.uid == named or (named is None and is_volume(one)))]
    if named is not None and not cts:
        raise DosimetryError(
            "the CT named for this scan is not in the study",
            where="study.toml",
            found=f"{sum(one.modality == 'CT' for one in own)} other CT series",
            remedy="name a CT series UID",
            code="SCAN_NOT_FOUND",
        )
    place = str(scan.series.first.get("FrameOfReferenceUID", "") or "")
    here = [one for one in cts if named is not None or str(one.first.get("FrameOfReferenceUID", "") or "") == place]
    if not here or (not place and named is None):
        return None, _left_out(own, place)
    # the series with most slices first, so that of two reconstructions of one scan the larger is taken
    chosen = min(here, key=lambda one: (round(_apart_s(scan, one)), -len(one.instances), one.uid))
    flags = []
    if len(here) > 1:
        text = f"{len(here)} CT series fit this scan; {chosen.where} was taken."
        flags.append(Flag("CT_CHOSEN", Severity.INFO, text, "Name the CT of the scan in study.toml to choose another."))
    if _apart_s(scan, chosen) > SECONDS_PER_DAY:
        text = "The CT in the scan's frame of reference is of another day."
        flags.append(Flag("CT_OF_ANOTHER_DAY", Severity.REVIEW, text, "Check that CT and SPECT belong together."))
    return chosen, tuple(flags)


def _left_out(own: Sequence[Series], place: str) -> tuple[Flag, ...]:
    secondary = [one for one in own if one.modality == "CT" and place and one.first.get("FrameOfReferenceUID") == place]
    kinds = {str(value).upper() for one in secondary for value in one.first.get("ImageType", None) or ()}
    if "SECONDARY" not in kinds:
        return ()
    text = "The only CT of this scan is a secondary image (reformatted or derived) and was not used."
    return (Flag("CT_NOT_PRIMARY", Severity.REVIEW, text, "Add the original CT, or name this one by series UID in study.toml."),)


def _apart_s(scan: Scan, ct: Series) -> float:
    start, _ = started_at(ct)
    return abs(seconds_between(scan.started_at, start)) if start else float("inf")


def _contours_of(
    own: Sequence[Series], spect_series: Series, spect: Image, ct_series: Series | None, ct: Image | None
) -> tuple[Contours | None, list[Instance]]:
    """Return the contours drawn on this scan or its CT, and the object they come from."""
    targets = [(spect_series, spect)] + ([(ct_series, ct)] if ct_series is not None and ct is not None else [])
    place = str(spect_series.first.get("FrameOfReferenceUID", "") or "")
    found: list[tuple[Instance, Contours]] = []
    for instance in (one for series in own if series.modality in ("SEG", "RTSTRUCT") for one in series.instances):
        uids, places = referenced(instance)
        drawn_on = [(series, image) for series, image in targets if series.uid in uids]
        here = drawn_on or (targets[-1:] if place and place in places and _of_this_visit(uids, own, spect_series) else [])
        if not here:
            continue
        series, image = here[0]
        is_seg = instance.header.Modality == "SEG"
        frame = str(series.first.get("FrameOfReferenceUID", "") or "")
        contours = read_seg(instance) if is_seg else read_rtstruct(instance, image.grid, frame)
        if contours is not None:
            found.append((instance, contours))
    if len(found) > 1:
        raise DosimetryError(
            "several contour objects for one scan",
            where=spect_series.where,
            found=", ".join(instance.name for instance, _ in found),
            remedy="keep the one that counts in the study",
            code="CONTOURS_AMBIGUOUS",
        )
    return (found[0][1], [found[0][0]]) if found else (None, [])


def _of_this_visit(uids: frozenset[str], own: Sequence[Series], spect: Series) -> bool:
    """Say whether contours drawn on other series of the same frame of reference (a second reconstruction) belong to this scan."""
    start, _ = started_at(spect)
    drawn_on = [started_at(one)[0] for one in own if one.uid in uids]
    return all(start is None or other is None or abs(seconds_between(start, other)) < SAME_VISIT_S for other in drawn_on)


def _unattached(own: Sequence[Series], used: frozenset[str]) -> tuple[Flag, ...]:
    objects = [one for series in own if series.modality in ("SEG", "RTSTRUCT") for one in series.instances]
    left = [one.name for one in objects if one.uid not in used]
    text = f"Contours that belong to no scan of this cycle were not used: {', '.join(left)}."
    return (Flag("CONTOURS_UNATTACHED", Severity.REVIEW, text, "Check which images they were drawn on."),) if left else ()


def _timing_flags(scan: Scan, settled: Settled, reference: DecayReference) -> tuple[Flag, ...]:
    flags = []
    if (scan.started_at.tzinfo is None) != (settled.administration.at.tzinfo is None):
        text = "Only one of scan and administration has a time zone; both were read as wall time of one place."
        flags.append(Flag("TIME_ZONE_ASSUMED", Severity.INFO, text, "Check the times where summer time began or ended in between."))
    if scan.from_series_time:
        text = "The header has no acquisition time; the time of the series was taken as the start."
        flags.append(Flag("START_FROM_SERIES_TIME", Severity.REVIEW, text, "State started_at in study.toml."))
    if series_seconds(scan.series) is None:
        severity, text = Severity.INFO, "The header does not state how long the scan took; nothing was computed from it."
        if reference is DecayReference.AVERAGE:
            severity = Severity.REVIEW
            text = "Values are averages over an acquisition whose duration the header does not state; its decay was not corrected."
        flags.append(Flag("DURATION_UNKNOWN", severity, text, "Export ActualFrameDuration (0018,1242)."))
    return (*flags, *unproven_reference(scan.series, scan.person))


def _scan_overrides(index: int, scan: Scan) -> tuple[Override, ...]:
    person = scan.person
    if person is None:
        return ()
    overrides = []
    if person.decay_referred_to is not None:
        overrides.append(Override(f"scan {index} decay_referred_to", header_reference(scan.series), person.decay_referred_to))
    if person.spect == scan.series.uid and person.started_at is not None:
        header, _ = started_at(scan.series)
        if header is None or header.isoformat() != person.started_at.isoformat():
            told = header.isoformat() if header else "not stated"
            overrides.append(Override(f"scan {index} started_at", told, person.started_at.isoformat()))
    return tuple(overrides)
