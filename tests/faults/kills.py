"""Kills of a department's processes, and how long it takes until what was killed is back."""

import json
import os
import random
import re
import signal
import socket
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from mrtai.io.ledger import LedgerAway, open_ledger
from tests.workflows.department import processes_of
from workflows.inbox import ALIVE

PATTERNS = {
    "worker": r"workflows worker|prefect worker start",
    "flow": r"prefect\.engine|flow-run execute",
    "receiver": r"workflows receive",
    "server": r"prefect server start",
    "inbox": r"workflows inbox",
    "worker+flow": r"workflows worker|prefect worker start|prefect\.engine|flow-run execute",
}
NEEDS_FLOW = ("flow", "worker+flow")
LONGEST_PAUSE_S = 20.0
WHILE_SENDING_S = 0.6
LONGEST_RUN_S = 10.0
NEXT_FLOW_S = 150.0


@dataclass
class Kill:
    """One kill; ``back_s`` is the time until the part works again, for a flow until its case has come to an outcome."""

    kind: str
    at: float
    processes: list
    run: str | None = None
    case: str | None = None
    back_s: float | None = None


@dataclass
class Watch:
    """Looks at a department while parts of it die."""

    site: object
    started: float = field(default_factory=time.time)
    kills: list = field(default_factory=list)
    cases: tuple = ()

    def pause(self, seconds, done=lambda: False):
        """Look again and again for so long, or until done; return whether it was done."""
        until = time.monotonic() + seconds
        while True:
            self.look()
            if done():
                return True
            left = until - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(0.25, left))

    def look(self):
        """Note what is back."""
        try:
            with open_ledger(self.site.site.database) as ledger:
                self.cases = ledger.cases()
        except LedgerAway:
            return
        for kill in self.kills:
            if kill.back_s is None and self._is_back(kill):
                kill.back_s = time.time() - kill.at

    def is_busy(self):
        """Say whether a case waits for its draft."""
        return any(case.is_due for case in self.cases)

    def running(self, kind):
        """Return the processes of a kind: number -> command."""
        return {one: command for one, command in processes_of(self.site.config).items() if re.search(PATTERNS[kind], command)}

    def kill(self, kind):
        """Kill -9 what there is of a kind; return False where there is nothing."""
        found = self.running(kind)
        if not found or (kind in NEEDS_FLOW and not self.running("flow")):
            return False
        run = next(filter(None, map(_run_of, found)), None)
        for number in found:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.kills.append(Kill(kind, time.time(), sorted(found), run))
        return True

    def _is_back(self, kill):
        if kill.kind in NEEDS_FLOW:
            kill.case = kill.case or self._case_of(kill.run)
            return any(case.id == kill.case and not case.is_due for case in self.cases)
        anew = [command for number, command in self.running(kill.kind).items() if number not in kill.processes]
        if not anew:
            return False
        if kill.kind == "server":
            return is_up(self.site.site.server_port)
        if kill.kind == "receiver":
            return listens(self.site.port)
        if kill.kind == "inbox":
            alive = self.site.site.root / ALIVE
            return alive.is_file() and alive.stat().st_mtime > kill.at
        return any("prefect worker start" in command for command in anew)

    def asked(self, path, body=None):
        """Return what Prefect's server answers, None while it is away."""
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.site.site.server_port}/api/{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"}), timeout=10) as answer:
                return json.load(answer)
        except OSError:
            return None

    def _case_of(self, run):
        found = None if run is None else self.asked(f"flow_runs/{run}")
        return None if found is None else found["parameters"]["case_id"]


def dealt(rng, kills, both, scans):
    """Deal kills of each kind over scans: one list of kinds for each scan."""
    kinds = [kind for kind in PATTERNS if kind != "worker+flow" for _ in range(kills)] + ["worker+flow"] * both
    rng.shuffle(kinds)
    return [kinds[scan::scans] for scan in range(scans)]


def strike(watch, rng, kinds):
    """Kill one after the other at random moments; return the kinds for which there was nothing to kill."""
    left = []
    for kind in sorted(kinds, key=lambda one: one != "receiver"):  # a receiver dies while it receives
        if kind in NEEDS_FLOW:
            if not _strike_flow(watch, rng, kind):
                left.append(kind)
            continue
        watch.pause(rng.uniform(0, WHILE_SENDING_S if kind == "receiver" else LONGEST_PAUSE_S))
        if not watch.pause(60, lambda kind=kind: watch.kill(kind)):
            left.append(kind)
    return left


def _strike_flow(watch, rng, kind):
    """Kill a flow's process some seconds after it began; where it was faster the next one is waited for."""
    moment_s = rng.uniform(0, LONGEST_RUN_S)
    until = time.monotonic() + NEXT_FLOW_S
    while time.monotonic() < until:
        if not watch.pause(NEXT_FLOW_S, lambda: bool(watch.running("flow")) or (not watch.is_busy() and time.monotonic() > until)):
            return False
        if not watch.pause(moment_s, lambda: not watch.running("flow")) and watch.kill(kind):
            return True
        moment_s /= 2
    return False


def _run_of(process):
    """Return the run that a flow's process works on."""
    try:
        environment = (Path("/proc") / str(process) / "environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    return next((one.partition("=")[2] for one in environment if one.startswith("PREFECT__FLOW_RUN_ID=")), None)


def is_up(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def listens(port):
    with socket.socket() as one:
        one.settimeout(2)
        return one.connect_ex(("127.0.0.1", port)) == 0


def seeded(seed):
    return random.Random(seed)
