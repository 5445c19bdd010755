"""The flow on a real Prefect server: the same results as the plain walk, no work twice, and nothing of the patient in its database."""

import json
import os
import sqlite3
from datetime import timedelta
from importlib.resources import files

import nibabel
import numpy as np
import pytest

from mrtai.cli import main
from mrtai.io.assignment import Assigner
from mrtai.io.code_version import code_sha256
from mrtai.io.cycle_folder import CycleFolder
from mrtai.io.ledger import open_ledger
from mrtai.io.pseudonym import load_key
from mrtai.io.received import Received
from mrtai.values.ledger import CaseState
from mrtai.values.refusal import DosimetryError
from tests.workflows.department import department
from tests.workflows.small_patient import GIVEN_AT, Person, changed, label_map, scan

KEPT = ("align", "read", "segment", "integrate", "absorb", "rates", "measure", "check")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site of its own, known to this process before Prefect is imported."""
    patch = pytest.MonkeyPatch()
    with department(tmp_path_factory.mktemp("site") / "site") as made:
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            patch.delenv(name)
        patch.delenv("MRTAI_KEY_FILE", raising=False)
        patch.setenv("MRTAI_CONFIG", str(made.config))
        from workflows import settings

        made.site.root.mkdir()
        settings.apply(made.site.root / "prefect")
        yield made
    patch.undo()


@pytest.fixture(scope="module")
def server(site):
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield site


@pytest.fixture
def ledger(site):
    with open_ledger(site.site.database) as opened:
        yield opened


def submit(site, ledger, folder):
    from workflows.submit import submit_study

    assigner = Assigner(site.site, ledger, load_key(), code_sha256())
    (study,) = submit_study(site.site, assigner, folder, study_toml=None, replace=False, identity_checked=False)
    return ledger.case(study.case_id)


def again(site, ledger, case_id, **files):
    from workflows.submit import submit_case

    assigner = Assigner(site.site, ledger, load_key(), code_sha256())
    words = {"study_toml": None, "labels": None, "replace": False, **files}
    return submit_case(site.site, ledger, assigner, case_id, **words)


def flow(case):
    from workflows.dose_cycle import dose_cycle

    return dose_cycle(case.id, case.wanted_sha256, return_state=True)


def manifest(site, case):
    return json.loads((site.folder_of(case.id) / "manifest.json").read_text())


@pytest.fixture(scope="module")
def drafted(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    with open_ledger(server.site.database) as ledger:
        for number, hours in enumerate((24, 96, 168), start=1):
            case = submit(server, ledger, scan(folder / "study" / str(number), hours, contours=number == 1))
        state = flow(case)
        return folder / "study", ledger.case(case.id), state


def test_the_flow_gives_the_voxels_of_the_plain_walk(server, drafted, tmp_path):
    study, case, state = drafted
    assert state.is_completed() and state.message.startswith("draft")
    words = ["run", str(study), "--protocol", str(server.folder / "small.toml"), "--out", str(tmp_path / "plain")]
    assert main(words) == 0
    flowed = server.folder_of(case.id)
    assert (flowed / "results.json").read_bytes() == (tmp_path / "plain" / "results.json").read_bytes()
    for name in ("dose", "tia", "labels", "spect_1", "spect_3", "dose_rate_2"):
        ours, theirs = (np.asarray(nibabel.load(folder / "images" / f"{name}.nii.gz").dataobj) for folder in (flowed, tmp_path / "plain"))
        assert np.array_equal(ours, theirs), name


def test_an_unchanged_case_is_not_worked_on_again(server, drafted, ledger):
    _, case, _ = drafted
    written = (server.folder_of(case.id) / "manifest.json").stat().st_mtime_ns
    assert flow(case).message == "nothing to do"
    assert (server.folder_of(case.id) / "manifest.json").stat().st_mtime_ns == written
    # told to do it all the same, it takes every room's result from before
    assert flow(again(server, ledger, case.id)).is_completed()
    assert set(manifest(server, case)["reused"]) == set(KEPT)
    assert ledger.case(case.id).results_sha256 == case.results_sha256


def test_changed_contours_are_worked_on_from_segmentation_and_a_changed_calibration_from_reading(server, drafted, ledger, tmp_path):
    _, case, _ = drafted
    assert flow(again(server, ledger, case.id, labels=label_map(tmp_path / "labels.nii.gz", smaller=True))).is_completed()
    assert set(manifest(server, case)["reused"]) == {"read", "align", "rates"}
    example = files("mrtai").joinpath("data/examples/calibration.toml")
    (server.folder / "calibrations" / "camera.toml").write_text(example.read_text("utf-8"), "utf-8")
    assert flow(again(server, ledger, case.id)).is_completed()
    reused = manifest(server, case)["reused"]
    assert "read" not in reused
    assert "align" not in reused


def test_a_refused_case_fails_with_its_line_and_leaves_nothing(server, ledger, tmp_path):
    study = scan(tmp_path / "1", 24, person=Person(patient_id="SECRET-2", born="19500101"))
    case = submit(server, ledger, study)
    state = flow(case)
    failed = ledger.case(case.id)
    assert state.is_failed() and failed.state is CaseState.FAILED
    assert failed.reason in state.message and "contours" in failed.reason
    assert not server.folder_of(case.id).exists()
    assert not failed.is_due


def test_a_failed_case_goes_on_by_itself_when_a_person_attaches_what_it_lacked(server, ledger, tmp_path):
    from workflows.inbox import take_in

    case = submit(server, ledger, scan(tmp_path / "1", 24, person=Person("SECRET-3", "Arthur^Dent", "19700101")))
    flow(case)
    failed = ledger.case(case.id)
    assert failed.state is CaseState.FAILED and "Dent" not in failed.reason
    take_in(server.site, ledger, quiet_s=0)
    assert not ledger.case(case.id).is_due, "nothing changed, so nothing is done"
    CycleFolder(server.site.cycles / case.id).attach(labels=label_map(tmp_path / "labels.nii.gz"))
    take_in(server.site, ledger, quiet_s=0)
    assert flow(ledger.case(case.id)).is_completed()
    assert ledger.case(case.id).state is CaseState.DRAFT


def test_a_corrected_injection_record_holds_the_case_until_a_person_takes_it(server, ledger, tmp_path):
    from workflows.inbox import take_in

    sent = scan(tmp_path / "1", 24, person=Person("SECRET-4", "Marvin^Android", "19600101"), contours=True)
    case = submit(server, ledger, sent)
    assert flow(case).is_completed()
    for path in sorted(changed(sent, tmp_path / "again", administered_bq=6.8e9).glob("*.dcm")):
        Received(server.site.root).take_file(path)
    take_in(server.site, ledger, quiet_s=0)
    held = ledger.case(case.id)
    assert held.state is CaseState.HELD and held.reason_code == "INSTANCE_CHANGED"
    assert flow(again(server, ledger, case.id, replace=True)).is_completed()
    assert server.results(case.id)["administrations"][0]["activity_mbq"] == pytest.approx(6800.0)


def test_a_rejected_draft_says_so_and_can_be_computed_again(server, ledger, tmp_path):
    from workflows.decide import reject

    case = submit(server, ledger, scan(tmp_path / "1", 24, person=Person("SECRET-5", "Slarti^Bartfast", "19500505"), contours=True))
    flow(case)
    reject(server.site, ledger, case.id, "A. Physicist", "contours of the spleen")
    assert server.results(case.id)["state"] == "rejected"
    assert flow(again(server, ledger, case.id)).is_completed()
    assert server.results(case.id)["state"] == "draft"
    assert [str(entry.becomes) for entry in ledger.audit(case.id)] == ["draft", "rejected", "draft"]


def test_one_bad_case_of_a_cohort_says_why_and_leaves_nothing(server, drafted, ledger, tmp_path):
    from workflows.cohort import compared, recompute, set_folder

    alone = submit(server, ledger, scan(tmp_path / "1", 24, person=Person("SECRET-6", "Eddie^Computer", "19500606"), contours=True))
    flow(alone)
    state = recompute(alone.id, "mono", kinetics="mono", return_state=True)
    assert state.is_failed() and "2 time points needed" in state.message
    assert not (set_folder(server.site, "mono") / alone.id).exists()
    _, case, _ = drafted
    assert recompute(case.id, "mono", kinetics="mono", return_state=True).is_completed()
    assert ledger.case(alone.id).state is CaseState.DRAFT
    # the comparison at the end goes without the case that failed, and names it
    found = json.loads((compared(server.site, "mono", "drafts") / "validation.json").read_text())
    assert {one["cycle"] for one in found["automatic"]} == {1} and len(found["automatic"]) == 1
    assert any(one["side"] == "manual" and one["region"] is None for one in found["unmatched"])


def test_a_fault_of_ours_is_told_without_its_message(server):
    from workflows.room_task import RoomFault, room_as_task

    def measure():
        raise ValueError("Zaphod^Unlikely has no number")

    from prefect import flow as prefect_flow

    @prefect_flow
    def one_room():
        return room_as_task(measure)

    state = one_room(return_state=True)
    with pytest.raises(RoomFault, match="measure: ValueError"):
        state.result()
    assert "Zaphod" not in state.message


def test_a_run_whose_inputs_are_no_longer_wanted_changes_nothing(server, drafted, ledger):
    _, case, _ = drafted
    before = ledger.case(case.id)
    from workflows.dose_cycle import dose_cycle

    assert dose_cycle(case.id, "0" * 64, return_state=True).message == "nothing to do"
    assert ledger.case(case.id) == before


def test_old_snapshots_and_stages_are_cleared(server, drafted, ledger):
    _, case, _ = drafted
    folder = CycleFolder(server.site.cycles / case.id)
    assert [path.name for path in folder.root.glob("inputs-*")] == [f"inputs-{ledger.case(case.id).drafted_sha256[:16]}"]
    assert len(list(folder.kept.glob("*.json"))) == len(KEPT)


def test_prefects_database_holds_the_dose_table_and_no_identity(server, drafted):
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL

    url = PREFECT_API_DATABASE_CONNECTION_URL.value()
    dump = "\n".join(sqlite3.connect(url.split("///", 1)[1]).iterdump())
    _, case, _ = drafted
    assert "dose-table" in dump and case.pseudonym in dump
    for word in ("SECRET", "Zaphod", "Unlikely", "19420611"):
        assert word not in dump
    assert len(dump) < 3_000_000


def test_a_signed_cycle_informs_the_next_one_which_is_not_signed_without_it(server, drafted, ledger, tmp_path):
    from workflows.decide import reject, sign

    _, first, _ = drafted
    sign(server.site, ledger, first.id, "A. Physicist")
    second = submit(server, ledger, scan(tmp_path / "1", 24, given_at=GIVEN_AT + timedelta(days=56), contours=True))
    assert flow(second).is_completed()
    inputs = CycleFolder(server.site.cycles / second.id).snapshot(second.wanted_sha256)
    assert [prior.case for prior in inputs.priors] == [server.folder_of(first.id)] and inputs.cycle == "2"
    assert server.results(second.id)["cumulative"] is not None
    reject(server.site, ledger, first.id, "A. Physicist", "wrong contours")
    with pytest.raises(DosimetryError, match="an earlier cycle that this draft leans on has changed"):
        sign(server.site, ledger, second.id, "A. Physicist")


def test_a_rejection_that_a_crash_kept_from_the_folder_does_not_block_the_case(server, ledger, tmp_path):
    from mrtai.io.case_folder import write_state
    from workflows.decide import reject, sign

    case = submit(server, ledger, scan(tmp_path / "1", 24, person=Person("SECRET-7", "Agrajag^Once", "19510505"), contours=True))
    flow(case)
    sign(server.site, ledger, case.id, "A. Physicist")
    reject(server.site, ledger, case.id, "A. Physicist", "wrong contours")
    write_state(server.folder_of(case.id), "signed")  # as it stood when the process died
    assert flow(again(server, ledger, case.id)).is_completed()
    assert ledger.case(case.id).state is CaseState.DRAFT
