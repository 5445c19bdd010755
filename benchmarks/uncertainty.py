"""Whether stated uncertainties are true: doses of virtual patients against stated intervals; writes docs/validation/uncertainty.md.

python -m benchmarks.uncertainty [--patients 40] [--workers 2] [--first-seed 20000] [--minutes 60] [--rows ROWS.jsonl]
    [--registration drawn]
python -m benchmarks.uncertainty --page ROWS.jsonl [ROWS.jsonl …] [--earlier ROWS.jsonl … --words WORDS]

Each patient is scanned by the clinical scanner and worked up whole, with a calibration, a recovery curve and contours that err as much
as their stated uncertainties say, drawn anew for each, and half-lives as spread as few-scan kinetics believe: once with three scans,
once with a single one. With ``--rows`` what was found is only added to that file, patient by patient, so that machines share the
patients; ``--page`` makes the page of such files. With ``--minutes`` no patient is begun later than that. ``--registration drawn``
takes the true shift of every scan, off by as much as registration is off in these patients, where there is no SimpleITK.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.progress import track
from scipy import ndimage, stats

from benchmarks.recovery import PROTOCOL, STANDARD, group
from benchmarks.virtual_cycle import as_done, cycle_of, drawn_registration, read_rows, unshifted, virtual_cycle, without_rates
from mrtai.cycle import Step, dose_cycle
from mrtai.engines.given_labels import GivenLabels
from mrtai.io.priors import agent_priors
from mrtai.io.protocols import load_protocol
from mrtai.physics.recovery import parameters, used
from mrtai.physics.region_uncertainty import probability_off
from mrtai.physics.uncertainty_inputs import volume_sd
from mrtai.simulate.spheres import curve
from mrtai.values.calibration import Recovery
from mrtai.values.curve import LARGE_ERROR
from mrtai.values.grid import Array
from mrtai.values.labels import Labels
from mrtai.values.regions import kinetic_family
from mrtai.values.report import RegionDose, Report
from mrtai.values.study import Cycle
from mrtai.values.virtual import AgentPriors, TrueRegion, VirtualPatient, VirtualScan
from training.card import table

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "validation" / "uncertainty.md"
FIRST_SEED: Final = 20_000
TIMES_H: Final = (24.0, 72.0, 96.0, 168.0)
CYCLES: Final = {"Three scans": (24.0, 96.0, 168.0), "One scan, at 72 h": (72.0,)}
CALIBRATION_SD: Final = 0.03
GROUPS: Final = ("kidneys", "liver", "spleen", "lesions above 10 mL", "lesions below 10 mL")
LEAST_PARAMETER: Final = 0.05
AIMS: Final = {68: (0.60, 0.76), 95: (0.90, 0.99)}


def as_doubted(priors: AgentPriors) -> AgentPriors:
    """Return a population whose half-lives spread as widely as few-scan kinetics believe: between patients, and by the median's doubt."""

    def widened(prior: Any, region: str) -> Any:
        believed = priors.kinetics.get(kinetic_family(region) or "")
        return prior if believed is None else replace(prior, half_life_gsd=float(np.exp(believed.log_sd)))

    regions = {name: widened(prior, name) for name, prior in priors.regions.items()}
    return replace(priors, regions=regions, lesions=widened(priors.lesions, "lesion_1"))


def outlined(labels: Labels, rng: np.random.Generator) -> Labels:
    """Return contours each one wholly too wide or too narrow, by volumes that err as much as Gear's formula says."""
    voxel_mm = float(labels.grid.spacing_mm.mean())
    found = np.zeros_like(labels.voxels)
    boxes = dict(enumerate(ndimage.find_objects(labels.voxels), start=1))
    # lesions last: they win over the organ they lie in
    for value, _ in sorted(labels.names.items(), key=lambda item: item[1].startswith("lesion_")):
        box = tuple(slice(max(span.start - 4, 0), span.stop + 4) for span in boxes[value])
        mask = labels.voxels[box] == value
        voxels = int(mask.sum())
        wanted = round(voxels * float(np.exp(rng.normal(0, volume_sd(voxels * labels.grid.voxel_ml, voxel_mm, voxel_mm)))))
        # a blurred mask says of each voxel how near the outline it lies
        nearness = ndimage.gaussian_filter(mask.astype(np.float32), 1.0)
        found[box][nearness >= np.partition(nearness.ravel(), -wanted)[-wanted]] = value
    return replace(labels, voxels=found)


def miscounted(scan: VirtualScan, labels: Labels, relative_sd: float, rng: np.random.Generator) -> VirtualScan:
    """Return a scan whose regions, and the rest of the body, each show an activity that is off by a factor of its own.

    The virtual scanner's own errors of a region's activity are near 1 %; attenuation and scatter correction, motion and reconstruction
    of real ones are what the protocol's ``activity_sd_relative`` stands for.
    """
    to_mm = labels.grid.affine  # of (x, y, z, 1)
    back = (np.linalg.inv(to_mm) @ np.linalg.inv(scan.shift) @ to_mm)[:3]
    matrix, offset = back[::-1, 2::-1], back[::-1, 3]
    here = ndimage.affine_transform(labels.voxels, matrix, offset, order=0, mode="nearest")
    factors = rng.normal(1.0, relative_sd, max(labels.names) + 1).astype(np.float32)
    return replace(scan, spect=replace(scan.spect, voxels=scan.spect.voxels * factors[here]))


def erring(cycle: Cycle, truth: Recovery, rng: np.random.Generator) -> Cycle:
    """Return the cycle as a camera shows it whose calibration and recovery curve are off as much as they say."""
    drawn = rng.multivariate_normal(parameters(truth), used(truth).covariance)
    off = _with_parameters(truth, np.maximum(drawn, LEAST_PARAMETER))
    scale = np.float32(rng.normal(1, CALIBRATION_SD))
    points = tuple(
        replace(point, spect=replace(point.spect, voxels=point.spect.voxels * scale), recovery=off, calibration_sd=CALIBRATION_SD)
        for point in cycle.time_points
    )
    return replace(cycle, time_points=points)


def _with_parameters(curve: Recovery, values: Array) -> Recovery:
    first, second = values.tolist()
    if curve.gaussian is None:
        return replace(curve, beta_ml=first, gamma=second)
    return replace(curve, gaussian=replace(curve.gaussian, fwhm_mm=first, plateau=second))


def patient(seed: int, truth: Recovery, registration: str, until: float = np.inf) -> list[dict[str, Any]]:
    """Return a row a region and cycle, see ``rows_of``; nothing where the clock [s] is past ``until``."""
    if time.time() > until:
        return []
    protocol = replace(load_protocol(PROTOCOL), partial_volume="recovery", check_engine="none")
    virtual, _, engines = virtual_cycle(seed, protocol, TIMES_H, as_doubted(agent_priors(protocol.agent)))
    rows = []
    for number, (name, times_h) in enumerate(CYCLES.items()):
        rng = np.random.default_rng((seed, number))
        scans = tuple(scan for scan in virtual.scans if round(scan.t_h, 3) in times_h)
        if scans[0] is not virtual.scans[0]:
            scans = tuple(unshifted(virtual, scan, rng) for scan in scans)
        scans = tuple(miscounted(scan, virtual.labels_spect, protocol.activity_sd_relative, rng) for scan in scans)
        cycle = erring(cycle_of(virtual, scans, outlined(virtual.labels, rng)), truth, rng)
        aligner = drawn_registration(scans, rng) if registration == "drawn" else engines.aligner
        report = dose_cycle(cycle, protocol, replace(engines, segmenter=GivenLabels(), aligner=aligner), _one_dose())
        of_case = {"seed": seed, "cycle": name, "registration": registration, "missed_mm": _missed_mm(report, scans)}
        rows += [of_case | row for row in rows_of(report, virtual)]
    return rows


def _one_dose() -> Step:
    """Return a way through the rooms that gives the draft's dose alone: no dose rates, and no dose without recovery beside it."""
    found: list[Any] = []

    def step(room: Callable[..., Any], *args: Any) -> Any:
        if room.__name__ != "absorb":
            return without_rates(room, *args)
        if not found:
            found.append(room(*args))
        return found[0]

    return step


def _missed_mm(report: Report, scans: tuple[VirtualScan, ...]) -> list[float]:
    """Return by how much each scan after the first missed it, in the middle of the first [mm]."""
    grid = scans[0].spect.grid
    middle = grid.affine @ [*(np.array(grid.shape[::-1]) / 2), 1.0]
    pairs = zip(report.aligned.alignments[1:], scans[1:], strict=True)
    return [float(np.linalg.norm((one.transform @ scan.shift @ middle - middle)[:3])) for one, scan in pairs]


def rows_of(report: Report, virtual: VirtualPatient) -> list[dict[str, Any]]:
    """Return the compared regions of one patient: what is true and stated, the budget, and in which intervals the truth lies."""
    truths = {one.region: one for one in virtual.regions}
    rows = []
    for row in report.regions:
        name = group(row.name, truths[row.name].volume_ml) if row.name in truths else None
        if name and row.dose is not None and row.spread is not None and row.fit is not None:
            truth = _union(row, truths)
            ratio = truth.absorbed_dose_gy / row.dose.mean_gy
            rows.append(
                {
                    "region": row.name,
                    "group": name,
                    "volume_ml": truth.volume_ml,
                    "drawn_ml": row.volume_ml,
                    "recovery": row.recovery,
                    "ratio": ratio,
                    "tia ratio": truth.tia_bq_s / row.fit.tia_bq_s,
                    "sd": row.spread.relative_sd,
                    "budget": {term.term: round(term.relative_sd, 4) for term in row.spread.budget},
                    "interval 68": row.spread.interval_68,
                    "interval 95": row.spread.interval_95,
                    "in 68": bool(row.spread.interval_68[0] <= ratio <= row.spread.interval_68[1]),
                    "in 95": bool(row.spread.interval_95[0] <= ratio <= row.spread.interval_95[1]),
                    "flags": sorted({flag.code for flag in row.flags if flag.severity.value != "info"}),
                    "stated off": probability_off(row.spread),
                }
            )
    return rows


def _union(row: RegionDose, truths: Mapping[str, TrueRegion]) -> TrueRegion:
    """Return the truth of what a row says it holds: where a contour errs, a lesion at an organ's edge may lie in it or not."""
    if row.name != "liver":
        return truths[row.name]
    # without members the row is the parenchyma alone
    parts = [truths["liver_without_lesions" if name == "liver" else name] for name in row.members or ("liver",)]
    mass_kg = sum(part.mass_kg for part in parts)
    dose_gy = sum(part.absorbed_dose_gy * part.mass_kg for part in parts) / mass_kg
    return replace(truths[row.name], tia_bq_s=sum(part.tia_bq_s for part in parts), mass_kg=mass_kg, absorbed_dose_gy=dose_gy)


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
                    "in 68 %": _coverage([row["in 68"] for row in own], 68),
                    "in 95 %": _coverage([row["in 95"] for row in own], 95),
                }
            )
    return found


def _coverage(held: list[bool], interval: int) -> str:
    """Return the share with its 95 % binomial interval (Clopper and Pearson), and whether it meets the aim."""
    low, high = stats.binomtest(sum(held), len(held)).proportion_ci()
    share, (least, most) = float(np.mean(held)), AIMS[interval]
    return f"{share:.0%} ({low:.0%} to {high:.0%}){'' if least <= round(share, 2) <= most else ' MISSED'}"


def budgets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return per group the root mean square of every term of the stated budget."""
    terms = list(dict.fromkeys(term for row in rows for term in row["budget"]))
    found = []
    for name in GROUPS:
        own = [row["budget"] for row in rows if row["group"] == name]
        if own:
            cells = {term: np.sqrt(np.mean([of.get(term, 0.0) ** 2 for of in own])) for term in terms}
            found.append({"regions": name} | {term: f"{value:.1%}" for term, value in cells.items()})
    return found


def large_errors(rows: list[dict[str, Any]]) -> str:
    """Return in words how often the true dose is more than 20 % of the stated one away from it, against what was stated."""
    unflagged = [row for row in rows if not row["flags"]]
    if not unflagged:
        return f"No region is without a flag that asks for a look. Of all, {_off(rows)}."
    return f"Of regions without a flag that asks for a look, {_off(unflagged)}. Of all, flagged ones too, {_off(rows)}."


def _off(rows: list[dict[str, Any]]) -> str:
    seen, expected = sum(abs(row["ratio"] - 1) > LARGE_ERROR for row in rows), sum(row["stated off"] for row in rows)
    low, high = stats.binom.interval(0.95, len(rows), min(expected / len(rows), 1.0))
    agrees = "agrees" if low <= seen <= high else "does not agree"
    return (
        f"{seen} of {len(rows)} have a true dose more than {LARGE_ERROR:.0%} of the stated one away from it, and {expected:.1f} were "
        f"stated (95 % binomial interval {low:.0f} to {high:.0f}, which does not know that regions of one patient share errors): {agrees}"
    )


def page(rows: list[dict[str, Any]], words: str = "") -> str:
    """Return the page; ``words``: how versions differed that the rows are of."""
    seeds = sorted({row["seed"] for row in rows})
    by_way = {way: len({row["seed"] for row in rows if row["registration"] == way}) for way in ("run", "drawn")}
    missed = {way: [mm for row in rows if row["registration"] == way for mm in row["missed_mm"]] for way in by_way}
    told = {way: f" (off by {np.sqrt(np.mean(np.square(of))):.1f} mm, root mean square)" if of else "" for way, of in missed.items()}
    lines = [
        "# Stated uncertainties against the errors that are made",
        "",
        "Written by `python -m benchmarks.uncertainty`.",
        "",
        f"{len(seeds)} virtual patients (clinical scanner, seeds from {seeds[0]}), worked up whole with recovery. For each of them",
        f"the calibration is off by a standard deviation of {CALIBRATION_SD:.0%}, the recovery curve by its covariance, the activity of",
        f"every region in every scan by the protocol's {load_protocol(PROTOCOL).activity_sd_relative:.0%} (the virtual scanner's own",
        "errors are near 1 %), and every contour is too wide or too narrow by what the EANM guidance's formula says of its voxels.",
        "Half-lives spread as few-scan kinetics believe: between patients, and by the doubt about a population's median.",
        f"Registration was run for {by_way['run']} patients{told['run']} and drawn for {by_way['drawn']}{told['drawn']}.",
        "Aims: 60 to 76 % of the true doses in the 68 % intervals, 90 to 99 % in the 95 % intervals; in brackets 95 % intervals of",
        "Clopper and Pearson. `liver` is the parenchyma with the lesions that the report says it holds, and its truth is of the same:",
        "whether a lesion at its edge is one of them hangs on contours that err.",
        "",
        *([words, ""] if words else []),
    ]
    return "\n".join([*lines, *_sections(rows)])


def _sections(rows: list[dict[str, Any]]) -> list[str]:
    lines = []
    for heading in CYCLES:
        own = [row for row in rows if row["cycle"] == heading]
        lines += [
            f"## {heading}",
            "",
            f"{len({row['seed'] for row in own})} patients.",
            "",
            *table(summary(own)),
            "",
            large_errors(own),
            "",
        ]
        lines += ["What is stated, root mean square by term:", "", *table(budgets(own)), ""]
    return lines


def main() -> None:
    """Measure, and write the page or add to the file of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--workers", type=int, default=max(1, os.cpu_count() or 1))
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--minutes", type=float, default=np.inf)
    parser.add_argument("--registration", choices=("run", "drawn"), default="run")
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--page", type=Path, nargs="+")
    parser.add_argument("--earlier", type=Path, nargs="+", default=[], help="rows of an earlier version, shown below")
    parser.add_argument("--words", default="", help="how that version, or without one versions of the rows, differed")
    asked = parser.parse_args()
    if asked.page:
        rows = read_rows(asked.page)
    else:
        work = partial(patient, truth=curve(STANDARD), registration=asked.registration, until=time.time() + 60 * asked.minutes)
        seeds = range(asked.first_seed, asked.first_seed + asked.patients)
        rows = []
        for of_patient in track(as_done(work, seeds, asked.workers), "patients", total=asked.patients):
            rows += of_patient
            if asked.rows:
                with asked.rows.open("a", encoding="utf-8") as out:
                    out.writelines(json.dumps(row) + "\n" for row in of_patient)
    if not asked.rows:
        earlier = ["# An earlier version", "", asked.words, "", *_sections(read_rows(asked.earlier))] if asked.earlier else []
        PAGE.write_text("\n".join([page(rows, "" if earlier else asked.words), *earlier]), encoding="utf-8")
        print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
