"""What Prefect shows of a case: its dose table, flags and report as artifacts, and an event that automations act on."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import httpx
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.events import emit_event

from mrtai.values.ledger import StudyRecord

Words = ParamSpec("Words")
Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


def shown(tell: Callable[Words, Answer], *args: Words.args, **words: Words.kwargs) -> Answer | None:
    """Return what ``tell`` returns; None where Prefect's server is away: what is only shown must not cost a draft."""
    try:
        return tell(*args, **words)
    except httpx.HTTPError as fault:
        log.warning("the server is away (%s): not shown", type(fault).__name__)
        return None


def case_event(case_id: str, state: str, detail: str) -> None:
    """Tell that a case came to a state: ``mrtai.case.draft``, ``.held``, ``.failed`` …; ``detail`` is a verdict or a reason's code."""
    resource = {"prefect.resource.id": f"mrtai.case.{case_id}", "prefect.resource.name": case_id}
    payload = {"case": case_id, "study": "", "state": str(state), "detail": detail}
    emit_event(event=f"mrtai.case.{state}", resource=resource, payload=payload)


def held_study_event(study: StudyRecord) -> None:
    """Tell that a received study is held, ``mrtai.study.held``, and with it the unsigned case that it belongs to, if it has one."""
    name = study.key[:8]
    resource = {"prefect.resource.id": f"mrtai.study.{name}", "prefect.resource.name": name}
    payload = {"case": study.case_id or "", "study": name, "state": str(study.state), "detail": study.reason_code or ""}
    emit_event(event="mrtai.study.held", resource=resource, payload=payload)


def show(case: Path, results: dict[str, Any]) -> None:
    """Publish the draft's table, flags and report as artifacts; everything in them comes from the pseudonymous results."""
    create_table_artifact(key="dose-table", table=dose_table(results), description="mean absorbed dose by region")
    create_markdown_artifact(key="draft", markdown=summary(results))
    create_link_artifact(key="report", link=(case / "report.html").resolve().as_uri(), description="the report with its pictures")


def dose_table(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the dose table's rows: numbers rounded for reading, units in the keys."""
    return [
        {
            "region": _spoken(region, number),
            "volume_ml": _short(region["volume_ml"]),
            "half_life_h": _short(region["kinetics"]["effective_half_life_h"]),
            "tia_mbq_h": _short(region["tia_mbq_h"]),
            "dose_gy": _short(region["absorbed_dose_gy"]["mean"]),
            "sd_gy": _short(region["absorbed_dose_gy"]["mean_sd"]),
            "verdict": region["verdict"],
        }
        for number, region in enumerate(results["regions"], start=1)
    ]


def _spoken(region: dict[str, Any], number: int) -> str:
    """Return a region's name, or its number where it is of nobody's vocabulary: a contour may be named after the patient."""
    return f"region {number}" if region["kind"] == "other" else str(region["name"])


def summary(results: dict[str, Any]) -> str:
    """Return the draft in a few lines of Markdown: who by pseudonym, what was given, what needs eyes."""
    given = results["administrations"][0]
    lines = [
        f"# Draft {results['patient']['pseudonym']}, cycle {results['cycle']}",
        f"{given['activity_mbq']:.0f} MBq {given['nuclide']}, {len(results['scans'])} scans, "
        f"{'provisional, ' if results['provisional'] else ''}verdict **{results['verdict']}**",
        "",
    ]
    flagged = [("case", flag) for flag in results["flags"]]
    flagged += [(f"scan {scan['index']}", flag) for scan in results["scans"] for flag in scan["flags"]]
    regions = enumerate(results["regions"], start=1)
    flagged += [(_spoken(region, number), flag) for number, region in regions for flag in region["flags"]]
    # texts may quote what contours and agents are called in the headers: they stand in the report
    lines += [f"- **{where}**: {flag['code']}. {flag['remedy']}" for where, flag in flagged if flag["severity"] != "info"]
    return "\n".join(lines)


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
