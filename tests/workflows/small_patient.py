"""Scans of a few voxels that a department's flow can work up in seconds: PT with CT, contours with the first."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pydicom
from pydicom.uid import generate_uid

from mrtai.io.nifti import write_labels
from mrtai.values.grid import Grid
from mrtai.values.labels import Labels
from tests.io import dicom_maker as maker

SHAPE = (10, 14, 16)
GIVEN_AT = datetime(2026, 3, 2, 9, 30)
HALF_LIVES_H = {"kidney": 52.0, "spleen": 70.0, "rest": 45.0}
PROTOCOL = """nuclide = "Lu-177"
agent = "DOTATATE"
expected_scans = 3
kinetics = "auto"
dose_engine = "local"
activity_sd_relative = 0.05
typical_administered_mbq = 7400.0
"""


@dataclass(frozen=True)
class Person:
    patient_id: str = "SECRET-4711"
    name: str = "Zaphod^Unlikely"
    born: str = "19420611"
    sex: str = "M"


def body():
    _, y, x = np.indices(SHAPE)
    return ((y - 6.5) / 6) ** 2 + ((x - 7.5) / 7) ** 2 < 1


def regions():
    masks = {name: np.zeros(SHAPE, bool) for name in ("kidney_left", "spleen")}
    masks["kidney_left"][3:7, 4:8, 3:7] = True
    masks["spleen"][2:6, 4:9, 10:13] = True
    return masks


def stored_activity(hours):
    kidney, spleen = regions().values()
    fall = {name: 0.5 ** (hours / half) for name, half in HALF_LIVES_H.items()}
    bq_ml = np.where(body(), 3e3 * fall["rest"], 0.0)
    bq_ml[kidney], bq_ml[spleen] = 4e5 * fall["kidney"], 3e5 * fall["spleen"]
    return np.rint(bq_ml / 10).astype(np.uint16)  # the series' slope is 10


def scan(folder, hours, *, person=Person(), given_at=GIVEN_AT, contours=False, study_uid=None, description="SPECT dosimetry", **changes):
    """Write one study, SPECT and CT and if asked contours, into a new folder and return it; ``changes`` go to the SPECT's headers."""
    start, frame = given_at + timedelta(hours=hours), generate_uid()
    spect = maker.pt_series(start, stored_activity(hours), frame=frame)
    for file in spect:
        file.RadiopharmaceuticalInformationSequence = maker.radiopharmaceutical(given_at=given_at)
        for name, value in changes.items():
            setattr(file, name, value)
    ct = maker.ct_series(start, np.where(body(), 1064, 24).astype(np.int16), frame=frame)
    files = [*spect, *ct]
    study_uid = study_uid or generate_uid()
    for number, file in enumerate(files):
        file.StudyInstanceUID, file.SeriesDescription, file.InstanceNumber = study_uid, description, str(number + 1)
        identify(file, person)
    if contours:
        files.append(maker.seg(ct, {name: (mask, None) for name, mask in regions().items()}))
        identify(files[-1], person)
    folder.mkdir(parents=True)
    for number, file in enumerate(files):
        file.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return folder


def identify(file, person):
    file.PatientID, file.PatientName, file.PatientBirthDate, file.PatientSex = person.patient_id, person.name, person.born, person.sex


def label_map(path, *, smaller=False):
    """Write the regions as a label map on the lattice of the scans, with their names beside it; the ``smaller`` one lacks a slice."""
    grid = Grid(SHAPE, np.array(maker.SPACING), np.array([-5.0, -6.0, -7.0]), np.eye(3))
    voxels = np.zeros(SHAPE, np.uint8)
    for value, mask in enumerate(regions().values(), start=1):
        voxels[mask] = value
    if smaller:
        voxels[3] = 0
    write_labels(path, Labels(voxels, dict(enumerate(regions(), start=1)), grid))
    return path


def changed(folder, out, **values):
    """Copy a study with other values in its SPECT's headers, under the same UIDs; a name with ``bq`` changes the administered activity."""
    out.mkdir(parents=True)
    for path in sorted(folder.glob("*.dcm")):
        file = pydicom.dcmread(path)
        for name, value in values.items():
            if name == "administered_bq":
                for item in file.get("RadiopharmaceuticalInformationSequence", []):
                    item.RadionuclideTotalDose = str(value)
            elif name in file:
                setattr(file, name, value)
        file.save_as(out / path.name, enforce_file_format=True)
    return out
