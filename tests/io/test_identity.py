"""Scans of two people never become one patient, and nobody's name leaves the door."""

import json

import pytest
from dicom_maker import KEY, PATIENT_ID, PROTOCOL, ct_series, numbers, pt_series, rtstruct, save, start_of

from mrtai.io.dicom_tree import read_tree
from mrtai.io.study import read_study
from mrtai.values.refusal import DosimetryError, Held

SECRETS = ("SECRET", "Doe", "DOE", "Jane", "JANE", "Roe", "19700101", "19710202", "HOSPITAL")


def read(folder, **choice):
    return read_study(folder, protocol=PROTOCOL, pseudonym_key=KEY, **choice)


def two_scans(folder, **second):
    return save(folder, pt_series(start_of(24)), pt_series(start_of(96), **second))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({}, {"PatientBirthDate": "19710202"}, r"one patient ID with several birth dates \(0010,0030\); found 2 of them; separate"),
        ({}, {"PatientSex": "M"}, r"one patient ID with several sexes \(0010,0040\); found 2 of them; separate"),
        ({"IssuerOfPatientID": "HOSPITAL A"}, {"IssuerOfPatientID": "HOSPITAL B"}, r"one patient ID with several issuers \(0010,0021\)"),
    ],
)
@pytest.mark.parametrize("patient", [None, PATIENT_ID])
def test_people_who_share_an_id_are_not_one_patient(tmp_path, first, second, message, patient):
    save(tmp_path, pt_series(start_of(24), **first), pt_series(start_of(96), **second))
    with pytest.raises(DosimetryError, match=message) as refusal:
        read(tmp_path, patient=patient)
    assert refusal.value.code == "MIXED_PATIENTS"
    assert not any(secret in str(refusal.value) for secret in SECRETS)


def test_two_names_under_one_id_wait_for_a_person(tmp_path):
    with pytest.raises(Held, match=r"one patient ID with several names \(0010,0010\); found 2 of them; separate the patients") as held:
        read(two_scans(tmp_path, PatientName="Roe^Jane"))
    assert held.value.code == "PATIENT_NAME_CONFLICT"
    assert not any(secret in str(held.value) for secret in SECRETS)


@pytest.mark.parametrize(
    "second",
    [
        {"PatientName": "DOE^JANE^^^"},
        {"PatientName": "Doe ^ Jane "},
        {"PatientName": ""},
        {"PatientBirthDate": ""},
        {"PatientSex": ""},
        {"PatientBirthDate": "1970.01.01"},
        {"IssuerOfPatientID": "HOSPITAL A"},
    ],
)
def test_spelling_and_silence_make_no_second_person(tmp_path, second):
    assert len(read(two_scans(tmp_path, **second)).time_points) == 2


def test_the_issuer_counts_for_the_pseudonym_whichever_file_states_it(tmp_path):
    one = read(save(tmp_path / "one", pt_series(start_of(24), IssuerOfPatientID="HOSPITAL A")))
    two = read(two_scans(tmp_path / "two", IssuerOfPatientID="HOSPITAL A"))
    assert one.pseudonym == two.pseudonym != read(two_scans(tmp_path / "three")).pseudonym


def telling_folder(tmp_path):
    return tmp_path / "DOE_JANE_19700101"


def test_flags_name_series_without_the_folders_they_lie_in(tmp_path):
    stray = rtstruct(pt_series(start_of(48), frame="1.2.77"), {"spleen": [[(0, 0, 0), (9, 0, 0), (0, 9, 0)]]})
    spect, first, second = pt_series(start_of(24)), ct_series(start_of(24)), ct_series(start_of(24))
    save(telling_folder(tmp_path), spect, first, second, stray)
    cycle = read(tmp_path)
    flags = [*cycle.flags, *cycle.time_points[0].flags]
    texts = {flag.code: flag.text for flag in flags}
    assert "not used: RTSTRUCT series 7, instance ?." in texts["CONTOURS_UNATTACHED"]
    digests = {series.where for series in read_tree(tmp_path) if series.modality == "CT"}
    assert len(digests) == 2
    assert any(where in texts["CT_CHOSEN"] for where in digests)
    assert not any(secret in repr(cycle) for secret in SECRETS)


def bad_slice(folder):
    files = pt_series(start_of(24), InstanceNumber="3")
    files[0].add_new("RescaleSlope", "LO", "ten")
    save(folder, files)


def missing_slice(folder):
    save(folder, [header for n, header in enumerate(pt_series(start_of(24))) if n != 1])


def two_reconstructions(folder):
    save(folder, pt_series(start_of(24)), pt_series(start_of(24), numbers(3)))


def text_file(folder):
    save(folder, pt_series(start_of(24)))
    (folder / "report.dcm").write_text("plain text " * 40)


def link(folder):
    save(folder, pt_series(start_of(24)))
    (folder / "more").symlink_to(folder.parent.parent)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (bad_slice, "^PT series 7, instance 3: RescaleSlope is not a number"),
        (missing_slice, r"^PT series 7 \([0-9a-f]{8}\): missing slice"),
        (two_reconstructions, r"found PT series 7 \([0-9a-f]{8}\), PT series 7 \([0-9a-f]{8}\);"),
        (text_file, "^report.dcm: not DICOM"),
        (link, "^more: a link leads outside"),
    ],
)
def test_refusals_name_no_folder(tmp_path, make, message):
    make(telling_folder(tmp_path))
    with pytest.raises(DosimetryError, match=message) as refusal:
        read(tmp_path)
    told = json.dumps([str(refusal.value), refusal.value.where, refusal.value.found])
    assert not any(secret in told for secret in (*SECRETS, "visit"))
