"""Whose an object is, when it was made and from what: its header element by element, its references one by one."""

from collections.abc import Iterable, Iterator
from datetime import timedelta, timezone
from typing import Final

import pydicom
from pydicom.dataset import Dataset

import mrtai
from mrtai.io.dicom_write.header import BODY, PATIENT, STUDY, content_digest, derived_uid
from mrtai.io.proof_values import Proof, Subject, words
from mrtai.io.source_header import stated, zone_of

NUMBER_OF_REG: Final = 9210
SERIES: Final = {
    "rtplan": ("481.5", "RTPLAN", 9201, "Administration"),
    "rtdose": ("481.2", "RTDOSE", 9202, "Absorbed dose"),
    "rtdose_bed": ("481.2", "RTDOSE", 9207, "BED"),
    "rtdose_eqd2": ("481.2", "RTDOSE", 9208, "EQD2"),
    "seg": ("66.4", "SEG", 9203, "Regions"),
    "rtstruct": ("481.3", "RTSTRUCT", 9204, "Regions"),
    "sr": ("88.34", "SR", 9205, "Dosimetry"),
    "pdf": ("104.1", "DOC", 9206, "Report"),
    "pmap_dose": ("30", "OT", 9220, "Absorbed dose"),
    "pmap_tia": ("30", "OT", 9221, "Time-integrated activity"),
}
"""Last part of the SOP class, modality, series number and first words of the series' description."""

STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
DETACHED_STUDY: Final = "1.2.840.10008.3.1.2.3.1"
TITLES: Final = {"rtstruct": "StructureSetName", "seg": "ContentDescription", "pmap": "ContentDescription", "reg": "ContentDescription"}
WITHOUT_CONTENT_DATE: Final = frozenset({"RTPLAN", "RTDOSE", "RTSTRUCT"})


def check_header(proof: Proof, subject: Subject) -> None:
    """Compare patient, study, times, series, equipment, own UID and references of an object."""
    whole = pydicom.dcmread(subject.path)
    _person_and_study(proof, subject)
    _times(proof, subject)
    _series(proof, subject)
    if whole.SOPInstanceUID != derived_uid("instance", content_digest(whole)):
        proof.faults.append(f"{subject.name}: the SOP instance UID is not that of the content")
    for name in ("SOPInstanceUID", "SOPClassUID"):
        proof.same(subject.name, f"Media Storage {name}", whole.file_meta[f"MediaStorage{name}"].value, whole[name].value)
    if any(element.tag.is_private for element in whole.iterall()):
        proof.faults.append(f"{subject.name}: private elements")
    _spaces(proof, subject, whole)
    _references(proof, subject, whole)


def _person_and_study(proof: Proof, subject: Subject) -> None:
    """A difference is named by its element, never by its value."""
    home = subject.source.home.spect[0]
    for name in (*PATIENT, *STUDY, *BODY):
        if words(subject.ds.get(name)) != words(stated(home, name)):
            proof.faults.append(f"{subject.name}: {name} is not that of the source")
    proof.same(subject.name, "SpecificCharacterSet", subject.ds.get("SpecificCharacterSet"), "ISO_IR 192")


def _times(proof: Proof, subject: Subject) -> None:
    ds, zone = subject.ds, zone_of(subject.source.home.spect[0])
    proof.same(subject.name, "TimezoneOffsetFromUTC", words(ds.get("TimezoneOffsetFromUTC")), zone)
    offset = timezone(timedelta(minutes=int(zone[0] + "1") * (60 * int(zone[1:3]) + int(zone[3:])))) if zone else None
    made = subject.case.written_at.astimezone(offset)
    kinds = {"InstanceCreation", "Series"} | (set() if ds.Modality in WITHOUT_CONTENT_DATE else {"Content"})
    kinds |= {"RTPLAN": {"RTPlan"}, "RTSTRUCT": {"StructureSet"}}.get(ds.Modality, set())
    for kind in sorted(kinds):
        said = words(ds.get(f"{kind}Date")) + words(ds.get(f"{kind}Time"))
        proof.same(subject.name, f"{kind}Date and {kind}Time", said, f"{made:%Y%m%d%H%M%S}")


def _series(proof: Proof, subject: Subject) -> None:
    ds, case = subject.ds, subject.case
    ending, modality, number, first_words = _meant_series(subject)
    meant = {
        "SOPClassUID": STORAGE + ending,
        "Modality": modality,
        "SeriesNumber": number,
        "SeriesDescription": f"{first_words} {case.title}"[:64],
        "InstanceNumber": 1,
        "Manufacturer": "mrtai",
        "ManufacturerModelName": "mrtai",
        "SoftwareVersions": mrtai.__version__,
    }
    kind = subject.name.split("_")[0]
    if kind in TITLES:
        meant[TITLES[kind]] = (first_words if kind == "pmap" else f"{first_words} {case.title}")[:64]
    for name, value in meant.items():
        proof.same(subject.name, name, words(ds.get(name)), str(value))


def _meant_series(subject: Subject) -> tuple[str, str, int, str]:
    name = subject.name
    if name.startswith("pmap_dose_rate_"):
        index = int(name.rsplit("_", 1)[1])
        return "30", "OT", 9221 + index, f"Dose rate at scan {index}"
    if name.startswith("reg_"):
        index = int(name.removeprefix("reg_"))
        return "66.1", "REG", NUMBER_OF_REG + index - 1, f"Registration scan {index} to {subject.source.reference + 1}"
    ending, modality, number, first_words = SERIES[name]
    return ("66.7" if name == "seg" and subject.choices.labelmap else ending), modality, number, first_words


def _spaces(proof: Proof, subject: Subject, whole: Dataset) -> None:
    """Every frame of reference named anywhere is the home scan's; a registration's own items are compared apart."""
    names = ("FrameOfReferenceUID", "ReferencedFrameOfReferenceUID")
    elements = whole if subject.name.startswith("reg_") else whole.iterall()
    said = {str(element.value) for element in elements if element.keyword in names}
    if said - {subject.source.home.frame_of_reference}:
        proof.faults.append(f"{subject.name}: FrameOfReferenceUID is not that of the source")
    needs_space = subject.name.split("_")[0] not in ("sr", "pdf")
    if needs_space and "FrameOfReferenceUID" not in whole:
        proof.faults.append(f"{subject.name}: FrameOfReferenceUID is missing")


def _references(proof: Proof, subject: Subject, whole: Dataset) -> None:
    """Compare every reference with the images the object was made from and the objects it refers to, by class, series and study."""
    images, others = _meant_references(subject)
    everything = [*images, *others]
    meant = {(str(one.SOPClassUID), str(one.SOPInstanceUID)) for one in everything}
    found = {
        (str(i.get("ReferencedSOPClassUID")), str(i.ReferencedSOPInstanceUID)) for i in _items(whole) if "ReferencedSOPInstanceUID" in i
    }
    found.discard((DETACHED_STUDY, str(subject.drawn_on[0].StudyInstanceUID)))
    if found - meant:
        proof.faults.append(f"{subject.name}: {len(found - meant)} references to what it was not made from")
    if meant - found:
        proof.faults.append(f"{subject.name}: {len(meant - found)} references are missing")
    listed = set(_listed(whole, subject.name == "sr"))
    # a PDF has no such list: its Source Instance Sequence is all
    everything = [] if subject.name == "pdf" else everything
    meant_list = {(str(one.StudyInstanceUID), str(one.SeriesInstanceUID), str(one.SOPInstanceUID)) for one in everything}
    proof.same(subject.name, "the list of references by study and series", listed, meant_list)
    keyword = {"pdf": "SourceInstanceSequence", "sr": "", "reg": ""}.get(subject.name.split("_")[0], "SourceImageSequence")
    if keyword:
        derived = [str(item.ReferencedSOPInstanceUID) for item in whole.get(keyword, [])]
        proof.same(subject.name, "the images that it derives from", sorted(derived), sorted(str(one.SOPInstanceUID) for one in images))


def _meant_references(subject: Subject) -> tuple[list[Dataset], list[Dataset]]:
    """Return the images an object was made from, and the other objects that it refers to."""
    name, source, headers = subject.name, subject.source, subject.headers
    scans = [[*scan.spect, *scan.ct] for scan in source.scans]
    everything = [image for scan in scans for image in scan]
    if name in ("rtstruct", "seg"):
        return list(subject.drawn_on), []
    if name.startswith(("pmap_dose_rate_", "reg_")):
        position = int(name.rsplit("_", 1)[1]) - 1
        return [image for n in sorted({source.reference, position}) for image in scans[n]], []
    drawn = any(row["absorbed_dose_gy"]["dvh"]["dose_gy"] for row in subject.case.drawn)
    others = {"rtplan": ["rtstruct"], "rtdose": ["rtplan", "rtstruct"] if drawn else ["rtplan"], "sr": ["seg", "rtdose"]}
    others |= {"rtdose_bed": ["rtplan"], "rtdose_eqd2": ["rtplan"]}
    return everything, [headers[other] for other in others.get(name, []) if other in headers]


def _listed(whole: Dataset, is_report: bool) -> Iterator[tuple[str, str, str]]:
    """Yield study, series and instance of the Common Instance Reference, or of a report's evidence."""
    own = Dataset()
    own.StudyInstanceUID, own.ReferencedSeriesSequence = whole.StudyInstanceUID, whole.get("ReferencedSeriesSequence", [])
    studies = [own, *whole.get("StudiesContainingOtherReferencedInstancesSequence", [])]
    if is_report:
        studies = [*whole.get("CurrentRequestedProcedureEvidenceSequence", []), *whole.get("PertinentOtherEvidenceSequence", [])]
    for study in studies:
        for series in study.ReferencedSeriesSequence:
            for item in series.get("ReferencedInstanceSequence") or series.get("ReferencedSOPSequence") or []:
                yield str(study.StudyInstanceUID), str(series.SeriesInstanceUID), str(item.ReferencedSOPInstanceUID)


def _items(ds: Dataset) -> Iterator[Dataset]:
    for element in ds:
        if element.VR == "SQ":
            items: Iterable[Dataset] = element.value
            for item in items:
                yield item
                yield from _items(item)
