"""How `dose-net` does on pairs that it did not learn from, and the factor that makes its error map honest there.

python -m training.dose_net.calibrate --work FOLDER [--device cuda]

The folder holds `weights.pt` and pairs of seeds from ``data.HELD_OUT_SEED`` on; writes `held-out.json` there.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from training.dose_net.data import Pair, pairs, read
from training.dose_net.model import CHANNELS, DoseNet, of_base

Floats = NDArray[np.float32]

WORTH: Final = 0.05
"""Of the largest dose: voxels above it are judged."""

WITHIN: Final = 0.68
DEEPEST: Final = 8
"""Axes of the network's input are multiples of this."""


def predicted(network: torch.nn.Module, pair: Pair, device: str) -> tuple[Floats, Floats]:
    """Return dose and sd, relative to the level, ``(z, y, x)``."""
    rest = [-n % DEEPEST for n in pair.base.shape]
    image = np.pad(pair.channels.astype(np.float32), [(0, 0), *[(0, n) for n in rest]], mode="edge")
    with torch.inference_mode():
        both = network(torch.from_numpy(image)[None].to(device)).float().cpu()
    answer = of_base(both, torch.tensor([pair.recovered]))[0].numpy()
    z, y, x = pair.base.shape
    logs, base = answer[:, :z, :y, :x], pair.base.astype(np.float32)
    return base * np.exp(logs[0]), base * np.exp(logs[1])


def held_out(network: torch.nn.Module, pairs: Iterable[Pair], device: str) -> dict[str, Any]:
    """Return errors of regions' means, and the factor on every sd that lets 68 % of the errors lie within one; {} without pairs."""
    rows, errors, sds = [], [], []
    for pair in pairs:
        dose, sd = predicted(network, pair, device)
        truth, base = pair.truth.astype(np.float32), pair.base.astype(np.float32)
        hot = truth > WORTH * truth.max()
        # what the Monte Carlo of the truth adds is no error of the network
        noise = pair.truth_sd.astype(np.float32)[hot]
        errors.append(np.abs(truth - dose)[hot])
        sds.append(np.stack([sd[hot], noise]))
        for value in np.unique(pair.regions[pair.regions < 255]):
            inside = pair.regions == value
            mean = float(truth[inside].mean())
            if mean > 0:
                found = {"seed": pair.seed, "region": int(value), "voxels": int(inside.sum())}
                rows.append(found | {name: float(map_[inside].mean()) / mean - 1 for name, map_ in (("base", base), ("network", dose))})
    if not errors:
        return {}
    error, (sd, noise) = np.concatenate(errors), np.concatenate(sds, axis=1)
    factors = np.geomspace(0.2, 5.0, 323)
    within = np.array([float((error < np.hypot(factor * sd, noise)).mean()) for factor in factors])
    factor = float(factors[np.abs(within - WITHIN).argmin()])
    return {"regions": rows, "within_one_sd": float((error < np.hypot(sd, noise)).mean()), "factor_68": factor}


def main() -> None:
    """Judge and calibrate from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    for base, found in calibrate(asked.work, asked.device).items():
        print(base, {name: value for name, value in found.items() if name != "regions"})


def calibrate(work: Path, device: str = "cpu", channels: tuple[int, ...] = CHANNELS) -> dict[str, dict[str, Any]]:
    """Write and return what the weights in a folder do on its held-out pairs, as scanned and recovered."""
    network = DoseNet(channels)
    network.load_state_dict(torch.load(work / "weights.pt", weights_only=True, map_location=device))
    network.to(device).eval()
    paths = pairs(work, held_out=True)
    found = {
        name: held_out(network, (pair for pair in map(read, paths) if pair.recovered == recovered), device)
        for name, recovered in (("as scanned", False), ("recovered", True))
    }
    (work / "held-out.json").write_text(json.dumps(found), encoding="utf-8")
    return found


if __name__ == "__main__":
    main()
