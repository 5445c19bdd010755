"""How long a cohort's comparison takes, with contours, gamma and dose-volume histograms; writes docs/performance-validation.md.

python -m benchmarks.validation [--cycles 100]

Two virtual patients of the clinical scanner are worked up by two dose engines. The comparison reads as many CASE folders a side as it is
asked to: each patient's results and maps, under another pseudonym a cycle, the manual side's doses off by a twentieth.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "performance-validation.md"
ENGINES: Final = {"auto": "convolution", "manual": "local"}
PATIENTS: Final = 2
OFF: Final = 0.05


def main() -> None:
    """Measure, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=100)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mrtai-validation-") as name:
        folder = Path(name)
        for seed in range(PATIENTS):
            _mrtai("simulate", "--out", folder / f"study-{seed}", "--seed", seed + 1, "--contours")
            for side, engine in ENGINES.items():
                case = folder / f"worked-up-{side}-{seed}"
                _mrtai(
                    "run",
                    folder / f"study-{seed}",
                    "--protocol",
                    "lu177-dotatate",
                    "--engine",
                    engine,
                    "--check-engine",
                    "none",
                    "--out",
                    case,
                )
        rng = np.random.default_rng(1)
        for number in range(asked.cycles):
            for side in ENGINES:
                _copied(
                    folder / f"worked-up-{side}-{number % PATIENTS}", folder / side / f"{number}", number, rng if side == "manual" else None
                )
        numbers_s, _ = _timed(folder, "numbers", maps=False)
        maps_s, found = _timed(folder, "maps", maps=True)
        largest_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    text = _page(asked.cycles, numbers_s, maps_s, found, largest_gb)
    PAGE.write_text(text, encoding="utf-8")
    print(text)


def _mrtai(*words: object) -> str:
    return subprocess.run([sys.executable, "-m", "mrtai.cli", *map(str, words)], check=True, capture_output=True, text=True).stdout


def _copied(case: Path, to: Path, number: int, rng: np.random.Generator | None) -> None:
    """Make a CASE folder of results under a pseudonym of its own, and of links to the maps."""
    to.mkdir(parents=True)
    results = json.loads((case / "results.json").read_bytes())
    results["patient"]["pseudonym"] = f"P-{number:04d}"
    for row in results["regions"]:
        if rng is not None and row["absorbed_dose_gy"]["mean"] is not None:
            row["absorbed_dose_gy"]["mean"] *= float(np.exp(rng.normal(0, OFF)))
    (to / "results.json").write_text(json.dumps(results), encoding="utf-8")
    shutil.copy(case / "manifest.json", to)
    shutil.copytree(case / "images", to / "images", copy_function=os.link)


def _timed(folder: Path, name: str, *, maps: bool) -> tuple[float, dict[str, int]]:
    """Return seconds of one comparison and what it says it compared; without maps the images are out of the way."""
    if not maps:
        for images in folder.glob("*/*/images"):
            images.rename(images.with_name("kept"))
    start = time.perf_counter()
    said = _mrtai("validate", folder / "auto", folder / "manual", "--out", folder / name, "--json")
    seconds = time.perf_counter() - start
    if not maps:
        for images in folder.glob("*/*/kept"):
            images.rename(images.with_name("images"))
    return seconds, json.loads(said)


def _page(cycles: int, numbers_s: float, maps_s: float, found: dict[str, int], largest_gb: float) -> str:
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    return "\n".join(
        [
            "# Speed of a cohort's comparison",
            "",
            f"Written by `python -m benchmarks.validation --cycles {cycles}` on {os.cpu_count()} cores; load averages at the end {load}.",
            "",
            f"`mrtai validate` of {cycles} patient-cycles a side, {found['regions']} pairs of regions, no dose computed again. Maps of",
            f"{PATIENTS} virtual patients (clinical scanner, contours on the CT of 3 mm), repeated under other pseudonyms.",
            "",
            "| compared | seconds | a cycle |",
            "| --- | ---: | ---: |",
            f"| numbers alone, with report and plots | {numbers_s:.0f} | {numbers_s / cycles:.2f} |",
            f"| and contours, gamma, histograms, map shares | {maps_s:.0f} | {maps_s / cycles:.2f} |",
            "",
            f"Largest memory of one process: {largest_gb:.1f} GB. Aim: 300 s for 100 cycles on 2 cores.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
