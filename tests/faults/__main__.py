"""Everything dies, again and again, while scans come in: afterwards every cycle has its final draft, nothing twice, nothing half-written.

python -m tests.faults [--kills 10] [--cycles 5] [--seed 1] [--both 2] [--json FILE] [--keep FOLDER]

A real department is served; simulated small patients are sent scan by scan with DCMTK's storescu. Meanwhile worker, flow process,
receiver, Prefect server and inbox are each killed -9 at random moments, and twice a worker together with its flow, which only the
missing heartbeat tells of. The seed fixes order and moments of the kills; what they meet depends on the machine.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from tests.faults import checks
from tests.faults.kills import PATTERNS, Watch, dealt, is_up, seeded, strike
from tests.workflows.department import department, wait_for
from tests.workflows.small_patient import Person, scan

HOURS = (24, 96, 168)
NAMES = ("Zaphod^Unlikely", "Fenchurch^Islington", "Slartibartfast^Magrathea", "Agrajag^Stavromula", "Trillian^Macmillan")
RUNNING = ("worker", "receiver", "server", "inbox")
SETTLED_WITHIN_S = 1200


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="of each kind (default 10)")
    parser.add_argument("--cycles", type=int, default=5, help="patients of three scans each (default 5)")
    parser.add_argument("--both", type=int, default=2, help="kills of a worker together with its flow (default 2)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcome as JSON, too")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="an empty folder for the site, which then stays")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mrtai-faults-") as scratch:
        return _run(options, Path(scratch), Console(width=120))


def _run(options, scratch, console):
    people = [Person(f"SECRET-{4711 + one}", NAMES[one % len(NAMES)], f"194206{one + 10}") for one in range(options.cycles)]
    studies = _studies(scratch / "studies", people)
    with department((options.keep or scratch) / "site") as site:
        site.start("serve")
        wait_for(lambda: is_up(site.site.server_port), 180, lambda: site.log)
        watch = Watch(site)
        left = _send_and_kill(watch, options, studies)
        settled = watch.pause(SETTLED_WITHIN_S, lambda: _is_done(watch, options.cycles))
        outcome = _outcome(watch, studies, people, options) | {"settled": [] if settled else ["not every case came to an outcome"]}
        outcome["kills"] = [f"no {kind} could be killed" for kind in left]
        took_s = time.time() - watch.started
    _show(watch, outcome, took_s, console)
    if options.json:
        options.json.write_text(json.dumps(_told(watch, outcome, took_s, options), indent=1) + "\n")
    return 1 if any(outcome.values()) else 0


def _studies(folder, people):
    """Return the scans of all people, in the order of sending: every person's first ones, then the second ones, …"""
    return [
        scan(folder / f"{number}-{hours}", hours, person=person, contours=hours == HOURS[0])
        for hours in HOURS
        for number, person in enumerate(people)
    ]


def _send_and_kill(watch, options, studies):
    rng = seeded(options.seed)
    left = []
    for study, kinds in zip(studies, dealt(rng, options.kills, options.both, len(studies)), strict=True):
        sender = threading.Thread(target=watch.site.send, args=[study])
        sender.start()
        left = strike(watch, rng, [*kinds, *left])
        sender.join()
    return strike(watch, rng, left)


def _is_done(watch, cycles):
    return len(watch.cases) == cycles and not any(case.is_due or case.provisional for case in watch.cases)


def _outcome(watch, studies, people, options):
    """Return what is wrong, check by check."""
    site = watch.site
    words = {word for person in people for word in (person.patient_id, *person.name.split("^"), person.born)}
    watch.pause(300, lambda: not (checks.runs_ended(watch) or checks.one_of_each(watch, RUNNING)) and not watch.running("flow"))
    return {
        "every cycle has its final draft": checks.final_drafts(site, options.cycles, len(HOURS)),
        "results are those of an undisturbed walk": checks.as_undisturbed(site),
        "nothing twice, nothing lost, audit whole": checks.once(site, sum(len(list(study.glob("*.dcm"))) for study in studies)),
        "nothing half-written": checks.whole(site),
        "no run open or overlapping": checks.runs_ended(watch),
        "every part runs once": checks.one_of_each(watch, RUNNING),
        "no identity": checks.no_identity(site, words),
    }


def _show(watch, outcome, took_s, console):
    table = Table(box=SIMPLE, title=f"{len(watch.kills)} kills in {took_s / 60:.0f} min")
    for heading in ("at s", "killed", "back after s"):
        table.add_column(heading, justify="left" if heading == "killed" else "right")
    for kill in watch.kills:
        table.add_row(f"{kill.at - watch.started:.0f}", kill.kind, "never" if kill.back_s is None else f"{kill.back_s:.1f}")
    console.print(table)
    for kind, backs in _backs(watch).items():
        console.print(f"{kind}: {len(backs)} kills, back after {statistics.median(backs):.1f} s (median), {max(backs):.1f} s (longest)")
    for what, wrong in outcome.items():
        console.print(f"{'FAILED' if wrong else 'ok    '} {what}" + "".join(f"\n       {one}" for one in wrong[:10]))


def _backs(watch):
    return {kind: backs for kind in PATTERNS if (backs := [kill.back_s or float("inf") for kill in watch.kills if kill.kind == kind])}


def _told(watch, outcome, took_s, options):
    kills = [{"at_s": kill.at - watch.started, "kind": kill.kind, "back_s": kill.back_s} for kill in watch.kills]
    return {"seed": options.seed, "cycles": options.cycles, "took_s": took_s, "kills": kills, "wrong": outcome}


if __name__ == "__main__":
    sys.exit(main())
