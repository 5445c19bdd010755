"""Writes the bundle `models/lesions` from trained weights, with the evaluation of ``benchmarks.lesions`` in the card.

python -m training.lesions.export --work FOLDER [--out models/lesions]
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from mrtai.engines.lesion_input import LESION_CONTRACT
from training.export import Model, Parity, export
from training.lesions import simulated
from training.lesions.evaluate import UNSEEN
from training.lesions.model import CHANNELS, CLASSES, DRAWN_FROM, LesionNet, drawing_from

DATA: Final = {
    "FDG PET/CT of 34 soft-tissue sarcomas": (
        "CC BY 3.0; Vallières, Freeman, Skamene, El Naqa (2015), The Cancer Imaging Archive, doi 10.7937/K9/TCIA.2015.7GO2GSKS, "
        "and Phys. Med. Biol. 60 (2015) 5471; prepared by A. Zwanenburg (IBSI)"
    ),
    "simulated whole-body PET and SPECT": "made by this repository's code, Apache-2.0 (training/lesions/simulated.py)",
}
FAILURES: Final = (
    "Real lesions in training are large FDG-avid sarcomas of limbs and pelvis; all others, and all SPECT, are simulated.",
    "Without contours of organs, kidneys, bladder, bowel, heart and brain may be taken for lesions, and small lesions are overlooked.",
    "Lesions of soft tissue beside bowel or bladder, large ones too, may be taken for these and left out.",
    "Glands of the head, bowel and heart have no contours in the shipped organ model: shape and place alone tell them from lesions.",
    "Parts of a tumour without uptake above their surroundings are hardly drawn.",
    "Lesions below 1 mL, and contrasts below 3 on SPECT, are often missed.",
)
SARCOMAS: Final = "Soft-tissue sarcomas, five-fold by patient"
BODIES: Final = "Simulated whole bodies of unseen seeds"
AIMED_AT: Final = ("PET, organs drawn", "SPECT, organs drawn")
LEAST_DICE: Final = 0.70
ABOVE_THRESHOLD: Final = 0.10
LEAST_FOUND: Final = 0.90
MOST_FALSE: Final = 1.0
"""Aims: median Dice and its distance to the best fixed threshold; lesions above 5 mL at contrast 5 that are found, and false ones."""

ENVELOPE: Final = {"voxel_mm": (1.0, 6.0), "extent_mm": (100.0, 1200.0)}


def write(weights: Path, out: Path, evaluation: Mapping[str, Sequence[Mapping[str, Any]]], channels: tuple[int, ...] = CHANNELS) -> Parity:
    """Write the bundle and return how far ONNX and network differ."""
    network = LesionNet(channels)
    network.load_state_dict(torch.load(weights, weights_only=True))
    return export(drawing_from(DRAWN_FROM, network), out, _model(evaluation), samples())


def samples() -> list[NDArray[np.float32]]:
    """Return inputs to compare ONNX and network on: windows of two unseen simulated scans and one of random numbers."""
    rng = np.random.default_rng(3)
    images = [simulated.network_input(simulated.scan(UNSEEN - 1 - number, kind)) for number, kind in enumerate(("pet", "spect"))]
    windows = [image[:, 8:72, :64, 16:80] for image in images]
    return [*windows, rng.standard_normal((len(LESION_CONTRACT.channels), 32, 64, 48)).astype(np.float32)]


def caution(evaluation: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return what every report must say of the network, by its evaluation; nothing where all aims are met."""
    if not evaluation:
        return "This version of lesions was not measured"
    missed = _missed_dice(evaluation[SARCOMAS]) if SARCOMAS in evaluation else []
    for row in evaluation[BODIES]:
        if row["images"] in AIMED_AT:
            missed += _missed_detection(row)
    told = [] if SARCOMAS in evaluation else ["This version of lesions was not measured on real patients it never saw"]
    return ". ".join(told + ([f"This version of lesions misses its aims: {'; '.join(missed)}"] if missed else []))


def _missed_dice(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    methods = {row["method"]: float(row["median"]) for row in rows}
    own = methods["network, whole crop"]
    best = max(median for method, median in methods.items() if method.endswith("whole crop)"))
    missed = [] if own >= LEAST_DICE else [f"median Dice on sarcomas {own:.2f} (aim {LEAST_DICE:.2f})"]
    return missed + (
        [] if own - best >= ABOVE_THRESHOLD else [f"{own - best:+.2f} to the best fixed threshold (aim {ABOVE_THRESHOLD:+.2f})"]
    )


def _missed_detection(row: Mapping[str, Any]) -> list[str]:
    found, _, there, *_ = row["found, > 5 mL at ≥ 5"].split()
    wrong = float(row["false positives a patient"].split()[0])
    share = int(found) / max(int(there), 1)
    told = [] if share >= LEAST_FOUND else [f"{row['images']}: {share:.0%} of lesions found (aim {LEAST_FOUND:.0%})"]
    return told + ([] if wrong <= MOST_FALSE else [f"{row['images']}: {wrong:.1f} false positives a patient (aim {MOST_FALSE:g})"])


def _model(evaluation: Mapping[str, Sequence[Mapping[str, Any]]]) -> Model:
    warning = caution(evaluation)
    return Model(
        name="lesions",
        version="0.3.0",
        task="lesions",
        description="Lesions on PET and SPECT, with CT and contours of organs where there are any.",
        contract=LESION_CONTRACT,
        classes=CLASSES,
        envelope=ENVELOPE,
        caution=warning,
        data=DATA,
        evaluation=evaluation,
        failures=(warning + ".", *FAILURES) if warning else FAILURES,
        recipe=(
            "Residual U-Net of MONAI, first trained on simulated bodies, then on real and simulated by halves: training/lesions/README.md. "
            "The input is computed by mrtai.engines.lesion_input: uptake is relative to the median of the body."
        ),
    )


def main() -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder with final/weights.pt and evaluation.json")
    parser.add_argument("--out", type=Path, default=Path("models/lesions"))
    parser.add_argument("--smoke", action="store_true", help="the tiny network of train --smoke")
    asked = parser.parse_args()
    figures = asked.work / "evaluation.json"
    evaluation = json.loads(figures.read_text(encoding="utf-8")) if figures.exists() else {}
    parity = write(asked.work / "final" / "weights.pt", asked.out, evaluation, (4, 8, 8) if asked.smoke else CHANNELS)
    print(json.dumps({"out": str(asked.out), "largest_difference": parity.largest_difference, "agreement": parity.agreement}))


if __name__ == "__main__":
    main()
