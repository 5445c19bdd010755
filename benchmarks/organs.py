"""What automatic organ contours do to the dose, and what drawing them costs; writes docs/validation/organs.md.

python -m benchmarks.organs [--patients 20] [--workers 2] [--labelled FOLDER]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.virtual_cycle import virtual_cycle, without_rates
from mrtai.cycle import dose_cycle
from mrtai.engines.onnx_segmenter import OnnxSegmenter, scores
from mrtai.io.bundles import load_bundle
from mrtai.io.protocols import load_protocol
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.report import Report
from training.card import table
from training.organs.evaluate import low_dose, on_labelled, on_simulated, summary

PAGE = Path(__file__).resolve().parents[1] / "docs" / "validation" / "organs.md"
MODEL = "organs-ct"
PROTOCOL = "lu177-dotatate"
REGIONS = ("kidney_left", "kidney_right", "kidneys", "liver", "spleen")
FIRST_SEED = 5000


def doses(report: Report) -> dict[str, float]:
    """Return the mean dose of the compared regions [Gy]."""
    return {row.name: row.dose.mean_gy for row in report.regions if row.name in REGIONS and row.dose is not None}


def patient(seed: int) -> dict[str, Any]:
    """Return dose with the model's contours over dose with the true ones, by region, and the flags that the contours raised."""
    protocol = replace(load_protocol(PROTOCOL), check_engine="none")
    _, cycle, engines = virtual_cycle(seed, protocol, (24.0, 96.0, 168.0))
    true = doses(dose_cycle(cycle, protocol, engines, without_rates))
    drawn = dose_cycle(cycle, protocol, replace(engines, segmenter=OnnxSegmenter(load_bundle(MODEL))), without_rates)
    automatic = doses(drawn)
    flags = sorted({flag.code for told in drawn.contours.flags.values() for flag in told if flag.severity != "info"})
    return {"seed": seed, **{name: automatic.get(name, 0.0) / true[name] - 1 for name in true}, "flags": flags}


def dose_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return per region the median of the absolute differences, the median and the worst difference."""
    found = []
    for name in REGIONS:
        errors = np.array([row[name] for row in rows if name in row])
        worst = errors[np.abs(errors).argmax()]
        found.append(
            {
                "region": name,
                "patients": errors.size,
                "median of absolute differences": f"{np.median(np.abs(errors)):.1%}",
                "median": f"{np.median(errors):+.1%}",
                "worst": f"{worst:+.1%}",
            }
        )
    return found


def cost(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], threads: int) -> dict[str, Any]:
    """Return seconds and peak memory of drawing a CT of that shape in a process of its own."""
    code = (
        "import json, sys; from benchmarks.organs import measured; "
        "print(json.dumps(measured(*map(tuple, json.loads(sys.argv[1])), int(sys.argv[2]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([shape, spacing_mm]), str(threads)], capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def measured(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], threads: int) -> dict[str, Any]:
    """Draw a noisy cylinder of tissue with lungs, and tell what it cost."""
    grid = Grid.axial(shape, spacing_mm)
    hu = np.full(shape, -1000, np.int16)
    y, x = np.ogrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    body = (x / 0.8) ** 2 + (y / 0.6) ** 2 < 1
    rng = np.random.default_rng(1)
    for k in range(shape[0]):
        hu[k][body] = rng.normal(40, 15, int(body.sum()))
    ct = Image(hu, Quantity.HOUNSFIELD, grid)
    segmenter = OnnxSegmenter(load_bundle(MODEL), threads=threads)
    start = time.perf_counter()
    segmenter.drawn(ct)
    first = time.perf_counter() - start
    return {
        "CT (z, y, x)": f"{shape}",
        "voxel [mm]": f"{spacing_mm}",
        "threads": threads,
        "seconds": round(first, 1),
        "peak memory [GB]": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }


def real_rows(folder: Path) -> list[dict[str, Any]]:
    """Return Dice by organ of a labelled real CT, as it is and as a SPECT/CT's low-dose CT would show it."""
    bundle = load_bundle(MODEL)

    def predict(image: np.ndarray) -> np.ndarray:
        return scores(bundle, image, threads=2)

    full, low = on_labelled(predict, folder), on_labelled(predict, folder, low_dose)
    return [
        {"organ": name, "as it is": f"{full[name]:.3f}", "4 mm voxels, noise of 30 HU": f"{low.get(name, float('nan')):.3f}"}
        for name in full
    ]


def simulated_rows(number: int) -> list[dict[str, Any]]:
    """Return Dice by organ on CTs of simulated patients of unseen seeds."""
    bundle = load_bundle(MODEL)
    cases = [on_simulated(lambda image: scores(bundle, image, threads=2), n) for n in range(number)]
    return [{"organ": name, **values} for name, values in summary(cases).items()]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=20)
    parser.add_argument("--workers", type=int, default=max(1, os.cpu_count() or 1))
    parser.add_argument("--labelled", type=Path, help="folder with a labelled real CT (ct.nii.gz, labels.nii.gz)")
    asked = parser.parse_args()
    costs = [cost((160, 128, 160), (3.0, 3.0, 3.0), 2), cost((800, 512, 512), (0.98, 0.98, 1.0), 2)]
    with ProcessPoolExecutor(asked.workers, mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(patient, range(FIRST_SEED, FIRST_SEED + asked.patients)))
    flagged = sum(bool(row["flags"]) for row in rows)
    lines = [
        "# Organs drawn by `organs-ct`",
        "",
        f"Written by `python -m benchmarks.organs`; model `{load_bundle(MODEL).label}`.",
        "",
        "## Dose with automatic contours against dose with true contours",
        "",
        f"{len(rows)} simulated patients (clinical scanner, three scans, noisy CT, seeds from {FIRST_SEED}); all else in the walk is",
        "the same. `liver` is the parenchyma with its lesions in both. Aim: median within 5 %.",
        "",
        *table(dose_rows(rows)),
        "",
        f"Contours of {flagged} of {len(rows)} patients raised a flag that asks for a look.",
        "",
        "## Dice on simulated patients",
        "",
        *table(simulated_rows(asked.patients)),
        "",
        "## What it costs",
        "",
        "Two drawings, of which the mean counts (their difference tells how far to trust it), on this CPU; peak memory of the process.",
        "",
        *table(costs),
        "",
    ]
    if asked.labelled is not None:
        lines += [
            "## One real CT",
            "",
            "Contrast CT of 3 mm, lower chest to hips, never trained on. Its labels are the output of another model (TotalSegmentator's",
            "fast one), not manual contours: this is agreement between models. Liver and spleen are cut by the first slice.",
            "",
            *table(real_rows(asked.labelled)),
            "",
        ]
    PAGE.write_text("\n".join(lines), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
