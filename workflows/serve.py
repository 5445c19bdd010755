"""``python -m workflows serve``: everything of a department on one machine, and a clean stop.

Each part is a process of its own, so that one that dies takes nothing with it; it is started again.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from mrtai.values.refusal import DosimetryError
from mrtai.values.site import Site

AGAIN_S: Final = 2.0
STOP_S: Final = 20.0
SERVER_STARTS_WITHIN_S: Final = 180.0
LOCAL: Final = frozenset({"127.0.0.1", "localhost", "::1"})

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """One process of a department: its name and the command that runs it."""

    name: str
    command: tuple[str, ...]


def parts(site: Site) -> tuple[Part, ...]:
    """Return the processes of this machine: the server comes first, and only where no other server is named."""
    server = (sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(site.server_port))
    own = [Part(name, (sys.executable, "-m", "workflows", name)) for name in ("worker", "receive", "inbox")]
    return (Part("server", server), *own) if _is_local() else tuple(own)


def run(site: Site) -> int:
    """Start everything, start again what dies, and stop everything on SIGTERM or SIGINT; return the exit status."""
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    log.info("serving %s rules; DICOM on port %s; Prefect at %s", len(site.rules), site.receive.port, os.environ["PREFECT_API_URL"])
    running: dict[Part, subprocess.Popen[bytes]] = {}
    try:
        for part in parts(site):
            running[part] = _start(part)
            if part.name == "server":
                wait_for_server(stop)
        while not stop.wait(AGAIN_S):
            for part, process in running.items():
                if process.poll() is not None:
                    log.warning("%s ended with status %s and is started again", part.name, process.returncode)
                    running[part] = _start(part)
    finally:
        _stop(list(running.values())[::-1])
    return 0


def server_is_up() -> bool:
    """Return True when Prefect's server answers."""
    try:
        with urllib.request.urlopen(f"{os.environ['PREFECT_API_URL']}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait_for_server(stop: threading.Event | None = None) -> None:
    """Return when Prefect's server answers, or when asked to stop.

    Raises:
        DosimetryError: it does not answer within three minutes.
    """
    until = time.monotonic() + SERVER_STARTS_WITHIN_S
    while not server_is_up():
        if time.monotonic() > until:
            raise DosimetryError(
                "Prefect's server does not answer",
                where="PREFECT_API_URL",
                found=f"nobody within {SERVER_STARTS_WITHIN_S:.0f} s",
                remedy="start it, or correct PREFECT_API_URL",
                code="NO_SERVER",
            )
        if stop is not None and stop.wait(0.5):
            return
        time.sleep(0.5)


def _is_local() -> bool:
    return urlsplit(os.environ["PREFECT_API_URL"]).hostname in LOCAL


def _start(part: Part) -> subprocess.Popen[bytes]:
    # a session of its own: Ctrl-C reaches us alone, and we stop the parts in their order
    process = subprocess.Popen(part.command, start_new_session=True)
    log.info("%s started, process %s", part.name, process.pid)
    return process


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the processes one after the other, the last started first; what does not end is killed with all it started."""
    for process in processes:
        if process.poll() is not None:
            continue
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
