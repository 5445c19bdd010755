"""``make demo``: a simulated three-scan patient through the flow, on Prefect's embedded server."""

import json
import os
import shutil
import sys
from pathlib import Path
from time import perf_counter

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mrtai.cli import main as mrtai
from workflows import settings


def run(folder: Path) -> int:
    """Simulate, run the flow, print the dose table and where the report is; return the exit status."""
    # in a pipe the table keeps its columns
    console = Console() if sys.stdout.isatty() else Console(width=110)
    study, case = folder / "study", folder / "case"
    shutil.rmtree(study, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    console.print("A virtual 177Lu-DOTATATE patient, scanned at 24, 96 and 168 h …")
    status = mrtai(["simulate", "--out", str(study), "--protocol", "lu177-dotatate", "--seed", "1"])
    if status:
        return status
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    settings.apply(folder / ".prefect")
    console.print("The flow: read, align, segment, integrate, absorb, rates, measure, check, write …")
    from workflows.dose_cycle import dose_cycle  # Prefect reads its settings when it is imported

    start = perf_counter()
    # until a segmentation model is shipped the demo passes the simulator's own contours, and the report says so
    dose_cycle(study, "lu177-dotatate", case, labels=study / "truth" / "labels.nii.gz")
    console.print(table(case))
    console.print("±: standard uncertainty of the time–activity fit. A draft for research, not for clinical decisions.")
    console.print(f"The flow took {perf_counter() - start:.0f} s. Contours were given by the simulator, not drawn by a model.")
    console.print(f"Report: [bold]{case / 'report.html'}[/bold]")
    return 0


def table(case: Path) -> Table:
    """Return the case's dose table for a terminal."""
    results = json.loads((case / "results.json").read_text(encoding="utf-8"))
    shown = Table(box=SIMPLE, title=f"Draft {results['patient']['pseudonym']}, cycle {results['cycle']}: absorbed dose")
    for heading in ("region", "volume mL", "T½ eff h", "TIA MBq h", "dose Gy", "± fit Gy", "verdict"):
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
