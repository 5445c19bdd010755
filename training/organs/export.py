"""Writes the bundle `models/organs-ct` from trained weights, with its evaluation in the card.

python -m training.organs.export --work FOLDER [--out models/organs-ct] [--labelled FOLDER]
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from mrtai.engines.onnx_segmenter import scores
from mrtai.io.bundles import read_bundle
from mrtai.physics.ct_envelope import ct_statistics, envelope_of
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from training.export import Model, Parity, export
from training.organs.batches import Batches
from training.organs.canvas import SPACING_MM
from training.organs.data import CONTRACT, HELD_OUT, Drawn, read_anatomies, read_cases, read_contours, split
from training.organs.evaluate import Measured, Predict, measured, on_labelled, on_reviewed, pictured, summary
from training.organs.model import NOTHING, PARTS, Borrowed, digest, weights_of
from training.organs.tissues import CLASSES
from training.organs.train import Settings

VERSION: Final = "0.2.0"
CASES: Final = 10
PAINTED: Final = 60
"""Anatomies whose pictures show what CTs the model knows."""

OWN_VOXELS: Final = {"voxel_mm": [0.3, 5.0], "slice_mm": [0.5, 6.5], "extent_mm": [90.0, 2300.0]}
"""What the preparation evens out; generated CTs have no voxels of their own."""

DATA: Final = {
    "generated torsos": "made by this repository's code, Apache-2.0 (training/organs/anatomy.py)",
    "organ shapes of 12 patients": "label maps, CC BY: modaresimr/evalseg after Gibson et al., IEEE TMI 2018, doi 10.1109/TMI.2018.2806309",
    "real CTs with contours of this repository": "CC BY 4.0, CC BY 3.0 and Apache-2.0, see training/organs/contours/README.md",
}
AIMS: Final = {"liver": 0.90, "spleen": 0.85, "kidney_left": 0.85, "kidney_right": 0.85}
"""Dice on a real CT below which the model's every drawing is to be looked at."""

LEAST_DICE: Final = 0.70
"""The same for every other organ: overlap below 0.7 is commonly not called agreement (Zijdenbos et al., IEEE TMI 13 (1994) 716)."""

REAL: Final = "Dice on one real CT that was never trained on, against the labels of another model (TotalSegmentator, fast)"

FAILURES: Final = (
    "Stomach, bladder, aorta and spine have no aim of their own: on the real CT most of the stomach was missed.",
    "Contours of low contrast: stomach and bowel, pancreas beside spleen or kidney, urine against the bladder's wall in noise.",
    "Anatomy after surgery, transplanted or horseshoe kidneys, large tumours and ascites were hardly or never seen in training.",
    "Labels of the real CTs were drawn by software from hand-placed seeds, not by clinicians.",
    "The red marrow is the space inside the vertebral bodies; marrow of pelvis, ribs and limbs is not drawn.",
)


def envelope(work: Path) -> dict[str, list[float]]:
    """Return the range of the statistics of CTs like those that were learned from; kept in ``work``, as it takes minutes."""
    kept = work / "envelope.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    found = [ct_statistics(Image(case.hu, Quantity.HOUNSFIELD, _grid(case.hu))) for case in read_contours() if len(case.hu) > 50]
    for number, tissue in enumerate(read_anatomies(work)[:PAINTED]):
        hu = pictured((1, number), tissue)
        found.append(ct_statistics(Image(hu, Quantity.HOUNSFIELD, _grid(hu))))
    ranges = envelope_of(found) | OWN_VOXELS
    kept.write_text(json.dumps(ranges))
    return ranges


def _grid(voxels: NDArray[Any]) -> Grid:
    z, y, x = voxels.shape
    return Grid.axial((z, y, x), (SPACING_MM,) * 3)


def missed(found: Mapping[str, float]) -> dict[str, str]:
    """Return the organs whose Dice on a real CT misses its aim, with both figures."""
    aims = dict.fromkeys(found, LEAST_DICE) | AIMS
    return {name: f"{found.get(name, 0.0):.2f} (aim {aim:.2f})" for name, aim in aims.items() if found.get(name, 0.0) < aim}


def caution(found: Mapping[str, float] | None) -> str:
    """Return what every report must say of the model, by its Dice on a real CT; nothing where all aims are met."""
    if found is None:
        return "This version of organs-ct was not measured on a real CT"
    told = ", ".join(f"{name} {figures}" for name, figures in missed(found).items())
    return told and f"This version of organs-ct misses its accuracy aims on a real CT, Dice against another model's labels: {told}"


def model(evaluation: Mapping[str, Any], ranges: dict[str, list[float]], real: Mapping[str, float] | None, trained: str) -> Model:
    """Return what the bundle says of itself; ``real``: Dice by organ on a real CT."""
    warning = caution(real)
    return Model(
        name="organs-ct",
        version=VERSION,
        task="organs",
        description="Organs on CT, native or with contrast, also low-dose CT of SPECT/CT and PET/CT.",
        contract=CONTRACT,
        classes=CLASSES,
        envelope=ranges,
        caution=warning,
        caution_regions=() if real is None else tuple(missed(real)),
        data=DATA,
        evaluation=evaluation,
        failures=(warning + ".", *FAILURES) if warning else FAILURES,
        recipe=trained,
    )


def recipe(work: Path, borrowed: Borrowed = NOTHING) -> str:
    """Return how the weights of a work folder were trained: the stages of its settings and the steps of its log."""
    settings = json.loads((work / "settings.json").read_text())
    made = {row["stage"]: row["step"] for row in map(json.loads, (work / "log.jsonl").read_text().splitlines())}
    stages = "; ".join(
        f"{s['name']}: {made[s['name']]} steps of {s['batch']} x {tuple(s['patch'])} voxels of {3 * s['coarser']} mm"
        for s in settings["stages"]
    )
    begun = f", begun from weights of SHA-256 {settings['start_sha256']}" if settings["start"] else ""
    return f"Residual U-Net in three resolutions ({stages}), AdamW, bfloat16{begun}{borrowed.told()}. Recipe: training/organs/README.md."


def samples() -> list[NDArray[np.float32]]:
    """Return real CTs as the network sees them, cut to its window, to compare ONNX and network on."""
    batches = Batches(None, read_contours(), seed=1)
    return [batches[n][0][0].numpy() for n in range(3)]


def evaluated(predict: Predict, found: Measured, reviewed: Sequence[Drawn]) -> dict[str, Any]:
    """Return the card's tables: Dice on what the model was not trained on, as ``found`` on simulated kinds, and on reviewed cases."""
    bodies, torsos = found["simulated"], found["generated"]
    sections = {
        f"Dice on noisy CTs of {len(bodies)} simulated patients, other seeds of a generator that training used": rows(bodies),
        f"Dice on {len(torsos)} generated torsos, unseen seeds around the same organ shapes": rows(torsos),
    }
    if reviewed:
        own = [on_reviewed(predict, case) for case in reviewed]
        sections[f"Dice on {len(own)} reviewed cases of patients held out of training, within what was drawn"] = rows(own)
    return sections


def _kept_evaluation(work: Path, net: torch.nn.Module) -> Measured | None:
    """Return what ``evaluate.py --keep`` found for this very network."""
    kept = work / "evaluation.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    return found["measured"] if found.get("network_sha256") == digest(net) else None


def rows(cases: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Return a table's rows: organ, median, 10th percentile, number of cases."""
    return [{"organ": name, **values} for name, values in summary(cases).items()]


def write(
    work: Path,
    out: Path,
    *,
    label_maps: Path | None = None,
    labelled: Path | None = None,
    reviewed: Sequence[Drawn] = (),
    cases: int = CASES,
    borrowed: Borrowed = NOTHING,
) -> Parity:
    """Write the bundle: once to evaluate its ONNX, then with the evaluation in its card."""
    net, inputs, ranges, trained = weights_of(work, borrowed), samples(), envelope(work), recipe(work, borrowed)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "organs-ct"
        export(net, trial, model({}, ranges, None, trained), inputs)
        bundle = read_bundle(trial)

        def predict(image: NDArray[np.float32]) -> NDArray[np.float32]:
            return scores(bundle, image, threads=2)

        found = _kept_evaluation(work, net) or measured(predict, label_maps, cases, cases)
        evaluation = evaluated(predict, found, reviewed)
        real = None if labelled is None else on_labelled(predict, labelled)
    if real is not None:
        evaluation[REAL] = [{"organ": name, "Dice": f"{value:.3f}"} for name, value in real.items()]
    return export(net, out, model(evaluation, ranges, real, trained), inputs)


def main() -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder with weights.pt")
    parser.add_argument("--out", type=Path, default=Path("models/organs-ct"))
    parser.add_argument("--label-maps", type=Path, help="folder with *_labels.nii.gz, as for the training data")
    parser.add_argument("--labelled", type=Path, help="folder with a labelled real CT, for the card")
    parser.add_argument("--cases", type=Path, help="the folder of signed CASEs that was trained on; its held-out patients are measured")
    parser.add_argument("--patients", type=int, default=CASES, help="simulated patients, and as many generated torsos, for the card")
    parser.add_argument("--borrow", type=Path, help="exported ONNX file to take --parts of the network from")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["middle", "fine"], help="parts that --borrow gives")
    parser.add_argument("--seed", type=int, default=Settings().seed, help="of the training, which chose the patients held out")
    asked = parser.parse_args()
    reviewed = split(read_cases(asked.cases), HELD_OUT, asked.seed)[1] if asked.cases else ()
    borrowed = Borrowed(tuple(asked.parts), asked.borrow) if asked.borrow else NOTHING
    measures = {"label_maps": asked.label_maps, "labelled": asked.labelled, "reviewed": reviewed, "cases": asked.patients}
    parity = write(asked.work, asked.out, **measures, borrowed=borrowed)
    print(json.dumps({"out": str(asked.out), "largest_difference": parity.largest_difference, "agreement": parity.agreement}))


if __name__ == "__main__":
    main()
