"""Earlier cycles of the same patient: CASE folders of ours, or the fits of single commands."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from mrtai.io.counted_cycles import counted_cycle
from mrtai.io.hashes import input_file
from mrtai.io.results import require_valid
from mrtai.physics.cumulative import require_one_course
from mrtai.units import LN2
from mrtai.values.cumulative import CountedCycle
from mrtai.values.half_life import EarlierCycle
from mrtai.values.nuclide import Nuclide
from mrtai.values.refusal import DosimetryError
from mrtai.values.regions import is_lesion
from mrtai.values.study import Cycle

MEASURED: Final = ("mono", "bi", "tri", "uptake", "population", "neural")
"""Models whose half-life was measured; rules for one scan assume theirs."""

WITH_PRIOR: Final = ("population", "neural")
"""Those among them into which a prior went."""

LEAST_RATE: Final = 0.02
"""Of λ_phys: a slower biological rate cannot be told from none."""

LEAST_GAIN: Final = 0.05
"""A posterior less than this share more certain than its own prior tells nothing of the patient."""

SCHEMAS: Final = {"mrtai.results/1": "results.schema.json", "mrtai.fits/1": "fits.schema.json"}


@dataclass(frozen=True, slots=True)
class EarlierCase:
    """One earlier cycle: kinetics by region; whose and when, and its doses, where the file says so (``mrtai.fits/1`` does not)."""

    path: Path
    cycles: Mapping[str, EarlierCycle]
    pseudonym: str | None = field(default=None, repr=False)
    agent: str | None = None
    administered_at: datetime | None = None
    counted: CountedCycle | None = None


def read_earlier(paths: Iterable[Path], nuclide: Nuclide) -> tuple[EarlierCase, ...]:
    """Return the earlier cycles of CASE folders or FITS.json files, oldest first where they say when, else as given.

    Raises:
        DosimetryError: a file that is missing, not ours, of another nuclide, or without any measured half-life; one cycle twice.
    """
    cases = [_case(path, number, nuclide) for number, path in enumerate(paths, start=1)]
    require_one_course([one for one in with_doses(cases) if one.is_counted])
    if all(case.administered_at is not None for case in cases):
        cases.sort(key=lambda case: case.administered_at or datetime.min)
    return tuple(cases)


def with_doses(cases: Iterable[EarlierCase]) -> tuple[CountedCycle, ...]:
    """Return the earlier cycles that tell doses, as sums over cycles take them."""
    return tuple(case.counted for case in cases if case.counted is not None)


def by_region(cases: Iterable[EarlierCase], *, lesions: bool) -> dict[str, tuple[EarlierCycle, ...]]:
    """Return the cycles by region name; ``lesions`` only where the caller knows that names mean the same lesion each time."""
    found: dict[str, tuple[EarlierCycle, ...]] = {}
    for case in cases:
        for name, cycle in case.cycles.items():
            if lesions or not (is_lesion(name) or name == "tumour_total"):
                found[name] = (*found.get(name, ()), cycle)
    return found


def require_same_patient(cases: Iterable[EarlierCase], cycle: Cycle) -> None:
    """Refuse an earlier case of another patient or agent, and one that is not earlier."""
    scans = {point.series_uid_sha256 for point in cycle.time_points}
    for case in cases:
        if case.pseudonym is not None and case.pseudonym != cycle.pseudonym:
            raise _bad(
                case.path,
                "the earlier cycle is another patient's",
                "a different pseudonym",
                "give this patient's own cycles",
                "PATIENT_MIXED",
            )
        if case.agent is not None and case.agent.casefold() != cycle.administration.agent.casefold():
            found = f"{case.agent} then, {cycle.administration.agent} now"
            raise _bad(case.path, "the earlier cycle had another agent", found, "give cycles of the same agent", "AGENT_DIFFERS")
        if case.administered_at is not None and case.administered_at >= cycle.administration.at:
            raise _bad(case.path, "the prior cycle is not earlier", "given at the same time or later", "leave it out", "NOT_EARLIER")
        if case.counted is not None and case.counted.is_counted and case.counted.scans & scans:
            raise _bad(case.path, "the prior cycle is this one", "scans of this study in it", "leave it out", "SAME_ADMINISTRATION")


def _case(path: Path, number: int, nuclide: Nuclide) -> EarlierCase:
    file = path / "results.json" if path.is_dir() else path
    document = _document(file)
    given = document.get("administrations", [{}])[0]
    stated = given.get("nuclide", document.get("nuclide"))
    if stated != nuclide.name:
        raise _bad(file, "the earlier cycle had another nuclide", f"{stated} then, {nuclide.name} now", "leave it out")
    name = str(document.get("cycle") or number)
    cycles = {region["name"]: cycle for region in document["regions"] if (cycle := _earlier(region, name, nuclide)) is not None}
    if not cycles:
        raise _bad(file, "no region of the earlier cycle has a measured half-life", f"{len(document['regions'])} regions", "leave it out")
    return EarlierCase(
        path=file,
        cycles=cycles,
        pseudonym=document.get("patient", {}).get("pseudonym"),
        agent=given.get("agent"),
        administered_at=datetime.fromisoformat(given["time"]) if "time" in given else None,
        counted=counted_cycle(document) if document["schema"] == "mrtai.results/1" else None,
    )


def _document(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise _bad(file, "the earlier cycle is missing", "no file", "give a CASE folder or a FITS.json")
    try:
        document = json.loads(file.read_bytes())
        schema = SCHEMAS[document["schema"]]
        return require_valid(document, schema)
    except (ValueError, KeyError, TypeError) as error:
        raise _bad(file, "not the results of an earlier cycle", str(error)[:100], "give a CASE folder or a FITS.json of mrtai") from error


def _earlier(region: Mapping[str, Any], cycle: str, nuclide: Nuclide) -> EarlierCycle | None:
    """Return what was measured of a region's kinetics, None where its half-life was assumed or not given."""
    kinetics = region["kinetics"]
    half_life_h, sd_h, terms = (kinetics.get(key) for key in ("effective_half_life_h", "effective_half_life_sd_h", "terms"))
    if kinetics["model"] not in MEASURED or not half_life_h or not sd_h or not terms:
        return None
    physical = LN2 / nuclide.half_life_h
    rate = max(LN2 / half_life_h - physical, LEAST_RATE * physical)
    log_sd = LN2 * sd_h / half_life_h**2 / rate
    if kinetics["model"] in WITH_PRIOR:
        measured = _without_prior(rate, log_sd, kinetics["parameters"], physical)
        if measured is None:
            return None
        rate, log_sd = measured
    # of a network's curve the slowest phase was measured; a faster one is what curves like this usually have
    ordered = sorted(terms, key=lambda term: term[1])[: 1 if kinetics["model"] == "neural" else None]
    whole = sum(abs(amplitude) for amplitude, _ in ordered)
    slowest = max(ordered[0][1] - physical, LEAST_RATE * physical)
    shape = tuple((amplitude / whole, max(term - physical, LEAST_RATE * physical) / slowest) for amplitude, term in ordered)
    return EarlierCycle(cycle, rate, log_sd, shape)


def _without_prior(rate: float, log_sd: float, parameters: Mapping[str, Any], physical: float) -> tuple[float, float] | None:
    """Return what the scans alone said, with the prior that went into a fit taken out again."""
    prior_rate = max(LN2 / parameters["prior_half_life_h"] - physical, LEAST_RATE * physical)
    prior_sd = parameters["prior_log_sd_of_biological_rate"]
    if log_sd > (1.0 - LEAST_GAIN) * prior_sd:
        return None
    precision = 1.0 / log_sd**2 - 1.0 / prior_sd**2
    centre = (np.log(rate) / log_sd**2 - np.log(prior_rate) / prior_sd**2) / precision
    return float(np.exp(centre)), float(1.0 / np.sqrt(precision))


def prior_inputs(cases: Iterable[EarlierCase]) -> tuple[Any, ...]:
    """Return the files as inputs of a run, for its manifest."""
    return tuple(input_file(case.path) for case in cases)


def _bad(path: Path, what: str, found: str, remedy: str, code: str = "BAD_PRIOR") -> DosimetryError:
    return DosimetryError(what, where=f"--prior {path.name}", found=found, remedy=remedy, code=code)
