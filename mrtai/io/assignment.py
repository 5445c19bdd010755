"""From a received study to the cycle it belongs to: the right case, or held with a reason, or left alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from mrtai.io.cycle_folder import STUDY_TOML, CycleFolder, Prior
from mrtai.io.dicom_cycle import BETWEEN_CYCLES_S
from mrtai.io.earlier_cycles import read_earlier
from mrtai.io.intake import matching_rule, read_arrival, study_files
from mrtai.io.ledger import Ledger
from mrtai.io.protocols import load_protocol
from mrtai.io.received import AGAIN
from mrtai.io.study_toml import StatedStudy, read_study_toml
from mrtai.io.tables import nuclide
from mrtai.units import SECONDS_PER_DAY
from mrtai.values.arrival import Arrival
from mrtai.values.ledger import CLOSED, CaseRecord, CaseState, StudyRecord, StudyState
from mrtai.values.refusal import DosimetryError
from mrtai.values.site import Rule, Site

LATEST_SCAN_DAYS: Final = 60
"""A scan whose header is silent on the administration belongs to the patient's latest one, if it is not older than this."""

UNJUDGED: Final = (CaseState.WAITING, CaseState.DRAFT, CaseState.FAILED)
"""A case in doubt goes from here to held: nobody has answered for it yet."""

BY: Final = "mrtai"
NEVER: Final = "1970-01-01T00:00:00+00:00"

IDENTITY_CHECKED: Final = ".identity-checked"
"""Left in a study's folder by a person who has checked whose it is: two IDs are two people, or one ID with two names is one."""


@dataclass(frozen=True, slots=True)
class Assigner:
    """Assigns studies of a site; ``secret`` is the pseudonym's key, ``code`` the digest of the program."""

    site: Site
    ledger: Ledger
    secret: bytes
    code: str

    def assign(self, key: str) -> StudyRecord:
        """Decide what becomes of the study in ``received/<key>``, write it down, and have its case computed again."""
        folder = self.site.received / key
        before = self.ledger.study(key)
        record = self._moved(before, self._decided(key, folder, before))
        leaves = before.case_id if before is not None and before.case_id != record.case_id else None
        if leaves is not None:
            self._leave(leaves)
        # as long as its case does not know of it, the study counts as never read: who dies here does it again
        self.ledger.put_study(replace(record, last_seen=NEVER))
        if record.case_id is not None and record.state is StudyState.ASSIGNED:
            record = self._joined(record, record.case_id)
        elif record.case_id is not None:
            self._hold(record.case_id, record)
        if leaves is not None and self._assigned(leaves):
            self.refresh(leaves)
        self.ledger.put_study(record)
        return record

    def _moved(self, before: StudyRecord | None, record: StudyRecord) -> StudyRecord:
        """Return the record, held where it would take a study out of a case that a person has signed."""
        if before is None or before.case_id in (None, record.case_id) or self.case(before.case_id).state not in CLOSED:
            return record
        refusal = _signed(before.case_id, self.case(before.case_id).state)
        return replace(record, state=StudyState.HELD, case_id=before.case_id, reason_code=refusal.code, reason=str(refusal))

    def _leave(self, case_id: str) -> None:
        """Hold a case before a study leaves it, so that who dies on the way leaves no draft that could be signed."""
        reason = "scans of this case belong elsewhere now; submit it if others are left, else reject it"
        if self.case(case_id).state in UNJUDGED:
            self.ledger.move(case_id, CaseState.HELD, by=BY, reason=reason, reason_code="STUDY_MOVED", inputs_sha256=self._wanted(case_id))

    def _wanted(self, case_id: str) -> str | None:
        return self.case(case_id).wanted_sha256 or None

    def _joined(self, record: StudyRecord, case_id: str) -> StudyRecord:
        """Have the case computed with the study; return the study held where that cannot be."""
        try:
            if self.case(case_id).state in CLOSED:
                self._require_open(case_id, record.key)
            else:
                self.refresh(case_id)
        except DosimetryError as refusal:
            return replace(record, state=StudyState.HELD, reason_code=refusal.code, reason=str(refusal))
        return record

    def _hold(self, case_id: str, study: StudyRecord) -> None:
        """Hold an unsigned case whose study is in doubt: its draft may be of the wrong images."""
        if self.case(case_id).state in UNJUDGED:
            inputs = self._wanted(case_id)
            self.ledger.move(case_id, CaseState.HELD, by=BY, reason=study.reason, reason_code=study.reason_code, inputs_sha256=inputs)

    def refresh(self, case_id: str) -> CaseRecord:
        """Freeze the present inputs of a case and have it computed from them, if they differ from what it was computed from.

        As long as one of its studies is held the case is left as it is: it must not be computed without it.
        """
        case = self.require_open(case_id)
        while self.doubt(case_id) is None:
            assigned = self._assigned(case_id)
            sha256 = self._frozen(case, [one.key for one in assigned])
            said = {"pseudonym": case.pseudonym, "rule": case.rule, "administered_on": case.administered_on}
            case = self.ledger.want(case_id, **said, inputs_sha256=sha256)
            if self._assigned(case_id) == assigned:
                break  # else another process assigned a study meanwhile
        return case

    def require_open(self, case_id: str) -> CaseRecord:
        """Return a case; refuses one that a person has signed."""
        case = self.case(case_id)
        if case.state in CLOSED:
            raise _signed(case_id, case.state)
        return case

    def doubt(self, case_id: str) -> str | None:
        """Return why a study of the case is held, None where none is."""
        return next((one.reason for one in self.ledger.studies(StudyState.HELD) if one.case_id == case_id), None)

    def _assigned(self, case_id: str) -> list[StudyRecord]:
        return [one for one in self.ledger.studies(StudyState.ASSIGNED) if one.case_id == case_id]

    def _frozen(self, case: CaseRecord, keys: Sequence[str]) -> str:
        studies = {key: study_files(self.site.received / key) for key in keys}
        number, priors = self._number_and_priors(case)
        return CycleFolder(self.site.cycles / case.id).freeze(studies, self.rule(case.rule), number=number, priors=priors, code=self.code)

    def case(self, case_id: str) -> CaseRecord:
        """Return a case of the ledger; refuses one that it does not know."""
        return self.ledger.case(case_id)

    def rule(self, name: str) -> Rule:
        """Return a rule of the site; refuses one that is no longer there."""
        for rule in self.site.rules:
            if rule.name == name:
                return rule
        raise DosimetryError(
            "the rule of this case is gone",
            where="mrtai.toml",
            found=f"no rule '{name}'",
            remedy="put it back, or reject the case",
            code="NO_RULE",
        )

    def _decided(self, key: str, folder: Path, before: StudyRecord | None) -> StudyRecord:
        # the instant before reading: what comes while we read is news
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        record = _unread(key, before, now)
        toml = folder / STUDY_TOML
        try:
            stated = read_study_toml(toml) if toml.is_file() else StatedStudy()
            arrival = read_arrival(folder, self.site.rules, stated, self.secret)
            record = _described(record, arrival)
            rule = matching_rule(arrival, self.site.rules)
            if rule is None:
                reason = f"no rule fits {', '.join(arrival.modalities)}"
                return replace(record, state=StudyState.IGNORED, case_id=None, rule=None, reason_code="NO_RULE", reason=reason)
            _require_one_content(folder)
            if not (folder / IDENTITY_CHECKED).exists():
                _require_one_id(arrival, [one for one in self.ledger.studies() if one.key != key])
            case_id = self._case_of(arrival, rule)
            self._require_open(case_id, key)
        except DosimetryError as refusal:
            return replace(record, reason_code=refusal.code, reason=str(refusal))
        except OSError:
            raise
        except Exception as fault:
            # a header in a form that nobody thought of; its message may quote it
            reason = f"study: headers that cannot be read; found {type(fault).__name__}; export the study again"
            return replace(record, reason_code="UNREADABLE", reason=reason)
        return replace(record, state=StudyState.ASSIGNED, case_id=case_id, rule=rule.name, reason_code=None, reason=None)

    def _case_of(self, arrival: Arrival, rule: Rule) -> str:
        """Return the case of the administration that the scans state, else of the patient's latest one before them."""
        of = load_protocol(rule.protocol).nuclide
        own = [case for case in self.ledger.cases() if case.pseudonym == arrival.pseudonym and case.id.endswith(f"-{of}")]
        stated = sorted({series.administered_at.date() for series in arrival.activity if series.administered_at})
        if stated and (stated[-1] - stated[0]).days * SECONDS_PER_DAY > BETWEEN_CYCLES_S:
            found = ", ".join(day.isoformat() for day in stated)
            raise DosimetryError(
                "one study with scans of two cycles",
                where="study",
                found=found,
                remedy="send each cycle as a study of its own",
                code="TWO_CYCLES",
            )
        if stated:
            near = [case for case in own if abs((_day(case) - stated[0]).days) * SECONDS_PER_DAY <= BETWEEN_CYCLES_S]
            if near:
                return min(near, key=lambda case: abs((_day(case) - stated[0]).days)).id
            return self._opened(arrival, rule, stated[0], of)
        return self._latest_before(arrival, own).id

    def _latest_before(self, arrival: Arrival, own: Sequence[CaseRecord]) -> CaseRecord:
        days = [series.started_at.date() for series in arrival.activity if series.started_at]
        before = [case for case in own if days and 0 <= (min(days) - _day(case)).days <= LATEST_SCAN_DAYS]
        if not before:
            raise DosimetryError(
                "no time of administration",
                where="study",
                found="silent headers, and no cycle of this patient before the scan",
                remedy="submit the study again with --study study.toml that states administered_at and administered_mbq",
                code="ADMINISTRATION_TIME_MISSING",
            )
        return max(before, key=_day)

    def _opened(self, arrival: Arrival, rule: Rule, day: date, of: str) -> str:
        case_id = f"{arrival.pseudonym}-{day.isoformat()}-{of}"
        self.ledger.open_case(case_id, pseudonym=arrival.pseudonym, rule=rule.name, administered_on=day.isoformat())
        return case_id

    def _require_open(self, case_id: str, key: str) -> None:
        """Refuse new scans of a case that a person has signed; the very images that were signed for change nothing."""
        case = self.case(case_id)
        if case.state in CLOSED:
            folder = CycleFolder(self.site.cycles / case_id)
            if not folder.froze(case.drafted_sha256 or "", key, study_files(self.site.received / key)):
                raise _signed(case_id, case.state)

    def _number_and_priors(self, case: CaseRecord) -> tuple[int, list[Prior]]:
        """Return the cycle's number in order of administrations, and the signed cycles before it."""
        of = load_protocol(self.rule(case.rule).protocol).nuclide
        own = [one for one in self.ledger.cases() if one.pseudonym == case.pseudonym and one.id.endswith(f"-{of}")]
        earlier = sorted((one for one in own if _day(one) < _day(case)), key=_day)
        agent = load_protocol(self.rule(case.rule).protocol).agent
        signed = [one for one in earlier if one.state in CLOSED and one.results_sha256 and self._agent(one) == agent]
        priors = [Prior(CycleFolder(self.site.cycles / one.id).case, str(one.results_sha256)) for one in signed]
        return len(earlier) + 1, [prior for prior in priors if _tells(prior, of)]

    def _agent(self, case: CaseRecord) -> str | None:
        try:
            return load_protocol(self.rule(case.rule).protocol).agent
        except DosimetryError:
            return None


def _unread(key: str, before: StudyRecord | None, now: str) -> StudyRecord:
    """Return the record of a study that says nothing yet: held, in the case it was in before."""
    return StudyRecord(
        key=key,
        pseudonym=before.pseudonym if before else None,
        person=before.person if before else None,
        case_id=before.case_id if before else None,
        rule=before.rule if before else None,
        state=StudyState.HELD,
        instances=0,
        content_sha256="",
        reason_code=None,
        reason=None,
        modalities=(),
        first_seen=before.first_seen if before else now,
        last_seen=now,
    )


def _described(record: StudyRecord, arrival: Arrival) -> StudyRecord:
    return replace(
        record,
        pseudonym=arrival.pseudonym,
        person=arrival.person,
        modalities=arrival.modalities,
        instances=arrival.instances,
        content_sha256=arrival.content_sha256,
    )


def _tells(prior: Prior, of: str) -> bool:
    """Say whether an earlier cycle tells anything of the patient's kinetics; one scan of cycle 1 may not."""
    try:
        return bool(read_earlier((prior.case,), nuclide(of)))
    except DosimetryError:
        return False


def _signed(case_id: str, state: CaseState) -> DosimetryError:
    return DosimetryError(
        "the cycle is signed, so what came later is not added",
        where=case_id,
        found=f"state {state}",
        remedy="reject the case if it must count, then submit it again" if state is CaseState.SIGNED else "keep it for the record",
        code="CASE_SIGNED",
    )


def _require_one_content(folder: Path) -> None:
    again = len(list((folder / AGAIN).glob("*.dcm"))) if (folder / AGAIN).is_dir() else 0
    if again:
        raise DosimetryError(
            "images came again with other content under the same UIDs",
            where="study",
            found=f"{again} of them",
            remedy="`submit CASE --replace` takes the newer ones; until then the case is held",
            code="INSTANCE_CHANGED",
        )


def _require_one_id(arrival: Arrival, known: Sequence[StudyRecord]) -> None:
    """Hold a study of a person who is known under another ID, or of another person than the ID's: nobody's scans may meet another's."""
    own = {one.person for one in known if one.pseudonym == arrival.pseudonym and one.person}
    if arrival.person and own and arrival.person not in own:
        raise DosimetryError(
            "this patient ID was another name or birth date before",
            where="study",
            found="one ID of what looks like two people",
            remedy="correct it at the source and send it again, or, if it is one person, `submit STUDY --identity-checked`",
            code="PATIENT_ID_TWO_PERSONS",
        )
    if arrival.person and any(one.person == arrival.person and one.pseudonym != arrival.pseudonym for one in known):
        raise DosimetryError(
            "the same name and birth date are known under another patient ID",
            where="study",
            found="two IDs of what looks like one person",
            remedy="correct the ID at the source and send it again, or, if they are two people, `submit STUDY --identity-checked`",
            code="PATIENT_TWO_IDS",
        )


def _day(case: CaseRecord) -> date:
    return date.fromisoformat(case.administered_on)
