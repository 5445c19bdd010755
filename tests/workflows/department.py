"""A department's service as a process of its own, for as long as a test needs it."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mrtai.io.ledger import open_ledger
from mrtai.io.site import read_site
from tests.io.orthanc import free_port, program
from tests.workflows.small_patient import PROTOCOL

CONFIG = """root = "data"
pseudonym_key = "key"
{database}
[dicom]
listen_port = {listen}
[receive]
host = "127.0.0.1"
port = {port}
least_free_gb = 0
[inbox]
quiet_s = 2
[server]
port = {server}
{more}
[[rule]]
name = "small"
nuclide = "Lu-177"
descriptions = ["*dosim*"]
protocol = "small.toml"
calibrations = "calibrations"
{rule}
"""


@dataclass
class Department:
    folder: Path
    config: Path
    port: int
    environment: dict
    processes: dict = field(default_factory=dict)

    @property
    def site(self):
        return read_site(self.config)

    @property
    def log(self):
        return (self.folder / "serve.log").read_text(errors="replace")

    def start(self, *words):
        """Start one of our commands in the background and return its process."""
        with (self.folder / "serve.log").open("a") as stream:
            command = [sys.executable, "-m", "workflows", *words]
            process = subprocess.Popen(command, stdout=stream, stderr=stream, env=self.environment, start_new_session=True)
        self.processes[words[0]] = process
        return process

    def run(self, *words, status=0):
        """Run one of our commands and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "workflows", *map(str, words)], env=self.environment, capture_output=True, text=True, timeout=180
        )
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.log[-3000:]}"
        return done.stdout + done.stderr

    def send(self, folder):
        """Send a study as a scanner would, and again until it is acknowledged."""
        storescu = program("storescu")
        command = [storescu, "-R", "-aec", "MRTAI", "--scan-directories", "--recurse", "127.0.0.1", str(self.port), str(folder)]
        wait_for(lambda: subprocess.run(command, capture_output=True).returncode == 0, 60, lambda: self.log[-2000:])

    def cases(self):
        with open_ledger(self.site.database) as ledger:
            return ledger.cases()

    def case(self, case_id=None):
        return next((case for case in self.cases() if case_id in (None, case.id)), None)

    def wait(self, done, limit_s=240):
        """Wait until a case of the ledger is as asked and return it."""
        return wait_for(
            lambda: next((case for case in self.cases() if done(case)), None), limit_s, lambda: f"{self.cases()}\n{self.log[-4000:]}"
        )

    def settled(self, state, scans, case_id=None):
        """Wait until the case came to a state with so many scans; return the case."""

        def is_there(case):
            if case_id not in (None, case.id) or case.is_due or case.state != state:
                return False
            return len(self.results(case.id)["scans"]) == scans

        return self.wait(is_there)

    def folder_of(self, case_id):
        return self.site.cycles / case_id / "case"

    def results(self, case_id):
        path = self.folder_of(case_id) / "results.json"
        return json.loads(path.read_text()) if path.is_file() else {"scans": []}

    def stop(self):
        for process in reversed(list(self.processes.values())):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


@contextmanager
def department(folder, *, database="", more="", rule="", environment=None):
    """Configure a site of small patients in ``folder``; what a test starts is stopped in the end."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "calibrations").mkdir()
    (folder / "small.toml").write_text(PROTOCOL)
    (folder / "key").write_bytes(b"k" * 32)
    port, server, listen = free_port(), free_port(), free_port()
    values = {"port": port, "server": server, "listen": listen, "more": more, "rule": rule}
    config = folder / "mrtai.toml"
    config.write_text(CONFIG.format(database=f'database = "{database}"' if database else "", **values))
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_") and name not in ("MRTAI_KEY_FILE", "CI")}
    own |= {"MRTAI_CONFIG": str(config), "PYTHONPATH": str(Path.cwd()), **(environment or {})}
    site = Department(folder, config, port, own)
    try:
        yield site
    finally:
        site.stop()


def wait_for(found, limit_s, told):
    until = time.monotonic() + limit_s
    while True:
        value = found()
        if value:
            return value
        assert time.monotonic() < until, told()
        time.sleep(0.5)


def processes_of(config):
    """Return the running processes of a site: process number -> command line, found by the configuration in their environment."""
    found = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                if f"MRTAI_CONFIG={config}".encode() in (place / "environ").read_bytes():
                    found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
    return found
