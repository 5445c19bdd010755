"""Prefect's settings for every process of ours: offline, silent to the outside, patient with slow machines."""

import os
from pathlib import Path
from typing import Final

from mrtai.io.site import config_path, read_site
from mrtai.values.refusal import DosimetryError
from mrtai.values.site import Site

OFFLINE: Final = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    # on a busy machine SQLite's lock is waited for instead of losing what was to be written
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
    "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
    # a server that is being started again is waited for
    "PREFECT_CLIENT_MAX_RETRIES": "10",
}
THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


def apply(home: Path) -> None:
    """Set what is not set already; call before Prefect is imported. ``home`` keeps the embedded server's database and results."""
    home.mkdir(parents=True, exist_ok=True)
    defaults = {**OFFLINE, "PREFECT_HOME": str(home), "PREFECT_LOCAL_STORAGE_PATH": str(home / "storage")}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def apply_site() -> Site:
    """Return the site of this process with the settings for it and for the processes it starts; call before Prefect is imported.

    ``PREFECT_API_URL``, where it is set, names a server elsewhere; else the site's own is meant.
    """
    site = read_site()
    os.environ["MRTAI_CONFIG"] = str(config_path())
    # no page of another origin may speak to the server through somebody's browser
    os.environ.setdefault("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", f"http://127.0.0.1:{site.server_port}")
    os.environ.setdefault("PREFECT_API_URL", f"http://127.0.0.1:{site.server_port}/api")
    for name in THREADS:
        os.environ.setdefault(name, str(site.threads))
    _require_ledger(site)
    site.root.mkdir(parents=True, exist_ok=True)
    apply(site.root / "prefect")
    return site


def _require_ledger(site: Site) -> None:
    """Refuse to begin an empty ledger beside cycles: a lost one is restored, not replaced."""
    path = Path(site.database.removeprefix("sqlite:///")) if site.database.startswith("sqlite:///") else None
    if path is not None and not path.exists() and site.cycles.is_dir() and any(site.cycles.iterdir()):
        remedy = "restore it from the last backup, or move the cycles away to begin anew"
        raise DosimetryError("the ledger is gone", where=path.name, found="cycles without it", remedy=remedy, code="LEDGER_GONE")
