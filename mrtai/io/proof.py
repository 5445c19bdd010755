"""Proof before sending: every object is read again by another route than it was written, and compared with the values in memory.

Images are read by GDCM (through SimpleITK) where it can, else byte by byte; nothing of the writers' geometry or of highdicom is used.
Voxels and outlines are compared at places in the patient, so that a flip, a shift or an exchange of axes cannot cancel out.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from mrtai.io.dicom_source import Source
from mrtai.io.dicom_write import Choices, biological_regions
from mrtai.io.iod_check import iod_errors
from mrtai.io.proof_documents import check_pdf, check_plan, check_registration
from mrtai.io.proof_dvh import check_dvh
from mrtai.io.proof_header import check_header
from mrtai.io.proof_maps import check_pmap, check_rtdose
from mrtai.io.proof_rtstruct import check_rtstruct
from mrtai.io.proof_seg import check_seg
from mrtai.io.proof_sr import check_sr
from mrtai.io.proof_values import Checked, Proof, Subject
from mrtai.io.read_case import Case
from mrtai.values.refusal import DosimetryError

__all__ = ["Checked", "Proof", "Subject", "check_object", "prove"]

SHOWN = 5
UNREADABLE = (AttributeError, KeyError, IndexError, ValueError, TypeError, RuntimeError, InvalidDicomError, ZeroDivisionError)
"""What reading raises where an element that every object of its kind has is missing or no number."""


def prove(
    files: Sequence[Path], case: Case, source: Source, choices: Choices, *, progress: Callable[[str], None] = lambda _: None
) -> Proof:
    """Return the comparisons of all objects of a case, all of which agree.

    Raises:
        DosimetryError: any object disagrees with what is in memory, names another patient, or breaks its definition; the message says what.
    """
    proof = Proof()
    headers = {path.stem: pydicom.dcmread(path, defer_size=2**16) for path in files}
    wanted = _wanted(case, source)
    proof.faults += [f"{name}: missing" for name in sorted(wanted - set(headers))]
    proof.faults += [f"an object that is none of the case's ({len(set(headers) - wanted)})"] if set(headers) - wanted else []
    for path in files:
        if path.stem in wanted:
            check_object(proof, Subject(path.stem, path, headers, case, source, choices))
            proof.faults += [f"{path.stem}: {error}" for error in iod_errors(path)]
            progress(path.stem)
    _require_agreement(proof)
    return proof


def _wanted(case: Case, source: Source) -> set[str]:
    """Return the names of the objects of a case."""
    wanted = {"rtstruct", "rtplan", "seg", "rtdose", "pmap_dose", "pmap_tia", "sr", "pdf"}
    wanted |= {f"pmap_dose_rate_{n}" for n in range(1, len(case.dose_rates) + 1)}
    wanted |= {"rtdose_bed", "rtdose_eqd2"} if biological_regions(case) else set()
    home = source.home.frame_of_reference
    return wanted | {f"reg_{n}" for n, scan in enumerate(source.scans, start=1) if scan.frame_of_reference != home}


def check_object(proof: Proof, subject: Subject) -> None:
    """Compare one object with what is in memory; whether it obeys its definition is the validator's to say."""
    try:
        check_header(proof, subject)
        _content(proof, subject)
    except UNREADABLE as fault:
        # its words may quote a value
        proof.faults.append(f"{subject.name}: cannot be read to the end ({type(fault).__name__})")


def _content(proof: Proof, subject: Subject) -> None:
    match subject.name.split("_")[0]:
        case "rtdose":
            check_rtdose(proof, subject)
            if subject.name == "rtdose":
                check_dvh(proof, subject)
        case "pmap":
            check_pmap(proof, subject)
        case "seg":
            check_seg(proof, subject)
        case "rtstruct":
            check_rtstruct(proof, subject)
        case "sr":
            check_sr(proof, subject)
        case "reg":
            check_registration(proof, subject)
        case "rtplan":
            check_plan(proof, subject)
        case "pdf":
            check_pdf(proof, subject)


def _require_agreement(proof: Proof) -> None:
    if proof.disagreements:
        shown = "; ".join(proof.disagreements[:SHOWN])
        raise DosimetryError(
            "the DICOM objects do not say what the case says, nothing was released",
            where="proof",
            found=f"{len(proof.disagreements)} disagreements: {shown}",
            remedy="write the objects again; if it stays, report it with this line",
            code="PROOF_FAILED",
        )
