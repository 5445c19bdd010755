"""Which moves a case may make, and the case after a move."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypedDict

from mrtai.values.ledger import CaseRecord, CaseState, Superseded
from mrtai.values.refusal import DosimetryError

_COMPUTED = frozenset({CaseState.DRAFT, CaseState.HELD, CaseState.FAILED})

LEGAL: Mapping[CaseState, Set[CaseState]] = MappingProxyType(
    {
        CaseState.WAITING: _COMPUTED,
        CaseState.DRAFT: _COMPUTED | {CaseState.SIGNED, CaseState.REJECTED},
        CaseState.HELD: _COMPUTED | {CaseState.REJECTED},
        CaseState.FAILED: _COMPUTED | {CaseState.REJECTED},
        CaseState.REJECTED: _COMPUTED,
        CaseState.SIGNED: frozenset({CaseState.RELEASED, CaseState.REJECTED}),
        CaseState.RELEASED: frozenset(),
    }
)
"""The states that each state may move to."""

_JUDGED = frozenset({CaseState.SIGNED, CaseState.REJECTED, CaseState.RELEASED})
"""States that say something about results that exist, and so never change them."""

_REMEDY: Mapping[CaseState, str] = MappingProxyType(
    {
        CaseState.WAITING: "wait for its draft",
        CaseState.DRAFT: "sign or reject the draft first",
        CaseState.HELD: "settle what it is held for, or reject it",
        CaseState.FAILED: "mend the reason and let it be computed again",
        CaseState.REJECTED: "let it be computed again first",
        CaseState.SIGNED: "release it, or reject it before it is computed again",
        CaseState.RELEASED: "leave it: what was released stays as it is",
    }
)


class Said(TypedDict, total=False):
    """What may be said with a move; see ``Move``."""

    reason: str | None
    reason_code: str | None
    results_sha256: str | None
    inputs_sha256: str | None
    provisional: bool | None


@dataclass(frozen=True, slots=True)
class Move:
    """A wish to move a case to a state.

    Attributes:
        by: who asks: a person's name, or the program's.
        results_sha256: digest of the results, needed for a draft and for a signature; None leaves the case's as they are.
        inputs_sha256: digest of the inputs that were computed; needed for a draft, and where given a guard against old runs.
        provisional: None leaves the case as it is.
    """

    becomes: CaseState
    by: str
    reason: str | None = None
    reason_code: str | None = None
    results_sha256: str | None = None
    inputs_sha256: str | None = None
    provisional: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "becomes", CaseState(self.becomes))
        if not self.by.strip():
            raise ValueError("move: somebody has to answer for it, got an empty name")
        if "\0" in f"{self.by}{self.reason or ''}{self.reason_code or ''}":
            raise ValueError("move: a text with a zero character cannot be kept")
        if self.becomes is CaseState.DRAFT and not (self.inputs_sha256 and self.results_sha256):
            raise ValueError("move: a draft has the digests of its inputs and of its results")


def after(case: CaseRecord, move: Move) -> CaseRecord:
    """Return the case after a move; the very same case where the move only repeats what already is.

    Raises:
        Superseded: the move's inputs are not the wanted ones any more.
        DosimetryError: ``ILLEGAL_TRANSITION``, or ``RESULTS_CHANGED`` where other results are judged than were drafted.
    """
    _require_wanted(case, move)
    moved = _moved(case, move)
    if _content(moved) == _content(case):
        return case
    if move.becomes not in LEGAL[case.state]:
        raise DosimetryError(
            f"a case that is {case.state} cannot become {move.becomes}",
            where=f"case {case.id}",
            found=f"state {case.state}",
            remedy=_REMEDY[case.state],
            code="ILLEGAL_TRANSITION",
        )
    _require_same_results(case, move)
    return moved


def _moved(case: CaseRecord, move: Move) -> CaseRecord:
    return replace(
        case,
        state=move.becomes,
        provisional=case.provisional if move.provisional is None else move.provisional,
        drafted_sha256=move.inputs_sha256 if move.becomes is CaseState.DRAFT else case.drafted_sha256,
        settled_sha256=move.inputs_sha256 if move.becomes in _COMPUTED and move.inputs_sha256 else case.settled_sha256,
        results_sha256=move.results_sha256 or case.results_sha256,
        reason_code=move.reason_code,
        reason=move.reason,
    )


def _content(case: CaseRecord) -> tuple[object, ...]:
    return case.state, case.provisional, case.drafted_sha256, case.settled_sha256, case.results_sha256, case.reason_code


def _require_wanted(case: CaseRecord, move: Move) -> None:
    # a case that was held while it was computed: the draft is of just the images in doubt
    overtaken = case.state is CaseState.HELD and move.becomes is CaseState.DRAFT and move.inputs_sha256 == case.settled_sha256
    if overtaken or move.inputs_sha256 not in (None, case.wanted_sha256):
        raise Superseded(
            "these inputs are no longer the wanted ones",
            where=f"case {case.id}",
            found=f"inputs {move.inputs_sha256}, wanted {case.wanted_sha256}",
            remedy="let the newer run finish",
            code="SUPERSEDED",
        )


def _require_same_results(case: CaseRecord, move: Move) -> None:
    if move.becomes not in _JUDGED or move.results_sha256 == case.results_sha256:
        return
    if move.results_sha256 is None and move.becomes is not CaseState.SIGNED:
        return
    raise DosimetryError(
        f"the results are not those of the draft, so they cannot be {move.becomes}",
        where=f"case {case.id}",
        found=f"results {move.results_sha256 or 'not named'}, draft {case.results_sha256}",
        remedy="open the case again and look at the present draft",
        code="RESULTS_CHANGED",
    )
