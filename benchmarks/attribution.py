"""Whether the shares of steps find planted faults; writes docs/validation/attribution.md.

python -m benchmarks.attribution [--patients 30] [--kept FILE]
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import permutations
from math import log
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.progress import track
from scipy import ndimage

from benchmarks.virtual_cycle import without_rates
from mrtai.agreement import AUTO, MANUAL, Exchange, attributed, exchange_of
from mrtai.cycle import dose_cycle
from mrtai.engines.given_labels import GivenLabels
from mrtai.engines_of_run import CaseRequest, Engines, engines_for
from mrtai.io.case_folder import write_images
from mrtai.io.compared_cases import read_cases
from mrtai.io.priors import agent_priors
from mrtai.io.protocols import load_protocol
from mrtai.io.results import dumped, results
from mrtai.io.tables import nuclide, point_kernel
from mrtai.io.validation_pairs import paired
from mrtai.physics.align_scans import IDENTITY
from mrtai.physics.attribution import STEPS
from mrtai.simulate.patient import Settings, virtual_patient
from mrtai.values.image import Image
from mrtai.values.labels import Labels
from mrtai.values.protocol import Protocol
from mrtai.values.regions import is_lesion
from mrtai.values.report import Report
from mrtai.values.study import Cycle, TimePoint
from mrtai.values.validation import ComparedCycle, RegionPair
from training.card import table

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "validation" / "attribution.md"
PROTOCOL: Final = "lu177-dotatate"
FIRST_SEED: Final = 11000
TIMES_H: Final = (24.0, 96.0, 168.0)
DILATED_MM: Final = 3.0
CROPPED_MM: Final = 25.0
CALIBRATION: Final = 1.04
DILATED: Final = ("kidney_left", "kidney_right", "liver", "spleen")
ORGANS: Final = ("kidney_left", "kidney_right", "liver_without_lesions", "spleen")

Case = tuple[Cycle, Labels, Engines]
Plant = Callable[[Case], Case]


def dilated(case: Case) -> Case:
    """Return the case with the contours of kidneys, liver, spleen and lesions 3 mm larger; organs take no other region's place."""
    cycle, labels, engines = case
    voxels = labels.voxels.copy()
    sampling = tuple(float(step) for step in labels.grid.spacing_mm[::-1])
    lesions = [value for value, name in labels.names.items() if is_lesion(name)]
    organs = [value for value, name in labels.names.items() if name in DILATED]
    for value in (*organs, *lesions):
        near = ndimage.distance_transform_edt(labels.voxels != value, sampling=sampling) <= DILATED_MM + 1e-3
        # a lesion grows into its organ, and nothing into another lesion
        free = (voxels == 0) | (np.isin(voxels, organs) if value in lesions else False)
        voxels[near & free] = value
    return cycle, replace(labels, voxels=voxels), engines


def dropped(case: Case) -> Case:
    """Return the case without its second scan."""
    cycle, labels, engines = case
    first, _, *rest = cycle.time_points
    return replace(cycle, time_points=(first, *(replace(point, index=n) for n, point in enumerate(rest, start=2)))), labels, engines


def kernel_cropped(case: Case) -> Case:
    """Return the case whose dose engine knows nothing of photons beyond 25 mm."""
    cycle, labels, engines = case
    kernel = engines.dose.kernel
    near = kernel.r_edges_mm[1:] <= CROPPED_MM
    cut = replace(kernel, photon_mev=np.where(near, kernel.photon_mev, 0.0))
    return cycle, labels, replace(engines, dose=replace(engines.dose, kernel=cut))


def off_calibration(case: Case) -> Case:
    """Return the case whose scans all read 4 % more."""
    cycle, labels, engines = case
    points = tuple(
        replace(point, spect=replace(point.spect, voxels=point.spect.voxels * np.float32(CALIBRATION))) for point in cycle.time_points
    )
    return replace(cycle, time_points=points), labels, engines


FAULTS: Final[Mapping[str, tuple[Plant, str]]] = {
    "contours 3 mm larger": (dilated, "contour"),
    "calibration 4 % high": (off_calibration, "activity"),
    "second scan left out": (dropped, "curve"),
    "kernel cropped to 25 mm": (kernel_cropped, "dose"),
}
TOGETHER: Final = "all four together"


def simulated(seed: int, protocol: Protocol) -> Case:
    """Return the cycle of a virtual patient, ideal but for the blur of a SPECT, with its true contours and engines."""
    priors = agent_priors(protocol.agent)
    settings = Settings(priors, protocol.typical_administered_bq, TIMES_H, seed, scanner="ideal", kinetics="population")
    virtual = virtual_patient(nuclide=nuclide(protocol.nuclide), kernel=point_kernel(protocol.nuclide), settings=settings)
    points = tuple(
        TimePoint(
            index=n,
            started_at=scan.started_at,
            t_h=time_h,
            duration_s=None,
            spect=blurred(scan.spect, protocol.spect_fwhm_mm),
            ct=scan.ct if n == 1 else None,
            contours=None,
            series_uid_sha256=f"{n:064x}",
            decay_referred_to="scan",
            calibration="header",
        )
        for n, (scan, time_h) in enumerate(zip(virtual.scans, TIMES_H, strict=True), start=1)
    )
    cycle = Cycle(f"P-{seed:016x}", 1, virtual.administration, points)
    nowhere = Path()
    engines = engines_for(protocol, CaseRequest(nowhere, protocol.name, nowhere), cycle=cycle)
    return cycle, virtual.labels, replace(with_water(engines), aligner=lambda fixed, moving: IDENTITY)


def with_water(engines: Engines) -> Engines:
    """Return the engines with photons as in water, which leaves out the rays through the patient: a fifth of the time."""
    return replace(engines, dose=replace(engines.dose, own_matter=False))


def blurred(image: Image, fwhm_mm: float) -> Image:
    """Return the image as a scanner of that resolution sees it."""
    sigma = fwhm_mm / np.sqrt(8 * np.log(2)) / image.grid.spacing_mm[::-1]
    return replace(image, voxels=ndimage.gaussian_filter(image.voxels, sigma).astype(np.float32))


def kept(report: Report, protocol: Protocol, folder: Path) -> ComparedCycle:
    """Write what a comparison reads of a CASE folder, and read it as it does."""
    images = folder / "images"
    images.mkdir(parents=True)
    write_images(report, images)
    (folder / "results.json").write_text(dumped(results(report)), "utf-8")
    parameters = {"kinetics": protocol.kinetics, "dose_engine": protocol.dose_engine, "partial_volume": protocol.partial_volume}
    manifest = {"parameters": parameters, "protocol": {"name": protocol.name, "sha256": protocol.sha256}}
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return read_cases(folder, AUTO)[0]


def worked_up(case: Case, protocol: Protocol, folder: Path) -> ComparedCycle:
    """Return the case after the walk."""
    cycle, labels, engines = case
    return kept(dose_cycle(cycle, protocol, replace(engines, segmenter=GivenLabels(labels)), without_rates), protocol, folder)


def brute_force(exchange: Exchange, pair: RegionPair) -> dict[str, float]:
    """Return each step's mean gain over all 24 orders of exchange, walked one by one."""
    name, gains = pair.auto.name, dict.fromkeys(STEPS, 0.0)
    stated = {AUTO: pair.auto.absorbed_dose_gy or 0.0, MANUAL: pair.manual.absorbed_dose_gy or 0.0}
    orders = list(permutations(STEPS))
    for order in orders:
        corner = dict.fromkeys(STEPS, MANUAL)
        before = log(stated[MANUAL])
        for step in order:
            corner[step] = AUTO
            own = exchange.mean_doses_gy(dict.fromkeys(STEPS, corner["dose"]))[name]
            now = log(exchange.mean_doses_gy(corner)[name] * stated[corner["dose"]] / own)
            gains[step] += (now - before) / len(orders)
            before = now
    return gains


def patient(seed: int) -> list[dict[str, Any]]:
    """Return the shares of every region for each planted fault, and of all together with those of brute force."""
    protocol = replace(load_protocol(PROTOCOL), check_engine="none")
    clean = simulated(seed, protocol)
    every = clean
    for plant, _ in FAULTS.values():
        every = plant(every)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        manual = worked_up(clean, protocol, Path(folder) / "manual")
        planted = {name: plant(clean) for name, (plant, _) in FAULTS.items()} | {TOGETHER: every}
        for n, (name, case) in enumerate(planted.items()):
            auto = worked_up(case, protocol, Path(folder) / f"auto{n}")
            pairs = [pair for pair in paired((auto,), (manual,)).pairs if pair.auto.name in ORGANS or pair.auto.kind == "lesion"]
            exchange = exchange_of(auto.images(()), manual.images(()), pairs)
            exchange = replace(exchange, engines={side: with_water(own) for side, own in exchange.engines.items()})
            found += [_row(seed, name, exchange, pair) for pair in pairs]
    return found


def _row(seed: int, fault: str, exchange: Exchange, pair: RegionPair) -> dict[str, Any]:
    one = attributed(exchange, pair)
    if one is None:
        raise ValueError(f"{seed} {fault} {pair.auto.name}: no attribution")
    shares = {part.steps[0]: part.ln_ratio for part in one.contributions}
    row = {"seed": seed, "fault": fault, "region": pair.auto.name, "total": one.total_ln_ratio, "shares": shares}
    return row | ({"brute": brute_force(exchange, pair)} if fault == TOGETHER else {})


def alone_rows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return per fault how far its step is from carrying the whole difference, and what the others carry, at worst."""
    rows = []
    for fault, (_, step) in FAULTS.items():
        own = [row for row in found if row["fault"] == fault]
        totals = [100 * row["total"] for row in own]
        missed = max(abs(100 * (row["shares"][step] - row["total"])) for row in own)
        others = max(abs(100 * share) for row in own for name, share in row["shares"].items() if name != step)
        rows.append(
            {
                "fault": fault,
                "step": step,
                "regions": len(own),
                "difference, median": f"{np.median(totals):+.2f}",
                "least": f"{min(totals):+.2f}",
                "largest": f"{max(totals):+.2f}",
                "its step off by at most": f"{missed:.4f}",
                "another step at most": f"{others:.4f}",
            }
        )
    return rows


def together_row(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how far shares are from brute force, and their sum from the total, at worst, as ln ratios."""
    own = [row for row in found if row["fault"] == TOGETHER]
    return {
        "regions": len(own),
        **{f"{step}, median": f"{100 * np.median([row['shares'][step] for row in own]):+.2f}" for step in STEPS},
        "off brute force": f"{max(abs(row['shares'][step] - row['brute'][step]) for row in own for step in STEPS):.1e}",
        "sum off the total": f"{max(abs(sum(row['shares'].values()) - row['total']) for row in own):.1e}",
    }


def page(found: list[dict[str, Any]]) -> str:
    """Return the page of all that was found."""
    seeds = sorted({row["seed"] for row in found})
    lines = [
        "# Which step made the difference",
        "",
        "Written by `python -m benchmarks.attribution`.",
        "",
        f"{len(seeds)} virtual patients (seeds from {FIRST_SEED}; three scans, ideal but for a blur of 11 mm; true contours), each worked",
        "up without a fault (the manual side), with one at a time, and with all four (the automatic side). Both sides are read from CASE",
        "files as `mrtai validate --recompute` reads them. Convolution with photons as in water. Numbers are",
        "100 × ln(automatic/manual) of kidneys, liver, spleen and lesions. Aims: its step carries the difference within 1, every other",
        "step less than 1.",
        "",
        "A cropped kernel is nothing that a CASE names: both sides call their engine `convolution`. What the doses of a side differ by",
        "from those that this version computes from its own images is what stands under the dose calculation.",
        "",
        *table(alone_rows(found)),
        "",
        "All four together: shares against the mean over all 24 orders walked one by one, and their sum against the whole difference, as",
        "ln ratios (aim 1e-6).",
        "",
        *table([together_row(found)]),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, going on from what a file kept of an earlier run, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=30)
    parser.add_argument("--kept", type=Path, help="JSON of the patients done so far; gone on from, and added to")
    asked = parser.parse_args()
    found = json.loads(asked.kept.read_text("utf-8")) if asked.kept and asked.kept.is_file() else []
    done = {row["seed"] for row in found}
    for seed in track([seed for seed in range(FIRST_SEED, FIRST_SEED + asked.patients) if seed not in done], "patients"):
        found += patient(seed)
        if asked.kept:
            asked.kept.write_text(json.dumps(found), "utf-8")
    PAGE.write_text(page(found), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
