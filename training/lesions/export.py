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
from training.lesions.model import CHANNELS, CLASSES, LesionNet

DATA: Final = {
    "FDG PET/CT of 34 soft-tissue sarcomas": (
        "CC BY 3.0; Vallières, Freeman, Skamene, El Naqa (2015), The Cancer Imaging Archive, doi 10.7937/K9/TCIA.2015.7GO2GSKS, "
        "and Phys. Med. Biol. 60 (2015) 5471; prepared by A. Zwanenburg (IBSI)"
    ),
    "simulated whole-body PET and SPECT": "made by this repository's code, Apache-2.0 (training/lesions/simulated.py)",
}
FAILURES: Final = (
    "Real lesions in training are large FDG-avid sarcomas of limbs and pelvis; all others, and all SPECT, are simulated.",
    "Without contours of organs, kidneys, bladder, bowel, heart and brain may be taken for lesions.",
    "Glands of the head, bowel and heart have no contours in the shipped organ model: shape and place alone tell them from lesions.",
    "Parts of a tumour without uptake above their surroundings are hardly drawn.",
    "Lesions below 1 mL, and contrasts below 3 on SPECT, are often missed.",
)
ENVELOPE: Final = {"voxel_mm": (1.0, 6.0), "extent_mm": (100.0, 1200.0)}


def write(weights: Path, out: Path, evaluation: Mapping[str, Sequence[Mapping[str, Any]]], channels: tuple[int, ...] = CHANNELS) -> Parity:
    """Write the bundle and return how far ONNX and network differ."""
    network = LesionNet(channels)
    network.load_state_dict(torch.load(weights, weights_only=True))
    return export(network, out, _model(evaluation), samples())


def samples() -> list[NDArray[np.float32]]:
    """Return inputs to compare ONNX and network on: windows of two unseen simulated scans and one of random numbers."""
    rng = np.random.default_rng(3)
    images = [simulated.network_input(simulated.scan(UNSEEN - 1 - number, kind)) for number, kind in enumerate(("pet", "spect"))]
    windows = [image[:, 8:72, :64, 16:80] for image in images]
    return [*windows, rng.standard_normal((len(LESION_CONTRACT.channels), 32, 48, 40)).astype(np.float32)]


def _model(evaluation: Mapping[str, Sequence[Mapping[str, Any]]]) -> Model:
    return Model(
        name="lesions",
        version="1.0.0",
        task="lesions",
        description="Lesions on PET and SPECT, with CT and contours of organs where there are any.",
        contract=LESION_CONTRACT,
        classes=CLASSES,
        envelope=ENVELOPE,
        caution="",
        data=DATA,
        evaluation=evaluation,
        failures=FAILURES,
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
