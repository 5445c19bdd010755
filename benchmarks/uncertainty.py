"""Whether stated uncertainties are true: doses of virtual patients against stated intervals; writes docs/validation/uncertainty.md.

python -m benchmarks.uncertainty [--patients 40] [--workers 2]

Each patient is scanned by the clinical scanner and worked up whole, with a calibration, a recovery curve and contours that err as much
as their stated uncertainties say, drawn anew for each. ``--patients`` are worked up twice: with three scans, and with the first alone.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.progress import track
from scipy import ndimage, stats

from benchmarks.recovery import PROTOCOL, curve, group
from benchmarks.virtual_cycle import virtual_cycle
from mrtai.cycle import dose_cycle
from mrtai.engines.given_labels import GivenLabels
from mrtai.io.protocols import load_protocol
from mrtai.physics.region_uncertainty import probability_off
from mrtai.physics.uncertainty_inputs import volume_sd
from mrtai.values.calibration import Recovery
from mrtai.values.curve import LARGE_ERROR
from mrtai.values.labels import Labels
from mrtai.values.report import Report
from mrtai.values.study import Cycle
from training.card import table

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "validation" / "uncertainty.md"
FIRST_SEED: Final = 7000
TIMES_H: Final = (24.0, 96.0, 168.0)
LONE_H: Final = (72.0,)
CALIBRATION_SD: Final = 0.03
GROUPS: Final = ("kidneys", "liver", "spleen", "lesions above 10 mL", "lesions below 10 mL")


def outlined(labels: Labels, rng: np.random.Generator) -> Labels:
    """Return contours each one wholly too wide or too narrow, by volumes that err as much as Gear's formula says."""
    voxel_mm = float(labels.grid.spacing_mm.mean())
    found = np.zeros_like(labels.voxels)
    # lesions last: they win over the organ they lie in
    for value, name in sorted(labels.names.items(), key=lambda item: item[1].startswith("lesion_")):
        mask = labels.mask(name)
        voxels = int(mask.sum())
        wanted = round(voxels * float(np.exp(rng.normal(0, volume_sd(voxels * labels.grid.voxel_ml, voxel_mm, voxel_mm)))))
        # a blurred mask says of each voxel how near the outline it lies
        nearness = ndimage.gaussian_filter(mask.astype(np.float32), 1.0)
        found[nearness >= np.partition(nearness.ravel(), -wanted)[-wanted]] = value
    return replace(labels, voxels=found)


def erring(cycle: Cycle, truth: Recovery, rng: np.random.Generator) -> Cycle:
    """Return the cycle as a camera shows it whose calibration and recovery curve are off as much as they say."""
    covariance = np.array(truth.covariance)
    beta, gamma = rng.multivariate_normal((truth.beta_ml, truth.gamma), covariance)
    off = Recovery(max(beta, 0.1), max(gamma, 0.05), truth.covariance)
    scale = np.float32(rng.normal(1, CALIBRATION_SD))
    points = tuple(
        replace(point, spect=replace(point.spect, voxels=point.spect.voxels * scale), recovery=off, calibration_sd=CALIBRATION_SD)
        for point in cycle.time_points
    )
    return replace(cycle, time_points=points)


def patient(seed: int, truth: Recovery, times_h: tuple[float, ...]) -> list[dict[str, Any]]:
    """Return a row a region: true over stated dose, its relative standard uncertainty, and in which intervals the truth lies."""
    protocol = replace(load_protocol(PROTOCOL), partial_volume="recovery", check_engine="none")
    virtual, cycle, engines = virtual_cycle(seed, protocol, times_h)
    rng = np.random.default_rng((seed, len(times_h)))
    off, contours = erring(cycle, truth, rng), GivenLabels(outlined(virtual.labels, rng))
    report = dose_cycle(off, protocol, replace(engines, segmenter=contours))
    return rows_of(report, {one.region: one for one in virtual.regions})


def rows_of(report: Report, truths: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the compared regions of one patient."""
    rows = []
    for row in report.regions:
        name = group(row.name, truths[row.name].volume_ml) if row.name in truths else None
        if name and row.dose is not None and row.spread is not None:
            ratio = truths[row.name].absorbed_dose_gy / row.dose.mean_gy
            doubtful = any(flag.severity.value != "info" for flag in row.flags)
            rows.append(
                {
                    "group": name,
                    "ratio": ratio,
                    "sd": row.spread.relative_sd,
                    "in 68": row.spread.interval_68[0] <= ratio <= row.spread.interval_68[1],
                    "in 95": row.spread.interval_95[0] <= ratio <= row.spread.interval_95[1],
                    "off": abs(1 / ratio - 1) > LARGE_ERROR,
                    "ok": not doubtful,
                    "stated off": probability_off(row.spread.relative_sd),
                }
            )
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return per group how wide what is stated is, how wide the errors are, and how often the intervals hold the truth."""
    found = []
    for name in GROUPS:
        own = [row for row in rows if row["group"] == name]
        if own:
            errors = np.array([1 / row["ratio"] - 1 for row in own])
            found.append(
                {
                    "regions": name,
                    "number": len(own),
                    "stated sd (median)": f"{np.median([row['sd'] for row in own]):.1%}",
                    "empirical sd": f"{errors.std():.1%}",
                    "median error": f"{np.median(errors):+.1%}",
                    "in 68 %": f"{np.mean([row['in 68'] for row in own]):.0%}",
                    "in 95 %": f"{np.mean([row['in 95'] for row in own]):.0%}",
                }
            )
    return found


def large_errors(rows: list[dict[str, Any]]) -> str:
    """Return in words how often regions without a flag are more than 20 % off, against what was stated."""
    own = [row for row in rows if row["ok"]]
    seen, expected = sum(row["off"] for row in own), sum(row["stated off"] for row in own)
    low, high = stats.binom.interval(0.95, len(own), min(expected / max(len(own), 1), 1.0))
    agrees = "agrees" if low <= seen <= high else "does not agree"
    return (
        f"Of {len(own)} regions without a flag {seen} are more than 20 % off; {expected:.1f} were stated "
        f"(95 % binomial interval {low:.0f} to {high:.0f}): {agrees}."
    )


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--workers", type=int, default=max(1, os.cpu_count() or 1))
    asked = parser.parse_args()
    truth, seeds = curve(), range(FIRST_SEED, FIRST_SEED + asked.patients)
    lines = [
        "# Stated uncertainties against the errors that are made",
        "",
        "Written by `python -m benchmarks.uncertainty`.",
        "",
        f"{asked.patients} virtual patients (clinical scanner, seeds from {FIRST_SEED}), worked up whole with recovery. For each of them",
        f"the calibration is off by a standard deviation of {CALIBRATION_SD:.0%}, the recovery curve by its covariance, and every contour",
        "is too wide or too narrow by what the EANM guidance's formula says of its voxels. Aims: 60 to 76 % of the true doses in the",
        "68 % intervals, 90 to 99 % in the 95 % intervals.",
        "",
    ]
    with ProcessPoolExecutor(asked.workers, mp_context=get_context("spawn")) as pool:
        for heading, times_h in (("Three scans", TIMES_H), ("One scan, at 72 h", LONE_H)):
            found = track(pool.map(partial(patient, truth=truth, times_h=times_h), seeds), heading, total=asked.patients)
            rows = [row for of_patient in found for row in of_patient]
            lines += [f"## {heading}", "", *table(summary(rows)), "", large_errors(rows), ""]
    PAGE.write_text("\n".join(lines), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
