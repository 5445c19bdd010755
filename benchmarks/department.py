"""A department's service on small cycles: how soon a draft follows the last instance, and what a second worker gives.

Writes docs/performance-department.md.

python -m benchmarks.department [--cycles 12]
"""

import argparse
import json
import os
import re
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mrtai.values.ledger import CaseState
from tests.workflows.department import department, wait_for
from tests.workflows.small_patient import Person, scan

PAGE = Path(__file__).parents[1] / "docs" / "performance-department.md"
HOURS = (24, 96, 168)
LATENCY_PATIENTS = 3


def main() -> None:
    """Measure, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mrtai-department-") as scratch, department(Path(scratch) / "site") as site:
        site.start("serve")
        _wait_for_workers(site, 1)
        delays = [_delays(site, Path(scratch) / "sent", number) for number in range(LATENCY_PATIENTS)]
        one = _batch(site, Path(scratch) / "one", options.cycles, 100)
        site.start("worker")
        _wait_for_workers(site, 2)
        two = _batch(site, Path(scratch) / "two", options.cycles, 200)
    text = _page([delay for patient in delays for delay in patient], one, two, options.cycles)
    PAGE.write_text(text, encoding="utf-8")
    print(text)


def _delays(site: Any, folder: Path, number: int) -> list[tuple[float, float]]:
    """Return, for every scan of one patient, seconds from the last instance to the flow's start and to the draft, minus quiet time."""
    delays = []
    for scans, hours in enumerate(HOURS, start=1):
        study = scan(folder / f"{number}-{hours}", hours, person=_person(number), contours=scans == 1)
        known = {run["id"] for run in _runs(site)}
        site.send(study)
        last = time.time() + site.site.quiet_s
        wait_for(lambda known=known: [run for run in _runs(site) if run["id"] not in known and run["end_time"]], 240, lambda: site.log)
        (run,) = [run for run in _runs(site) if run["id"] not in known]
        case = site.settled(CaseState.DRAFT, scans, run["parameters"]["case_id"])
        delays.append((_seconds(run["start_time"]) - last, _seconds(case.updated_at) - last))
    return delays


def _batch(site: Any, folder: Path, cycles: int, first: int) -> float:
    """Return seconds from the first run's creation to the last one's end for so many cycles of one scan each."""
    before = len(_runs(site))
    for number in range(first, first + cycles):
        site.send(scan(folder / str(number), HOURS[0], person=_person(number), contours=True))
    wait_for(
        lambda: len(_runs(site)) == before + cycles and all(run["end_time"] for run in _runs(site)), 120 + 60 * cycles, lambda: site.log
    )
    runs = sorted(_runs(site), key=lambda run: str(run["created"]))[before:]
    return max(_seconds(run["end_time"]) for run in runs) - min(_seconds(run["created"]) for run in runs)


def _person(number: int) -> Person:
    return Person(f"SECRET-{number}", f"Test^Patient{number}", "19420611")


def _wait_for_workers(site: Any, count: int) -> None:
    wait_for(lambda: len(set(re.findall(r"Worker '(\S+)' started", site.log))) == count, 240, lambda: site.log)


def _runs(site: Any) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{site.site.server_port}/api/flow_runs/filter", b'{"limit": 200}', {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _page(delays: Sequence[tuple[float, float]], one: float, two: float, cycles: int) -> str:
    starts, drafts = [start for start, _ in delays], [draft for _, draft in delays]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"""# Speed of the department's service

Written by `python -m benchmarks.department` on {os.cpu_count()} cores, one thread a worker, Prefect's server and ledger on SQLite; load
averages at the end {load}. Small cycles (a few thousand voxels, local dose engine), sent with DCMTK's `storescu`.

From the last instance of a scan, minus the site's quiet time, over {len(delays)} scans of {LATENCY_PATIENTS} patients:

| seconds until | median | longest |
| --- | --: | --: |
| the flow starts | {statistics.median(starts):.1f} | {max(starts):.1f} |
| the draft is written | {statistics.median(drafts):.1f} | {max(drafts):.1f} |

{cycles} cycles that came at once, in the same run of the service:

| | seconds | cycles a minute |
| --- | --: | --: |
| one worker | {one:.0f} | {60 * cycles / one:.1f} |
| two workers | {two:.0f} | {60 * cycles / two:.1f} |
| ratio | {one / two:.2f} | |

The walk of such a case takes two to five seconds. The rest is what every run costs whatever its size: the inbox looks every 5 s, a worker
asks for runs every few seconds, and Prefect starts a Python process for each run, which loads our libraries: with Prefect's server and
the other parts of the service on the same cores, that is what two workers compete for. A load above the number of cores means that other
programs took part of them. Runs of real patients last minutes, so that this overhead counts less; they were not measured here.
"""


if __name__ == "__main__":
    main()
