"""Writes the bundle `models/dose-net` from trained weights, with the evaluation of ``benchmarks.neural_dose`` in the card.

python -m training.dose_net.export --work FOLDER [--out models/dose-net]
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from mrtai.engines.dose_net_envelope import RECOVERED, WORDS, measured
from mrtai.engines.dose_net_input import DOSE_NET, DOSE_NET_CONTRACT, DOSE_TASK, PATCH, as_scanned
from mrtai.io.hashes import file_sha256
from training.card import table
from training.dose_net.data import FIRST_SEED, FWHM_MM, SPACING_MM, drawn_case, shown_tia
from training.dose_net.model import CHANNELS, Answers, DoseNet
from training.dose_net.scans import NUCLIDE, world
from training.export import INTENDED_USE, LARGEST_DIFFERENCE, OPSET, about, commit, publish, write_texts

VERSION: Final = "0.2.0"
DESCRIPTION: Final = "Absorbed dose of 177Lu from the dose of a blurred and noisy scan, with an error of every voxel."
RECIPE: Final = (
    "Residual U-Net of MONAI: training/dose_net/README.md. Its answer multiplies the dose by convolution whose regions' blur the iterative "
    "Yang method took back, or that of a map with recovery; without contours the dose by convolution alone."
)
DATA: Final = "214 virtual patients of this repository's simulator, Apache-2.0 (training/dose_net/data.py), by seed"
FAILURES: Final = (
    "Everything was learned from virtual patients: one torso generator, Gaussian point spreads, one model of noise and residual scatter.",
    "It was judged with contours and recovery curves without error, and with the training's own kind of lesions and uneven uptake.",
    "It needs the resolution of the scans. A resolution stated wrong by 10 % makes doses of small lesions wrong by about as much (0.1.0).",
    "With contours it takes them for true: a lesion drawn too small or too large gets the dose that its contour says.",
    "Where nobody drew a lesion smaller than about twice the resolution its dose is unsure, mostly too low.",
    "In lungs it errs by a fifth without recovery: activity there is mostly what blur and residual scatter brought from elsewhere.",
    "With recovery it makes lungs worse: 6 % too low, where recovery alone is 2 % too high. Kidneys and single voxels it hardly changes.",
    "Voxels of one region touching another of much higher uptake are the least certain; the error map shows it.",
)
EXTRA: Final = 0.1
"""The envelope reaches this share of its width beyond what training showed."""

BODIES: Final = 40
BASES: Final = ("as scanned", "recovered")
OUTPUTS: Final = ("logs", "recovered_logs")
"""Of the ONNX file, by base."""


def write(
    weights: Path,
    out: Path,
    evaluation: Mapping[str, Any],
    *,
    ranges: Mapping[str, Any],
    factors: Sequence[float] = (1.0, 1.0),
    channels: tuple[int, ...] = CHANNELS,
    scanned: Path | None = None,
) -> float:
    """Write the bundle and return the largest difference between ONNX and network, of the logarithms that it answers.

    ``ranges`` are the ``envelope``. Every sd is multiplied by one of ``factors``, of cases as scanned and recovered, so that 68 % of
    held-out voxels lie within one. ``scanned`` are other weights, finished ones, for maps as scanned.

    Raises:
        ValueError: they differ by more than a thousandth; nothing is written then.
    """
    recovered = _network(weights, factors, channels)
    network = Answers(recovered if scanned is None else _network(scanned, (1.0, 1.0), channels), recovered).eval()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        staged = Path(scratch)
        onnx = staged / "models" / "model.onnx"
        onnx.parent.mkdir()
        to_onnx(network, onnx)
        difference = largest_difference(network, onnx, samples())
        if not difference <= LARGEST_DIFFERENCE:
            raise ValueError(f"{DOSE_NET}: ONNX and network differ by {difference:.2g}; nothing was written")
        metadata = _metadata(file_sha256(onnx), ranges, evaluation)
        write_texts(staged, metadata, _inference(), card(metadata, evaluation, difference))
        publish(staged, out)
    return difference


def _network(weights: Path, factors: Sequence[float], channels: tuple[int, ...]) -> DoseNet:
    network = DoseNet(channels)
    network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    assert network.head.bias is not None
    with torch.no_grad():
        network.head.bias[[1, 3]] += torch.log(torch.tensor(factors))
    return network


def to_onnx(network: torch.nn.Module, path: Path) -> None:
    """Write the network as ONNX: ``image`` ``(n, channels, 64, 64, 64)`` in, its logarithms ``(n, 2, 64, 64, 64)`` out, by base."""
    sample = torch.zeros(1, len(DOSE_NET_CONTRACT.channels), *PATCH)
    names = list(OUTPUTS)
    axes = {name: {0: "n"} for name in ("image", *names)}
    torch.onnx.export(
        network, (sample,), str(path), input_names=["image"], output_names=names, dynamic_axes=axes, opset_version=OPSET, dynamo=False
    )


def largest_difference(network: torch.nn.Module, path: Path, images: Sequence[NDArray[np.float32]]) -> float:
    """Return how far the ONNX file and the network differ: of logarithms, so relative to dose and sd."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for image in images:
        theirs = session.run(None, {"image": image[None]})
        with torch.inference_mode():
            ours = network(torch.from_numpy(image[None]))
        worst = float(np.max([worst, *(np.abs(a - b.numpy()).max() for a, b in zip(theirs, ours, strict=True))]))
    return worst


def samples() -> list[NDArray[np.float32]]:
    """Return windows of random numbers, smooth and rough, to compare ONNX and network on."""
    rng = np.random.default_rng(3)
    shape = (len(DOSE_NET_CONTRACT.channels), *PATCH)
    rough = rng.standard_normal(shape).astype(np.float32)
    smooth = np.broadcast_to(rng.standard_normal((shape[0], 1, 1, 1)), shape).astype(np.float32)
    return [rough, smooth + 0.1 * rough, 3 * rough]


def envelope(bodies: int = BODIES) -> dict[str, Any]:
    """Return the ranges that training's cases lie in, a tenth of their width wider; those of what was drawn evenly, as they were drawn."""
    of, scans, recovered = world(), [], []
    for seed in range(FIRST_SEED, FIRST_SEED + bodies):
        body, how, case = drawn_case(seed, of)
        density = case.aligned.density
        scans.append(measured(shown_tia(body, how, case, of, recovered=False), density))
        given_back = shown_tia(body, how, case, of, recovered=True)
        recovered.append(measured(as_scanned(given_back, density, body.regions.voxels, how.stated_fwhm_mm), density))
    # a body is not foreign for being taller, wider or fatter than the simulator's
    drawn = {"extent_mm": (150.0, 1200.0), "body_ml": (5000.0, 120000.0), "body_gram_per_ml": (0.75, 1.1)}
    drawn |= {"voxel_mm": SPACING_MM, "fwhm_mm": FWHM_MM}
    told = [name for name in WORDS if name not in drawn]
    own = {RECOVERED: {name: _range([case[name] for case in recovered]) for name in told}}
    return {"nuclides": [NUCLIDE]} | drawn | {name: _range([case[name] for case in scans]) for name in told} | own


def _range(values: Sequence[float]) -> tuple[float, float]:
    more = EXTRA * (max(values) - min(values))
    return round(min(values) - more, 4), round(max(values) + more, 4)


def _metadata(digest: str, ranges: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    named = {str(number): channel.quantity for number, channel in enumerate(DOSE_NET_CONTRACT.channels)}
    shared = {"type": "image", "spatial_shape": list(PATCH), "dtype": "float32", "is_patch_data": True, "format": "magnitude"}
    given = {**shared, "modality": "NM", "num_channels": len(named), "value_range": [], "channel_def": named}
    told = {"0": "log of dose / base", "1": "log of sd / base"}
    answer = {**shared, "num_channels": len(told), "value_range": [], "channel_def": told}
    return {
        **about(DOSE_NET, VERSION, DESCRIPTION, DATA),
        "data_type": "NIfTI",
        "eval_metrics": {},
        "network_data_format": {
            "inputs": {"image": given},
            "outputs": dict.fromkeys(OUTPUTS, answer),
        },
        "mrtai": {
            "task": DOSE_TASK,
            "sha256": digest,
            "envelope": dict(ranges),
            "caution": str(evaluation.get("caution", "This version was not measured")),
            "trained_from_commit": commit(),
        },
    }


def _inference() -> dict[str, Any]:
    return {
        "imports": ["$import onnxruntime", "$import torch"],
        "bundle_root": ".",
        "session": "$onnxruntime.InferenceSession(@bundle_root + '/models/model.onnx')",
        "network": "$lambda x: torch.from_numpy(@session.run(None, {'image': x.numpy()})[0])",
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": list(PATCH), "overlap": 0.25, "mode": "gaussian"},
    }


def card(metadata: Mapping[str, Any], evaluation: Mapping[str, Any], difference: float) -> str:
    """Return the model card as Markdown."""
    ours = metadata["mrtai"]
    rows = [{"number": number, "channel": channel.quantity} for number, channel in enumerate(DOSE_NET_CONTRACT.channels)]
    own = {f"{name}, {RECOVERED}": ends for name, ends in ours["envelope"].get(RECOVERED, {}).items()}
    ranges = {name: ends for name, ends in ours["envelope"].items() if name not in ("nuclides", RECOVERED)} | own
    edges = [{"of": name, "learned": f"{ends[0]:.4g} to {ends[1]:.4g}"} for name, ends in ranges.items()]
    caution = [f"**{ours['caution']}.**", ""] if ours["caution"] else []
    lines = [
        f"# {DOSE_NET} {VERSION}",
        "",
        DESCRIPTION,
        "",
        f"**Intended use.** {INTENDED_USE}",
        "",
        *caution,
        "## Input and output",
        "",
        "On the voxels of the TIA map, made by `mrtai.engines.dose_net_input`; level: the 99th percentile in the body.",
        "",
        *table(rows),
        "",
        "Answer: the logarithms of dose / base and of its standard deviation / base, of two bases: the convolution's dose with the",
        "regions' blur taken back by the iterative Yang method, and that of a map with recovery. The energy absorbed in the field",
        f"stays that of the convolution. Nuclides: {', '.join(ours['envelope']['nuclides'])}.",
        "",
        "Outside of these ranges the engine gives the convolution's dose and the flag `NEURAL_OUTSIDE`:",
        "",
        *table(edges),
        "",
        "## Learned from",
        "",
        f"- {evaluation.get('pairs', '')} {DATA}".replace("-  ", "- "),
        "",
        RECIPE,
        "",
        "## How well it does",
        "",
    ]
    for name, of in evaluation.get("tables", {}).items():
        lines += [f"### {name}", "", *table(of), ""]
    if not evaluation.get("tables"):
        lines += ["Not evaluated.", ""]
    lines += ["## Where it fails", "", *[f"- {sentence}" for sentence in FAILURES], ""]
    lines += [
        "## File",
        "",
        f"The logarithms of ONNX and network differ by {difference:.1e} at most.",
        f"SHA-256 of the weights `{ours['sha256']}`, trained from commit `{ours['trained_from_commit']}`.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        help="folder with weights.pt; evaluation.json, held-out.json and scanned.pt count where they are",
    )
    parser.add_argument("--out", type=Path, default=Path("models/dose-net"))
    asked = parser.parse_args()
    evaluation, held_out = (
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for path in (asked.work / "evaluation.json", asked.work / "held-out.json")
    )
    told = asked.work / "envelope.json"
    if not told.exists():
        told.write_text(json.dumps(envelope()), encoding="utf-8")
    ranges = json.loads(told.read_text(encoding="utf-8"))
    scanned = asked.work / "scanned.pt"
    missing = [base for base in BASES if held_out and not held_out.get(base)]
    if missing:
        parser.error(f"held-out.json says nothing of pairs {' and '.join(missing)}: make them and run training.dose_net.calibrate again")
    factors = [held_out[base]["factor_68"] if held_out else 1.0 for base in BASES]
    other = scanned if scanned.exists() else None
    difference = write(asked.work / "weights.pt", asked.out, evaluation, ranges=ranges, factors=factors, scanned=other)
    print(json.dumps({"out": str(asked.out), "largest_difference": difference}))


if __name__ == "__main__":
    main()
