"""A case of the ledger makes legal moves only, and an old run changes nothing; on SQLite and on a real PostgreSQL."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_maker import BOTH, STATES, WAY, go, refusal, walked, want

from mrtai.io.ledger import open_ledger
from mrtai.values.ledger import CaseState, StudyRecord, StudyState, Superseded
from mrtai.values.refusal import DosimetryError

pytest_plugins = ("ledger_fixtures",)

LEGAL = {
    ("waiting", "draft"), ("waiting", "held"), ("waiting", "failed"),
    ("draft", "draft"), ("draft", "signed"), ("draft", "rejected"), ("draft", "held"), ("draft", "failed"),
    ("held", "draft"), ("held", "held"), ("held", "failed"), ("held", "rejected"),
    ("failed", "draft"), ("failed", "held"), ("failed", "failed"),
    ("rejected", "draft"), ("rejected", "held"), ("rejected", "failed"),
    ("signed", "released"), ("signed", "rejected"), ("failed", "rejected"),
}  # fmt: skip


@BOTH
def test_a_case_makes_exactly_the_legal_moves(ledger):
    made = set()
    for was, becomes in itertools.product(STATES, STATES):
        case_id = f"{was}-{becomes}"
        walked(ledger, case_id, was)
        before = ledger.case(case_id), ledger.audit(case_id)
        try:
            after = go(ledger, becomes, case_id, reason_code="ANOTHER")
        except DosimetryError as error:
            assert error.code == "ILLEGAL_TRANSITION"
            assert error.remedy
            assert (ledger.case(case_id), ledger.audit(case_id)) == before
        else:
            made.add((was, becomes))
            assert after == ledger.case(case_id)
            assert after.state == becomes
            assert (ledger.audit(case_id)[-1].was, ledger.audit(case_id)[-1].becomes) == (was, becomes)
            assert len(ledger.audit(case_id)) == len(before[1]) + 1
    assert made == LEGAL
    assert ledger.verify() is None


@BOTH
def test_a_repeated_move_changes_nothing(ledger):
    for state in STATES[1:]:
        walked(ledger, state, state)
        before = ledger.case(state), ledger.audit()
        go(ledger, state, state, reason="said again")
        assert (ledger.case(state), ledger.audit()) == before


@BOTH
def test_a_draft_remembers_what_it_was_computed_from(ledger):
    assert want(ledger).provisional
    drafted = go(ledger, "draft", results="out-1", provisional=False)
    assert (drafted.drafted_sha256, drafted.results_sha256, drafted.provisional) == ("in-1", "out-1", False)
    failed = go(ledger, "failed", reason="the model file is missing", reason_code="MODEL_MISSING")
    assert (failed.drafted_sha256, failed.results_sha256) == ("in-1", "out-1")
    assert (failed.reason_code, failed.reason) == ("MODEL_MISSING", "the model file is missing")
    assert go(ledger, "draft", results="out-2").reason_code is None


@BOTH
@pytest.mark.parametrize("results", ["out-2", None])
def test_only_the_draft_that_was_looked_at_can_be_signed(ledger, results):
    walked(ledger, "case-1", "draft")
    with refusal("RESULTS_CHANGED"):
        go(ledger, "signed", results=results)
    assert ledger.case("case-1").state == "draft"


@BOTH
def test_only_signed_results_are_released(ledger):
    walked(ledger, "case-1", "signed")
    with refusal("RESULTS_CHANGED"):
        go(ledger, "released", results_sha256="out-2")
    assert go(ledger, "released", results_sha256="out-1").state == "released"


@BOTH
def test_an_old_run_never_overwrites_a_newer_draft(ledger):
    want(ledger, inputs="in-1")
    want(ledger, inputs="in-2")
    go(ledger, "draft", results="new", inputs_sha256="in-2")
    before = ledger.case("case-1"), ledger.audit()
    for becomes in ("draft", "held", "failed"):
        with pytest.raises(Superseded):
            go(ledger, becomes, results="old", inputs_sha256="in-1")
    assert (ledger.case("case-1"), ledger.audit()) == before


@BOTH
def test_new_inputs_reset_the_attempts_and_equal_ones_do_not(ledger):
    seen = want(ledger)
    assert ledger.attempt(seen)
    assert not ledger.attempt(seen), "a second inbox that saw the same case starts nothing"
    assert ledger.attempt(ledger.case("case-1"))
    assert want(ledger).attempts == 2
    assert want(ledger, inputs="in-2").attempts == 0


@BOTH
def test_a_case_is_due_until_its_wanted_inputs_came_to_an_outcome(ledger):
    assert not ledger.open_case("case-1", pseudonym="P-1", rule="lu", administered_on="2026-03-02").is_due
    assert want(ledger).is_due
    assert not go(ledger, "held", inputs_sha256="in-1").is_due
    assert want(ledger, inputs="in-2").is_due
    assert not go(ledger, "draft", inputs_sha256="in-2").is_due
    again = ledger.again("case-1")
    assert again.is_due and again.attempts == 0
    go(ledger, "draft", inputs_sha256="in-2", results="out-2")
    go(ledger, "signed", results="out-2")
    with refusal("CASE_SIGNED"):
        ledger.again("case-1")


@BOTH
def test_a_case_that_is_there_is_not_opened_again(ledger):
    wanted = want(ledger)
    assert ledger.open_case("case-1", pseudonym="P-1", rule="other", administered_on="2026-03-09") == wanted


@BOTH
@pytest.mark.parametrize("state", ["signed", "released"])
def test_a_signed_case_refuses_other_inputs(ledger, state):
    walked(ledger, "case-1", state)
    assert want(ledger) == ledger.case("case-1")
    with refusal("CASE_SIGNED"):
        want(ledger, inputs="in-2")
    assert ledger.case("case-1").wanted_sha256 == "in-1"


@BOTH
def test_a_case_stays_with_its_pseudonym_and_takes_a_corrected_date(ledger):
    want(ledger)
    with refusal("CASE_OF_ANOTHER"):
        ledger.want("case-1", pseudonym="P-2", rule="lu", administered_on="2026-03-02", inputs_sha256="in-2")
    assert ledger.case("case-1").wanted_sha256 == "in-1"
    corrected = ledger.want("case-1", pseudonym="P-1", rule="psma", administered_on="2026-03-03", inputs_sha256="in-1")
    assert (corrected.rule, corrected.administered_on) == ("psma", "2026-03-03")


@BOTH
def test_an_unknown_case_is_refused(ledger):
    for ask in (lambda: ledger.case("no"), lambda: ledger.again("no"), lambda: go(ledger, "held", "no")):
        with refusal("CASE_UNKNOWN"):
            ask()


@pytest.mark.parametrize("said", [{"inputs_sha256": "in-1"}, {"results_sha256": "out-1"}])
def test_a_draft_without_both_digests_is_a_callers_mistake(tmp_path, said):
    with open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        want(ledger)
        with pytest.raises(ValueError, match="digests"):
            ledger.move("case-1", CaseState.DRAFT, by="mrtai", **said)
        with pytest.raises(ValueError, match="answer for it"):
            ledger.move("case-1", CaseState.HELD, by=" ")


@BOTH
def test_cases_and_audit_are_listed_by_state_and_case(ledger):
    for state in STATES:
        walked(ledger, state, state)
    assert [case.id for case in ledger.cases()] == sorted(STATES)
    assert [case.id for case in ledger.cases(CaseState.HELD)] == ["held"]
    assert [entry.becomes for entry in ledger.audit("released")] == list(WAY["released"])
    assert [entry.number for entry in ledger.audit()] == list(range(1, 1 + sum(map(len, WAY.values()))))


@BOTH
def test_a_study_is_kept_once_and_its_first_sight_stays(ledger):
    first = StudyRecord("0" * 32, "P-1", None, None, StudyState.IGNORED, 3, "c1", "NO_RULE", "no rule", ("CT",), "2026-03-02", "2026-03-02")
    later = replace(first, state=StudyState.ASSIGNED, case_id="case-1", modalities=("CT", "NM"), first_seen="2026-03-03", instances=9)
    other = replace(first, key="1" * 32, modalities=(), pseudonym=None)
    for record in (first, first, later, other):
        ledger.put_study(record)
    assert ledger.study(first.key) == replace(later, first_seen="2026-03-02")
    assert ledger.study("2" * 32) is None
    assert ledger.studies() == (ledger.study(first.key), other)
    assert ledger.studies(StudyState.IGNORED) == (other,)


def test_a_study_is_never_kept_by_its_uid():
    with pytest.raises(ValueError, match="32 hexadecimal"):
        StudyRecord("1.2.840.1", "P-1", None, None, StudyState.HELD, 1, "c", None, None, (), "2026-03-02", "2026-03-02")


WISH = st.one_of(
    st.tuples(st.just("want"), st.sampled_from(["in-1", "in-2"]), st.just("")),
    st.tuples(st.sampled_from(STATES), st.sampled_from(["in-1", "in-2"]), st.sampled_from(["out-1", "out-2"])),
)


@settings(max_examples=60, deadline=None)
@given(wishes=st.lists(WISH, max_size=14))
def test_whatever_is_asked_the_audit_tells_the_story_and_no_signature_moves(tmp_path_factory, wishes):
    with open_ledger(f"sqlite:///{tmp_path_factory.mktemp('any') / 'ledger.db'}") as ledger:
        want(ledger)
        for what, inputs, results in wishes:
            before = ledger.case("case-1"), ledger.audit()
            try:
                want(ledger, inputs=inputs) if what == "want" else go(ledger, what, results=results, inputs_sha256=inputs)
            except DosimetryError:
                assert (ledger.case("case-1"), ledger.audit()) == before
        story, case = ledger.audit(), ledger.case("case-1")
        assert ledger.verify() is None
        assert [entry.was for entry in story] == ["waiting", *[entry.becomes for entry in story]][: len(story)]
        assert all((entry.was, entry.becomes) in LEGAL for entry in story)
        assert case.state == (story[-1].becomes if story else "waiting")
        for drafted, signed in itertools.pairwise(story):
            assert signed.becomes != "signed" or drafted.results_sha256 == signed.results_sha256
        if case.state in ("signed", "released"):
            assert case.results_sha256 == [entry.results_sha256 for entry in story if entry.becomes == "draft"][-1]
