"""Measures trained networks where they were trained: writes ``sarcomas.json`` and ``bodies.json`` into the work folder.

    python -m training.lesions.measure --work FOLDER --sts FOLDER [--cases FOLDER] [--device cuda --processes 5]    # for benchmarks.lesions
    python -m training.lesions.measure --work FOLDER --choose                                      # detection by operating point

The operating point (``training.lesions.model.DRAWN_FROM``) is chosen by the second, on seeds that neither training nor the figures see.
"""

import argparse
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.engines.prepare import on_lattice
from mrtai.io.nifti import read_image
from mrtai.values.grid import Grid
from mrtai.values.image import Quantity
from training.lesions import simulated
from training.lesions.data import Scan, case_scans, held_out_groups, sts_scans
from training.lesions.evaluate import (
    ANYWHERE,
    CHOOSING,
    COVERED,
    OURS,
    UNSEEN,
    Counted,
    Point,
    Shares,
    Target,
    crop_dice,
    detected,
    drawn,
    on_simulated,
    threshold_dice,
    unevenly_cut,
)
from training.lesions.model import DRAWN_FROM, LesionNet, drawing_from, shares

KINDS: Final = ("pet", "spect")
POINTS: Final[tuple[Point, ...]] = tuple((least, peak) for least in (0.05, 0.1, 0.2, 0.35, 0.5) for peak in (0.0, 0.5, 0.9, 0.98))
"""Operating points to choose from: of the trained network, whose answers the export moves (``model.DRAWN_FROM``)."""

WHOLE_BODY_PATIENT: Final = "STS_001"

AIDS: Final = {"organs drawn": (True, True), "no organs": (False, True), "organs drawn, no CT": (True, False)}
"""Whether organs and CT are there."""

Outcomes = dict[str, list[list[Counted]]]
"""By images: for every body the outcome at each operating point."""


@cache
def network(weights: Path, device: str = "cpu", share: float = DRAWN_FROM) -> Shares:
    """Return the network of finished weights, which draws from ``share`` on."""
    torch.set_num_threads(1)
    net = LesionNet()
    net.load_state_dict(torch.load(weights, weights_only=True))
    return partial(shares, drawing_from(share, net).to(device))


def on_patient(scan: Scan, fold: int, work: Path, device: str = "cpu") -> dict[str, Any]:
    """Return what the network that never saw a patient, and every fixed threshold, makes of the patient's crop."""
    net = network(work / f"fold-{fold}" / "weights.pt", device)
    whole, click = crop_dice(net, scan)
    cut = np.mean([crop_dice(net, unevenly_cut(scan, seed))[0] for seed in range(3)])
    row = {"patient": scan.patient, "fold": fold, "network": whole, "one click": click, "cut crop": float(cut)}
    return row | {"thresholds": {kind: dice.tolist() for kind, dice in threshold_dice(scan).items()}}


def on_body(
    seed: int, kind: str, weights: Path, device: str, share: float, points: Sequence[Point], aids: Sequence[str]
) -> list[list[Counted]]:
    """Return the outcome in one simulated body: for each aid, at each operating point of the network that draws from ``share`` on."""
    made, net = simulated.scan(seed, kind), network(weights, device, share)
    return [on_simulated(net, made, points, with_organs=AIDS[aid][0], with_ct=AIDS[aid][1]) for aid in aids]


def _fold_of(scans: Sequence[Scan]) -> dict[str, int]:
    return {patient: number for number, group in enumerate(held_out_groups(scans), start=1) for patient in group}


def sarcomas(scans: Sequence[Scan], work: Path, device: str = "cpu", processes: int = 1) -> list[dict[str, Any]]:
    """Return one row for each patient."""
    fold_of = _fold_of(scans)
    with _workers(processes) as workers:
        asked = [workers.submit(on_patient, scan, fold_of[scan.patient], work, device) for scan in scans]
        return [one.result() for one in asked]


def read_pet(source: Path) -> tuple[NDArray[np.float32], Grid]:
    """Return a NIfTI PET, or a DICOM series in one zip, as numbers in its own unit; the scale does not matter to the network."""
    if source.suffix != ".zip":
        image = read_image(source, Quantity.ACTIVITY_CONCENTRATION)
        return image.voxels.astype(np.float32), image.grid
    import pydicom  # only here: not on every machine that trains

    with zipfile.ZipFile(source) as packed:
        files = [pydicom.dcmread(io.BytesIO(packed.read(name))) for name in packed.namelist() if name.endswith(".dcm")]
    slices = sorted((one for one in files if one.get("Modality") == "PT"), key=lambda one: float(one.ImagePositionPatient[2]))
    voxels = np.stack([one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in slices])
    row, column = (float(value) for value in slices[0].PixelSpacing)
    first, second = (np.array(one.ImagePositionPatient, dtype=float) for one in slices[:2])
    return voxels.astype(np.float32), Grid(voxels.shape, np.array([column, row, second[2] - first[2]]), first, np.eye(3))


def on_whole_body(source: Path, scans: Sequence[Scan], work: Path, device: str = "cpu") -> list[dict[str, Any]]:
    """Return what a network that never saw the patient draws on the whole-body PET, without CT and without organs."""
    scan = next(scan for scan in scans if scan.patient == WHOLE_BODY_PATIENT)
    net = network(work / f"fold-{_fold_of(scans)[scan.patient]}" / "weights.pt", device)
    return [against(net, replace(scan, uptake=read_pet(source), ct=None))]


def on_cases(scans: Sequence[Scan], weights: Path, device: str = "cpu") -> list[dict[str, Any]]:
    """Return what the network draws on reviewed cases that it did not learn from, without contours of organs: one row for each scan."""
    net = network(weights, device)
    return [{"image": f"scan {number}"} | against(net, scan) for number, scan in enumerate(scans, start=1)]


def against(net: Shares, scan: Scan) -> dict[str, Any]:
    """Return how what a network draws on a whole image agrees with what a person drew there."""
    mask, grid = drawn(net, scan.uptake, scan.ct)
    truth = on_lattice(*scan.lesion, grid, 0.0) >= 0.5
    pieces, count = ndimage.label(mask, ANYWHERE)
    true = set(np.unique(pieces[truth]).tolist()) - {0}
    sizes = np.bincount(pieces.ravel(), minlength=count + 1) * grid.voxel_ml
    wrong = sorted((float(sizes[n]) for n in range(1, count + 1) if n not in true), reverse=True)
    lesions, there = ndimage.label(truth, ANYWHERE)
    found = ndimage.mean(mask, lesions, np.arange(1, there + 1))
    tumour = np.isin(pieces, list(true))
    return {
        "lesions found": f"{int((found >= COVERED).sum())} of {there}",
        "of their volume": f"{(mask & truth).sum() / truth.sum():.0%}",
        "Dice of their pieces": f"{2 * (tumour & truth).sum() / max(tumour.sum() + truth.sum(), 1):.2f}",
        "pieces elsewhere": len(wrong),
        "of more than 5 mL": sum(ml > 5 for ml in wrong),
        "largest [mL]": ", ".join(f"{ml:.0f}" for ml in wrong[:6]) or "–",
    }


def bodies(
    first: int,
    count: int,
    weights: Path,
    *,
    device: str = "cpu",
    processes: int = 1,
    share: float = DRAWN_FROM,
    points: Sequence[Point] = (OURS,),
    aids: Sequence[str] = tuple(AIDS),
) -> Outcomes:
    """Return the outcomes in ``count`` simulated bodies of each kind, from the seed ``first`` on."""
    result: Outcomes = {}
    with _workers(processes) as workers:
        asked = {
            kind: [workers.submit(on_body, first + n, kind, weights, device, share, points, aids) for n in range(count)] for kind in KINDS
        }
        for kind, of_kind in asked.items():
            outcomes = [one.result() for one in of_kind]
            for number, aid in enumerate(aids):
                result[f"{kind.upper()}, {aid}"] = [outcome[number] for outcome in outcomes]
    return result


def _workers(processes: int) -> ProcessPoolExecutor:
    # a forked process cannot use a GPU
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"))


def chosen_from(outcomes: Outcomes, points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return detection and false positives at each operating point."""
    rows = []
    for number, (least, peak) in enumerate(points):
        row: dict[str, Any] = {"score": least, "peak": peak}
        for images, by_body in outcomes.items():
            here = [body[number] for body in by_body]
            found, there = detected(here, 5.0, 5.0)
            row[images] = f"{found} of {there}, {np.mean([len(one.false_ml) for one in here]):.2f} false"
        rows.append(row)
    return rows


def written(outcomes: Outcomes) -> dict[str, Any]:
    """Return outcomes as JSON."""
    return {images: [[asdict(one) for one in body] for body in bodies] for images, bodies in outcomes.items()}


def read(stored: Mapping[str, Any]) -> Outcomes:
    """Return outcomes from JSON."""

    def outcome(one: Mapping[str, Any]) -> Counted:
        return Counted(tuple(Target(**target) for target in one["lesions"]), tuple(one["false_ml"]), one["dice"])

    return {images: [[outcome(one) for one in body] for body in bodies] for images, bodies in stored.items()}


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sts", type=Path)
    parser.add_argument("--whole-body", type=Path, help="PET of STS_001: NIfTI, or a zip of DICOM")
    parser.add_argument("--cases", type=Path, help="reviewed cases that were not learned from")
    parser.add_argument("--bodies", type=int, default=20)
    parser.add_argument("--choose", action="store_true", help="tell detection at many operating points, on seeds made for that")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    final, where = asked.work / "final" / "weights.pt", {"device": asked.device, "processes": asked.processes}
    if asked.choose:
        as_trained = bodies(CHOOSING, asked.bodies, final, share=0.5, points=POINTS, aids=("organs drawn",), **where)
        rows = chosen_from(as_trained, POINTS)
        print(*[json.dumps(row) for row in rows], sep="\n")
        return
    scans = sts_scans(asked.sts) if asked.sts else []
    if scans:
        (asked.work / "sarcomas.json").write_text(json.dumps(sarcomas(scans, asked.work, **where)))
    if scans and asked.whole_body:
        (asked.work / "whole_body.json").write_text(json.dumps(on_whole_body(asked.whole_body, scans, asked.work, asked.device)))
    if asked.cases:
        (asked.work / "cases.json").write_text(json.dumps(on_cases(case_scans(asked.cases), final, asked.device)))
    found = bodies(UNSEEN, asked.bodies, final, **where)
    (asked.work / "bodies.json").write_text(json.dumps(written(found)))


if __name__ == "__main__":
    main()
