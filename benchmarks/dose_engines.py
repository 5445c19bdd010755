"""Convolution against our own Monte Carlo in ten simulated patients and in slabs: `python -m benchmarks.dose_engines`.

The same activity maps for 177Lu, 131I and 90Y, on the 4.8 mm lattice of the ideal scanner; beside each result what a plain
dose-voxel kernel of water would have given. Writes `docs/validation/dose-engines.md`.
"""

import argparse
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.virtual_patients import walked
from mrtai.engines import dose_engine
from mrtai.io.nuclear_data import NUCLEAR_DATA
from mrtai.io.tables import nuclide
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity

PAGE = Path(__file__).parents[1] / "docs" / "validation" / "dose-engines.md"
NUCLIDES = ("Lu-177", "I-131", "Y-90")
LUNG_OR_BONE = ("lung", "spine", "red_marrow", "bone", "vertebra", "rib")
ACTIVE_SHARE = 1e-3
CLASSES = ("soft tissue, active", "lung and bone, active", "cold regions", "remainder", "body")
AIMS = {"soft tissue, active": 0.03, "lung and bone, active": 0.05, "cold regions": 0.08, "remainder": 0.08, "body": 0.08}


@dataclass(frozen=True)
class Case:
    """Maps of one simulated patient or phantom, with its regions' masks."""

    name: str
    tia: Image
    density: Image
    masks: Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Row:
    """One region: relative differences to Monte Carlo, and the latter's relative standard deviation."""

    case: str
    nuclide: str
    region: str
    kind: str
    convolution: float
    plain: float
    sd: float


def patient(seed: int) -> Case:
    """Return a simulated patient's maps as the walk makes them."""
    _, report = walked("ideal", "mono", "lu177-dotatate", seed)
    masks = {name: report.labels.mask(name) for name in report.labels.names.values()}
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    body = report.aligned.body
    masks |= {"remainder": body & (report.labels.voxels == 0), "body": body}
    return Case(f"patient {seed}", report.tia, report.aligned.density, masks)


def slabs(spacing_mm: float = 4.0) -> Case:
    """Return a body of soft tissue with slabs of lung and bone, sources in and beside them, and cold parts."""
    grid = Grid.axial((40, 40, 70), (spacing_mm,) * 3)
    density = np.full(grid.shape, 1.04e-3, dtype=np.float32)
    density[3:-3, 3:-3, 22:38] = 0.26e-3
    density[3:-3, 3:-3, 50:55] = 1.6e-3
    tia = np.zeros(grid.shape, dtype=np.float32)
    tissue, lung, bone = np.s_[12:28, 12:28, 12:22], np.s_[12:28, 12:28, 26:32], np.s_[12:28, 12:28, 45:53]
    tia[tissue], tia[lung], tia[bone] = 1e9, 2e8, 1e9
    regions = {
        "tissue beside lung": tissue,
        "lung": lung,
        "tissue beside bone": np.s_[12:28, 12:28, 45:50],
        "bone": np.s_[12:28, 12:28, 50:53],
        "cold lung": np.s_[12:28, 12:28, 33:37],
        "cold bone": np.s_[12:28, 12:28, 53:55],
        "cold tissue": np.s_[12:28, 12:28, 58:64],
        "cold skin": np.s_[12:28, 12:28, 68:70],
    }
    masks = {name: np.zeros(grid.shape, dtype=bool) for name in regions}
    for name, where in regions.items():
        masks[name][where] = True
    return Case("slabs", Image(tia, Quantity.TIME_INTEGRATED_ACTIVITY, grid), Image(density, Quantity.DENSITY, grid), masks)


def kind(region: str, share: float) -> str:
    """Return the class of a region by its name and its share of all activity."""
    if region in ("remainder", "body"):
        return region
    if region.startswith("cold") or share < ACTIVE_SHARE:
        return "cold regions"
    beside = any(word in region for word in LUNG_OR_BONE)
    return "lung and bone, active" if beside else "soft tissue, active"


def compared(case: Case, name: str, histories: int, threads: int) -> list[Row]:
    """Return every region's differences for one nuclide."""
    engine = dose_engine("convolution", nuclide(name), NUCLEAR_DATA, threads=threads)
    mine, plain = (run(case.tia, case.density).total.voxels for run in (engine, replace(engine, own_matter=False)))
    reference = dose_engine("monte-carlo", nuclide(name), NUCLEAR_DATA, threads=threads, histories=histories)
    means = reference.region_means(case.tia, case.density, case.masks)
    rows, total = [], float(case.tia.voxels.sum(dtype=np.float64))
    for region, mask in case.masks.items():
        mean, sd = means[region]
        share = float(case.tia.voxels[mask].sum(dtype=np.float64)) / total
        differences = [float(dose[mask].mean(dtype=np.float64)) / mean - 1.0 for dose in (mine, plain)]
        rows.append(Row(case.name, name, region, kind(region, share), differences[0], differences[1], sd / mean))
    return rows


def table(rows: list[Row]) -> list[str]:
    """Return Markdown: per nuclide and class of regions the worst and the root mean square difference."""
    grouped: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row.nuclide, row.kind].append(row)
    lines = [
        "| nuclide | regions | n | aim | convolution: rms | worst | beyond aim and 2 sd | plain kernel: rms | worst |"
        " sd of Monte Carlo, median |",
        "| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name in NUCLIDES:
        for group in CLASSES:
            members = grouped.get((name, group), [])
            if not members:
                continue
            mine, plain, sd = (np.array([getattr(row, field) for row in members]) for field in ("convolution", "plain", "sd"))
            beyond = int((np.abs(mine) > AIMS[group] + 2 * sd).sum())
            cells = [f"{np.sqrt((x**2).mean()):.2%} | {x[np.abs(x).argmax()]:+.2%}" for x in (mine, plain)]
            lines.append(
                f"| {name} | {group} | {len(members)} | {AIMS[group]:.0%} | {cells[0]} | {beyond} | {cells[1]} | {np.median(sd):.2%} |"
            )
    return lines


def slab_table(rows: list[Row]) -> list[str]:
    """Return Markdown: every region of the slabs."""
    lines = ["| region | nuclide | convolution | plain kernel | sd of Monte Carlo |", "| --- | --- | --: | --: | --: |"]
    lines += [f"| {row.region} | {row.nuclide} | {row.convolution:+.2%} | {row.plain:+.2%} | {row.sd:.2%} |" for row in rows]
    return lines


def main() -> None:
    """Run all cases and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--histories", type=int, default=4_000_000)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        case = patient(seed)
        for name in NUCLIDES:
            rows += compared(case, name, options.histories, options.threads)
        print(f"{case.name} done", flush=True)
    phantom = slabs()
    slab_rows = [row for name in NUCLIDES for row in compared(phantom, name, options.histories, options.threads)]
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    page = [*INTRODUCTION, "", *table(rows), "", *SLABS, "", *slab_table(slab_rows), ""]
    PAGE.write_text("\n".join(page), encoding="utf-8")
    for row in sorted(rows, key=lambda row: -abs(row.convolution) + 2 * row.sd)[:12]:
        print(row)
    print(PAGE.read_text(encoding="utf-8"))


INTRODUCTION = (
    "# Dose engines against Monte Carlo",
    "",
    "Written by `python -m benchmarks.dose_engines`. Mean doses of regions by `convolution`, relative to `monte-carlo` on the same maps",
    "(ten simulated patients, 4.8 mm; the 177Lu-DOTATATE activity map also with the emissions of 131I and 90Y), and beside it by a plain",
    "dose-voxel kernel: water everywhere, electrons divided by the voxel's own mass. Regions count as active from 0.1 % of the activity.",
    "Monte Carlo itself is measured against an independent code in `tests/engines/monte_carlo`.",
)
SLABS = (
    "## Slabs",
    "",
    "Soft tissue 1.04 g/mL with a slab of lung (0.26 g/mL, 64 mm) and one of bone (1.6 g/mL, 20 mm) across it, 4 mm voxels.",
)

if __name__ == "__main__":
    main()
