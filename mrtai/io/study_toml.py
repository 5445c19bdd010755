"""``study.toml``: what a person states about a study, to complete or overrule its headers."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from mrtai.io.nuclide_names import nuclide_name
from mrtai.io.toml_file import instant, number, read_toml, require_keys, text
from mrtai.units import BQ_PER_MBQ, KG_PER_GRAM
from mrtai.values.marrow import REFERENCE_MARROW_KG
from mrtai.values.refusal import DosimetryError

CODE: Final = "STUDY_TOML"
DECAY_REFERENCES: Final = ("scan", "administration")
NIFTI_ENDINGS: Final = (".nii", ".nii.gz")
NO_PRIOR: Final = "none"


@dataclass(frozen=True, slots=True)
class StatedScan:
    """One ``[[scan]]``: NIfTI paths or series UIDs, start of acquisition, and the instant its values are referred to."""

    spect: str | None
    ct: str | None
    started_at: datetime | None
    decay_referred_to: str | None


@dataclass(frozen=True, slots=True)
class StatedBlood:
    """The ``[blood]`` table: path of the samples from the folder of ``study.toml``, and what their dose needs."""

    samples: str
    haematocrit: float | None
    marrow_mass_kg: float


@dataclass(frozen=True, slots=True)
class StatedPrior:
    """The ``[prior]`` table: a PET before the therapy (and its CT) by series UID or NIfTI path, or ``none`` for none."""

    pet: str
    ct: str | None

    @property
    def is_file(self) -> bool:
        """True where it names a NIfTI file."""
        return self.pet.endswith(NIFTI_ENDINGS)


@dataclass(frozen=True, slots=True)
class StatedStudy:
    """A checked ``study.toml``; None where it is silent. ``sha256`` is the file's digest, empty when there is no file."""

    administered_bq: float | None = None
    administered_at: datetime | None = None
    nuclide: str | None = None
    agent: str | None = None
    scans: tuple[StatedScan, ...] = ()
    sha256: str = ""
    blood: StatedBlood | None = None
    prior: StatedPrior | None = None


def read_study_toml(path: Path) -> StatedStudy:
    """Return what ``study.toml`` states; refuses unknown keys, wrong types and impossible values by name."""
    table, content = read_toml(path, CODE)
    where = path.name
    require_keys(table, {"administered_mbq", "administered_at", "nuclide", "agent", "scan", "blood", "prior"}, where=where, code=CODE)
    administered_mbq = number(table, "administered_mbq", where=where, code=CODE)
    if administered_mbq is not None and not 0 < administered_mbq < float("inf"):
        raise DosimetryError("'administered_mbq' must be positive", where=where, found=str(administered_mbq), remedy="give MBq", code=CODE)
    scans = table.get("scan", [])
    if not isinstance(scans, list) or not all(isinstance(scan, dict) for scan in scans):
        raise DosimetryError("scans must be tables", where=where, found="'scan' of another type", remedy="write [[scan]]", code=CODE)
    return StatedStudy(
        administered_bq=None if administered_mbq is None else administered_mbq * BQ_PER_MBQ,
        administered_at=instant(table, "administered_at", where=where, code=CODE),
        nuclide=_nuclide(table, where),
        agent=text(table, "agent", where=where, code=CODE),
        scans=tuple(_scan(scan, f"{where} [[scan]] {n}") for n, scan in enumerate(scans, start=1)),
        sha256=hashlib.sha256(content).hexdigest(),
        blood=_blood(table.get("blood"), f"{where} [blood]"),
        prior=_prior(table.get("prior"), f"{where} [prior]"),
    )


def _nuclide(table: dict[str, Any], where: str) -> str | None:
    stated = text(table, "nuclide", where=where, code=CODE)
    name = nuclide_name(stated) if stated else None
    if stated and name is None:
        raise DosimetryError("unknown nuclide", where=where, found=repr(stated), remedy='write it as "Lu-177"', code=CODE)
    return name


def _scan(table: dict[str, Any], where: str) -> StatedScan:
    require_keys(table, {"spect", "ct", "started_at", "decay_referred_to"}, where=where, code=CODE)
    scan = StatedScan(
        spect=text(table, "spect", where=where, code=CODE),
        ct=text(table, "ct", where=where, code=CODE),
        started_at=instant(table, "started_at", where=where, code=CODE),
        decay_referred_to=text(table, "decay_referred_to", where=where, code=CODE),
    )
    if scan.decay_referred_to not in (None, *DECAY_REFERENCES):
        raise DosimetryError(
            "'decay_referred_to' is neither 'scan' nor 'administration'",
            where=where,
            found=repr(scan.decay_referred_to),
            remedy="write one of the two",
            code=CODE,
        )
    if scan.spect is None and scan.started_at is None:
        raise DosimetryError(
            "a scan that nothing names", where=where, found="neither 'spect' nor 'started_at'", remedy="give one of them", code=CODE
        )
    return scan


def _blood(table: Any, where: str) -> StatedBlood | None:
    if table is None:
        return None
    if not isinstance(table, dict):
        raise DosimetryError("blood must be a table", where=where, found=f"{table!r}", remedy="write [blood]", code=CODE)
    require_keys(table, {"samples", "haematocrit", "marrow_mass_g"}, where=where, code=CODE)
    samples = text(table, "samples", where=where, code=CODE)
    if samples is None:
        raise DosimetryError("blood without samples", where=where, found="no 'samples'", remedy="name the CSV file of samples", code=CODE)
    haematocrit = number(table, "haematocrit", where=where, code=CODE)
    if haematocrit is not None and not 0 < haematocrit < 1:
        remedy = "give it as a fraction: 0.42, not 42"
        raise DosimetryError("'haematocrit' must lie between 0 and 1", where=where, found=f"{haematocrit:g}", remedy=remedy, code=CODE)
    mass_g = number(table, "marrow_mass_g", where=where, code=CODE)
    if mass_g is not None and not 0 < mass_g < float("inf"):
        raise DosimetryError("'marrow_mass_g' must be positive", where=where, found=f"{mass_g:g}", remedy="give grams", code=CODE)
    return StatedBlood(samples, haematocrit, REFERENCE_MARROW_KG if mass_g is None else mass_g * KG_PER_GRAM)


def _prior(table: Any, where: str) -> StatedPrior | None:
    if table is None:
        return None
    if not isinstance(table, dict):
        raise DosimetryError("prior must be a table", where=where, found=f"{table!r}", remedy="write [prior]", code=CODE)
    require_keys(table, {"pet", "ct"}, where=where, code=CODE)
    pet, ct = (text(table, key, where=where, code=CODE) for key in ("pet", "ct"))
    if pet is None:
        raise DosimetryError("a prior without a PET", where=where, found="no 'pet'", remedy="name a series UID or a file", code=CODE)
    if ct is not None and pet != NO_PRIOR and ct.endswith(NIFTI_ENDINGS) != pet.endswith(NIFTI_ENDINGS):
        remedy = "name both as files or both by series UID"
        raise DosimetryError("'pet' and 'ct' are of different kinds", where=where, found="a file and a UID", remedy=remedy, code=CODE)
    return StatedPrior(pet, ct)
