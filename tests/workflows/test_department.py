"""A department's day: scans come in by DICOM, drafts appear, a person signs, the archive gets the objects; parts die and come back."""

import json
import os
import re
import signal
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mrtai.io.ledger import open_ledger
from mrtai.values.ledger import CaseState
from tests.io.orthanc import orthanc
from tests.workflows.department import department, processes_of, wait_for
from tests.workflows.small_patient import Person, scan

pytestmark = pytest.mark.timeout(900)

IDENTITY = ("SECRET", "Zaphod", "Unlikely", "19420611", "1942-06-11")


@pytest.fixture(scope="module")
def told():
    """A webhook that takes what it is told."""
    heard = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, heard
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with orthanc(tmp_path_factory.mktemp("archive")) as server:
        yield server


@pytest.fixture(scope="module")
def site(tmp_path_factory, told, archive):
    more = f"""
[notify]
url = "http://127.0.0.1:{told[0]}/"
[[target]]
name = "pacs"
protocol = "c-store"
host = "127.0.0.1"
port = {archive.dicom_port}
ae_title = "ORTHANC"
"""
    with department(tmp_path_factory.mktemp("department") / "site", more=more, rule='target = "pacs"') as made:
        made.start("serve")
        yield made


@pytest.fixture(scope="module")
def final(site, tmp_path_factory):
    """The final draft of a cycle whose three scans came one after the other, and what it was after each."""
    sent = tmp_path_factory.mktemp("sent")
    drafts = []
    for number, hours in enumerate((24, 96, 168), start=1):
        site.send(scan(sent / str(number), hours, contours=number == 1))
        drafts.append(site.settled(CaseState.DRAFT, number))
    return drafts


def test_every_scan_makes_a_draft_without_a_command_and_the_last_one_the_final(site, final):
    assert [case.provisional for case in final] == [True, True, False]
    assert len({case.id for case in final}) == 1
    assert site.results(final[-1].id)["provisional"] is False
    status = json.loads(site.run("status", "--json"))
    assert status["well"] and status["cases"] == {"draft": 1}


def test_the_site_is_told_of_drafts_by_pseudonym_alone(site, final, told):
    wait_for(lambda: len([one for one in told[1] if final[-1].id in one]) >= 3, 60, lambda: told[1])
    assert {json.loads(one)["state"] for one in told[1]} == {"draft"}


def test_one_part_of_each_kind_may_die_and_nothing_is_lost_or_done_twice(site, final, tmp_path):
    """Killed -9 while a second patient's scans come in: server, worker, receiver, inbox, and the flow's own process."""
    other = Person(patient_id="SECRET-5000", name="Ford^Prefect", born="19500101")
    for number, (hours, part) in enumerate(((24, "server"), (96, "worker"), (168, "flow")), start=1):
        folder = scan(tmp_path / str(number), hours, person=other, contours=number == 1)
        if part == "flow":
            kill(site, "workflows receive")
        site.send(folder)
        if part == "server":
            kill(site, "server start")
        elif part == "worker":
            kill(site, "worker start")
            kill(site, "workflows inbox")
        else:
            wait_for(lambda: kill(site, "prefect.engine|flow-run execute", must=False), 90, lambda: site.log[-3000:])
    case = site.wait(lambda one: one.id != final[0].id and not one.is_due and not one.provisional, limit_s=400)
    assert case.state is CaseState.DRAFT
    assert len(site.results(case.id)["scans"]) == 3
    left = [path.name for path in site.site.root.rglob("*") if "partial" in path.name and path.is_file()]
    assert left == []
    with open_ledger(site.site.database) as ledger:
        assert ledger.verify() is None
        digests = [entry.results_sha256 for entry in ledger.audit(case.id) if entry.becomes == CaseState.DRAFT]
    assert len(digests) == len(set(digests)), "a draft was made twice"


def test_an_unsigned_draft_is_not_released_and_a_signed_one_reaches_the_archive(site, final, archive):
    case = final[-1].id
    refused = site.run("release", case, status=2)
    assert "only a signed case is released" in refused
    site.run("sign", case, "--by", "A. Physicist")
    assert site.results(case)["state"] == "signed"
    assert "the case is signed already; found by A. Physicist" in site.run("sign", case, "--by", "B. Physician", status=2)
    site.run("sign", case, "--by", "A. Physicist")
    site.run("release", case)
    assert site.case(case).state is CaseState.RELEASED and site.results(case)["state"] == "released"
    objects = list((site.folder_of(case) / "dicom").glob("*.dcm"))
    assert len(archive.instances()) == len(objects) > 5
    with open_ledger(site.site.database) as ledger:
        told = [(str(entry.becomes), entry.by) for entry in ledger.audit(case)]
    assert told[-2:] == [("signed", "A. Physicist"), ("released", "mrtai")]
    audit = json.loads(site.run("audit", case, "--json"))
    assert [(entry["becomes"], entry["by"]) for entry in audit["entries"]] == told
    assert audit["broken_at"] is None and audit["newest"]["number"] >= audit["entries"][-1]["number"]
    shown = site.run("audit")
    assert audit["newest"]["sha256"] in shown and "the chain is whole" in shown


def test_a_draft_that_was_changed_by_hand_cannot_be_signed(site, final):
    case = next((one for one in site.cases() if one.state is CaseState.DRAFT), None)
    assert case is not None, site.cases()
    path = site.folder_of(case.id) / "results.json"
    content = path.read_text()
    path.write_text(content.replace('"cycle": 1', '"cycle": 2', 1))
    assert "not those of the draft" in site.run("sign", case.id, "--by", "A. Physicist", status=2)
    path.write_text(content)


@pytest.mark.slow
def test_a_cohort_is_computed_into_a_set_of_its_own_and_signed_results_stay(site, final):
    before = (site.folder_of(final[-1].id) / "results.json").read_bytes()
    out = site.run("cohort", "--set", "mono", "--kinetics", "mono", "--against", "drafts")
    assert "compared: " in out and (site.site.root / "cohorts" / "mono" / "comparison" / "validation.pdf").is_file()
    assert (site.folder_of(final[-1].id) / "results.json").read_bytes() == before
    again = json.loads((site.site.root / "cohorts" / "mono" / final[-1].id / "results.json").read_text())
    assert {region["kinetics"]["method"] for region in again["regions"] if region["kind"] == "organ"} == {"mono"}
    assert "computed before" in site.run("cohort", "--set", "mono", "--kinetics", "mono", final[-1].id)
    assert "the result set holds something else" in site.run("cohort", "--set", "mono", "--kinetics", "bi", status=2)
    assert out.count("P-") == len([case for case in site.cases() if case.drafted_sha256])


def test_the_site_is_told_of_a_study_that_is_held_and_has_no_case(site, final, told, tmp_path):
    site.send(scan(tmp_path / "1", 24, person=Person(patient_id="SECRET-6000")))
    wait_for(lambda: [one for one in told[1] if "PATIENT_TWO_IDS" in one], 60, lambda: f"{told[1]}\n{site.log[-2000:]}")
    held = next(json.loads(one) for one in told[1] if "PATIENT_TWO_IDS" in one)
    assert (held["case"], held["state"], held["detail"]) == ("", "held", "PATIENT_TWO_IDS")
    shown = json.loads(site.run("status", "--json"))["studies"]["held_studies"]
    assert held["study"] in [one["study"] for one in shown]


def test_no_identity_is_anywhere_but_in_the_scans(site, final):
    """Prefect's database, logs, artifacts, ledger, kept stages and file names, after all of the above."""
    root = site.site.root
    for path in root.rglob("*"):
        assert not any(word in path.name for word in IDENTITY), path
        if path.is_file() and path.suffix != ".dcm":
            content = path.read_bytes()
            assert not any(word.encode() in content for word in IDENTITY), path
    assert not any(word in site.log for word in IDENTITY)
    for name in root.rglob("*.db"):
        dump = "\n".join(sqlite3.connect(name).iterdump())
        assert "mrtai" in dump or "ledger" in dump
        assert not any(word in dump for word in IDENTITY), name


def test_sigterm_stops_everything(site):
    """Last in this file: nothing of the site runs on."""
    process = site.processes["serve"]
    assert processes_of(site.config)
    process.send_signal(signal.SIGTERM)
    assert process.wait(90) == 0
    wait_for(lambda: not processes_of(site.config), 30, lambda: processes_of(site.config))


def kill(site, pattern, *, must=True):
    """Kill -9 the processes of the site whose command fits; return how many."""
    fitting = [number for number, command in processes_of(site.config).items() if re.search(pattern, command)]
    for number in fitting:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue
    assert fitting or not must, f"{pattern}: {processes_of(site.config)}"
    return len(fitting)
