"""Trains `curve-net`: one loop, resumable, the same again for the same seed.

    python -m training.curve_net.train --work FOLDER

Some five minutes on one core. The same command goes on from the last checkpoint after a kill.
"""

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from mrtai.engines.curve_net import LEVELS
from training.checkpoint import keep, tell
from training.curve_net.data import batch
from training.curve_net.model import HIDDEN, CurveNet, bayesian, integral

SAVE_EVERY: Final = 500
WARM_UP: Final = 100
PART: Final = 10_000
"""Patients that are read at a time, for the memory's sake."""

RELATIVE: Final = 0.25
"""Share of the relative error in that of the integral, the rest is its logarithm's: where scans say little, the first asks for a value
below the median, since an integral that is too large may be so by any factor."""

FLOOR: Final = 0.02
"""Added to the uncertainty by which errors are divided, so that hard patients do not drown the others."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What one run is asked for; written into its log.

    Attributes:
        patients: virtual ones, drawn once; their Bayesian readings have no weights and are made once, too.
        rate_weight: of the error of the terminal rate, so that a half-life stands where the integral does not depend on it.
        averaging: share of the running average of weights that a step leaves.
    """

    patients: int = 800_000
    steps: int = 12_000
    batch: int = 2048
    learning_rate: float = 2e-3
    rate_weight: float = 0.1
    averaging: float = 0.998
    hidden: int = HIDDEN
    seed: int = 11
    device: str = "cpu"
    threads: int = 1


SMOKE: Final = Settings(patients=2000, steps=20, batch=64, hidden=16)


def loss_of(answer: torch.Tensor, tia: torch.Tensor, rate: torch.Tensor, sd: torch.Tensor, rate_weight: float) -> torch.Tensor:
    """Return the mean over patients of the errors of integral, quantiles and rate, each over the uncertainty of a Bayesian reading."""
    found = integral(answer)
    ln_off = torch.log(tia) - torch.log(found)
    off = (found / tia - 1.0).abs()
    weight = 1.0 / (sd.detach() + FLOOR)
    levels = answer.new_tensor(LEVELS)
    missed = ln_off.detach()[:, None] - answer[:, 4 : 4 + len(LEVELS)]
    pinball = torch.maximum(levels * missed, (levels - 1.0) * missed).sum(dim=1)
    of_rate = (torch.log(answer[:, 1]) - torch.log(rate)).abs()
    return (weight * (RELATIVE * off.clamp_max(20.0) + (1.0 - RELATIVE) * ln_off.abs() + pinball + rate_weight * of_rate)).mean()


def train(folder: Path, settings: Settings = Settings()) -> Path:
    """Train in ``folder``, resuming from its checkpoint, and return the path of the finished weights."""
    torch.set_num_threads(settings.threads)
    weights, checkpoint = folder / "weights.pt", folder / "checkpoint.pt"
    if weights.exists():
        return weights
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    network = CurveNet(settings.hidden).to(settings.device)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(settings.averaging))
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARM_UP, 1.0) * (1.0 - step / settings.steps) ** 0.9
    )
    state: dict[str, Any] = {"network": network, "averaged": averaged, "optimizer": optimizer, "schedule": schedule}
    step = _resumed(checkpoint, state)
    patients = _patients(settings)
    with SummaryWriter(str(folder / "tensorboard")) as board:
        tell(folder, event="start", step=step, settings=asdict(settings))
        while step < settings.steps:
            # chosen by seed and step alone: a resumed training sees what an uninterrupted one sees
            chosen = np.random.default_rng((settings.seed, step)).integers(0, settings.patients, settings.batch)
            scans, prior, reading, tia, rate = (values[torch.from_numpy(chosen)] for values in patients)
            answer = network.train().corrected(scans, prior, reading)  # (batch, values)
            loss = loss_of(answer, tia, rate, reading[:, 3], settings.rate_weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            averaged.update_parameters(network)
            step += 1
            board.add_scalar("loss", loss.item(), step)
            if step % SAVE_EVERY == 0 or step == settings.steps:
                tell(folder, event="step", step=step, loss=round(loss.item(), 5))
                keep(checkpoint, {"step": step} | {name: part.state_dict() for name, part in state.items()})
    keep(weights, averaged.module.state_dict())
    checkpoint.unlink()
    return weights


def _patients(settings: Settings) -> tuple[torch.Tensor, ...]:
    """Return scans, prior, Bayesian reading, Ã and terminal rate of all patients on the device."""
    made = batch(settings.patients, (settings.seed, 0))
    scans, prior, tia, rate = (torch.from_numpy(values).to(settings.device) for values in (made.scans, made.prior, made.tia, made.rate))
    with torch.no_grad():
        parts = [bayesian(*part) for part in zip(scans.split(PART), prior.split(PART), strict=True)]
    return scans, prior, torch.cat(parts), tia, rate


def _resumed(checkpoint: Path, state: dict[str, Any]) -> int:
    """Bring every part to where the checkpoint left it and return the steps done."""
    if not checkpoint.exists():
        return 0
    stored = torch.load(checkpoint, weights_only=True)
    for name, part in state.items():
        part.load_state_dict(stored[name])
    return int(stored["step"])


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="a few steps")
    asked = parser.parse_args()
    print(train(asked.work, replace(SMOKE if asked.smoke else Settings(), device=asked.device, threads=asked.threads)))


if __name__ == "__main__":
    main()
