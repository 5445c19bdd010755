"""Whose scans these are: one person, by every element that tells people apart, and never named."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from mrtai.io.dicom_tree import Series
from mrtai.values.refusal import DosimetryError, Held

PERSON: Final = (
    ("IssuerOfPatientID", "issuers (0010,0021)"),
    ("PatientBirthDate", "birth dates (0010,0030)"),
    ("PatientSex", "sexes (0010,0040)"),
)


def of_one_patient(series: Sequence[Series], patient: str | None) -> tuple[Series, ...]:
    """Return the series of one patient ID; refuses several patients without ``patient``, never naming them.

    Raises:
        Held: one patient ID with several names: a marriage, a misspelling, or two people.
        DosimetryError: several patient IDs, or one with several issuers, birth dates or sexes.
    """
    by_patient: dict[str, list[Series]] = defaultdict(list)
    for one in series:
        for identity in sorted(_stated([one], "PatientID", silent=True)):
            by_patient[identity].append(one)
    if patient is None and len(by_patient) > 1:
        raise _mixed("mixed patients", f"{len(by_patient)} patient IDs", "choose one with --patient")
    wanted = next(iter(by_patient)) if patient is None else patient.strip()
    if wanted not in by_patient:
        raise DosimetryError(
            "the patient asked for is not in the study",
            where="study",
            found=f"{len(by_patient)} other patient IDs",
            remedy="check --patient",
            code="PATIENT_NOT_FOUND",
        )
    chosen = tuple(by_patient[wanted])
    if any(len(_stated([one], "PatientID", silent=True)) > 1 for one in chosen):
        raise _mixed("one series holds several patients", "mixed patient IDs", "separate them")
    _require_one_person(chosen)
    return chosen


def identity_of(series: Sequence[Series]) -> tuple[str, str]:
    """Return patient ID and issuer of the series of one patient; the issuer is empty where no file states it."""
    patient_id, issuer = (next(iter(_stated(series, tag)), "") for tag in ("PatientID", "IssuerOfPatientID"))
    return patient_id, issuer


def _require_one_person(series: Sequence[Series]) -> None:
    for tag, noun in PERSON:
        stated = {value.upper().replace(".", "").replace("-", "") for value in _stated(series, tag)}
        if len(stated) > 1:
            raise _mixed(f"mixed patients: one patient ID with several {noun}", f"{len(stated)} of them", "separate the patients")
    names = {folded_name(value) for value in _stated(series, "PatientName")} - {""}
    if len(names) > 1:
        raise Held(
            "one patient ID with several names (0010,0010)",
            where="study",
            found=f"{len(names)} of them",
            remedy="separate the patients, or give all files one name where it is one person",
            code="PATIENT_NAME_CONFLICT",
        )


def _stated(series: Sequence[Series], tag: str, *, silent: bool = False) -> set[str]:
    """Return the different values of an element; ``silent`` counts an empty one too."""
    values = {str(i.header.get(tag, "") or "").strip() for one in series for i in one.instances}
    return values if silent else values - {""}


def folded_name(name: str) -> str:
    """Return a name without case and padding: ``Doe^Jane^^`` is ``DOE^JANE``."""
    return "^".join(" ".join(part.split()) for part in name.casefold().split("^")).rstrip("^= ")


def _mixed(what: str, found: str, remedy: str) -> DosimetryError:
    return DosimetryError(what, where="study", found=found, remedy=remedy, code="MIXED_PATIENTS")
