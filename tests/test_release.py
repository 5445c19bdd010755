"""From a study to the archive by the commands: run, export, sign, send; and what is refused on the way."""

import json
import shutil
import subprocess

import pydicom
import pytest

from mrtai.cli import main
from tests.io.orthanc import orthanc
from tests.workflows.small_patient import PROTOCOL, Person, scan


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    patch = pytest.MonkeyPatch()
    (folder / "key").write_bytes(b"k" * 32)
    patch.setenv("MRTAI_KEY_FILE", str(folder / "key"))
    patch.setenv("MRTAI_CONFIG", str(folder / "mrtai.toml"))
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def exported(home):
    """A study of two scans of a few voxels, its case, and the case's objects."""
    study, case, protocol = home / "study", home / "case", home / "small.toml"
    for hours in (24, 96):
        scan(study / f"{hours} h", hours, contours=hours == 24)
    protocol.write_text(PROTOCOL)
    assert main(["run", str(study), "--protocol", str(protocol), "--out", str(case)]) == 0
    assert main(["export", str(case), "--study", str(study)]) == 0
    return study, case


@pytest.fixture(scope="module")
def whole(home):
    """The case of a whole virtual patient, with its objects."""
    study, case = home / "whole", home / "whole case"
    assert main(["simulate", "--out", str(study), "--scanner", "ideal", "--times-h", "24,96", "--seed", "5"]) == 0
    words = ["--labels", str(study / "truth" / "labels.nii.gz"), "--check-engine", "none"]
    assert main(["run", str(study), "--protocol", "lu177-dotatate", *words, "--out", str(case)]) == 0
    assert main(["export", str(case), "--study", str(study)]) == 0
    return case


@pytest.fixture(scope="module")
def archive(home, tmp_path_factory):
    with orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        (home / "mrtai.toml").write_text(
            f'[dicom]\nae_title = "MRTAI"\nlisten_port = {server.listen_port}\n'
            f'[[target]]\nname = "pacs"\nprotocol = "c-store"\nhost = "127.0.0.1"\nport = {server.dicom_port}\nae_title = "ORTHANC"\n'
            f'commitment = true\n[[target]]\nname = "web"\nprotocol = "stow-rs"\nurl = "{server.url}/dicom-web"\n'
        )
        yield server


def signed(case, state="signed"):
    """As the sign command will leave it."""
    document = json.loads((case / "results.json").read_text())
    (case / "results.json").write_text(json.dumps(document | {"state": state}))


def test_the_objects_are_those_of_the_case(exported):
    study, case = exported
    names = {path.stem for path in (case / "dicom").glob("*.dcm")}
    assert names >= {
        "rtdose",
        "rtplan",
        "rtstruct",
        "seg",
        "sr",
        "pdf",
        "pmap_dose",
        "pmap_tia",
        "pmap_dose_rate_1",
        "pmap_dose_rate_2",
        "reg_2",
    }
    first = pydicom.dcmread(study / "24 h" / "000.dcm", stop_before_pixels=True)
    for path in (case / "dicom").glob("*.dcm"):
        ds = pydicom.dcmread(path)
        assert (ds.PatientName, ds.PatientID, ds.StudyInstanceUID) == (first.PatientName, first.PatientID, first.StudyInstanceUID)
    elsewhere = [path for path in case.rglob("*") if path.is_file() and path.suffix != ".dcm"]
    assert not any(b"Zaphod" in path.read_bytes() or "Zaphod" in path.name for path in elsewhere)


@pytest.mark.parametrize(
    ("made", "regions"),
    [
        ("exported", {"kidney_left", "spleen"}),
        pytest.param("whole", {"liver", "liver_without_lesions", "kidneys", "tumour_total"}, marks=pytest.mark.slow),
    ],
)
def test_an_export_compared_with_its_case_has_the_same_contours_and_dose(made, regions, request, tmp_path):
    case = request.getfixturevalue(made)
    case = case[1] if made == "exported" else case
    assert main(["validate", str(case), str(case / "dicom"), "--out", str(tmp_path / "compared")]) == 0
    found = json.loads((tmp_path / "compared" / "validation.json").read_text())
    assert {one["region"] for one in found["unmatched"]} == {"body", "remainder"}  # no contours
    by_region = {one["region"]: one for one in found["pairs"]}
    assert regions <= set(by_region)
    assert min(one["contour"]["dice"] for one in found["maps"]["regions"]) == 1.0
    assert all(one["passed"] == one["points"] > 0 for cycle in found["maps"]["cycles"] for one in cycle["gamma"])
    for name, pair in by_region.items():
        # voxels of the dose that two regions share alike fall to either
        assert pair["manual"]["absorbed_dose"] == pytest.approx(pair["automatic"]["absorbed_dose"], rel=0.02), name


def test_a_second_export_changes_nothing(exported):
    study, case = exported
    before = {path.name: path.read_bytes() for path in (case / "dicom").iterdir()}
    assert main(["export", str(case), "--study", str(study)]) == 0
    assert {path.name: path.read_bytes() for path in (case / "dicom").iterdir()} == before


def test_dcmtk_reads_every_object(exported, program):
    _, case = exported
    for path in sorted((case / "dicom").glob("*.dcm")):
        subprocess.run([program("dcmdump", "dcmtk"), "-q", str(path)], check=True, capture_output=True)
    html = subprocess.run([program("dsr2html", "dcmtk"), str(case / "dicom" / "sr.dcm")], check=True, capture_output=True).stdout.decode()
    kidney = next(row for row in json.loads((case / "results.json").read_text())["regions"] if row["name"] == "kidney_left")
    assert "kidney_left" in html and f"{kidney['absorbed_dose_gy']['mean']:.6g} Gy" in html


def test_a_draft_is_not_sent(exported, archive, capfd):
    _, case = exported
    assert main(["send", str(case), "--to", "pacs"]) == 2
    assert "unsigned draft" in capfd.readouterr().err
    signed(case)
    assert main(["send", str(case), "--to", "pacs"]) == 2  # the objects are still those of the draft
    assert "no proven objects" in capfd.readouterr().err


@pytest.fixture(scope="module")
def proven(exported):
    """The signed case with objects of its own."""
    study, case = exported
    signed(case)
    assert main(["export", str(case), "--study", str(study)]) == 0
    return case


def test_a_signed_case_arrives_once(proven, archive, capfd):
    case = proven
    assert main(["send", str(case), "--to", "pacs"]) == 0
    files = sorted((case / "dicom").glob("*.dcm"))
    assert f"{len(files)} objects stored at pacs, {len(files)} committed" in capfd.readouterr().out
    assert main(["send", str(case), "--to", "web"]) == 0
    assert main(["send", str(case), "--to", "pacs"]) == 0
    assert len(archive.instances()) == len(files)
    for path in files:
        sent = pydicom.dcmread(path)
        back = pydicom.dcmread(pydicom.filebase.DicomBytesIO(archive.stored(sent.SOPInstanceUID)))
        assert back == sent


def doubled(folder):
    path = folder / "rtdose.dcm"
    ds = pydicom.dcmread(path)
    ds.DoseGridScaling = f"{2 * float(ds.DoseGridScaling):.9e}"
    ds.save_as(path, enforce_file_format=True)


def with_a_stranger(folder):
    ds = pydicom.dcmread(folder / "pdf.dcm")
    ds.PatientID, ds.SOPInstanceUID = "ANOTHER", "1.2.3.4444"
    ds.save_as(folder / "Strange^Name.dcm", enforce_file_format=True)


def without_segments(folder):
    (folder / "seg.dcm").unlink()


def without_a_proof(folder):
    (folder / "proof.json").write_text("{}")


@pytest.mark.parametrize(
    "tamper", [doubled, *(pytest.param(one, marks=pytest.mark.slow) for one in (with_a_stranger, without_segments, without_a_proof))]
)
def test_only_the_very_files_that_were_proven_are_sent(tamper, proven, archive, capfd):
    case = proven
    before = archive.instances()
    kept = case.parent / "kept"
    shutil.copytree(case / "dicom", kept)
    try:
        tamper(case / "dicom")
        assert main(["send", str(case), "--to", "web", "--json"]) == 2
    finally:
        shutil.rmtree(case / "dicom")
        kept.replace(case / "dicom")
    said = capfd.readouterr()
    assert "NOT_PROVEN" in said.out + said.err and "Strange" not in said.out + said.err
    assert archive.instances() == before


def test_another_patients_study_is_refused_by_name_of_nobody(exported, home, capfd):
    _, case = exported
    other = scan(home / "other", 24, person=Person(patient_id="SECRET-1"))  # of the same name
    before = sorted((case / "dicom").iterdir())
    assert main(["export", str(case), "--study", str(other)]) == 2
    said = capfd.readouterr().err
    assert "not of the case's patient" in said and "Zaphod" not in said
    assert sorted((case / "dicom").iterdir()) == before
    assert not list(case.glob(".dicom*"))


def test_a_changed_scan_is_refused(exported, capfd):
    study, case = exported
    path = study / "96 h" / "000.dcm"
    kept = path.read_bytes()
    changed = pydicom.dcmread(path)
    changed.SeriesDescription = "edited"
    changed.save_as(path)
    try:
        assert main(["export", str(case), "--study", str(study)]) == 2
    finally:
        path.write_bytes(kept)
    assert "changed since" in capfd.readouterr().err
