"""Which case a received study ends in: the right one, or held with a reason, or left alone."""

from dataclasses import replace
from datetime import datetime, timedelta

import pydicom
import pytest

from mrtai.io.assignment import IDENTITY_CHECKED, Assigner
from mrtai.io.cycle_folder import CycleFolder
from mrtai.io.ledger import open_ledger
from mrtai.io.protocols import load_protocol
from mrtai.io.received import Received
from mrtai.io.study import read_study
from mrtai.values.ledger import CaseState, StudyState, Superseded
from mrtai.values.refusal import DosimetryError
from mrtai.values.site import Receive, Rule, Site
from tests.workflows.small_patient import GIVEN_AT, PROTOCOL, Person, changed, scan

SECRET = b"k" * 32


@pytest.fixture
def site(tmp_path):
    (tmp_path / "small.toml").write_text(PROTOCOL)
    (tmp_path / "calibrations").mkdir()
    rule = Rule("lu", str(tmp_path / "small.toml"), descriptions=("*dosim*",), nuclide="Lu-177", calibrations=tmp_path / "calibrations")
    return Site(tmp_path / "root", f"sqlite:///{tmp_path / 'ledger.db'}", Receive(), rules=(rule,))


@pytest.fixture
def assigner(site):
    with open_ledger(site.database) as ledger:
        yield Assigner(site, ledger, SECRET, "code 1")


def take(assigner, folder):
    store = Received(assigner.site.root)
    keys = {store.take_file(path).study for path in sorted(folder.glob("*.dcm"))}
    (study,) = [assigner.assign(key) for key in keys]
    return study


def draft(assigner, case_id, results="0" * 64):
    case = assigner.case(case_id)
    return assigner.ledger.move(case_id, CaseState.DRAFT, by="test", results_sha256=results, inputs_sha256=case.wanted_sha256)


def test_scans_of_one_administration_meet_in_one_case(assigner, tmp_path):
    first = take(assigner, scan(tmp_path / "1", 24, contours=True))
    wanted = assigner.case(first.case_id).wanted_sha256
    second = take(assigner, scan(tmp_path / "2", 96))
    assert first.state is second.state is StudyState.ASSIGNED
    assert first.case_id == second.case_id and first.case_id.endswith("-2026-03-02-Lu-177")
    case = assigner.case(first.case_id)
    assert case.is_due and case.wanted_sha256 != wanted
    frozen = CycleFolder(assigner.site.cycles / case.id).snapshot(case.wanted_sha256)
    assert len(list(frozen.study.rglob("*.dcm"))) == 2 * 20 + 1
    assert frozen.cycle == "1" and frozen.labels is None


def test_a_first_scan_that_comes_after_the_second_joins_its_case(assigner, tmp_path):
    late = take(assigner, scan(tmp_path / "2", 96))
    first = take(assigner, scan(tmp_path / "1", 24, contours=True))
    assert late.case_id == first.case_id


def test_a_second_administration_opens_the_next_cycle(assigner, tmp_path):
    one = take(assigner, scan(tmp_path / "1", 24, contours=True))
    two = take(assigner, scan(tmp_path / "2", 24, given_at=GIVEN_AT + timedelta(days=56), contours=True))
    assert one.case_id != two.case_id
    wanted = assigner.case(two.case_id).wanted_sha256
    assert CycleFolder(assigner.site.cycles / two.case_id).snapshot(wanted).cycle == "2"


def test_two_patients_of_one_name_are_two_cases(assigner, tmp_path):
    one = take(assigner, scan(tmp_path / "1", 24, contours=True))
    two = take(assigner, scan(tmp_path / "2", 24, person=Person(patient_id="SECRET-4712", born="19500101"), contours=True))
    assert two.state is StudyState.ASSIGNED
    assert one.pseudonym != two.pseudonym and one.case_id != two.case_id


def test_one_person_under_two_ids_is_held_until_a_person_decides(assigner, tmp_path):
    take(assigner, scan(tmp_path / "1", 24, contours=True))
    two = take(assigner, scan(tmp_path / "2", 96, person=Person(patient_id="SECRET-4712")))
    assert two.state is StudyState.HELD and two.reason_code == "PATIENT_TWO_IDS" and two.case_id is None
    assert "4712" not in two.reason and "Zaphod" not in two.reason
    (assigner.site.received / two.key / IDENTITY_CHECKED).touch()
    assert assigner.assign(two.key).state is StudyState.ASSIGNED


def test_one_id_with_two_names_is_held(assigner, tmp_path):
    uid = "1.2.3.4.5"
    scan(tmp_path / "1", 24, study_uid=uid)
    for path in sorted((tmp_path / "1").glob("*.dcm")):
        Received(assigner.site.root).take_file(path)
    study = take(assigner, scan(tmp_path / "2", 96, study_uid=uid, person=Person(name="Trillian^Astra")))
    assert study.state is StudyState.HELD and study.reason_code == "PATIENT_NAME_CONFLICT"


def test_what_no_rule_fits_is_left_alone_and_listed(assigner, tmp_path):
    study = take(assigner, scan(tmp_path / "1", 24, description="thorax routine"))
    assert study.state is StudyState.IGNORED and study.case_id is None
    assert study.modalities == ("CT", "PT")
    assert assigner.ledger.cases() == ()


def test_images_that_come_again_with_other_content_hold_the_case_until_they_are_taken(assigner, tmp_path):
    sent = scan(tmp_path / "1", 24, contours=True)
    study = take(assigner, sent)
    draft(assigner, study.case_id)
    before = assigner.case(study.case_id).wanted_sha256
    again = take(assigner, changed(sent, tmp_path / "again", administered_bq=6.8e9))
    assert again.reason_code == "INSTANCE_CHANGED"
    held = assigner.case(study.case_id)
    assert held.state is CaseState.HELD and held.reason_code == "INSTANCE_CHANGED"
    assert Received(assigner.site.root).accept_newer(study.key) == 10
    assert assigner.assign(study.key).state is StudyState.ASSIGNED
    case = assigner.case(study.case_id)
    assert case.is_due and case.wanted_sha256 != before


def test_the_same_images_again_change_nothing(assigner, tmp_path):
    sent = scan(tmp_path / "1", 24, contours=True)
    study = take(assigner, sent)
    drafted = draft(assigner, study.case_id)
    assert take(assigner, sent).content_sha256 == study.content_sha256
    assert assigner.case(study.case_id) == drafted and not drafted.is_due


def test_a_scan_after_the_signature_is_held_and_the_signed_case_stays(assigner, tmp_path):
    study = take(assigner, scan(tmp_path / "1", 24, contours=True))
    draft(assigner, study.case_id)
    signed = assigner.ledger.move(study.case_id, CaseState.SIGNED, by="A. Physicist", results_sha256="0" * 64)
    late = take(assigner, scan(tmp_path / "2", 96))
    assert late.state is StudyState.HELD and late.reason_code == "CASE_SIGNED"
    assert assigner.case(study.case_id) == signed


def test_signed_images_sent_again_under_another_version_change_nothing(assigner, tmp_path):
    sent = scan(tmp_path / "1", 24, contours=True)
    study = take(assigner, sent)
    draft(assigner, study.case_id)
    signed = assigner.ledger.move(study.case_id, CaseState.SIGNED, by="A. Physicist", results_sha256="0" * 64)
    newer = Assigner(assigner.site, assigner.ledger, SECRET, "code 2")
    assert take(newer, sent).state is StudyState.ASSIGNED
    assert newer.case(study.case_id) == signed
    with pytest.raises(DosimetryError, match="signed"):
        newer.refresh(study.case_id)
    assert len(list((newer.site.cycles / study.case_id).glob("inputs-*"))) == 1


def test_objects_of_ours_that_an_archive_sends_back_change_nothing(assigner, tmp_path):
    uid = "1.2.3.4.6"
    study = take(assigner, scan(tmp_path / "1", 24, contours=True, study_uid=uid))
    wanted = assigner.case(study.case_id).wanted_sha256
    ours = scan(tmp_path / "ours", 24, study_uid=uid)
    assert take(assigner, changed(ours, tmp_path / "sent back", Manufacturer="mrtai")).state is StudyState.ASSIGNED
    assert assigner.case(study.case_id).wanted_sha256 == wanted


def test_a_silent_header_joins_the_latest_cycle_before_it_or_is_held(assigner, tmp_path):
    def silent(folder, hours):
        study = scan(folder, hours)
        return changed(study, folder.with_name(folder.name + "s"), RadiopharmaceuticalInformationSequence=[])

    alone = take(assigner, silent(tmp_path / "0", 96))
    assert alone.state is StudyState.IGNORED  # the rule asks for a nuclide
    bare = replace(assigner.site.rules[0], nuclide=None)
    open_minded = Assigner(replace(assigner.site, rules=(bare,)), assigner.ledger, SECRET, "code 1")
    alone = open_minded.assign(alone.key)
    assert alone.state is StudyState.HELD and alone.reason_code == "ADMINISTRATION_TIME_MISSING"
    first = take(open_minded, scan(tmp_path / "1", 24, contours=True))
    assert open_minded.assign(alone.key).case_id == first.case_id


def test_another_version_of_the_code_or_a_mended_calibration_is_another_input(assigner, tmp_path):
    study = take(assigner, scan(tmp_path / "1", 24, contours=True))
    first = assigner.case(study.case_id).wanted_sha256
    (tmp_path / "calibrations" / "camera.toml").write_text("# new\n")
    second = assigner.refresh(study.case_id).wanted_sha256
    newer = Assigner(assigner.site, assigner.ledger, SECRET, "code 2")
    assert len({first, second, newer.refresh(study.case_id).wanted_sha256}) == 3


def test_no_identity_reaches_the_ledger_or_a_name(assigner, tmp_path):
    take(assigner, scan(tmp_path / "1", 24, contours=True))
    take(assigner, scan(tmp_path / "2", 96, person=Person(patient_id="SECRET-4712")))
    names = "\n".join(str(path.relative_to(tmp_path)) for path in assigner.site.root.rglob("*"))
    content = (tmp_path / "ledger.db").read_bytes()
    for wal in tmp_path.glob("ledger.db-*"):
        content += wal.read_bytes()
    for word in ("SECRET", "Zaphod", "Unlikely", "19420611", "1942-06-11"):
        assert word not in names and word.encode() not in content


def test_a_case_whose_rule_is_gone_says_so(assigner, tmp_path):
    study = take(assigner, scan(tmp_path / "1", 24, contours=True))
    bare = Assigner(replace(assigner.site, rules=()), assigner.ledger, SECRET, "code 1")
    with pytest.raises(DosimetryError, match="no rule 'lu'"):
        bare.refresh(study.case_id)


def test_summer_time_between_administration_and_scan_does_not_move_the_day(assigner, tmp_path):
    given = datetime(2026, 3, 28, 23, 50)
    one = take(assigner, scan(tmp_path / "1", 4, given_at=given, contours=True))
    two = take(assigner, scan(tmp_path / "2", 24, given_at=given))
    assert one.case_id == two.case_id and "2026-03-28" in one.case_id


def signed(assigner, case_id):
    draft(assigner, case_id)
    return assigner.ledger.move(case_id, CaseState.SIGNED, by="A. Physicist", results_sha256="0" * 64)


def test_a_scan_that_comes_into_a_signed_study_stays_held_however_often_it_is_looked_at(assigner, tmp_path):
    uid = "1.2.3.4.7"
    study = take(assigner, scan(tmp_path / "1", 24, contours=True, study_uid=uid))
    signed(assigner, study.case_id)
    for _ in range(3):
        late = take(assigner, scan(tmp_path / "2", 96, study_uid=uid) if not (tmp_path / "2").exists() else tmp_path / "2")
        assert late.state is StudyState.HELD and late.reason_code == "CASE_SIGNED"


def test_one_id_of_two_people_is_held_in_the_next_cycle_too(assigner, tmp_path):
    take(assigner, scan(tmp_path / "1", 24, contours=True))
    other = Person(name="Ford^Prefect", born="19500101", sex="M")
    study = take(assigner, scan(tmp_path / "2", 24, given_at=GIVEN_AT + timedelta(days=56), person=other, contours=True))
    assert study.state is StudyState.HELD and study.reason_code == "PATIENT_ID_TWO_PERSONS"
    assert len(assigner.ledger.cases()) == 1


@pytest.mark.parametrize("spelt", [{"sex": ""}, {"name": "Zaphod Unlikely"}])
def test_a_modality_that_says_less_or_spells_otherwise_is_still_the_same_person(assigner, tmp_path, spelt):
    one = take(assigner, scan(tmp_path / "1", 24, contours=True))
    same = take(assigner, scan(tmp_path / "2", 96, person=Person(**spelt)))
    assert same.case_id == one.case_id
    two_ids = take(assigner, scan(tmp_path / "3", 168, person=Person(patient_id="SECRET-4712", **spelt)))
    assert two_ids.reason_code == "PATIENT_TWO_IDS"


def test_a_further_scan_does_not_undo_a_hold(assigner, tmp_path):
    sent = scan(tmp_path / "1", 24, contours=True)
    study = take(assigner, sent)
    take(assigner, scan(tmp_path / "2", 96))
    draft(assigner, study.case_id)
    take(assigner, changed(sent, tmp_path / "again", administered_bq=6.8e9))
    third = take(assigner, scan(tmp_path / "3", 168))
    assert third.state is StudyState.ASSIGNED
    held = assigner.case(study.case_id)
    assert held.state is CaseState.HELD and not held.is_due
    Received(assigner.site.root).accept_newer(study.key)
    assigner.assign(study.key)
    case = assigner.case(study.case_id)
    assert case.is_due
    frozen = CycleFolder(assigner.site.cycles / case.id).snapshot(case.wanted_sha256)
    assert len(list(frozen.study.iterdir())) == 3


def test_a_draft_of_the_very_images_in_doubt_is_not_put_down(assigner, tmp_path):
    sent = scan(tmp_path / "1", 24, contours=True)
    study = take(assigner, sent)
    wanted = assigner.case(study.case_id).wanted_sha256  # a run works on these
    take(assigner, changed(sent, tmp_path / "again", administered_bq=6.8e9))
    with pytest.raises(Superseded):
        assigner.ledger.move(study.case_id, CaseState.DRAFT, by="run", results_sha256="0" * 64, inputs_sha256=wanted)
    assert assigner.case(study.case_id).state is CaseState.HELD


def test_a_study_that_moves_to_another_case_leaves_no_signable_draft_behind(assigner, tmp_path):
    sent = scan(tmp_path / "1", 24, contours=True)
    study = take(assigner, sent)
    draft(assigner, study.case_id)
    for path in sorted(sent.glob("*.dcm")):
        file = pydicom.dcmread(path)
        if "RadiopharmaceuticalInformationSequence" in file:
            file.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime = "20260225093000"
            file.save_as(path)
            Received(assigner.site.root).take_file(path)
    Received(assigner.site.root).accept_newer(study.key)
    moved = assigner.assign(study.key)
    assert moved.state is StudyState.ASSIGNED and moved.case_id != study.case_id
    left = assigner.case(study.case_id)
    assert left.state is CaseState.HELD and left.reason_code == "STUDY_MOVED" and not left.is_due


def test_headers_in_a_form_nobody_thought_of_are_held_without_quoting_them(assigner, tmp_path):
    sent = scan(tmp_path / "1", 24)
    for path in sent.glob("*.dcm"):
        file = pydicom.dcmread(path)
        file[0x00080008] = pydicom.DataElement(0x00080008, "US", 7)
        file.save_as(path)
    study = take(assigner, sent)
    assert study.state is StudyState.HELD and study.reason_code == "UNREADABLE"


def test_an_earlier_cycle_that_tells_nothing_is_no_prior(assigner, tmp_path):
    one = take(assigner, scan(tmp_path / "1", 24, contours=True))
    signed(assigner, one.case_id)  # no CASE folder that could be read
    two = take(assigner, scan(tmp_path / "2", 24, given_at=GIVEN_AT + timedelta(days=56), contours=True))
    frozen = CycleFolder(assigner.site.cycles / two.case_id).snapshot(assigner.case(two.case_id).wanted_sha256)
    assert frozen.priors == () and frozen.cycle == "2"


def test_a_whole_cycle_loses_no_scan_to_a_wrong_date_in_a_header(tmp_path):
    protocol = load_protocol(str(_written(tmp_path / "small.toml")))
    scan(tmp_path / "study" / "1", 24, contours=True)
    scan(tmp_path / "study" / "2", 96, given_at=GIVEN_AT - timedelta(days=7))
    with pytest.raises(DosimetryError, match="several administrations"):
        read_study(tmp_path / "study", protocol=protocol, cycle="1", whole=True, pseudonym_key=SECRET)
    (tmp_path / "study" / "study.toml").write_text('administered_at = "2026-02-23T09:30:00"\nadministered_mbq = 7400.0\n')
    cycle = read_study(tmp_path / "study", protocol=protocol, cycle="3", whole=True, pseudonym_key=SECRET)
    assert len(cycle.time_points) == 2 and cycle.number == 3


def _written(path):
    path.write_text(PROTOCOL)
    return path
