"""What every object of ours says: whose it is, which study and space it belongs to, who made it, and a UID of its content."""

import hashlib
import io
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

import mrtai
from mrtai.io.dicom_source import Source
from mrtai.io.source_header import stated, zone_of
from mrtai.values.uid import derived_uid as derived_uid

MANUFACTURER: Final = "mrtai"
PATIENT: Final = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientBirthTime", "PatientSex")
STUDY: Final = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription")
BODY: Final = ("PatientAge", "PatientSize", "PatientWeight")
EMPTY_ALLOWED: Final = frozenset(
    {
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "AccessionNumber",
        "ReferringPhysicianName",
    }
)
"""Elements of type 2: there, if need be without a value."""

VOLATILE: Final = (
    *("InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime", "SeriesDate", "SeriesTime"),
    *("StructureSetDate", "StructureSetTime", "RTPlanDate", "RTPlanTime", "SOPInstanceUID", "SeriesInstanceUID"),
)
"""When an object was made says nothing of its content: the same content made twice keeps its UID."""

BULK: Final = ("PixelData", "FloatPixelData", "EncapsulatedDocument")


def nameless(header: Dataset) -> Dataset:
    """Return a copy of a header without the patient: what libraries get that may quote it in a warning."""
    copy = Dataset()
    # elements are shared with the header, so what is emptied below must not be among them
    copy.update({element.tag: element for element in header if element.VR != "PN" and element.keyword not in (*PATIENT, *STUDY[1:])})
    copy.file_meta = FileMetaDataset()
    copy.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for name in PATIENT:
        setattr(copy, name, "")
    copy.PatientID = "P"
    for name in STUDY[1:]:
        setattr(copy, name, "")
    return copy


def describe(ds: Dataset, source: Source, *, modality: str, number: int, description: str, made_at: datetime) -> Dataset:
    """Fill patient, study, series and equipment of an object, exactly as the source has them, its text in UTF-8."""
    home = source.home.spect[0]
    ds.SpecificCharacterSet = "ISO_IR 192"
    for name in (*PATIENT, *STUDY, *BODY):
        if name in ds:
            del ds[name]
        value = stated(home, name)
        if value:
            setattr(ds, name, value)
        elif name in EMPTY_ALLOWED:
            setattr(ds, name, "")
    ds.Modality, ds.SeriesNumber, ds.SeriesDescription = modality, number, description[:64]
    ds.InstanceNumber = 1
    if "ContributingEquipmentSequence" in ds:
        del ds.ContributingEquipmentSequence  # a library's note of itself, with the time of day
    if modality in ("OT", "REG"):
        ds.Laterality = ""  # type 2C: validators ask for it where no body part is named
    ds.Manufacturer = ds.ManufacturerModelName = MANUFACTURER
    ds.DeviceSerialNumber, ds.SoftwareVersions = f"{MANUFACTURER}-{mrtai.__version__}", mrtai.__version__
    _dates(ds, home, made_at)
    return ds


def _dates(ds: Dataset, home: Dataset, made_at: datetime) -> None:
    """Set the object's own times in the zone of the source, or in local time as the scanner's are where it states no zone."""
    zone = zone_of(home)
    if zone:
        ds.TimezoneOffsetFromUTC = zone
    here = made_at.astimezone(_zone(zone) if zone else None)
    for what in ("InstanceCreation", "Content", "Series"):
        setattr(ds, f"{what}Date", f"{here:%Y%m%d}")
        setattr(ds, f"{what}Time", f"{here:%H%M%S}")


def _zone(offset: str) -> timezone:
    sign = -1 if offset.startswith("-") else 1
    return timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5])))


def finish(ds: Dataset, sop_class: str) -> Dataset:
    """Give an object its class and the UIDs that follow from its content; nothing may change in it afterwards."""
    ds.SOPClassUID = UID(sop_class)
    for name in ("SOPInstanceUID", "SeriesInstanceUID"):
        setattr(ds, name, "0")
    _replace_random_dimension(ds)
    digest = content_digest(ds)
    ds.SOPInstanceUID, ds.SeriesInstanceUID = derived_uid("instance", digest), derived_uid("series", digest)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta = meta
    return ds


def content_digest(ds: Dataset) -> str:
    """Return the SHA-256 of what an object says, without its own UIDs and the times of its making."""
    bare = Dataset()
    bare.update({element.tag: element for element in ds if element.keyword not in VOLATILE and element.keyword not in BULK})
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, bare, implicit_vr=False, little_endian=True)
    digest = hashlib.sha256(buffer.getvalue())
    for name in BULK:
        if name in ds:
            digest.update(name.encode())
            digest.update(_even(ds[name]))
    return digest.hexdigest()


def _even(element: DataElement) -> bytes:
    value = element.value
    return bytes(value) if len(value) % 2 == 0 else bytes(value) + b"\0"


def _replace_random_dimension(ds: Dataset) -> None:
    """Replace the dimension organization's random UID of a library by one that repeats."""
    if "DimensionOrganizationSequence" not in ds:
        return
    uid = derived_uid("dimensions", str(ds.SeriesDescription), str(ds.StudyInstanceUID))
    for item in (*ds.DimensionOrganizationSequence, *ds.get("DimensionIndexSequence", [])):
        item.DimensionOrganizationUID = uid


def save(ds: Dataset, folder: Path, name: str) -> Path:
    """Write an object as ``<name>.dcm`` and return its path."""
    path = folder / f"{name}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path
