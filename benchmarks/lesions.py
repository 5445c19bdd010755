"""How well the lesion network draws: writes ``docs/validation/lesions.md`` and the figures of the model card.

    python -m benchmarks.lesions --work FOLDER --sts FOLDER [--whole-body ZIP] [--cases FOLDER]

Measures what ``training.lesions.train --folds`` left in the work folder (what ``training.lesions.measure`` measured there already is
taken): Dice on soft-tissue sarcomas by networks that never saw the patient, against the best fixed threshold; detection and false
positives on simulated PET and SPECT of unseen seeds, on virtual patients of ``mrtai simulate``, and on one real whole-body PET.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.progress import track

from mrtai.engines.prepare import on_lattice
from training.card import table
from training.lesions.data import case_scans, sts_scans
from training.lesions.evaluate import OF_MAXIMUM, SUV, UNSEEN, Counted, counted, detected, drawn
from training.lesions.export import AIMED_AT, BODIES, SARCOMAS
from training.lesions.measure import bodies, network, on_cases, on_whole_body, read, sarcomas, written
from training.lesions.virtual import virtual_scan

PAGE: Final = Path(__file__).parents[1] / "docs" / "validation" / "lesions.md"
VIRTUAL_SEED: Final = 6000
CASES: Final = "Real SPECT of one patient"
Rows = list[dict[str, Any]]

SOURCE: Final = (
    "Data: M. Vallières, C. R. Freeman, S. R. Skamene, I. El Naqa (2015), The Cancer Imaging Archive, doi 10.7937/K9/TCIA.2015.7GO2GSKS,",
    "and Phys. Med. Biol. 60 (2015) 5471; prepared by A. Zwanenburg (IBSI); CC BY 3.0.",
)
NO_FOLDS: Final = """
The weights measured here have **no figure on sarcomas**: all 34 patients were learned from, and no networks of folds were trained. Those
of 0.1.0, half as wide and trained in the same order, drew patients that they had not seen with a median Dice of 0.749, the best fixed
threshold 0.667 (34 patients, five-fold; their page is in the history of this file).
"""
WORDS: Final = {
    SARCOMAS: """
34 FDG PET (14 with CT), cropped by their authors to 5 cm around the expert's contour; each is drawn by a network that saw no image of
the patient. Nobody clicks: everything the network draws in the crop counts, a hot bladder beside the tumour too. Since every crop ends
5 cm from its tumour, training cuts the crops at random, and *crop cut unevenly* takes 0 to 40 mm from each face of the test crops as
well: a network that had learned where crops end would lose there. The fixed thresholds are the best of all shares of the tumour's own
maximum (which nobody knows beforehand) and of all SUVs, chosen on the same patients they are measured on. *One click*: only the piece
that holds the tumour's hottest voxel counts, for thresholds and network alike.
""",
    "Folds": "The network on the whole crop, by fold.",
    BODIES: """
Bodies made by `training/lesions/simulated.py` with seeds that no training saw: FDG-, PSMA-, DOTATATE- and iodide-like uptake in all
organs, 0 to 12 lesions of 0.5 to 200 mL. A lesion is found when a tenth of it is drawn; a false positive is a piece of at least 0.5 mL
that touches no lesion. *Organs drawn*: kidneys, liver, spleen, stomach and bladder, as a segmenter draws them, with errors of some
millimetres and one in twenty missing; bowel, heart, brain and glands have no contours. The virtual patients are those of `mrtai simulate`
under its clinical scanner, other code than made the training data, with true organ contours and lesions of 5 to 40 mL.
""",
    "By size and contrast": "Lesions found of those there, with organs drawn. Contrast is to the tissue around the lesion, before blur.",
    CASES: """
177Lu-DOTATATE, two scans a day apart, a lesion of 107 mL and one of 3 mL drawn by a person; no training saw the patient. No CT, no
contours of organs: liver, kidneys, spleen and bowel are all in view. Other hot places in the liver have no contour and count as
*elsewhere*. Y. K. Dewaraja, B. J. Van (2021), University of Michigan Deep Blue Data, doi 10.7302/0n8e-rz46, CC BY-NC 4.0: measured on,
never learned from, not part of this repository.
""",
    "One real whole-body PET": """
FDG, patient STS_001, by the network of the fold that never saw it, without CT and without contours of organs: brain, heart, kidneys,
bowel and bladder are all in view. One patient, so an illustration.
""",
    "Patients": "Dice of the network and of the best fixed thresholds, whole crop.",
}


def best_thresholds(rows: Rows) -> dict[str, tuple[str, np.ndarray]]:
    """Return for each kind of fixed threshold the best value over all patients (by median Dice) and the Dice it gives."""
    found = [row["thresholds"] for row in rows]
    result = {}
    for kind in found[0]:
        by_value = np.stack([one[kind] for one in found])  # (patients, thresholds)
        best = int(np.median(by_value, axis=0).argmax())
        value = f"{OF_MAXIMUM[best]:.0%}" if kind.startswith("share") else f"SUV {SUV[best]:g}"
        result[kind] = value, by_value[:, best]
    return result


def spread(values: Any) -> dict[str, str]:
    """Return median, quartiles and mean as the page shows them."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return {"median": f"{middle:.3f}", "quartiles": f"{low:.2f} … {high:.2f}", "mean": f"{np.mean(values):.3f}"}


def sarcoma_tables(rows: Rows, thresholds: Mapping[str, tuple[str, np.ndarray]]) -> tuple[Rows, Rows, Rows]:
    """Return the tables of methods, of folds and of patients."""
    methods = [
        {"method": "network, whole crop"} | spread([row["network"] for row in rows]),
        {"method": "network, crop cut unevenly"} | spread([row["cut crop"] for row in rows]),
        {"method": "network, one click"} | spread([row["one click"] for row in rows]),
        *[{"method": f"{value} ({kind})"} | spread(values) for kind, (value, values) in thresholds.items()],
    ]
    of_folds: Rows = []
    for fold in sorted({row["fold"] for row in rows}):
        own = [row["network"] for row in rows if row["fold"] == fold]
        of_folds.append({"fold": fold, "patients": len(own)} | spread(own))
    whole = {kind: values for kind, (_, values) in thresholds.items() if kind.endswith("whole crop")}
    patients = [
        {"patient": row["patient"], "fold": row["fold"], "network": f"{row['network']:.3f}"}
        | {kind.split(",")[0]: f"{values[number]:.3f}" for kind, values in whole.items()}
        for number, row in enumerate(rows)
    ]
    return methods, of_folds, patients


def on_virtual(weights: Path, count: int, processes: int = 1) -> list[Counted]:
    """Return the outcome in virtual patients of the simulator, with their true organ contours."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as workers:
        outcomes = workers.map(partial(on_virtual_patient, weights), range(VIRTUAL_SEED, VIRTUAL_SEED + count))
        return list(track(outcomes, "virtual patients", total=count))


def on_virtual_patient(weights: Path, seed: int) -> Counted:
    """Return the outcome in one virtual patient."""
    made, net = virtual_scan(seed), network(weights)
    mask, grid = drawn(net, made.spect, made.ct, made.organs)
    numbers = np.zeros(grid.shape, dtype=np.int64)
    for lesion in range(1, len(made.lesions) + 1):
        numbers[on_lattice(made.lesion == lesion, made.ct[1], grid, 0.0) >= 0.5] = lesion
    return counted(mask, numbers, made.lesions, grid.voxel_ml)


def detection_row(name: str, outcomes: Sequence[Counted]) -> dict[str, Any]:
    """Return the figures of the acceptance line, and Dice."""
    found, there = detected(outcomes, 5.0, 5.0)
    every, of_all = detected(outcomes, 0.0, 0.0)
    wrong = [len(outcome.false_ml) for outcome in outcomes]
    return {
        "images": name,
        "patients": len(outcomes),
        "found, > 5 mL at ≥ 5": f"{found} of {there} ({found / max(there, 1):.1%})",
        "found, all": f"{every} of {of_all} ({every / max(of_all, 1):.1%})",
        "false positives a patient": f"{np.mean(wrong):.2f} (worst {max(wrong)})",
        "median Dice": f"{np.median([outcome.dice for outcome in outcomes if outcome.lesions]):.2f}",
    }


def by_size(name: str, outcomes: Sequence[Counted]) -> Rows:
    """Return detection by size and contrast."""
    rows: Rows = []
    for low, high in ((0.5, 1.0), (1.0, 2.0), (2.0, 5.0), (5.0, 20.0), (20.0, 1e4)):
        row: dict[str, Any] = {"images": name, "volume [mL]": f"{low:g} … {high:g}" if high < 1e4 else f"> {low:g}"}
        for least, below in ((2.0, 3.0), (3.0, 5.0), (5.0, 10.0), (10.0, 1e4)):
            found, there = detected(outcomes, low, least, high, below)
            words = f"contrast {least:g} … {below:g}" if below < 1e4 else f"contrast > {least:g}"
            row[words] = f"{found} of {there}" if there else "–"
        rows.append(row)
    return rows


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """Return what ``training.lesions.measure`` left at ``path``, or measure it and leave it there."""
    if not path.exists():
        path.write_text(json.dumps(make()))
    return json.loads(path.read_text(encoding="utf-8"))


def measured(work: Path, sts: Path, whole_body: Path | None, cases: Path | None, count: int, processes: int) -> dict[str, Rows]:
    """Return all tables by their heading; those of sarcomas where the networks of the folds are there, or were measured."""
    final = work / "final" / "weights.pt"
    tables: dict[str, Rows] = {}
    patients: Rows = []
    if (work / "sarcomas.json").exists() or (work / "fold-1").exists():
        scans = sts_scans(sts)
        rows = sorted(kept(work / "sarcomas.json", lambda: sarcomas(scans, work)), key=lambda row: row["patient"])
        tables[SARCOMAS], tables["Folds"], patients = sarcoma_tables(rows, best_thresholds(rows))
    by_point = read(kept(work / "bodies.json", lambda: written(bodies(UNSEEN, count, final))))
    outcomes = {images: [body[0] for body in of] for images, of in by_point.items()}
    outcomes["virtual patients, SPECT/CT"] = on_virtual(final, count, processes)
    tables[BODIES] = [detection_row(name, of) for name, of in outcomes.items()]
    tables["By size and contrast"] = [row for name in AIMED_AT for row in by_size(name, outcomes[name])]
    if cases is not None or (work / "cases.json").exists():
        tables[CASES] = kept(work / "cases.json", lambda: on_cases(case_scans(cases), final) if cases else [])
    if whole_body is not None and patients:
        tables["One real whole-body PET"] = kept(work / "whole_body.json", lambda: on_whole_body(whole_body, sts_scans(sts), work))
    return tables | ({"Patients": patients} if patients else {})


def page(tables: Mapping[str, Rows]) -> str:
    """Return the page."""
    lines = ["# Lesions: how well they are drawn", "", "Written by `python -m benchmarks.lesions`.", "", *SOURCE, ""]
    lines += [] if SARCOMAS in tables else [*NO_FOLDS.strip().splitlines(), ""]
    for heading, rows in tables.items():
        lines += [f"## {heading}", "", *WORDS[heading].strip().splitlines(), "", *table(rows), ""]
    return "\n".join(lines)


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sts", type=Path, required=True)
    parser.add_argument("--whole-body", type=Path, help="zip of the whole-body PET of STS_001")
    parser.add_argument("--cases", type=Path, help="the Michigan patient of the page, as a signed case")
    parser.add_argument("--bodies", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1, help="that make virtual patients")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    tables = measured(asked.work, asked.sts, asked.whole_body, asked.cases, asked.bodies, asked.processes)
    (asked.work / "evaluation.json").write_text(json.dumps({name: rows for name, rows in tables.items() if name != "Patients"}, indent=2))
    PAGE.write_text(page(tables), encoding="utf-8")
    print(page(tables))


if __name__ == "__main__":
    main()
