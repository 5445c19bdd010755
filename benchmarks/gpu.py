"""What a GPU is worth: dose engines and voxel fits on it against the same on the CPU, in one run; writes docs/performance-gpu.md.

python -m benchmarks.gpu [--threads 2] [--sizes 128 256 512] [--histories 4000000]

Each row says how long both take once everything is compiled, and how far their results differ.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.dose import GRIDS, NUCLIDE, Torso, machine, torso
from benchmarks.voxel_kinetics import PHYSICAL, T_H, TERMS, volume
from mrtai.engines import dose_engine
from mrtai.engines.voxel_fit import fitted_voxels, tables
from mrtai.io.nuclear_data import NUCLEAR_DATA
from mrtai.values.grid import Grid
from training.card import table

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "performance-gpu.md"
DEVICES: Final = ("cpu", "cuda")
SMALL: Final = Grid.axial((24, 24, 24), (16.0, 16.0, 16.0))
MONTE_CARLO_GRID: Final = Grid.axial((160, 72, 104), (4.0, 4.0, 4.0))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of one call and what it gave."""
    start = perf_counter()
    result = work()
    return perf_counter() - start, result


def convolution(grid: Grid, threads: int) -> dict[str, Any]:
    """Return times of the whole convolution engine and the largest difference of dose, over the maximum."""
    body, found = torso(grid), {}
    for device in DEVICES:
        run = dose_engine("convolution", NUCLEAR_DATA.nuclide(NUCLIDE), NUCLEAR_DATA, device=device, threads=threads)
        run(torso(SMALL).tia, torso(SMALL).density)  # compiles
        run(body.tia, body.density)  # makes the kernel's voxels
        found[device] = timed(lambda run=run: run(body.tia, body.density).total.voxels)  # type: ignore[misc]
    (cpu_s, cpu), (gpu_s, gpu) = found["cpu"], found["cuda"]
    shape = " × ".join(str(n) for n in grid.shape[::-1])
    return row(
        f"convolution, {shape}, {grid.spacing_mm[0]:g} mm", cpu_s, gpu_s, f"{np.abs(cpu - gpu).max() / cpu.max():.1e} of the maximum"
    )


def monte_carlo(histories: int, threads: int) -> dict[str, Any]:
    """Return times of the Monte Carlo engine and the worst difference of a region's mean dose, in its standard deviations."""
    body, found = torso(MONTE_CARLO_GRID), {}
    for device in DEVICES:
        settings = {"device": device, "threads": threads}
        few = dose_engine("monte-carlo", NUCLEAR_DATA.nuclide(NUCLIDE), NUCLEAR_DATA, histories=2000, **settings)
        few(torso(SMALL).tia, torso(SMALL).density)  # compiles
        run = dose_engine("monte-carlo", NUCLEAR_DATA.nuclide(NUCLIDE), NUCLEAR_DATA, histories=histories, **settings)
        found[device] = timed(lambda run=run: run.run(body.tia, body.density, regions(body))[1])  # type: ignore[misc]
    (cpu_s, cpu), (gpu_s, gpu) = found["cpu"], found["cuda"]
    # both start from the same seed: where device and host round differently, histories part and only the statistics agree
    worst = max(abs(cpu[name][0] - gpu[name][0]) / np.hypot(cpu[name][1], gpu[name][1]) for name in cpu)
    return row(f"monte-carlo, torso at 4 mm, {histories:,} histories", cpu_s, gpu_s, f"regions' means at most {worst:.1f} sd apart")


def regions(body: Torso) -> dict[str, NDArray[np.bool_]]:
    """Return the masks of the body's regions."""
    return {str(value): body.labels == value for value in np.unique(body.labels[body.labels > 0])}


def voxel_fits(size: int, threads: int) -> dict[str, Any]:
    """Return times of the voxel-wise fits and the largest relative difference of Ã among voxels that have any."""
    activity, sd = volume(size)
    region, found = np.zeros(activity.shape[1], np.int32), {}
    of = tables([TERMS], T_H, sd[None], PHYSICAL, np.inf)
    for device in DEVICES:
        fitted_voxels(activity[:, :1].copy(), region[:1], of, threads=threads, device=device)  # compiles
        found[device] = timed(lambda device=device: fitted_voxels(activity, region, of, threads=threads, device=device)[0])  # type: ignore[misc]
    (cpu_s, cpu), (gpu_s, gpu) = found["cpu"], found["cuda"]
    some = cpu > 0.01 * cpu.max()
    return row(f"voxel-wise fits, {size}³ × {T_H.size} scans", cpu_s, gpu_s, f"{np.max(np.abs(gpu[some] / cpu[some] - 1)):.1e} of Ã")


def row(what: str, cpu_s: float, gpu_s: float, apart: str) -> dict[str, Any]:
    """Return a row of the table."""
    print(f"{what}: CPU {cpu_s:.2f} s, GPU {gpu_s:.2f} s, {apart}", flush=True)
    return {"what": what, "CPU s": f"{cpu_s:.2f}", "GPU s": f"{gpu_s:.2f}", "CPU over GPU": f"{cpu_s / gpu_s:.1f}", "difference": apart}


def page(rows: Sequence[dict[str, Any]], threads: int) -> str:
    """Return the Markdown page."""
    import torch

    lines = [
        "# Performance on a GPU",
        "",
        f"Written by `python -m benchmarks.gpu`. {torch.cuda.get_device_name()}; {machine(threads)}.",
        "",
    ]
    lines += ["Times of a second call, everything compiled and kernels kept, transfers to the device and back included.", ""]
    return "\n".join([*lines, *table(rows), ""])


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", nargs="*", choices=tuple(GRIDS), default=tuple(GRIDS))
    parser.add_argument("--histories", type=int, default=4_000_000)
    parser.add_argument("--voxels", type=int, default=256, help="of the voxel-wise fits, an axis (default 256)")
    parser.add_argument("--page", type=Path, default=PAGE)
    asked = parser.parse_args()
    rows = [monte_carlo(asked.histories, asked.threads), voxel_fits(asked.voxels, asked.threads)]
    rows += [convolution(GRIDS[size], asked.threads) for size in asked.sizes]
    asked.page.write_text(page(rows, asked.threads), encoding="utf-8")


if __name__ == "__main__":
    main()
