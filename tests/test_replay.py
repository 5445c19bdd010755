"""A case made again from its manifest: equal, or one line that says which input or which number is another."""

import json
import shutil

import numpy as np
import pytest

from mrtai.cli import main
from mrtai.io.case_folder import write_state
from mrtai.io.nifti import write_image, write_labels
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from tests.io import dicom_maker as maker

GRID = Grid.axial((12, 14, 16), np.array([4.0, 4.0, 4.0]))
SHAPE, SPACING = GRID.shape, tuple(GRID.spacing_mm)
PROTOCOL = """nuclide = "Lu-177"
agent = "DOTATATE"
expected_scans = 2
kinetics = "auto"
dose_engine = "local"
activity_sd_relative = 0.05
typical_administered_mbq = 7400.0
[cumulative_limits.kidney_left]
dose_gy = 23.0
source = "a test"
"""
SECRET = "SECRET-4711"


pytestmark = pytest.mark.usefixtures("key")


def body():
    _, y, x = np.indices(SHAPE)
    return ((y - 6.5) / 6) ** 2 + ((x - 7.5) / 7) ** 2 < 1


def organ():
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[3:8, 4:8, 3:7], voxels[3:8, 4:8, 10:13] = 1, 2
    return voxels


def activity(hours, factor=1.0):
    concentration = np.where(body(), 2e3, 0.0) + np.select([organ() == 1, organ() == 2], [8e5, 5e5], 0.0)
    return factor * concentration * 0.5 ** (hours / 50)


def nifti_study(folder, *, given="2026-03-02T09:30:00+00:00", factor=1.0, days=(3, 6)):
    lines = ["administered_mbq = 7400.0", f'administered_at = "{given}"', 'nuclide = "Lu-177"', 'agent = "DOTATATE"']
    for n, day in enumerate(days, start=1):
        hours = 24.0 * (day - 2)
        place = folder / f"scan{n}"
        spect = activity(hours, factor).astype(np.float32)
        write_image(place / "spect.nii.gz", Image(spect, Quantity.ACTIVITY_CONCENTRATION, GRID))
        write_image(place / "ct.nii.gz", Image(np.where(body(), 40, -1000).astype(np.int16), Quantity.HOUNSFIELD, GRID))
        month = given[:8]
        lines += [
            "[[scan]]",
            f'spect = "scan{n}/spect.nii.gz"',
            f'ct = "scan{n}/ct.nii.gz"',
            f'started_at = "{month}{day:02d}T09:30:00+00:00"',
        ]
    (folder / "study.toml").write_text("\n".join(lines) + "\n")
    write_labels(folder / "truth" / "labels.nii.gz", Labels(organ(), {1: "kidney_left", 2: "spleen"}, GRID))
    return folder


def run(study, out, *options, protocol, labels=None):
    words = ["run", str(study), "--protocol", str(protocol), "--out", str(out), *options]
    assert main([*words, "--labels", str(labels or study / "truth" / "labels.nii.gz")]) == 0
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    (folder / "site.toml").write_text(PROTOCOL)
    study = nifti_study(folder / "study")
    return folder, run(study, folder / "case", "--patient", SECRET, protocol=folder / "site.toml")


@pytest.fixture
def copy(made, tmp_path):
    """A copy that a test may spoil: folder of study and protocol, and the case."""
    folder = shutil.copytree(made[0], tmp_path / "copy")
    return folder, folder / "case"


def replay(case, study, *options):
    return main(["replay", str(case), "--study", str(study), "--patient", SECRET, *map(str, options)])


def refused(capsys, case, study, *options):
    capsys.readouterr()
    assert replay(case, study, "--json", *options) == 2
    return json.loads(capsys.readouterr().err)


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_an_unchanged_case_comes_out_equal_and_is_left_untouched(copy, capsys):
    folder, case = copy
    before = content(folder)
    assert replay(case, folder / "study", "--with", folder / "site.toml") == 0
    assert "equal results from 7 inputs" in capsys.readouterr().out
    assert content(folder) == before


def test_a_manifest_with_holes_is_no_case(copy, capsys):
    folder, case = copy
    edit(case / "manifest.json", lambda document: document.pop("parameters"))
    told = refused(capsys, case, folder / "study")
    assert told["code"] == "NOT_A_CASE" and "'parameters' is a required property" in told["found"]


def test_the_state_of_the_case_does_not_count(copy):
    folder, case = copy
    edit(case / "results.json", lambda document: document.update(state="signed"))
    assert replay(case, folder / "study", "--with", folder) == 0


def edit(path, change):
    document = json.loads(path.read_text("utf-8"))
    change(document)
    path.write_text(json.dumps(document), "utf-8")


def test_a_changed_byte_of_a_scan_is_named_as_the_manifest_does(copy, capsys):
    folder, case = copy
    spect = activity(96.0).astype(np.float32)
    spect[5, 5, 5] *= 1.001
    write_image(folder / "study" / "scan2" / "spect.nii.gz", Image(spect, Quantity.ACTIVITY_CONCENTRATION, GRID))
    said = refused(capsys, case, folder / "study", "--with", folder)
    assert (said["code"], said["where"]) == ("INPUT_CHANGED", "scan 2 spect")
    (folder / "study" / "scan2" / "spect.nii.gz").unlink()
    said = refused(capsys, case, folder / "study", "--with", folder)
    assert (said["code"], said["where"]) == ("INPUT_MISSING", "scan 2 spect")


@pytest.mark.parametrize(("name", "where"), [("labels.nii.gz", "labels.nii.gz"), ("labels.json", "labels.json")])
def test_missing_labels_or_changed_names_of_labels_are_named(copy, capsys, name, where):
    folder, case = copy
    shutil.rmtree(case / "images")  # where the run wrote the same labels
    path = folder / "study" / "truth" / name
    path.write_bytes(path.read_bytes() + b"\n")
    said = refused(capsys, case, folder / "study", "--with", folder)
    assert (said["code"], said["where"]) == ("INPUT_MISSING", where)


def test_labels_are_found_in_a_place_named_with_the_command_and_in_the_case_itself(copy):
    folder, case = copy
    shutil.move(folder / "study" / "truth", folder / "elsewhere")
    assert replay(case, folder / "study", "--with", folder / "site.toml") == 0
    shutil.rmtree(case / "images")
    assert replay(case, folder / "study", "--with", folder / "site.toml", "--with", folder / "elsewhere") == 0


def test_a_changed_study_toml_and_a_missing_protocol_are_named(copy, capsys):
    folder, case = copy
    assert refused(capsys, case, folder / "study")["where"] == "site.toml"
    toml = folder / "study" / "study.toml"
    toml.write_text(toml.read_text().replace("7400.0", "7300.0"))
    said = refused(capsys, case, folder / "study", "--with", folder)
    assert (said["code"], said["where"]) == ("INPUT_MISSING", "study.toml")


def test_a_changed_number_is_named_with_its_region_and_by_how_much(copy, capsys):
    folder, case = copy

    def change(document):
        next(region for region in document["regions"] if region["name"] == "spleen")["tia_mbq_h"] *= 1.01

    edit(case / "results.json", change)
    said = refused(capsys, case, folder / "study", "--with", folder)
    assert said["code"] == "REPLAY_DIFFERS" and said["where"] == "region spleen, tia_mbq_h"
    assert "-0.99 %" in said["found"] and "more differences" not in said["found"]
    assert "code and libraries are the same" in said["remedy"]


def test_changed_versions_are_told_with_a_difference_and_without(copy, capsys):
    folder, case = copy
    edit(case / "manifest.json", lambda document: document["libraries"].update(numpy="1.0.0"))
    assert replay(case, folder / "study", "--with", folder) == 0
    assert "changed since: numpy 1.0.0 to" in capsys.readouterr().out
    edit(case / "results.json", lambda document: document["scans"][0].update(time_h=23.0))
    said = refused(capsys, case, folder / "study", "--with", folder)
    assert said["where"] == "scan 1, time_h" and "numpy 1.0.0 to" in said["remedy"]


def test_a_manifest_without_roles_is_refused_as_old(copy, capsys):
    folder, case = copy
    edit(case / "manifest.json", lambda document: document["parameters"].pop("inputs"))
    assert refused(capsys, case, folder / "study")["code"] == "OLD_MANIFEST"


def test_another_key_is_told_as_such_and_no_pseudonym_is_shown(copy, capsys, monkeypatch, tmp_path):
    folder, case = copy
    (tmp_path / "other").write_bytes(b"o" * 32)
    monkeypatch.setenv("MRTAI_KEY_FILE", str(tmp_path / "other"))
    said = refused(capsys, case, folder / "study", "--with", folder)
    assert said["code"] == "KEY_DIFFERS" and "P-" not in json.dumps(said)


def test_the_case_does_not_keep_the_patient_asked_for(made):
    for path in made[1].rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path.name


def test_a_prior_that_was_released_since_is_recognised(copy):
    folder, first = copy
    write_state(first, "signed")
    second = nifti_study(folder / "second", given="2026-05-02T09:30:00+00:00", factor=0.8)
    case = run(second, folder / "case2", "--patient", SECRET, "--prior", str(first), protocol=folder / "site.toml")
    sums = json.loads((case / "results.json").read_text())["cumulative"]
    assert [cycle["state"] for cycle in sums["cycles"]] == ["signed", "draft"]
    write_state(first, "released")
    assert replay(case, second, "--with", folder / "site.toml", "--with", first) == 0


def test_a_prior_of_other_numbers_is_missing(copy, capsys):
    folder, first = copy
    write_state(first, "signed")
    second = nifti_study(folder / "second", given="2026-05-02T09:30:00+00:00", factor=0.9)
    case = run(second, folder / "case2", "--patient", SECRET, "--prior", str(first), protocol=folder / "site.toml")
    edit(first / "results.json", lambda document: document["regions"][0].update(volume_ml=1.0))
    said = refused(capsys, case, second, "--with", folder)
    assert (said["code"], said["where"]) == ("INPUT_MISSING", "results.json")


def test_blood_samples_and_a_calibration_are_found_again(tmp_path, capsys):
    study = nifti_study(tmp_path / "study")
    (study / "tables").mkdir()
    (study / "tables" / "blood.csv").write_text(
        "time_h,activity_kbq_per_ml,activity_sd_kbq_per_ml\n" + "".join(f"{t},{100 * 0.5 ** (t / 20)},\n" for t in (1, 6, 24, 48, 72))
    )
    toml = study / "study.toml"
    toml.write_text(toml.read_text() + '[blood]\nsamples = "tables/blood.csv"\nhaematocrit = 0.4\n')
    calibration = tmp_path / "camera.toml"
    calibration.write_text(
        'camera_serial = "1"\nnuclide = "Lu-177"\ncollimator = "MEGP"\nsensitivity_cps_per_mbq = 9.0\nsensitivity_sd = 0.2\n'
        'valid_from = "2026-01-01"\nvalid_to = "2027-01-01"\n'
    )
    (tmp_path / "site.toml").write_text(PROTOCOL)
    case = run(study, tmp_path / "case", "--patient", SECRET, "--calibration", str(calibration), protocol=tmp_path / "site.toml")
    assert replay(case, study, "--with", tmp_path / "site.toml", "--with", calibration) == 0
    assert refused(capsys, case, study, "--with", tmp_path / "site.toml")["where"] == "camera.toml"
    blood = study / "tables" / "blood.csv"
    blood.write_text(blood.read_text() + "96,1.0,\n")
    said = refused(capsys, case, study, "--with", tmp_path / "site.toml", "--with", calibration)
    assert (said["code"], said["where"]) == ("INPUT_MISSING", "blood samples")


def dicom_scan(folder, hours, frame, **changes):
    spect = maker.pt_series(maker.start_of(hours), (activity(hours) / 20).astype(np.uint16), frame=frame, **changes)
    ct = maker.ct_series(maker.start_of(hours), np.where(body(), 1064, 24).astype(np.uint16), frame=frame)
    maker.save(folder, spect, ct)
    return spect


@pytest.fixture(scope="module")
def dicom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dicom")
    (folder / "site.toml").write_text(PROTOCOL)
    dicom_scan(folder / "study" / "first", 24, "1.2.3.4.1")
    labels = folder / "labels.nii.gz"
    write_labels(labels, Labels(organ(), {1: "kidney_left", 2: "spleen"}, maker_grid()))
    words = ["run", str(folder / "study"), "--protocol", str(folder / "site.toml"), "--out", str(folder / "case")]
    assert main([*words, "--labels", str(labels)]) == 0
    return folder


def maker_grid():
    return Grid(SHAPE, np.array(maker.SPACING), np.array([-5.0, -6.0, -7.0]), np.eye(3))


def dicom_replay(folder, *options):
    return main(["replay", str(folder / "case"), "--study", str(folder / "study"), "--with", str(folder), *options])


@pytest.fixture
def spoilt(dicom, tmp_path):
    return shutil.copytree(dicom, tmp_path / "spoilt")


def test_a_dicom_case_comes_out_equal(dicom):
    assert dicom_replay(dicom) == 0


def test_scans_and_patients_that_came_later_do_not_count(spoilt):
    dicom_scan(spoilt / "study" / "second", 96, "1.2.3.4.2")
    stranger = maker.pt_series(maker.start_of(24), (activity(24) / 20).astype(np.uint16), frame="1.2.3.4.9")
    for header in stranger:
        header.PatientID = "SOMEBODY-ELSE"
    maker.save(spoilt / "study" / "stranger", stranger)
    (spoilt / "study" / "study.toml").write_text("administered_mbq = 1.0\n")
    assert dicom_replay(spoilt) == 0


def test_an_edited_object_and_a_missing_one_are_named_by_their_uid(spoilt, capsys):
    path = max((spoilt / "study" / "first").rglob("*.dcm"))
    header = maker_read(path)
    header.SeriesDescription = "edited"
    header.save_as(path)
    assert dicom_replay(spoilt, "--json") == 2
    said = json.loads(capsys.readouterr().err)
    assert (said["code"], said["where"]) == ("INPUT_CHANGED", str(header.SOPInstanceUID))
    path.unlink()
    assert dicom_replay(spoilt, "--json") == 2
    assert json.loads(capsys.readouterr().err)["code"] == "INPUT_MISSING"


def maker_read(path):
    import pydicom

    return pydicom.dcmread(path)
