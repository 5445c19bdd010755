"""The cycles of a patient as sums take them: each read from the ``results.json`` of its CASE folder."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from mrtai.io.protocols import load_protocol, shipped_protocols
from mrtai.io.results import require_valid
from mrtai.physics.cumulative import first_order_bed_sd_gy, with_stated_sd
from mrtai.physics.radiobiology import eqd2_gy
from mrtai.physics.region_uncertainty import LEANING
from mrtai.physics.uncertainty import COMMON_TO_REGIONS
from mrtai.units import BQ_PER_MBQ
from mrtai.values.cumulative import BED, DOSE, EQD2, CountedCycle, CycleRegion, Uncertain
from mrtai.values.ledger import CLOSED, UNUSABLE
from mrtai.values.protocol import Protocol
from mrtai.values.refusal import DosimetryError

Json = Mapping[str, Any]


def read_counted(cases: Sequence[Path], *, drafts: bool = False) -> tuple[CountedCycle, ...]:
    """Return the cycles of signed or released CASE folders; ``drafts`` lets unsigned ones in.

    Raises:
        DosimetryError: no case, one that was rejected, failed or is held, or a draft that was not asked for.
    """
    return tuple(_counted(case, drafts) for case in cases)


def counted_cycle(document: Json) -> CountedCycle:
    """Return the cycle of a valid ``results.json``."""
    given = document["administrations"][0]
    return CountedCycle(
        pseudonym=document["patient"]["pseudonym"],
        number=document["cycle"],
        state=document["state"],
        provisional=document["provisional"],
        nuclide=given["nuclide"],
        agent=given["agent"],
        administered_bq=given["activity_mbq"] * BQ_PER_MBQ,
        at=datetime.fromisoformat(given["time"]),
        scans=frozenset(scan["series_uid_sha256"] for scan in document["scans"]),
        regions=(*map(_region, document["regions"]), *map(_marrow, document.get("red_marrow", ()))),
    )


def limits_protocol(cases: Iterable[Path], named: str | None) -> Protocol | None:
    """Return the protocol whose limits hold: the one ``named``, else the shipped one that all cases used, None where there is none."""
    if named is not None:
        return load_protocol(named)
    used = {_protocol_name(case) for case in cases}
    name = used.pop() if len(used) == 1 else None
    return None if name is None else load_protocol(name)


def _protocol_name(case: Path) -> str | None:
    """Return the shipped protocol of a case; a site's own file may have the same stem, so its name counts with its ending."""
    try:
        name = json.loads((case / "manifest.json").read_bytes())["parameters"]["protocol"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if name in shipped_protocols() else None


def _counted(case: Path, drafts: bool) -> CountedCycle:
    file = case / "results.json" if case.is_dir() else case
    try:
        document = require_valid(json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError) as fault:
        found = "no results.json" if isinstance(fault, OSError) else str(fault)[:100]
        raise _refused(case, "no case of ours", found, "give CASE folders made by mrtai run", "NOT_A_CASE") from fault
    state = document["state"]
    if state in UNUSABLE:
        raise _refused(case, "the case may not be used", f"state {state}", "leave it out, or work the cycle up again", "CASE_UNUSABLE")
    if state not in CLOSED and not drafts:
        remedy = "have a qualified person sign it first, or add --drafts"
        raise _refused(case, "an unsigned draft does not count", f"state {state}", remedy, "NOT_SIGNED")
    return counted_cycle(document)


def _region(row: Json) -> CycleRegion:
    dose, lq = row["absorbed_dose_gy"], row["radiobiology"]
    withheld = dose["mean"] is None or row["verdict"] == "withheld"
    common = _common_relative_sd(row)
    values = {}
    if not withheld:
        assumed = 1.0 if common is None else 0.0
        sd = dose["mean_sd"]
        # the whole of an uncertainty of unknown make-up is taken as common
        shared = 0.0 if sd is None else min(sd, assumed * sd + (common or 0.0) * dose["mean"])
        values = _biological(Uncertain(dose["mean"], sd, shared), lq)
    return CycleRegion(
        name=row["name"],
        kind=row["kind"],
        members=tuple(row["members"]),
        tracking_uid=row["tracking_uid"],
        withheld=withheld,
        values=values,
        alpha_beta_gy=lq["alpha_beta_gy"] if BED in values else None,
        correlation_assumed=common is None and not withheld,
    )


def _common_relative_sd(row: Json) -> float | None:
    """Return the relative uncertainty that cycles have in common; None where a number has an uncertainty but no budget says of what."""
    budget = row["uncertainty_budget"]
    # a patient who differs from a population does so in every cycle
    common = {*COMMON_TO_REGIONS, "kinetics"} if row["kinetics"]["model"] in LEANING else set(COMMON_TO_REGIONS)
    if not budget and row["absorbed_dose_gy"]["mean_sd"] is not None:
        return None
    return float(np.linalg.norm([term["relative_sd"] or 0.0 for term in budget if term["term"] in common]))


def _biological(dose: Uncertain, lq: Json) -> dict[str, Uncertain]:
    values = {DOSE: dose}
    if None not in (lq["bed_gy"], lq["g"], lq["alpha_beta_gy"]):
        bed_sd_gy = lq.get("bed_sd_gy")
        if bed_sd_gy is None and dose.sd_gy is not None:
            bed_sd_gy = first_order_bed_sd_gy(dose.value_gy, dose.sd_gy, lq["g"], lq["alpha_beta_gy"])
        values[BED] = with_stated_sd(lq["bed_gy"], bed_sd_gy, dose)
        if lq["eqd2_gy"] is not None:
            values[EQD2] = with_stated_sd(lq["eqd2_gy"], None if bed_sd_gy is None else eqd2_gy(bed_sd_gy, lq["alpha_beta_gy"]), dose)
    return values


def _marrow(row: Json) -> CycleRegion:
    """Return one estimate of the marrow's dose; ratio and stand-in are the same in every cycle, so all its uncertainty is common."""
    dose_gy, sd_gy = row["absorbed_dose_gy"], row["absorbed_dose_sd_gy"]
    withheld = dose_gy is None or any(flag["severity"] == "withheld" for flag in row["flags"])
    values = {} if withheld else {DOSE: Uncertain(dose_gy, sd_gy, sd_gy or 0.0)}
    name = f"red_marrow_by_{row['method']}"
    return CycleRegion(name, "marrow", (), None, withheld, values, correlation_assumed=not withheld and sd_gy is not None)


def _refused(case: Path, what: str, found: str, remedy: str, code: str) -> DosimetryError:
    return DosimetryError(what, where=case.name, found=found, remedy=remedy, code=code)
