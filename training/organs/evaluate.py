"""How well organs are drawn on CTs that nothing was learnt from: simulated patients, generated torsos, a labelled real CT.

Dice per organ, at the resolution of the truth. Labels of a real CT in TotalSegmentator's numbering are a model's own output, so
agreement with them is agreement with that model.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from mrtai.engines.prepare import around_body, labels_on, prepared
from mrtai.io.nifti import read_image, read_labels
from mrtai.physics.resample import resampled
from mrtai.simulate.anatomy import torso as formula_torso
from mrtai.simulate.scanner import CT_GRID, ct_image, true_labels
from mrtai.simulate.voxelise import voxelised
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from training.organs.canvas import SPACING_MM, Floats
from training.organs.data import CONTRACT, Drawn, make_anatomy
from training.organs.luck import Luck
from training.organs.paint import painted
from training.organs.tissues import CLASSES, LABEL_OF_TISSUE, UNKNOWN

Bytes = NDArray[np.uint8]
Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""The network's input ``(1, z, y, x)`` → shares of the classes ``(classes, z, y, x)``."""

Measured = dict[str, list[dict[str, float]]]
"""Kind of CT → Dice by organ of each case."""

UNSEEN: Final = 900_000
"""First seed of evaluation: training's anatomies have seeds of a thousand."""

_FOLDED: Final = {"lung_upper_lobe": "lung", "lung_middle_lobe": "lung", "lung_lower_lobe": "lung"}


def dice(drawn: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float | None:
    """Return 2|A∩B|/(|A|+|B|); None where the truth has nothing."""
    return None if not truth.any() else float(2 * (drawn & truth).sum() / (drawn.sum() + truth.sum()))


def drawn(predict: Predict, ct: Image) -> Bytes:
    """Return the classes on the CT's own grid, ``(z, y, x)``."""
    return drawn_on(predict, ct, ct.grid)


def drawn_on(predict: Predict, ct: Image, grid: Grid) -> Bytes:
    """Return the classes that are drawn on a CT at the voxels of another grid, ``(z, y, x)``."""
    image, own = around_body(*prepared([(ct.voxels, ct.grid)], CONTRACT), CONTRACT)
    return labels_on(predict(image), own, grid)


def by_organ(found: Bytes, truth: Bytes, *, names: tuple[str, ...] = CLASSES[2:]) -> dict[str, float]:
    """Return Dice by organ, for the organs that the truth has; the vertebral column as a whole too."""
    scores = {name: dice(found == CLASSES.index(name), truth == CLASSES.index(name)) for name in names}
    bones = [CLASSES.index("spine"), CLASSES.index("red_marrow")]
    scores["spine with red_marrow"] = dice(np.isin(found, bones), np.isin(truth, bones))
    return {name: round(value, 4) for name, value in scores.items() if value is not None}


def on_simulated(predict: Predict, number: int) -> dict[str, float]:
    """Return Dice by organ on the noisy low-dose CT of a simulated patient of unseen seed; lesions of the liver are liver."""
    rng = np.random.default_rng(UNSEEN + number)
    anatomy = formula_torso(rng)
    voxels = voxelised(anatomy, CT_GRID)
    ct, (labels, body) = ct_image(anatomy, voxels, rng), true_labels(anatomy, voxels)
    truth = np.where(body.voxels > 0, CLASSES.index("body"), 0).astype(np.uint8)
    for value, name in labels.names.items():
        name = "liver" if name in anatomy.liver_lesions else name
        if name in CLASSES:
            truth[labels.voxels == value] = CLASSES.index(name)
    return by_organ(drawn(predict, ct), truth)


def on_generated(predict: Predict, number: int, label_maps: list[Path]) -> dict[str, float]:
    """Return Dice by organ on a generated torso of unseen seed."""
    tissue = make_anatomy(UNSEEN + number, label_maps)
    hu = pictured((UNSEEN, number), tissue)
    grid = Grid.axial(tissue.shape, (SPACING_MM,) * 3)
    return by_organ(drawn(predict, Image(hu, Quantity.HOUNSFIELD, grid)), LABEL_OF_TISSUE[tissue])


def pictured(seed: int | tuple[int, ...], tissue: Bytes) -> Floats:
    """Return a CT [HU] of the tissues, both ``(z, y, x)``, painted as training paints them."""
    hu: Floats = painted(Luck(seed, 1), torch.from_numpy(tissue)[None])[0].numpy()
    return hu


def on_reviewed(predict: Predict, case: Drawn) -> dict[str, float]:
    """Return Dice by organ on a reviewed case, where somebody said what lies there."""
    grid = Grid.axial(case.hu.shape, (SPACING_MM,) * 3)
    found, known = drawn(predict, Image(case.hu, Quantity.HOUNSFIELD, grid)), case.labels != UNKNOWN
    return by_organ(np.where(known, found, 0).astype(np.uint8), np.where(known, case.labels, 0).astype(np.uint8))


def low_dose(ct: Image) -> Image:
    """Return the CT as a SPECT/CT gives it: voxels of 4 mm and noise of 30 HU."""
    shape = [int(n * s / 4.0) for n, s in zip(ct.grid.shape, ct.grid.spacing_mm[::-1], strict=True)]
    grid = Grid((shape[0], shape[1], shape[2]), np.full(3, 4.0), ct.grid.origin_mm, ct.grid.direction)
    coarse = resampled(ct, grid, order=1, outside=-1000.0)
    noise = np.random.default_rng(1).normal(0, 30, grid.shape).astype(np.float32)
    return replace(coarse, voxels=coarse.voxels + noise)


def on_labelled(predict: Predict, folder: Path, changed: Callable[[Image], Image] = lambda ct: ct) -> dict[str, float]:
    """Return Dice by organ on a folder's ``ct.nii.gz`` against its ``labels.nii.gz`` in TotalSegmentator's names.

    ``changed`` makes another CT of it first; its drawing is compared on the labels' own grid.
    """
    ct, labels = changed(read_image(folder / "ct.nii.gz", Quantity.HOUNSFIELD)), read_labels(folder / "labels.nii.gz")
    found, truth = drawn_on(predict, ct, labels.grid), np.zeros(labels.grid.shape, dtype=np.uint8)
    for value, name in labels.names.items():
        name = our_name(name)
        if name in CLASSES:
            truth[labels.voxels == value] = CLASSES.index(name)
    # vertebrae come whole there: marrow and bone are compared together
    scores = by_organ(found, truth)
    scores.pop("spine", None)
    return scores


def our_name(name: str) -> str:
    """Return our name of a class of TotalSegmentator."""
    for part, whole in _FOLDED.items():
        if name.startswith(part):
            return f"{whole}_{name.rsplit('_', 1)[1]}"
    return "spine" if name.startswith(("vertebrae_", "sacrum")) else name


def summary(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return median and 10th percentile by organ over cases, for the card."""
    names = [name for name in (*CLASSES, "spine with red_marrow") if any(name in row for row in rows)]
    values = {name: [row[name] for row in rows if name in row] for name in names}
    return {
        name: {"median": round(float(np.median(v)), 3), "p10": round(float(np.percentile(v, 10)), 3), "cases": len(v)}
        for name, v in values.items()
    }


def measured(predict: Predict, label_maps: Path | None, patients: int, torsos: int, first: int = 0) -> Measured:
    """Return Dice by organ of so many simulated patients and generated torsos, numbered from ``first``."""
    maps = [] if label_maps is None else sorted(label_maps.glob("*_labels.nii.gz"))
    return {
        "simulated": [on_simulated(predict, first + n) for n in track(range(patients), description="simulated")],
        "generated": [on_generated(predict, first + n, maps) for n in track(range(torsos), description="generated")],
    }


def predicting(net: torch.nn.Module, device: str) -> Predict:
    """Return what a network predicts, by MONAI's sliding window."""
    from monai.inferers import sliding_window_inference

    net = net.eval().to(device)

    def predict(image: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            seen = torch.from_numpy(image[None]).to(device)
            scores = sliding_window_inference(seen, CONTRACT.patch, 1, net, overlap=0.5, mode="gaussian")
        shares: NDArray[np.float32] = scores[0].softmax(0).cpu().numpy()
        return shares

    return predict


def main() -> None:
    """Print Dice of a training's weights, and keep it where asked for, so that an export need not measure again."""
    import argparse

    from training.organs.model import NOTHING, PARTS, Borrowed, digest, weights_of

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder with weights.pt")
    parser.add_argument("--borrow", type=Path, help="exported ONNX file to take --parts of the network from, as in the export")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["middle", "fine"])
    parser.add_argument("--labelled", type=Path, help="folder with ct.nii.gz and labels.nii.gz")
    parser.add_argument("--label-maps", type=Path, help="folder with *_labels.nii.gz, as for the training data")
    parser.add_argument("--patients", type=int, default=2, help="simulated")
    parser.add_argument("--torsos", type=int, default=1, help="generated")
    parser.add_argument("--first", type=int, default=0, help="number of the first of either")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--keep", action="store_true", help="write evaluation.json into the work folder")
    asked = parser.parse_args()
    net = weights_of(asked.work, Borrowed(tuple(asked.parts), asked.borrow) if asked.borrow else NOTHING)
    predict = predicting(net, asked.device)
    if asked.labelled:
        print(json.dumps(on_labelled(predict, asked.labelled), indent=1))
    found = measured(predict, asked.label_maps, asked.patients, asked.torsos, asked.first)
    if asked.keep:
        (asked.work / "evaluation.json").write_text(json.dumps({"network_sha256": digest(net), "measured": found}))
    print(json.dumps({kind: summary(rows) for kind, rows in found.items()}, indent=1))


if __name__ == "__main__":
    main()
