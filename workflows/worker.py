"""One worker: it takes runs of the site's pool and works on them, each in a process of its own."""

import os
import socket
import sys

from mrtai.values.site import Site
from workflows.install import POOL, install
from workflows.serve import wait_for_server


def run(site: Site) -> None:
    """Install what the server must know, then become Prefect's worker."""
    wait_for_server()
    install(site)
    name = f"{socket.gethostname()}-{os.getpid()}"
    words = ["-m", "prefect", "worker", "start", "--pool", POOL, "--name", name, "--limit", str(site.parallel)]
    os.execv(sys.executable, [sys.executable, *words])
