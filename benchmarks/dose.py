"""Time and peak memory of the dose engines; writes docs/performance.md.

python -m benchmarks.dose [--threads 2] [--rows water-256 …]

Every row runs in a process of its own, which reports its time and the largest memory it held while it calculated.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numba
import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import fftconvolve

from mrtai import __version__
from mrtai.engines import dose_engine
from mrtai.engines.convolution.water_photons import Octant, _convolved, photon_energy
from mrtai.io.nuclear_data import NUCLEAR_DATA
from mrtai.physics.kernel import photon_octant
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
NUCLIDE = "Lu-177"
GRIDS = {
    "128": Grid.axial((128, 128, 128), (4.0, 4.0, 4.0)),
    "256": Grid.axial((256, 256, 256), (4.0, 4.0, 4.0)),
    "512": Grid.axial((400, 512, 512), (1.0, 1.0, 1.0)),
}
CROPPED = 26
"""Steps from 0 of the 51³ kernel."""

FLOOR = 512
GIB = 2**30
SPARE_BYTES = GIB
"""Left to the rest of the machine: a comparator that wants more is refused memory rather than bringing others down."""

# centre and half axes (x, y, z) [mm], density [kg/mL], decays per mL
BODY = ((0.0, 0.0, 0.0), (190.0, 120.0, 300.0), 1.04e-3, 1e7)
ORGANS = {
    "lung_left": ((-85.0, 0.0, 130.0), (60.0, 75.0, 110.0), 0.26e-3, 1e7),
    "lung_right": ((85.0, 0.0, 130.0), (60.0, 75.0, 110.0), 0.26e-3, 1e7),
    "spine": ((0.0, 75.0, 0.0), (20.0, 20.0, 290.0), 1.4e-3, 2e7),
    "liver": ((75.0, -15.0, -20.0), (85.0, 70.0, 65.0), 1.06e-3, 2e8),
    "spleen": ((-110.0, 30.0, -20.0), (35.0, 30.0, 50.0), 1.06e-3, 8e8),
    "kidney_left": ((-70.0, 55.0, -90.0), (25.0, 25.0, 50.0), 1.05e-3, 1e9),
    "kidney_right": ((70.0, 55.0, -100.0), (25.0, 25.0, 50.0), 1.05e-3, 1e9),
    "cold_ball": ((0.0, -60.0, -220.0), (20.0, 20.0, 20.0), 1.04e-3, 0.0),
}


@dataclass(frozen=True)
class Torso:
    """A body with lungs, spine and organs on one grid; ``labels`` are 1 for the remainder, then ``ORGANS`` in order."""

    tia: Image
    density: Image
    labels: NDArray[np.uint8]


def torso(grid: Grid) -> Torso:
    """Return the body; arrays are (z, y, x)."""
    z, y, x = ((np.arange(n) - 0.5 * (n - 1)) * edge for n, edge in zip(grid.shape, grid.spacing_mm[::-1], strict=True))
    labels, density, decays = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    for value, (centre, half, kg_per_ml, per_ml) in enumerate((BODY, *ORGANS.values()), start=1):
        u, v, w = (((axis - c) / h) ** 2 for axis, c, h in zip((x, y, z), centre, half, strict=True))
        inside = u + v[:, None] + w[:, None, None] <= 1.0
        labels[inside], density[inside], decays[inside] = value, kg_per_ml, per_ml
    return Torso(Image(decays, Quantity.TIME_INTEGRATED_ACTIVITY, grid), Image(density, Quantity.DENSITY, grid), labels)


def measured(work: Callable[[], Any], repeats: int) -> tuple[dict[str, float], Any]:
    """Return seconds of the first and of the best later call, peak memory [bytes] over all of them, and the last result.

    With them goes how many cores the rest of the machine kept busy meanwhile: times are comparable only where that is near 0.
    """
    _forget_peak()
    begun, others = perf_counter(), _others_cpu_s()
    seconds, result = [], None
    for _ in range(repeats + 1):
        result = None
        start = perf_counter()
        result = work()
        seconds.append(perf_counter() - start)
    busy = max(_others_cpu_s() - others, 0.0) / (perf_counter() - begun)
    return {"first_s": seconds[0], "s": min(seconds[1:], default=seconds[0]), "peak_bytes": _peak_bytes(), "others_cores": busy}, result


def _others_cpu_s() -> float:
    """Return the processor time that all other processes have used since the start; 0 where the system does not say."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, irq, softirq = (int(n) for n in stat.read_text(encoding="ascii").split()[1:8])
    own = os.times()
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - own.user - own.system


def _forget_peak() -> None:
    # Linux forgets the largest resident set so far; elsewhere the peak since the start stands for it, which is no smaller
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5", encoding="ascii")


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def water(size: str, device: str, threads: int) -> tuple[dict[str, float], NDArray[Any]]:
    """Return the cost of photons in unbounded water, every voxel to every voxel, and the energies."""
    grid = GRIDS[size]
    decays, kernel = torso(grid).tia.voxels, NUCLEAR_DATA.point_kernel(NUCLIDE)
    return measured(lambda: photon_energy(decays, grid.spacing_mm, kernel, device=device, threads=threads), 3)


def engine(size: str, device: str, threads: int) -> tuple[dict[str, float], None]:
    """Return the cost of the whole engine: electrons, photons, the body's own matter."""
    run = dose_engine("convolution", NUCLEAR_DATA.nuclide(NUCLIDE), NUCLEAR_DATA, device=device, threads=threads)
    # compiling is not the engine's time
    small = torso(Grid.axial((24, 24, 24), (16.0, 16.0, 16.0)))
    run(small.tia, small.density)
    body = torso(GRIDS[size])
    return measured(lambda: run(body.tia, body.density), 0 if size == "512" else 1)[0], None


def peer(steps: int, dtype: type, threads: int) -> tuple[dict[str, float], NDArray[Any]]:
    """Return the cost of ``scipy.signal.fftconvolve`` on 256³ voxels with a kernel of ``2 steps - 1`` voxels an axis, and the energies."""
    grid = GRIDS["256"]
    octant = photon_octant(NUCLEAR_DATA.point_kernel(NUCLIDE), grid.spacing_mm, (steps,) * 3)
    whole = np.pad(octant.astype(dtype), [(steps - 1, 0)] * 3, mode="reflect")
    decays = torso(grid).tia.voxels.astype(dtype)
    del octant
    _bound_memory()
    with fft.set_workers(threads):
        return measured(lambda: fftconvolve(decays, whole, mode="same"), 1 if steps > CROPPED else 2)


def cropped(threads: int) -> tuple[dict[str, float], NDArray[Any]]:
    """Return the cost of our transform with the 51³ kernel, and the energies."""
    grid = GRIDS["256"]
    octant = Octant(photon_octant(NUCLEAR_DATA.point_kernel(NUCLIDE), grid.spacing_mm, (CROPPED,) * 3).astype(np.float32))
    decays = torso(grid).tia.voxels
    return measured(lambda: _convolved(decays, octant, "cpu", threads), 3)


def floor(threads: int) -> tuple[dict[str, float], None]:
    """Return the cost of three real float32 transforms of 512³."""
    lattice = np.random.default_rng(1).random((FLOOR,) * 3, dtype=np.float32)

    def three() -> None:
        for _ in range(3):
            fft.rfftn(lattice, workers=threads)

    return measured(three, 2)[0], None


def monte_carlo(threads: int) -> tuple[dict[str, float], None]:
    """Return what ``benchmarks.dose_monte_carlo`` measures, flat: rates, seconds of the timed run, and each region's sd."""
    from benchmarks.dose_monte_carlo import measured_torso

    phantom = torso(Grid.axial((160, 72, 104), (4.0, 4.0, 4.0)))
    cost, found = measured(lambda: measured_torso(phantom, tuple(ORGANS), threads), 0)
    return cost | found, None


def _rows(threads: int) -> Mapping[str, Callable[[], tuple[dict[str, float], NDArray[Any] | None]]]:
    rows: dict[str, Callable[[], tuple[dict[str, float], NDArray[Any] | None]]] = {"floor": lambda: floor(threads)}
    rows["monte-carlo"] = lambda: monte_carlo(threads)
    # what is compared runs one after the other
    rows["water-256-cpu"] = lambda: water("256", "cpu", threads)
    rows["cropped"] = lambda: cropped(threads)
    for name, dtype in (("float32", np.float32), ("float64", np.float64)):
        rows[f"peer-51-{name}"] = lambda dtype=dtype: peer(CROPPED, dtype, threads)  # type: ignore[misc]
        rows[f"peer-511-{name}"] = lambda dtype=dtype: peer(256, dtype, threads)  # type: ignore[misc]
    for device in ("cpu", "cuda"):
        for size in GRIDS:
            rows[f"water-{size}-{device}"] = lambda size=size, device=device: water(size, device, threads)  # type: ignore[misc]
            rows[f"engine-{size}-{device}"] = lambda size=size, device=device: engine(size, device, threads)  # type: ignore[misc]
    return rows


def _available_bytes() -> int:
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return 0
    line = next(line for line in meminfo.read_text(encoding="ascii").splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024


def _bound_memory() -> None:
    available = _available_bytes()
    if available:
        held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + available - SPARE_BYTES, resource.RLIM_INFINITY))


def one_row(name: str, threads: int, folder: Path) -> None:
    """Run one row in this process: print its cost as JSON and leave its energies in ``folder``."""
    try:
        cost, energy = _rows(threads)[name]()
    except MemoryError:
        cost, energy = {}, None
    if energy is not None:
        np.save(folder / f"{name}.npy", energy.astype(np.float32))
    print(json.dumps(cost))


def run_row(name: str, threads: int, folder: Path) -> dict[str, float]:
    """Return the cost of one row, run in a new process; empty where memory did not suffice."""
    command = [sys.executable, "-m", "benchmarks.dose", "--one", name, "--threads", str(threads), "--folder", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    # a process that the system ended for its memory (9) did not fit; any other failure is one
    if done.returncode not in (0, -9):
        raise RuntimeError(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    cost: dict[str, float] = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    print(name, cost or "did not fit", flush=True)
    return cost


def _line(label: str, cost: Mapping[str, float], *more: str) -> str:
    if not cost:
        return f"| {label} | – | – | did not fit |" + "".join(f" {cell} |" for cell in more)
    cells = (f"{cost['first_s']:.2f}", f"{cost['s']:.2f}", f"{cost['peak_bytes'] / GIB:.2f}", *more)
    return f"| {label} | " + " | ".join(cells) + " |"


def size_table(costs: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the table of grids and devices."""
    lines = ["| grid (x × y × z) | what | device | first call s | again s | peak GiB |", "| --- | --- | --- | --: | --: | --: |"]
    for size, grid in GRIDS.items():
        shape = " × ".join(str(n) for n in grid.shape[::-1]) + f", {grid.spacing_mm[0]:g} mm"
        for device in ("cpu", "cuda"):
            for what, text in (("water", "photons in water"), ("engine", "whole engine, torso")):
                name = f"{what}-{size}-{device}"
                if name in costs:
                    lines.append(_line(f"{shape} | {text} | {device}", costs[name]))
    return lines


def peer_table(costs: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the table of 256³ voxels against ``fftconvolve``: its times and memory over ours."""
    lines = [
        "| kernel | method | first call s | again s | peak GiB | time over ours | memory over ours |",
        "| --- | --- | --: | --: | --: | --: | --: |",
    ]
    for width, ours in (("511", "water-256-cpu"), ("51", "cropped")):
        for label, name in (("mrtai", ours), *((f"fftconvolve {t}", f"peer-{width}-{t}") for t in ("float32", "float64"))):
            if name in costs and ours in costs:
                cost, mine = costs[name], costs[ours]
                ratios = (f"{cost['s'] / mine['s']:.1f}", f"{cost['peak_bytes'] / mine['peak_bytes']:.1f}") if cost else ("–", "–")
                lines.append(_line(f"{width}³ | {label}", cost, *ratios))
    return lines


def agreement(folder: Path, ours: str, theirs: str) -> list[str]:
    """Return how far our energies are from the comparator's, by region and voxel by voxel."""
    body = torso(GRIDS["256"])
    mine, exact = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in (ours, theirs))
    lines = ["| region | mean over the comparator's − 1, % | worst voxel, % |", "| --- | --: | --: |"]
    for value, name in enumerate(("remainder", *ORGANS), start=1):
        mask = body.labels == value
        a, b = mine[mask].astype(np.float64), exact[mask].astype(np.float64)
        lines.append(f"| {name} | {100 * (a.mean() / b.mean() - 1):+.3f} | {100 * np.abs(a / b - 1).max():.2f} |")
    return lines


def machine(threads: int) -> str:
    """Return in a line what this runs on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / GIB:.0f} GiB"
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, numba {numba.__version__}"
    return f"{os.cpu_count()} cores ({model}), {memory}, {threads} threads; mrtai {__version__}, {versions}"


def _quiet(costs: Mapping[str, Mapping[str, float]]) -> list[str]:
    name, busiest = max(((name, cost.get("others_cores", 0.0)) for name, cost in costs.items()), key=lambda pair: pair[1])
    return [f"Other processes kept at most {busiest:.2f} cores busy during a row (`{name}`)."]


def _floor_lines(costs: Mapping[str, Mapping[str, float]]) -> list[str]:
    if "floor" not in costs or "water-256-cpu" not in costs:
        return []
    least, ours = costs["floor"]["s"], costs["water-256-cpu"]["s"]
    text = f"Three real float32 transforms of {FLOOR}³ alone, the floor of a single-resolution convolution, take {least:.2f} s; "
    return [text + f"256³ voxels in water take {ours / least:.2f} times that.", ""]


def page(costs: Mapping[str, Mapping[str, float]], folder: Path, threads: int) -> str:
    """Return the Markdown page."""
    lines = ["# Performance", "", f"Written by `python -m benchmarks.dose`. {machine(threads)}.", ""]
    lines += [
        f"{NUCLIDE} in an elliptic body with lungs, spine, liver, spleen and kidneys. *First call* makes the kernel's voxels and their",
        "transform, *again* finds them kept; a row of one call shows it twice. Memory is the largest resident set of the whole process,",
        "interpreter and images with it.",
        "",
        *size_table(costs),
        "",
        *_quiet(costs),
        "",
        "## 256³ voxels of 4 mm against `scipy.signal.fftconvolve`",
        "",
        "Photons in water, the same kernel, run and threads; a 511³ kernel takes every voxel to every voxel. The comparator takes the",
        "whole kernel as an array made beforehand, and transforms it in every call.",
        "",
        *peer_table(costs),
        "",
        *_floor_lines(costs),
    ]
    theirs = next((name for name in ("peer-511-float64", "peer-511-float32") if (folder / f"{name}.npy").exists()), None)
    if theirs and (folder / "water-256-cpu.npy").exists():
        lines += [f"Energies against `fftconvolve` in {theirs.split('-')[-1]}:", "", *agreement(folder, "water-256-cpu", theirs), ""]
    from benchmarks.dose_monte_carlo import tables

    lines += ["## Monte Carlo", "", *tables(costs["monte-carlo"], threads), ""]
    return "\n".join(lines).rstrip() + "\n"


def _has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def main() -> None:
    """Run all rows, or those asked for, and write the page when all ran."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rows", nargs="*", metavar="ROW", help="only these; the page is then printed, not written")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one_row(options.one, options.threads, options.folder)
        return
    cuda = _has_cuda()
    names = options.rows or [name for name in _rows(options.threads) if cuda or not name.endswith("cuda")]
    with tempfile.TemporaryDirectory() as folder:
        costs = {name: run_row(name, options.threads, Path(folder)) for name in names}
        text = page(costs, Path(folder), options.threads)
    if options.rows:
        print(text)
    else:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
