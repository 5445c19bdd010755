"""A PET before the therapy beside the scans of a cycle: named by a person, or recognised by its header."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np

from mrtai.io.clock import seconds_between
from mrtai.io.dicom_administration import HALF_LIFE_TOLERANCE, header_nuclide, started_at
from mrtai.io.dicom_numbers import number_of
from mrtai.io.dicom_spect import concentration, is_in_bq_per_ml, place_spect
from mrtai.io.dicom_tree import Series
from mrtai.io.dicom_volume import read_ct
from mrtai.io.hashes import file_sha256
from mrtai.io.manifest import PRIOR_CT, PRIOR_PET
from mrtai.io.nifti import read_image
from mrtai.io.study_files import inside
from mrtai.io.study_toml import NO_PRIOR, StatedPrior, StatedStudy
from mrtai.io.tables import nuclide
from mrtai.units import SECONDS_PER_DAY, SECONDS_PER_HOUR
from mrtai.values.flag import Flag, Severity
from mrtai.values.image import Quantity
from mrtai.values.refusal import DosimetryError
from mrtai.values.study import Cycle, InputFile, PriorPet

DIAGNOSTIC: Final = ("Ga-68", "F-18", "Cu-64", "Zr-89", "I-124")
"""Nuclides of a PET that goes before a therapy and is none itself."""

OF_ONE_VISIT_S: Final = SECONDS_PER_DAY / 4


def diagnostic_pets(spects: Sequence[Series], stated: StatedStudy, therapy: str) -> tuple[Series, ...]:
    """Return the series that are no scans of the therapy but a PET of another nuclide; none where nothing else would be left.

    A series that a person names as a scan is a scan; one named as ``[prior] pet`` is none.
    """
    named = {scan.spect for scan in stated.scans}
    pets = tuple(one for one in spects if one.uid not in named and (_is_named(one, stated.prior) or _is_diagnostic(one, therapy)))
    return pets if len(pets) < len(spects) else ()


def with_prior_series(cycle: Cycle, pets: Sequence[Series], own: Sequence[Series], stated: StatedPrior | None) -> Cycle:
    """Return the cycle with the PET that a person names, else with the latest one before the administration that can be read.

    Raises:
        DosimetryError: the series that is named is not there, or cannot be read.
    """
    if stated is not None and (stated.pet == NO_PRIOR or stated.is_file):
        return cycle
    if stated is not None:
        chosen = next((one for one in pets if one.uid == stated.pet), None)
        if chosen is None:
            raise _not_found("PET", stated.pet, sum(one.modality == "PT" for one in own))
        return _with(cycle, chosen, own, stated.ct)
    before = [one for one in pets if _starts_before(one, cycle.administration.at)]
    usable = sorted((one for one in before if is_in_bq_per_ml(one)), key=_preference, reverse=True)
    if not usable:
        return replace(cycle, flags=(*cycle.flags, _not_used(pets, before))) if pets else cycle
    try:
        return _with(cycle, usable[0], own, None, others=len(usable) - 1)
    except DosimetryError as fault:
        # nobody asked for it: a study is not refused for what it could do without
        text = f"The PET before the therapy ({usable[0].where}) cannot be read and was not used: {fault.what}."
        flag = Flag("PRIOR_PET_NOT_READ", Severity.REVIEW, text, 'Repair it, or write [prior] pet = "none" in study.toml.')
        return replace(cycle, flags=(*cycle.flags, flag))


def with_prior_files(cycle: Cycle, folder: Path, stated: StatedPrior | None) -> Cycle:
    """Return the cycle with the PET that ``study.toml`` names as a NIfTI file inside the study's folder."""
    if stated is None or not stated.is_file:
        return cycle
    pet, ct = inside(folder, stated.pet), None if stated.ct is None else inside(folder, stated.ct)
    image = read_image(pet, Quantity.ACTIVITY_CONCENTRATION)
    prior = PriorPet(image, None if ct is None else read_image(ct, Quantity.HOUNSFIELD))
    files = [InputFile(role, file_sha256(path)) for role, path in ((PRIOR_PET, pet), (PRIOR_CT, ct)) if path]
    return replace(cycle, prior_pet=prior, inputs=(*cycle.inputs, *files))


def _with(cycle: Cycle, series: Series, own: Sequence[Series], named_ct: str | None, others: int = 0) -> Cycle:
    start, _ = started_at(series)
    ct = _ct_of(series, own, named_ct, start)
    image = concentration(series, place_spect(series), np.ones(len(series.instances)))
    agent = str((series.first.get("RadiopharmaceuticalInformationSequence") or [{}])[0].get("Radiopharmaceutical", "") or "") or None
    prior = PriorPet(image, read_ct(ct) if ct else None, _nuclide(series), agent, start)
    known = {file.name for file in cycle.inputs}
    inputs = [file for file in (*series.inputs, *(ct.inputs if ct else ())) if file.name not in known]
    flags = (*cycle.flags, _used(series, start, cycle.administration.at, others))
    return replace(cycle, prior_pet=prior, inputs=(*cycle.inputs, *inputs), flags=flags)


def _ct_of(pet: Series, own: Sequence[Series], named: str | None, start: datetime | None) -> Series | None:
    """Return the CT that is named, else the one of the same frame of reference and visit with most slices."""
    cts = [one for one in own if one.modality == "CT"]
    if named is not None:
        found = next((one for one in cts if one.uid == named), None)
        if found is None:
            raise _not_found("CT", named, len(cts))
        return found
    place = str(pet.first.get("FrameOfReferenceUID", "") or "")
    here = [one for one in cts if place and str(one.first.get("FrameOfReferenceUID", "") or "") == place and len(one.instances) > 1]
    near = [one for one in here if _apart_s(started_at(one)[0], start) < OF_ONE_VISIT_S]
    return max(near, key=lambda one: (len(one.instances), one.uid), default=None)


def _is_named(series: Series, stated: StatedPrior | None) -> bool:
    return stated is not None and series.uid == stated.pet


def _is_diagnostic(series: Series, therapy: str) -> bool:
    found = _nuclide(series)
    return series.modality == "PT" and found in DIAGNOSTIC and found != therapy


def _nuclide(series: Series) -> str | None:
    """Return what the header names, else the diagnostic nuclide whose half-life it states."""
    items = series.first.get("RadiopharmaceuticalInformationSequence", None) or ()
    if named := header_nuclide(series):
        return named
    stated_s = (number_of(items[0], "RadionuclideHalfLife", series.where) if items else None) or 0.0
    lives_s = {name: nuclide(name).half_life_h * SECONDS_PER_HOUR for name in DIAGNOSTIC}
    return next((name for name, life_s in lives_s.items() if abs(stated_s / life_s - 1) < HALF_LIFE_TOLERANCE), None)


def _starts_before(series: Series, at: datetime) -> bool:
    start, _ = started_at(series)
    return start is not None and seconds_between(start, at) > 0


def _preference(series: Series) -> tuple[bool, datetime, int, str]:
    start, _ = started_at(series)
    corrected = "ATTN" in (series.first.get("CorrectedImage", None) or ())
    return corrected, (start or datetime.min).replace(tzinfo=None), len(series.instances), series.uid


def _apart_s(one: datetime | None, other: datetime | None) -> float:
    return abs(seconds_between(one, other)) if one and other else float("inf")


def _used(series: Series, start: datetime | None, given: datetime, others: int) -> Flag:
    days = "" if start is None else f", {seconds_between(start, given) / SECONDS_PER_DAY:.0f} days before the administration"
    chosen = f"; of {others + 1} that fit the latest attenuation-corrected one" if others else ""
    text = f"A PET of {_nuclide(series) or 'an unnamed nuclide'}{days} shows where to look for lesions ({series.where}){chosen}."
    return Flag("PRIOR_PET_USED", Severity.INFO, text, 'To leave it out write [prior] pet = "none" in study.toml; or name another.')


def _not_used(pets: Sequence[Series], before: Sequence[Series]) -> Flag:
    why = "its values are not in Bq/mL" if before else "it does not start before the administration"
    text = f"A PET of {_nuclide(pets[0]) or 'another nuclide'} in the study was not used to look for lesions: {why}."
    return Flag("PRIOR_PET_NOT_USED", Severity.INFO, text, "Name it by series UID under [prior] in study.toml to use it all the same.")


def _not_found(what: str, uid: str, others: int) -> DosimetryError:
    return DosimetryError(
        f"the {what} named under [prior] is not in the study",
        where="study.toml [prior]",
        found=f"{others} other series of its kind",
        remedy="name a series UID, or a NIfTI file of the folder",
        code="SCAN_NOT_FOUND",
    )
