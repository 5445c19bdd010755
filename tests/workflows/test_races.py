"""Two parties at one moment, and what a crash or a spoiled disk leaves: forced by letting the other one act in between."""

import os
import stat
from dataclasses import replace

import pytest

from mrtai.io.assignment import Assigner
from mrtai.io.cycle_folder import CycleFolder
from mrtai.io.ledger import open_ledger
from mrtai.io.received import Received
from mrtai.io.results import results_sha256
from mrtai.values.ledger import CaseState, StudyState, Superseded
from mrtai.values.refusal import DosimetryError
from tests.workflows.department import department
from tests.workflows.small_patient import scan

KEY = b"k" * 32
RESULTS = {"schema": "mrtai.results/1", "state": "draft", "provisional": False}


@pytest.fixture
def site(tmp_path, monkeypatch):
    with department(tmp_path / "site") as made:
        monkeypatch.setenv("MRTAI_CONFIG", str(made.config))
        made.site.root.mkdir()
        yield made.site


@pytest.fixture
def assigner(site):
    with open_ledger(site.database) as ledger:
        yield Assigner(site, ledger, KEY, "code")


def received(assigner, folder):
    (key,) = {Received(assigner.site.root).take_file(path).study for path in sorted(folder.glob("*.dcm"))}
    return key


def frozen_files(assigner, case):
    return len(list(CycleFolder(assigner.site.cycles / case.id).snapshot(case.wanted_sha256).study.rglob("*.dcm")))


def drafted(assigner, study):
    case = assigner.case(study.case_id)
    return assigner.ledger.move(
        case.id, CaseState.DRAFT, by="run", results_sha256=results_sha256(RESULTS), inputs_sha256=case.wanted_sha256
    )


def test_a_scan_that_comes_while_a_person_signs_is_not_signed_over(assigner, tmp_path, monkeypatch):
    from workflows import decide

    case = drafted(assigner, assigner.assign(received(assigner, scan(tmp_path / "1", 24, contours=True))))
    second = received(assigner, scan(tmp_path / "2", 96))

    def read(_):
        assigner.assign(second)
        return RESULTS

    monkeypatch.setattr(decide, "read_results", read)
    with pytest.raises(Superseded):
        decide.sign(assigner.site, assigner.ledger, case.id, "A. Physicist")
    assert assigner.case(case.id).state is CaseState.DRAFT and assigner.case(case.id).is_due


def test_a_study_assigned_while_another_process_freezes_is_in_what_is_wanted(assigner, tmp_path, monkeypatch):
    study = assigner.assign(received(assigner, scan(tmp_path / "1", 24, contours=True)))
    second = received(assigner, scan(tmp_path / "2", 96))
    freeze, between = CycleFolder.freeze, []

    def slow(folder, studies, rule, **words):
        sha256 = freeze(folder, studies, rule, **words)
        if not between:
            between.append(sha256)
            assigner.assign(second)
        return sha256

    monkeypatch.setattr(CycleFolder, "freeze", slow)
    assigner.refresh(study.case_id)
    assert frozen_files(assigner, assigner.case(study.case_id)) == 2 * 20 + 1


def test_a_finished_run_leaves_the_snapshot_of_newer_inputs(assigner, tmp_path):
    study = assigner.assign(received(assigner, scan(tmp_path / "1", 24, contours=True)))
    old = assigner.case(study.case_id).wanted_sha256
    assigner.assign(received(assigner, scan(tmp_path / "2", 96)))
    new = assigner.case(study.case_id).wanted_sha256
    folder = CycleFolder(assigner.site.cycles / study.case_id)
    folder.discard_others(old, new)
    assert folder.snapshot(old).sha256 == old and folder.snapshot(new).sha256 == new
    folder.discard_others(new)
    with pytest.raises(DosimetryError, match="not there"):
        folder.snapshot(old)


def test_who_dies_while_a_study_leaves_its_case_leaves_no_draft_to_sign(assigner, tmp_path, monkeypatch):
    key = received(assigner, scan(tmp_path / "1", 24, contours=True))
    case = drafted(assigner, assigner.assign(key))
    narrowed = replace(assigner.site, rules=(replace(assigner.site.rules[0], descriptions=("*other*",)),))
    monkeypatch.setattr(type(assigner.ledger), "put_study", lambda *_: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        Assigner(narrowed, assigner.ledger, KEY, "code").assign(key)
    assert assigner.case(case.id).state is CaseState.HELD


def test_what_a_person_states_now_is_not_undone_by_what_they_stated_before(assigner, tmp_path):
    from workflows.submit import submit_case, submit_study

    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text("administered_mbq = 7400.0\n")
    new.write_text("administered_mbq = 6800.0\n")
    folder = scan(tmp_path / "1", 24, contours=True)
    (study,) = submit_study(assigner.site, assigner, folder, study_toml=old, replace=False, identity_checked=False)
    attached = CycleFolder(assigner.site.cycles / study.case_id).attached / "study.toml"
    assert attached.read_text() == old.read_text()
    submit_case(assigner.site, assigner.ledger, assigner, study.case_id, study_toml=new, labels=None, replace=True)
    assigner.assign(study.key)
    assert attached.read_text() == new.read_text()


def test_an_instance_that_was_long_in_writing_is_news_when_it_is_put_in_place(assigner, tmp_path):
    from workflows.inbox import take_in

    key = received(assigner, scan(tmp_path / "1", 24, contours=True))
    late = next((assigner.site.received / key).glob("*.dcm"))
    aside = late.rename(tmp_path / "late.dcm")
    assert [study.instances for study in take_in(assigner.site, assigner.ledger, quiet_s=0)] == [20]
    os.utime(aside, (1, 1))
    aside.rename(late)
    assert [study.instances for study in take_in(assigner.site, assigner.ledger, quiet_s=0)] == [21]
    assert take_in(assigner.site, assigner.ledger, quiet_s=0) == []


def test_a_touched_calibration_freezes_a_failed_case_once(assigner, tmp_path, monkeypatch):
    from workflows.inbox import take_in

    study = assigner.assign(received(assigner, scan(tmp_path / "1", 24)))
    case = assigner.case(study.case_id)
    assigner.ledger.move(case.id, CaseState.FAILED, by="run", reason="none", reason_code="NONE", inputs_sha256=case.wanted_sha256)
    calls = []
    monkeypatch.setattr(Assigner, "refresh", lambda _, case_id: calls.append(case_id))
    os.utime(assigner.site.rules[0].calibrations, (2**32, 2**32))
    seen_s = {}
    for _ in range(3):
        take_in(assigner.site, assigner.ledger, quiet_s=0, seen_s=seen_s)
    assert calls == [case.id]


def test_a_lost_ledger_beside_cycles_is_not_begun_anew(assigner, tmp_path, site):
    from workflows import settings

    assigner.assign(received(assigner, scan(tmp_path / "1", 24, contours=True)))
    for file in site.root.glob("ledger.db*"):
        file.unlink()
    with pytest.raises(DosimetryError, match="the ledger is gone"):
        settings._require_ledger(site)


def test_what_comes_in_is_read_by_nobody_else(tmp_path):
    with department(tmp_path / "site") as made:
        study = made.run("submit", scan(tmp_path / "1", 24, contours=True))
        assert StudyState.ASSIGNED in study
        for path in made.site.root.rglob("*"):
            assert not stat.S_IMODE(path.stat().st_mode) & 0o007, path


def test_a_reason_is_shown_as_it_stands(capsys):
    from rich.console import Console

    from workflows.status import show

    health = dict.fromkeys(("server", "workers", "receiver", "inbox", "ledger", "audit_whole"), True) | {"disk_free_gb": 1.0}
    row = {"case": "P-1", "state": "held", "provisional": False, "code": "X", "reason": "study.toml [[scan]] 1: no scan fits"}
    held = {"held_studies": [{"study": "0" * 8, "code": "X", "reason": "no [[target]] in mrtai.toml"}], "ignored_studies": []}
    show({"health": health, "cases": {"held": 1}, "waiting": [row], "studies": held}, Console(width=120))
    told = capsys.readouterr().out
    assert "[[scan]] 1" in told and "[[target]] in" in told


def test_a_contour_named_after_a_patient_is_a_number_on_prefects_page():
    from workflows.shown import dose_table, summary

    flag = {"code": "UNKNOWN", "severity": "review", "text": "Zaphod Unlikely is no name we know.", "remedy": "Look."}
    region = {
        "name": "zaphod_unlikely",
        "kind": "other",
        "volume_ml": 1.0,
        "kinetics": {"effective_half_life_h": 50.0},
        "tia_mbq_h": 1.0,
        "absorbed_dose_gy": {"mean": 1.0, "mean_sd": None},
        "verdict": "review",
        "flags": [flag],
    }
    results = {
        "patient": {"pseudonym": "P-1"},
        "cycle": 1,
        "administrations": [{"activity_mbq": 7400.0, "nuclide": "Lu-177", "agent": "DOTATATE for Zaphod"}],
        "scans": [],
        "provisional": False,
        "verdict": "review",
        "flags": [],
        "regions": [region],
    }
    shown = f"{dose_table(results)} {summary(results)}".casefold()
    assert "region 1" in shown and "zaphod" not in shown
