"""Writes the bundle `models/curve-net` from trained weights: calibrated, measured on unseen populations, compared with its ONNX.

python -m training.curve_net.export --work FOLDER [--out models/curve-net]
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

from mrtai.engines.curve_net import ENVELOPE, NAME, PRIOR, SCANS, TASK, VALUES
from mrtai.io.hashes import file_sha256
from training.card import table
from training.curve_net.data import Batch, batch
from training.curve_net.model import HIDDEN, CurveNet, integral
from training.export import INTENDED_USE, LARGEST_DIFFERENCE, OPSET, about, commit, publish, write_texts

VERSION: Final = "0.1.0"
DESCRIPTION: Final = "Time-integrated activity of a region from one to four scans and the population's kinetics, with an interval."
FAILURES: Final = (
    "Everything was learned from virtual patients; real curves are of other shapes than one or two exponentials, too.",
    "One scan does not show a half-life: there the network knows no more than the prior says of the population. Of single scans its "
    "68 % interval holds 75 % of patients where the prior is right and 64 % where half-lives are 20 % shorter.",
    "An organ that still fills, or loses a part fast, is seen only by an early scan; without one the interval holds too few of such "
    "patients.",
    "Scans on which a region barely exceeds its noise say little; the integral is flagged then.",
    "More than four scans, priors of several exponentials and numbers outside the envelope are left to the method population.",
)
CALIBRATION: Final = (1_000_003, 0)
CALIBRATED_ON: Final = ((0.65, 0.0), (0.28, 1.0), (0.07, 1.6))
"""Populations (``data.SHIFTS``) that the intervals' widths hold for: two thirds as the prior believes. The network learns from more that
are not; with its own widths the interval of a patient of a population as believed would hold him too often."""

UNSEEN: Final = (2_000_003, 0)
"""Keys of patients that training never sees: to set the intervals' widths, and to measure."""


def calibrated(network: CurveNet, patients: Batch) -> CurveNet:
    """Set the four steps between the quantiles so that each level holds on ``patients``, by number of scans; returns the network."""
    answer, off = answered(network, patients)
    count = (patients.scans[..., 2] > 0).sum(axis=1)
    widening = np.zeros((SCANS, 4), dtype=np.float32)
    for number in range(SCANS):
        rows = count == number + 1
        if rows.sum() < 1000:
            continue
        quantiles, missed = answer[rows, 4:9].astype(np.float64), off[rows]
        step, middle = np.diff(quantiles, axis=1), quantiles[:, 2]
        # inside out, since each outer level begins where the inner one ends
        lower = np.quantile((middle - missed) / step[:, 1], 0.84)
        upper = np.quantile((missed - middle) / step[:, 2], 0.84)
        lowest = np.quantile((middle - lower * step[:, 1] - missed) / step[:, 0], 0.975)
        highest = np.quantile((missed - middle - upper * step[:, 2]) / step[:, 3], 0.975)
        widening[number] = np.log(np.clip([lowest, lower, upper, highest], 0.2, 5.0))
    network.widening += torch.from_numpy(widening)
    return network


def answered(network: CurveNet, patients: Batch) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Return the answers ``(n, values)`` and ln(truth / integral) ``(n,)``."""
    with torch.inference_mode():
        answer = network.eval()(torch.from_numpy(patients.scans), torch.from_numpy(patients.prior))
        off = np.log(patients.tia.astype(np.float64)) - np.log(integral(answer).numpy().astype(np.float64))
    return answer.numpy(), off


def measured(network: CurveNet, patients: Batch) -> list[dict[str, str]]:
    """Return the rows of the card: by number of scans, the network beside the Bayesian reading that it corrects."""
    answer, off = answered(network, patients)
    _, plain = answered(CurveNet(), patients)
    count = (patients.scans[..., 2] > 0).sum(axis=1)
    rows = []
    for number in range(1, SCANS + 1):
        of = count == number
        inside = [np.mean((off[of] >= answer[of, low]) & (off[of] <= answer[of, high])) for low, high in ((5, 7), (4, 8))]
        rows.append(
            {
                "scans": str(number),
                "patients": str(of.sum()),
                "median error": f"{np.median(np.abs(np.expm1(-off[of]))):.1%}",
                "one exponential and prior": f"{np.median(np.abs(np.expm1(-plain[of]))):.1%}",
                "in 68 %": f"{inside[0]:.1%}",
                "in 95 %": f"{inside[1]:.1%}",
            }
        )
    return rows


def write(weights: Path, out: Path, *, hidden: int = HIDDEN, count: int = 40_000) -> float:
    """Write the bundle and return the largest relative difference between ONNX and network.

    Raises:
        ValueError: they differ by more than the house allows; nothing is written then.
    """
    network = CurveNet(hidden)
    network.load_state_dict(torch.load(weights, weights_only=True))
    network = calibrated(network.eval(), batch(count, CALIBRATION, CALIBRATED_ON))
    unseen = batch(count, UNSEEN, CALIBRATED_ON)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        staged = Path(scratch)
        (staged / "models").mkdir()
        to_onnx(network, staged / "models" / "model.onnx")
        difference = largest_difference(network, staged / "models" / "model.onnx", unseen)
        # said so that a difference that is not a number is refused too
        if not difference <= LARGEST_DIFFERENCE:
            raise ValueError(f"{NAME}: ONNX and network differ by {difference:.2g} (at most {LARGEST_DIFFERENCE:g}); nothing was written")
        metadata = _metadata(file_sha256(staged / "models" / "model.onnx"))
        write_texts(staged, metadata, _inference(), _card(metadata["mrtai"], measured(network, unseen), difference))
        publish(staged, out)
    return difference


def to_onnx(network: CurveNet, path: Path) -> None:
    """Write the network as ONNX: ``scans`` ``(n, scans, 3)`` and ``prior`` ``(n, 3)`` in, ``answer`` ``(n, values)`` out."""
    sample = batch(2, UNSEEN)
    torch.onnx.export(
        network,
        (torch.from_numpy(sample.scans), torch.from_numpy(sample.prior)),
        str(path),
        input_names=["scans", "prior"],
        output_names=["answer"],
        dynamic_axes={name: {0: "n"} for name in ("scans", "prior", "answer")},
        opset_version=OPSET,
        dynamo=False,
    )


def largest_difference(network: CurveNet, weights: Path, patients: Batch) -> float:
    """Return the largest difference of an integral, relative, or of a quantile's logarithm, between ONNX and network."""
    session = onnxruntime.InferenceSession(str(weights), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"scans": patients.scans, "prior": patients.prior})
    ours, _ = answered(network, patients)
    of = [integral(torch.from_numpy(answer)).numpy() for answer in (theirs, ours)]
    return float(np.max([np.abs(of[0] / of[1] - 1.0).max(), np.abs(theirs[:, 4:] - ours[:, 4:]).max()]))


def _metadata(digest: str) -> dict[str, Any]:
    shared = {"type": "tensor", "format": "number", "dtype": "float32", "value_range": []}
    scans = {**shared, "num_channels": 3, "spatial_shape": [SCANS], "channel_def": {"0": "time", "1": "activity", "2": "uncertainty"}}
    prior = {**shared, "num_channels": PRIOR, "spatial_shape": [], "channel_def": dict(enumerate(list(ENVELOPE)[:PRIOR]))}
    answer = {**shared, "num_channels": VALUES, "spatial_shape": [], "channel_def": {"0": "amplitude", "1": "rate"}}
    return {
        **about(NAME, VERSION, DESCRIPTION, "virtual populations: made by this repository's code, Apache-2.0 (training/curve_net/data.py)"),
        "data_type": "numbers",
        "network_data_format": {"inputs": {"scans": scans, "prior": prior}, "outputs": {"answer": answer}},
        "mrtai": {
            "task": TASK,
            "sha256": digest,
            "envelope": {name: list(ends) for name, ends in ENVELOPE.items()},
            "caution": "",
            "trained_from_commit": commit(),
        },
    }


def _inference() -> dict[str, Any]:
    return {
        "imports": ["$import onnxruntime"],
        "bundle_root": ".",
        "session": "$onnxruntime.InferenceSession(@bundle_root + '/models/model.onnx')",
        "network": "$lambda scans, prior: @session.run(None, {'scans': scans, 'prior': prior})[0]",
    }


def _card(ours: Mapping[str, Any], evaluation: Sequence[Mapping[str, Any]], difference: float) -> str:
    ranges = [{"input": name, "from": f"{low:g}", "to": f"{high:g}"} for name, (low, high) in ENVELOPE.items()]
    lines = [
        f"# {NAME} {VERSION}",
        "",
        DESCRIPTION,
        "",
        f"**Intended use.** {INTENDED_USE}",
        "",
        "## Input and output",
        "",
        "Scans (time, activity, its uncertainty) and the prior of the region's biological rate go in without dimension, as",
        "`mrtai.engines.curve_net` makes them; two exponentials and five quantiles of the integral come out (docs/physics/neural.md).",
        "",
        *table(ranges),
        "",
        "## Learned from",
        "",
        "- virtual populations: made by this repository's code, Apache-2.0 (training/curve_net/data.py). No patient's data.",
        "",
        "Recipe: training/curve_net/README.md.",
        "",
        "## How well it does",
        "",
        "### Unseen populations, of which two thirds are what their priors believe",
        "",
        *table(evaluation),
        "",
        "On the cohorts of `benchmarks.kinetics`, against the method population: docs/validation/kinetics-neural.md.",
        "",
        "## Where it fails",
        "",
        *[f"- {sentence}" for sentence in FAILURES],
        "",
        "## File",
        "",
        f"ONNX and network differ by {difference:.1e} at most.",
        f"SHA-256 of the weights `{ours['sha256']}`, trained from commit `{ours['trained_from_commit']}`.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder with weights.pt")
    parser.add_argument("--out", type=Path, default=Path("models/curve-net"))
    asked = parser.parse_args()
    print(json.dumps({"out": str(asked.out), "largest_difference": write(asked.work / "weights.pt", asked.out)}))


if __name__ == "__main__":
    main()
