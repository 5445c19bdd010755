"""Prefect's settings for every process of ours: offline, silent to the outside, patient with slow machines."""

import os
from pathlib import Path
from typing import Final

OFFLINE: Final = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
}


def apply(home: Path) -> None:
    """Set what is not set already; call before Prefect is imported. ``home`` keeps the embedded server's database and results."""
    home.mkdir(parents=True, exist_ok=True)
    defaults = {**OFFLINE, "PREFECT_HOME": str(home), "PREFECT_LOCAL_STORAGE_PATH": str(home / "storage")}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
