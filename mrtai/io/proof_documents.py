"""Registration, plan and report as their objects show them."""

from typing import Any, Final

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from mrtai.io.dicom_source import ScanSource
from mrtai.io.proof_values import PLANE_MM, Proof, Subject, words
from mrtai.values.grid import Array


def check_registration(proof: Proof, subject: Subject) -> None:
    """Compare both items of a registration: the home scan stays, the other comes onto it, each with its own images and one matrix."""
    position = int(subject.name.removeprefix("reg_")) - 1
    home, moving = subject.source.home, subject.source.scans[position]
    matrix = np.array(subject.case.results["scans"][position]["registration"]["matrix"], dtype=np.float64)
    items = {str(item.FrameOfReferenceUID): item for item in subject.ds.RegistrationSequence}
    frames = sorted(str(item.FrameOfReferenceUID) for item in subject.ds.RegistrationSequence)
    proof.same(subject.name, "frames of reference", frames, sorted([home.frame_of_reference, moving.frame_of_reference]))
    _item(proof, subject, items.get(home.frame_of_reference), home, np.eye(4))
    _item(proof, subject, items.get(moving.frame_of_reference), moving, matrix)


def _item(proof: Proof, subject: Subject, item: Dataset | None, scan: ScanSource, meant: Array) -> None:
    if item is None:
        return
    images = sorted(str(one.ReferencedSOPInstanceUID) for one in item.get("ReferencedImageSequence", []))
    proof.same(subject.name, "images of a frame of reference", images, sorted(str(one.SOPInstanceUID) for one in (*scan.spect, *scan.ct)))
    matrices = [one for registered in item.MatrixRegistrationSequence for one in registered.MatrixSequence]
    kinds = [words(one.FrameOfReferenceTransformationMatrixType) for one in matrices]
    proof.same(subject.name, "matrices of a frame of reference", kinds, ["RIGID"])
    corners = np.column_stack([subject.case.dose.grid.corners_mm, np.ones(8)])
    for one in matrices:
        found = np.array([float(x) for x in one.FrameOfReferenceTransformationMatrix]).reshape(4, 4)
        apart = float(np.abs((corners @ (found - meant).T)[:, :3]).max())
        proof.near(subject.name, "where it puts the corners of the map", apart, 0.0, "mm", PLANE_MM)
        proof.same(subject.name, "the last row of a matrix", found[3].tolist(), [0.0, 0.0, 0.0, 1.0])


def check_plan(proof: Proof, subject: Subject) -> None:
    """Compare the plan with the administration: what was given, nothing to deliver, approved by nobody."""
    ds, given = subject.ds, subject.case.results["administrations"][0]
    meant: dict[str, Any] = {
        "RTPlanLabel": f"CYCLE {subject.case.results['cycle']}"[:16],
        "RTPlanDescription": f"{given['activity_mbq']:.1f} MBq {given['nuclide']} {given['agent']} at {given['time']}; no beams",
        "RTPlanGeometry": "PATIENT",
        "ApprovalStatus": "UNAPPROVED",
    }
    for name, value in meant.items():
        proof.same("rtplan", name, words(ds.get(name)), value)
    groups = [(int(one.NumberOfBeams), int(one.NumberOfBrachyApplicationSetups)) for one in ds.FractionGroupSequence]
    proof.same("rtplan", "number of beams", groups, [(0, 0)])
    beams = [name for name in ("BeamSequence", "ApplicationSetupSequence", "ReviewDate", "ReviewerName") if name in ds]
    proof.same("rtplan", "absence of beams and of a reviewer", beams, [])
    structures = [str(one.ReferencedSOPInstanceUID) for one in ds.get("ReferencedStructureSetSequence", [])]
    proof.same("rtplan", "the structure set that it refers to", structures, [str(subject.headers["rtstruct"].SOPInstanceUID)])


DOCUMENT: Final = {"MIMETypeOfEncapsulatedDocument": "application/pdf", "BurnedInAnnotation": "NO"}


def check_pdf(proof: Proof, subject: Subject) -> None:
    """Compare the report byte for byte, and what the object calls it."""
    case, ds = subject.case, subject.ds
    content = bytes(pydicom.dcmread(subject.path).EncapsulatedDocument)
    if content[: len(case.pdf)] != case.pdf or content[len(case.pdf) :].strip(b"\0"):
        proof.faults.append("pdf: not the report's bytes")
    for name, value in {**DOCUMENT, "DocumentTitle": f"Dosimetry report {case.title}"[:1024]}.items():
        proof.same("pdf", name, words(ds.get(name)), value)
    proof.same("pdf", "EncapsulatedDocumentLength", ds.get("EncapsulatedDocumentLength"), len(case.pdf))
