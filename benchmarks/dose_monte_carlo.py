"""How fast the Monte Carlo engine is, and how soon it knows a region's dose; part of `python -m benchmarks.dose`."""

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from mrtai.engines import dose_engine
from mrtai.engines.monte_carlo.engine import _Batch
from mrtai.engines.monte_carlo.source import electrons, photons
from mrtai.io.nuclear_data import NUCLEAR_DATA
from mrtai.physics.tissue import matter

NUCLIDE = "Lu-177"
RATE_HISTORIES = 400_000
HISTORIES = 4_000_000
SECONDS = 30.0
PEER_PER_S = {"photon": 8.5e4, "electron": 1.5e5}
"""Of the independent code that made the references, one core of a 2-core server, cut-offs 10 and 20 keV (as here)."""

ACTIVE_SHARE = 0.005
LEAST_ML = 10.0


def measured_torso(phantom: Any, organs: Sequence[str], threads: int) -> dict[str, float]:
    """Return histories per second on one and on all threads, and the statistics of one run of ``HISTORIES``."""
    settings = {"threads": threads, "histories": HISTORIES}
    engine = dose_engine("monte-carlo", NUCLEAR_DATA.nuclide(NUCLIDE), NUCLEAR_DATA, **settings)
    result: dict[str, float] = {}
    for count in (1, threads):
        one = dose_engine("monte-carlo", NUCLEAR_DATA.nuclide(NUCLIDE), NUCLEAR_DATA, threads=count)
        batch = _Batch(one, phantom.tia, phantom.density, tuple(slice(0, n) for n in phantom.tia.grid.shape))
        for kind, emission in (("photon", photons(one.spectrum)), ("electron", electrons(one.spectrum))):
            batch._mev(0, 1000, emission)  # compiles
            start = perf_counter()
            batch._mev(0, RATE_HISTORIES, emission)
            result[f"{kind}/{count}"] = RATE_HISTORIES / (perf_counter() - start)
    masks = {name: phantom.labels == value for value, name in enumerate(("remainder", *organs), start=1)}
    start = perf_counter()
    _, means = engine.run(phantom.tia, phantom.density, masks)
    result["run_s"] = perf_counter() - start
    total = float(phantom.tia.voxels.sum(dtype=np.float64))
    for name, mask in masks.items():
        result[f"share/{name}"] = float(phantom.tia.voxels[mask].sum(dtype=np.float64)) / total
        result[f"ml/{name}"] = int((mask & matter(phantom.density)).sum()) * phantom.tia.grid.voxel_ml
        result[f"sd/{name}"] = means[name][1] / means[name][0]
    return result


def tables(cost: Mapping[str, float], threads: int) -> list[str]:
    """Return Markdown: rates against the independent code's, and every region's standard deviation."""
    lines = ["177Lu in the torso at 4 mm.", "", "| histories a second | 1 thread | per core of the independent code | ratio | "]
    lines[-1] += f"{threads} threads | scaling |"
    lines.append("| --- | --: | --: | --: | --: | --: |")
    for kind, peer in PEER_PER_S.items():
        one, every = cost[f"{kind}/1"], cost[f"{kind}/{threads}"]
        lines.append(f"| {kind}s | {one:.3g} | {peer:.2g} | {one / peer:.1f} | {every:.3g} | {every / one:.2f} |")
    seconds = cost["run_s"]
    lines += ["", f"{HISTORIES:,} histories in {seconds:.1f} s on {threads} threads (aim: below in {SECONDS:.0f} s):", ""]
    lines += ["| region | share of activity | volume mL | 1 sd of the mean dose | aim |", "| --- | --: | --: | --: | --: |"]
    for key in cost:
        if key.startswith("sd/"):
            name = key.removeprefix("sd/")
            aim = "1 %" if cost[f"share/{name}"] >= ACTIVE_SHARE else "5 %" if cost[f"ml/{name}"] > LEAST_ML else "–"
            lines.append(f"| {name} | {cost[f'share/{name}']:.2%} | {cost[f'ml/{name}']:.0f} | {cost[key]:.2%} | {aim} |")
    return lines
