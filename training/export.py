"""From a trained network to a bundle: ONNX that answers like the network, metadata, and a card that says what it can do."""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import monai
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from mrtai.io.hashes import file_sha256
from mrtai.values.bundle import InputContract
from training.card import card

LARGEST_DIFFERENCE: Final = 1e-3
LEAST_AGREEMENT: Final = 0.999
OPSET: Final = 17
INTENDED_USE: Final = "Research. Not a medical device: decision support under a qualified person."


@dataclass(frozen=True, slots=True)
class Model:
    """What a bundle says of its model, beside the weights.

    Attributes:
        classes: region name by output channel, background first.
        caution: what every report says of the model, where it misses its aims; ``caution_regions`` the regions that do, all where none is
            named.
        evaluation: sections of the card: name → rows, each a mapping of column to value.
        data: what was learned from: name → licence and source.
        failures: where it is known to fail, one sentence each.
    """

    name: str
    version: str
    task: str
    description: str
    contract: InputContract
    classes: tuple[str, ...]
    envelope: Mapping[str, Any]
    caution: str
    data: Mapping[str, str]
    evaluation: Mapping[str, Sequence[Mapping[str, Any]]]
    failures: Sequence[str]
    recipe: str
    caution_regions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parity:
    """How far ONNX and network differ: largest difference of a score, the share of voxels with the same label; channels of either."""

    largest_difference: float
    agreement: float
    channels: int


def export(network: torch.nn.Module, folder: Path, model: Model, samples: Sequence[NDArray[np.float32]]) -> Parity:
    """Write the bundle of a network into ``folder`` after comparing both on ``samples`` ``(channels, z, y, x)``.

    Raises:
        ValueError: ONNX and network disagree, or the network has other channels than ``model`` says; nothing is written then.
    """
    network = network.eval().cpu()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        staged = Path(scratch)
        weights = staged / "models" / "model.onnx"
        weights.parent.mkdir()
        to_onnx(network, weights, samples[0])
        parity = compared(network, weights, samples)
        _require_alike(model, parity)
        write_metadata(staged, model, parity)
        publish(staged, folder)
    return parity


def publish(staged: Path, folder: Path) -> None:
    """Move a finished bundle to where it is wanted, on the same disk; weights first: should this be cut off, their digest tells."""
    for path in sorted((path for path in staged.rglob("*") if path.is_file()), reverse=True):
        target = folder / path.relative_to(staged)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)


def write_texts(staged: Path, metadata: Mapping[str, Any], inference: Mapping[str, Any], card_text: str) -> None:
    """Write MONAI's two configurations and the card of a bundle."""
    for part in ("configs", "docs"):
        (staged / part).mkdir(parents=True, exist_ok=True)
    for name, what in (("metadata", metadata), ("inference", inference)):
        (staged / "configs" / f"{name}.json").write_text(json.dumps(what, indent=2) + "\n", encoding="utf-8")
    (staged / "docs" / "README.md").write_text(card_text, encoding="utf-8")


def about(name: str, version: str, description: str, data: str) -> dict[str, Any]:
    """Return what MONAI's metadata say of every bundle of ours."""
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": version,
        "changelog": {version: "trained and exported"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"onnxruntime": onnxruntime.__version__},
        "name": name,
        "task": description,
        "description": description,
        "authors": "the mrtai authors",
        "copyright": "Copyright the mrtai authors; Apache-2.0",
        "data_source": data,
        "intended_use": INTENDED_USE,
        "references": [],
    }


def _require_alike(model: Model, parity: Parity) -> None:
    if parity.channels != len(model.classes):
        raise ValueError(f"{model.name}: {parity.channels} channels for {len(model.classes)} classes; nothing was written")
    # said so that a difference that is not a number is refused too
    if not (parity.largest_difference <= LARGEST_DIFFERENCE and parity.agreement >= LEAST_AGREEMENT):
        raise ValueError(
            f"{model.name}: ONNX and network differ by {parity.largest_difference:.2g} (at most {LARGEST_DIFFERENCE:g}), "
            f"{parity.agreement:.4%} of the labels agree (at least {LEAST_AGREEMENT:.1%}); nothing was written"
        )


def to_onnx(network: torch.nn.Module, path: Path, sample: NDArray[np.float32]) -> None:
    """Write the network as ONNX: ``image`` ``(n, c, z, y, x)`` in, ``scores`` out, any size."""
    axes = {0: "n", 2: "z", 3: "y", 4: "x"}
    torch.onnx.export(
        network,
        (torch.from_numpy(sample[None]),),
        str(path),
        input_names=["image"],
        output_names=["scores"],
        dynamic_axes={"image": axes, "scores": axes},
        opset_version=OPSET,
        dynamo=False,
    )


def compared(network: torch.nn.Module, weights: Path, samples: Sequence[NDArray[np.float32]]) -> Parity:
    """Return how far the ONNX file and the network differ on ``samples``."""
    session = onnxruntime.InferenceSession(str(weights), providers=["CPUExecutionProvider"])
    worst, same, voxels, channels = 0.0, 0, 0, 0
    for sample in samples:
        (theirs,) = session.run(None, {"image": sample[None]})
        with torch.inference_mode():
            ours = network(torch.from_numpy(sample[None])).numpy()
        # a maximum that keeps what is not a number
        worst = float(np.max([worst, np.abs(theirs - ours).max()]))
        same += int((theirs.argmax(axis=1) == ours.argmax(axis=1)).sum())
        voxels += int(np.prod(ours.shape[2:]))
        channels = ours.shape[1]
    return Parity(worst, same / voxels, channels)


def write_metadata(folder: Path, model: Model, parity: Parity) -> None:
    """Write MONAI's two configurations and the card of a bundle whose weights are there."""
    metadata = _metadata(model, file_sha256(folder / "models" / "model.onnx"))
    write_texts(folder, metadata, _inference(model), card(model, parity, metadata))


def _metadata(model: Model, digest: str) -> dict[str, Any]:
    """Return MONAI's metadata with our block, which says what the network must be given and what each channel of its answer is."""
    return {
        **about(model.name, model.version, model.description, "; ".join(f"{name}: {licence}" for name, licence in model.data.items())),
        "data_type": "NIfTI",
        "image_classes": ", ".join(channel.quantity for channel in model.contract.channels),
        "label_classes": ", ".join(model.classes[1:]),
        "pred_classes": ", ".join(model.classes[1:]),
        "eval_metrics": {},
        "network_data_format": _network_data_format(model),
        "mrtai": {
            "task": model.task,
            "sha256": digest,
            "contract": asdict(model.contract),
            "classes": {str(value): name for value, name in enumerate(model.classes) if value},
            "envelope": dict(model.envelope),
            "caution": model.caution,
            "caution_regions": list(model.caution_regions),
            "trained_from_commit": commit(),
        },
    }


def _network_data_format(model: Model) -> dict[str, Any]:
    """Return MONAI's description of the network's input and output."""
    channels, on_ct = model.contract.channels, model.contract.channels[0].quantity == "HU"
    # five halvings at most, so any size that is a multiple of 32 fits
    shared = {"type": "image", "spatial_shape": ["32*n"] * 3, "dtype": "float32", "is_patch_data": True}
    ends = [(bound - c.shift) / c.scale for c in channels for bound in (c.low, c.high)]
    image = {
        **shared,
        "format": "hounsfield" if on_ct else "magnitude",
        "modality": "CT" if on_ct else "PT",
        "num_channels": len(channels),
        "value_range": [min(ends), max(ends)],
        "channel_def": {str(number): channel.quantity for number, channel in enumerate(channels)},
    }
    answer = {
        **shared,
        "format": "segmentation",
        "num_channels": len(model.classes),
        "value_range": [],
        "channel_def": {str(value): name for value, name in enumerate(model.classes)},
    }
    return {"inputs": {"image": image}, "outputs": {"pred": answer}}


def _inference(model: Model) -> dict[str, Any]:
    """Return MONAI's configuration of an inference with this bundle: the same window on the same lattice."""
    channel = model.contract.channels[0]
    return {
        "imports": ["$import onnxruntime", "$import torch"],
        "bundle_root": ".",
        "session": "$onnxruntime.InferenceSession(@bundle_root + '/models/model.onnx')",
        "network": "$lambda x: torch.from_numpy(@session.run(None, {'image': x.numpy()})[0])",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "SPL"},
                {"_target_": "Spacingd", "keys": "image", "pixdim": [model.contract.spacing_mm] * 3, "mode": "bilinear"},
                {
                    "_target_": "ScaleIntensityRanged",
                    "keys": "image",
                    "a_min": channel.low,
                    "a_max": channel.high,
                    "b_min": (channel.low - channel.shift) / channel.scale,
                    "b_max": (channel.high - channel.shift) / channel.scale,
                    "clip": True,
                },
            ],
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": list(model.contract.patch), "overlap": 0.5, "mode": "gaussian"},
    }


def commit() -> str:
    """Return the commit that the code was trained from, ``unknown`` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
