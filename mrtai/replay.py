"""A case made again from its manifest, to see whether its inputs are still there and still give its results."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mrtai.cycle import Step, plainly, run_case
from mrtai.engines_of_run import CaseRequest
from mrtai.io.replay_compare import by_how_much, changed_versions, differences, without_state
from mrtai.io.replay_inputs import Inputs, find_inputs
from mrtai.io.results import require_valid
from mrtai.physics.partial_volume import OFF
from mrtai.values.protocol import NO_SEGMENTER
from mrtai.values.refusal import DosimetryError

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Replayed:
    """A case that came out equal: how many inputs it had, and what changed since without changing a number."""

    inputs: int
    changed: tuple[str, ...]


def replay_case(case: Path, study: Path, places: Sequence[Path] = (), *, patient: str | None = None, step: Step = plainly) -> Replayed:
    """Work a case up again from its own inputs and compare the results; the case is left untouched.

    ``study`` is the study it was made from; in ``places`` lies what is no scan and not in the study. ``patient`` is the ID that the run
    was given, where it was given one, which no case remembers.

    Raises:
        DosimetryError: an input is missing or changed, or equal inputs give other results.
    """
    results, manifest = _document(case, "results.json"), _document(case, "manifest.json")
    try:
        require_valid(manifest, "manifest.schema.json")
    except ValueError as fault:
        raise _not_a_case(case, str(fault)) from fault
    with TemporaryDirectory(prefix="mrtai-replay-") as folder:
        scratch = Path(folder)
        inputs = find_inputs(manifest, study, [*places, case], scratch)
        again = _run(_request(inputs, results, manifest, scratch, patient), study, manifest, step)
        now, made = _document(again, "results.json"), _document(again, "manifest.json")
    _require_same_inputs(manifest, made)
    _require_equal(results, now, changed := changed_versions(manifest, made))
    return Replayed(len(manifest["inputs"]), tuple(changed))


def _request(inputs: Inputs, results: Json, manifest: Json, scratch: Path, patient: str | None) -> CaseRequest:
    parameters = manifest["parameters"]
    return CaseRequest(
        study=inputs.study,
        protocol=inputs.protocol,
        out=scratch / "case",
        labels=inputs.labels,
        patient=patient,
        # a copy holds this cycle alone, whatever date chose it
        cycle=parameters["cycle"] if inputs.whole_study else str(results["cycle"]),
        study_toml=inputs.study_toml,
        calibrations=inputs.calibrations,
        priors=inputs.priors,
        kinetics=parameters["kinetics"],
        engine=parameters["dose_engine"],
        check_engine=parameters["check_engine"],
        # cases of the time before models drew do not name them
        segmenter=parameters.get("segmenter", NO_SEGMENTER),
        lesion_segmenter=parameters.get("lesion_segmenter", NO_SEGMENTER),
        pvc=parameters.get("partial_volume", OFF),
        device=parameters["device"],
        threads=parameters["threads"],
        seed=manifest["seeds"]["registration"],
    )


def _run(request: CaseRequest, study: Path, manifest: Json, step: Step) -> Path:
    """Return the case made again; from the whole study where a part of it is refused, for example since ``study.toml`` names the rest."""
    try:
        return run_case(request, step)
    except DosimetryError as refusal:
        if request.study == study:
            raise
        try:
            return run_case(replace(request, study=study, cycle=manifest["parameters"]["cycle"]), step)
        except DosimetryError:
            raise refusal from None


def _require_same_inputs(then: Json, now: Json) -> None:
    for one, other in zip_longest(then["inputs"], now["inputs"]):
        if one != other:
            raise DosimetryError(
                "the run did not read the inputs of the case",
                where=(one or other)["name"],
                found="another file" if one and other else "one file less" if one else "a file more",
                remedy="give the study as it was",
                code="INPUT_CHANGED",
            )


def _require_equal(then: Json, now: Json, changed: Sequence[str]) -> None:
    found = differences(without_state(then), without_state(now))
    first = next(found, None)
    if first is None:
        return
    place, one, other = first
    if place == "patient.pseudonym":
        remedy = "use the site's key, and --patient where the run had it"
        raise DosimetryError("the pseudonym is another", where=place, found="another key or ID", remedy=remedy, code="KEY_DIFFERS")
    more = sum(1 for _ in islice(found, 10_000))
    raise DosimetryError(
        "equal inputs give another result",
        where=place,
        found=by_how_much(one, other) + (f", and {more} more differences" if more else ""),
        remedy=f"changed since: {', '.join(changed)}" if changed else "code and libraries are the same: look at the device and its threads",
        code="REPLAY_DIFFERS",
    )


def _document(folder: Path, name: str) -> dict[str, Any]:
    try:
        document = json.loads((folder / name).read_text("utf-8"))
    except (OSError, ValueError) as fault:
        raise _not_a_case(folder, f"no readable {name}") from fault
    if not isinstance(document, dict) or document.get("schema") != f"mrtai.{name.removesuffix('.json')}/1":
        raise _not_a_case(folder, f"{name} of another schema")
    return document


def _not_a_case(folder: Path, found: str) -> DosimetryError:
    return DosimetryError("no complete case", where=folder.name, found=found, remedy="give a CASE folder of mrtai run", code="NOT_A_CASE")
