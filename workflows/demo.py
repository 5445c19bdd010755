"""``make demo``: a simulated three-scan patient, received scan by scan and worked up by the flow, on Prefect's embedded server."""

import json
import os
import shutil
import sys
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mrtai.cli import main as mrtai
from workflows import settings

CONFIG: Final = """# the demo's site; mrtai/data/examples/mrtai.toml is a full example
root = "site"
pseudonym_key = "key"

[[rule]]
name = "lu177-dotatate"
nuclide = "Lu-177"
protocol = "lu177-dotatate"
"""
KEY_BYTES: Final = 32


def run(folder: Path) -> int:
    """Simulate, receive, run the flow after every scan, print the dose table and where the report is; return the exit status."""
    # in a pipe the table keeps its columns
    console = Console() if sys.stdout.isatty() else Console(width=110)
    study = folder / "study"
    for old in (study, folder / "site"):
        shutil.rmtree(old, ignore_errors=True)
    _configure(folder)
    console.print("A virtual 177Lu-DOTATATE patient, scanned at 24, 96 and 168 h …")
    status = mrtai(["simulate", "--out", str(study), "--protocol", "lu177-dotatate", "--seed", "1"])
    if status:
        return status
    case = Path()
    for number in (1, 2, 3):
        start = perf_counter()
        case, said = _receive(study / f"scan{number}")
        console.print(f"Scan {number} came in: {said} after {perf_counter() - start:.0f} s")
    results = json.loads((case / "results.json").read_text(encoding="utf-8"))
    console.print(table(results))
    console.print("±: standard uncertainty of the dose, k = 1, by the whole budget. A draft for research, not for clinical decisions.")
    console.print(f"Contours were drawn by the model {results['engines']['segmenter']}; no person has looked at them.")
    console.print(f"Report: [bold]{case / 'report.html'}[/bold]")
    console.print(f"A department's service on the same site: MRTAI_CONFIG={folder / 'mrtai.toml'} python -m workflows serve")
    return 0


def _configure(folder: Path) -> None:
    """Write the demo's site and point this process to it."""
    (folder / "site").mkdir(parents=True, exist_ok=True)
    (folder / "mrtai.toml").write_text(CONFIG, "utf-8")
    if not (folder / "key").is_file():
        (folder / "key").write_bytes(os.urandom(KEY_BYTES))
    os.environ["MRTAI_CONFIG"] = str((folder / "mrtai.toml").absolute())
    os.environ.pop("MRTAI_KEY_FILE", None)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    settings.apply(folder.absolute() / ".prefect")


def _receive(scan: Path) -> tuple[Path, str]:
    """Take one scan's study in and run the flow in this process; return the CASE folder and what the run came to."""
    from mrtai.io.assignment import Assigner
    from mrtai.io.code_version import code_sha256
    from mrtai.io.cycle_folder import CycleFolder
    from mrtai.io.ledger import open_ledger
    from mrtai.io.pseudonym import load_key
    from mrtai.io.site import read_site
    from workflows.dose_cycle import dose_cycle  # Prefect reads its settings when it is imported
    from workflows.submit import submit_study

    site = read_site()
    with open_ledger(site.database) as ledger:
        assigner = Assigner(site, ledger, load_key(), code_sha256())
        (study,) = submit_study(site, assigner, scan, study_toml=None, replace=False, identity_checked=False)
        if study.case_id is None:
            raise RuntimeError(f"the demo's scan found no case: {study.reason}")
        case = ledger.case(study.case_id)
    state = dose_cycle(case.id, case.wanted_sha256, return_state=True)
    return CycleFolder(site.cycles / case.id).case, str(state.message)


def table(results: dict[str, Any]) -> Table:
    """Return a case's dose table for a terminal."""
    shown = Table(box=SIMPLE, title=f"Draft {results['patient']['pseudonym']}, cycle {results['cycle']}: absorbed dose")
    for heading in ("region", "volume mL", "T½ eff h", "TIA MBq h", "dose Gy", "± Gy", "verdict"):
        shown.add_column(heading, justify="left" if heading in ("region", "verdict") else "right", no_wrap=True)
    for region in results["regions"]:
        numbers = (
            region["volume_ml"],
            region["kinetics"]["effective_half_life_h"],
            region["tia_mbq_h"],
            region["absorbed_dose_gy"]["mean"],
            region["absorbed_dose_gy"]["mean_sd"],
        )
        shown.add_row(region["name"], *(_short(value) for value in numbers), region["verdict"])
    return shown


def _short(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
