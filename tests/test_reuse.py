"""Work already done for unchanged inputs is not done again, and what is kept of it gives the same bits and no identity."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from mrtai.cli import main
from mrtai.cycle import plainly, read, run_case, study_of
from mrtai.engines_of_run import CaseRequest
from mrtai.io.nifti import write_labels
from mrtai.io.study import read_study
from mrtai.reuse import reusing
from mrtai.values.labels import Labels
from tests.io import dicom_maker as maker

TOML = """camera_serial = "CAM-1"
nuclide = "Lu-177"
collimator = "MEGP"
sensitivity_cps_per_mbq = 9.0
sensitivity_sd = 0.18
valid_from = 2026-01-01
valid_to = 2026-12-31
"""
SHAPE = (12, 16, 20)
ROOMS = ["read", "align", "segment", "integrate", "absorb", "rates", "measure", "check"]
AFTER_LABELS = ["segment", "integrate", "absorb", "measure", "check"]


@pytest.fixture(autouse=True)
def key(tmp_path, monkeypatch):
    monkeypatch.setenv("MRTAI_KEY_FILE", str(tmp_path / "key"))
    (tmp_path / "key").write_bytes(maker.KEY)


def labels_of(request, low):
    """A kidney of 64 voxels and a spleen of 48 in the first scan's space."""
    cycle = read_study(request.study, protocol=maker.PROTOCOL, pseudonym_key=maker.KEY, calibrations=request.calibrations)
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[4:8, low : low + 4, 4:8], voxels[4:8, low : low + 4, 12:15] = 1, 2
    return Labels(voxels, {1: "kidney_left", 2: "spleen"}, cycle.time_points[0].spect.grid)


@pytest.fixture
def request_of_counts(tmp_path):
    """Two tomograms in counts of a patient with a name, their calibration and a label map."""
    body = np.zeros(SHAPE, np.uint16)
    body[2:10, 2:14, 2:18] = maker.numbers(3, (8, 12, 16)) // 4 + 200
    scans = [maker.nm_tomogram(maker.start_of(h), (body * share).astype(np.uint16)) for h, share in ((24, 1.0), (96, 0.4))]
    study, calibration, labels = maker.save(tmp_path / "study", *scans), tmp_path / "camera.toml", tmp_path / "labels.nii.gz"
    calibration.write_text(TOML)
    request = CaseRequest(
        study, "lu177-dotatate", tmp_path / "case", labels=labels, calibrations=(calibration,), engine="local", check_engine="none"
    )
    write_labels(labels, labels_of(request, 4))
    return request


class Walk:
    """What a walk left: the rooms that were entered anew, and its files."""

    def __init__(self, request, code="1"):
        self.worked = []
        step = reusing(request.study.parent / "kept", self.watched, code=code)
        self.case = run_case(request, step)
        step.discard_others()
        self.reused = step.reused
        self.results = (self.case / "results.json").read_bytes()
        self.maps = {path.name: path.read_bytes() for path in sorted((self.case / "images").iterdir())}
        self.manifest = json.loads((self.case / "manifest.json").read_text())
        self.stages = sorted((request.study.parent / "kept").glob("*.json"))

    def watched(self, room, *args):
        self.worked.append(room.__name__)
        return room(*args)


def test_an_unchanged_case_is_read_from_what_was_kept_and_is_the_same_to_the_bit(request_of_counts):
    plain = run_case(replace(request_of_counts, out=request_of_counts.out.with_name("plain")), plainly)
    first, again = Walk(request_of_counts), Walk(request_of_counts)
    assert (first.reused, again.reused) == ([], ROOMS)
    assert (plain / "results.json").read_bytes() == first.results == again.results
    assert {path.name: path.read_bytes() for path in sorted((plain / "images").iterdir())} == first.maps == again.maps
    # the shell's own step sees every room, also one that is not worked in again
    assert again.worked == [*ROOMS, "write"]
    assert (first.manifest["reused"], again.manifest["reused"]) == ([], ROOMS)
    assert list(again.manifest["timings_s"]) == ROOMS
    assert first.manifest["inputs"] == again.manifest["inputs"]
    assert [entry["name"] for entry in again.manifest["inputs"][-3:]] == ["camera.toml", "labels.nii.gz", "labels.json"]


def test_a_changed_calibration_repeats_from_reading(request_of_counts):
    first = Walk(request_of_counts)
    request_of_counts.calibrations[0].write_text(TOML.replace("= 9.0", "= 18.0"))
    second = Walk(request_of_counts)
    assert second.reused == []
    activities = [json.loads(walk.results)["regions"][0]["time_activity"]["activity_mbq"][0] for walk in (first, second)]
    assert activities[0] == pytest.approx(2 * activities[1], rel=1e-6)
    assert len(second.stages) == len(ROOMS) and not set(first.stages) & set(second.stages)


def is_read_again(request):
    step = reusing(request.study.parent / "kept", plainly, code="1")
    step(read, study_of(request), maker.PROTOCOL)
    return step.reused == []


def test_every_file_that_reading_opens_makes_it_read_again(request_of_counts, tmp_path):
    assert is_read_again(request_of_counts) and not is_read_again(request_of_counts)
    toml, blood = tmp_path / "elsewhere" / "study.toml", tmp_path / "elsewhere" / ".blood" / "samples.csv"
    blood.parent.mkdir(parents=True)
    toml.write_text('administered_mbq = 7000\n[blood]\nsamples = ".blood/samples.csv"\nhaematocrit = 0.4\n')
    blood.write_text("time_h,activity_kbq_per_ml,activity_sd_kbq_per_ml\n1,80,2\n24,20,1\n")
    stated = replace(request_of_counts, study_toml=toml)
    assert is_read_again(stated) and not is_read_again(stated)
    blood.write_text(blood.read_text().replace("80", "81"))
    assert is_read_again(stated) and not is_read_again(stated)
    toml.write_text(toml.read_text().replace("7000", "7001"))
    assert is_read_again(stated) and not is_read_again(stated)
    maker.save(request_of_counts.study / "more", maker.nm_tomogram(maker.start_of(168), np.full(SHAPE, 90, np.uint16)))
    assert is_read_again(stated) and not is_read_again(stated)
    assert is_read_again(replace(stated, patient=maker.PATIENT_ID))


def test_a_moved_study_is_not_read_again(request_of_counts, tmp_path):
    assert is_read_again(request_of_counts)
    moved = request_of_counts.study.rename(tmp_path / "moved")
    assert not is_read_again(replace(request_of_counts, study=moved))


def test_changed_labels_repeat_from_kinetics(request_of_counts):
    first = Walk(request_of_counts)
    write_labels(request_of_counts.labels, labels_of(request_of_counts, 6))
    second = Walk(request_of_counts)
    # the dose rates of the scans know nothing of contours
    assert second.reused == [room for room in ROOMS if room not in AFTER_LABELS]
    assert first.results != second.results
    fresh = run_case(replace(request_of_counts, out=request_of_counts.out.with_name("fresh")), plainly)
    assert (fresh / "results.json").read_bytes() == second.results
    assert len(second.stages) == len(ROOMS)


def test_an_earlier_cycle_repeats_from_kinetics(request_of_counts):
    first = Walk(request_of_counts)
    earlier = json.loads(first.results)
    earlier["administrations"][0]["time"] = "2026-01-05T09:30:00"
    prior = request_of_counts.study.parent / "earlier.json"
    prior.write_text(json.dumps(earlier))
    second = Walk(replace(request_of_counts, priors=(prior,)))
    assert second.reused[:3] == ["read", "align", "segment"] and "integrate" not in second.reused
    assert second.manifest["inputs"][-1]["name"] == "earlier.json"


def test_another_engine_repeats_from_kinetics_and_leaves_what_comes_to_the_same(request_of_counts):
    Walk(request_of_counts)
    second = Walk(replace(request_of_counts, check_engine="local"))
    # the fits and the integrals come out as before, so their dose is not worked out again
    assert second.reused == ["read", "align", "segment", "absorb", "rates"]
    assert json.loads(second.results)["check"] != []


def test_other_code_or_another_pseudonym_repeats_everything(request_of_counts, tmp_path):
    Walk(request_of_counts)
    first = Walk(request_of_counts, code="2")
    assert first.reused == []
    (tmp_path / "key").write_bytes(b"another key of thirty-two bytes!")
    third = Walk(request_of_counts, code="2")
    assert third.reused == []
    assert json.loads(third.results)["patient"] != json.loads(first.results)["patient"]


def test_damaged_stages_are_worked_out_again(request_of_counts, caplog):
    first = Walk(request_of_counts)
    stages = {path.name.split("-")[0]: path for path in first.stages}
    contents = {room: path.read_bytes() for room, path in stages.items()}
    # the last one is still JSON of ours, but no longer what was kept
    other_number = contents["integrate"].replace(b'"common_relative_sd":0.02', b'"common_relative_sd":0.03')
    damage = {"read": b"", "align": b"{}", "segment": b"not JSON", "absorb": b'{"schema":"mrtai.kept/1"}', "integrate": other_number}
    for room, content in damage.items():
        assert content != contents[room]
        stages[room].write_bytes(content)
    with caplog.at_level(logging.WARNING):
        second = Walk(request_of_counts)
    assert second.reused == ["rates", "measure", "check"]
    assert second.results == first.results
    assert [record.args[0] for record in caplog.records] == [stages[room].stem for room in ROOMS if room in damage]
    assert {room: path.read_bytes() for room, path in stages.items()} == contents


def test_damaged_voxels_are_worked_out_again_once(request_of_counts):
    first = Walk(request_of_counts)
    arrays = sorted((request_of_counts.study.parent / "kept" / "arrays").iterdir())
    for path in arrays:
        content = bytearray(path.read_bytes())
        content[-9] ^= 1
        path.write_bytes(content)
    second, third = Walk(request_of_counts), Walk(request_of_counts)
    assert set(second.reused) < set(ROOMS) and third.reused == ROOMS
    assert first.results == second.results == third.results
    assert first.maps == second.maps == third.maps


def test_a_file_that_changes_while_it_is_read_belongs_to_no_key(request_of_counts):
    kept = request_of_counts.study.parent / "kept"
    step = reusing(kept, plainly, code="1")

    def reading(path):
        content = path.read_text()
        path.write_text(content.replace("= 9.0", "= 18.0"))
        return (content,)

    step(reading, request_of_counts.calibrations[0])
    assert step.names == [] and not kept.exists()
    step(reading, request_of_counts.calibrations[0])
    assert len(step.names) == 1


def test_nothing_kept_names_the_patient_or_the_key(request_of_counts, tmp_path):
    walk = Walk(replace(request_of_counts, patient=maker.PATIENT_ID))
    assert len(walk.stages) == len(ROOMS)
    secrets = [maker.PATIENT_ID, "Doe", "Jane", "19700101", "1970-01-01", maker.KEY.decode()]
    for path in (tmp_path / "kept").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for secret in secrets:
            assert secret.encode() not in content and secret not in path.name, path.name
        # pickles of protocol 2 and later begin so; NumPy writes them in files whose header says object
        assert not content.startswith(b"\x80") and b"'|O'" not in content[:256]


def test_a_full_disk_costs_the_reuse_and_not_the_draft(request_of_counts, caplog):
    (request_of_counts.study.parent / "kept").write_text("a file where the folder should be")
    step = reusing(request_of_counts.study.parent / "kept", plainly, code="1")
    with caplog.at_level(logging.WARNING):
        assert (run_case(request_of_counts, step) / "results.json").is_file()
    assert "is not kept" in caplog.text


@pytest.mark.slow
def test_a_virtual_patients_case_is_reused_to_the_bit(tmp_path):
    study = tmp_path / "study"
    assert main(["simulate", "--out", str(study), "--scanner", "ideal", "--times-h", "24", "--seed", "5", "--format", "nifti"]) == 0
    labels = study / "truth" / "labels.nii.gz"
    request = CaseRequest(study, "lu177-dotatate", tmp_path / "case", labels=labels, engine="local", check_engine="none")
    first, again = Walk(request), Walk(request)
    assert again.reused == ROOMS
    assert first.results == again.results and first.maps == again.maps
