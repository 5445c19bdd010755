"""The walk as a Prefect flow: one task a room, the same calls as ``mrtai run``.

Parameters are paths, names and numbers. Values pass from room to room in memory: no voxel, and no identity, is ever a
parameter, a result or an artifact that Prefect stores.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE

from mrtai.cycle import CaseRequest, run_case
from mrtai.values.refusal import DosimetryError

Result = TypeVar("Result")

ROOMS: Final = ("read", "align", "segment", "integrate", "absorb", "rates", "measure", "check", "write")
RETRIES: Final = 2
RETRY_DELAY_S: Final = 5


def transient(_: Any, __: Any, state: Any) -> bool:
    """Return True when a failed room is worth another try: a refusal is final, a full disk or lost mount may pass."""
    return isinstance(state.result(raise_on_failure=False), OSError)


def as_task(room: Callable[..., Result], *args: Any) -> Result:
    """Enter the room in a Prefect task of its name.

    The arguments ride in a closure instead of as task parameters, so that Prefect neither walks through nor hashes voxels.
    """

    def enter() -> Result:
        return room(*args)

    wrapped = task(
        name=room.__name__,
        task_run_name=room.__name__,
        retries=RETRIES,
        retry_delay_seconds=RETRY_DELAY_S,
        retry_condition_fn=transient,
        cache_policy=NO_CACHE,
        persist_result=False,
    )(enter)
    return wrapped()


@flow(name="dose-cycle", persist_result=False)
def dose_cycle(
    study: Path,
    protocol: str,
    out: Path,
    labels: Path | None = None,
    calibrations: tuple[Path, ...] = (),
    cycle: str | None = None,
    threads: int = 1,
    check_engine: str | None = None,
) -> Path:
    """Work up one cycle to a draft and show its progress, dose table and pictures in Prefect.

    There is no parameter for a patient's ID, since Prefect stores parameters: one study folder holds one patient.

    Raises:
        DosimetryError: the study was refused or held; the run then fails with that one line.
    """
    request = CaseRequest(
        study, protocol, out, labels=labels, calibrations=calibrations, cycle=cycle, threads=threads, check_engine=check_engine
    )
    logger = get_run_logger()
    progress = create_progress_artifact(progress=0.0, description="rooms of the walk")

    def step(room: Callable[..., Result], *args: Any) -> Result:
        result = as_task(room, *args)
        update_progress_artifact(progress, progress=100.0 * (ROOMS.index(room.__name__) + 1) / len(ROOMS))  # type: ignore[arg-type]
        return result

    try:
        case = run_case(request, step)
    except DosimetryError as refusal:
        logger.warning("%s: %s", refusal.code, refusal)
        raise
    show(case)
    logger.info("draft written")
    return case


def show(case: Path) -> None:
    """Publish the draft's table, flags and pictures as artifacts; everything in them comes from the pseudonymous results."""
    results = json.loads((case / "results.json").read_text(encoding="utf-8"))
    create_table_artifact(key="dose-table", table=dose_table(results), description="mean absorbed dose by region")
    create_markdown_artifact(key="draft", markdown=summary(results))
    create_image_artifact(
        key="three-planes", image_url=(case / "report.html").resolve().as_uri(), description="the report with its pictures"
    )


def dose_table(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the dose table's rows: numbers rounded for reading, units in the keys."""
    return [
        {
            "region": region["name"],
            "volume_ml": _short(region["volume_ml"]),
            "half_life_h": _short(region["kinetics"]["effective_half_life_h"]),
            "tia_mbq_h": _short(region["tia_mbq_h"]),
            "dose_gy": _short(region["absorbed_dose_gy"]["mean"]),
            "sd_gy": _short(region["absorbed_dose_gy"]["mean_sd"]),
            "verdict": region["verdict"],
        }
        for region in results["regions"]
    ]


def summary(results: dict[str, Any]) -> str:
    """Return the draft in a few lines of Markdown: who by pseudonym, what was given, what needs eyes."""
    given = results["administrations"][0]
    lines = [
        f"# Draft {results['patient']['pseudonym']}, cycle {results['cycle']}",
        f"{given['activity_mbq']:.0f} MBq {given['nuclide']} {given['agent']}, {len(results['scans'])} scans, "
        f"{'provisional, ' if results['provisional'] else ''}verdict **{results['verdict']}**",
        "",
    ]
    flagged = [("case", flag) for flag in results["flags"]]
    flagged += [(f"scan {scan['index']}", flag) for scan in results["scans"] for flag in scan["flags"]]
    flagged += [(region["name"], flag) for region in results["regions"] for flag in region["flags"]]
    lines += [f"- **{where}**: {flag['text']} {flag['remedy']}" for where, flag in flagged if flag["severity"] != "info"]
    return "\n".join(lines)


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
