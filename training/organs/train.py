"""Trains `organs-ct`: one loop, resumable, the same again for the same seed.

    python -m training.organs.train --work FOLDER

It runs three times: the coarse part of the network at 12 mm, where a step is cheap and most is learnt, with the middle one at 6 mm,
then all of it at 3 mm. A checkpoint in FOLDER is written every ``SAVE_EVERY`` steps; the same command goes on from it after a kill.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from rich.progress import Progress
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from training.organs.data import HELD_OUT, PATCH, Bytes, Drawn, Samples, read_anatomies, read_cases, read_contours, split
from training.organs.model import CHANNELS, OrganNet
from training.organs.tissues import CLASSES, UNKNOWN

SAVE_EVERY: Final = 200
WARM_UP: Final = 100


@dataclass(frozen=True, slots=True)
class Stage:
    """One run of the loop: a patch of voxels ``coarser`` times 3 mm wide, its batch, how long and how fast."""

    name: str
    patch: tuple[int, int, int]
    coarser: int
    batch: int
    steps: int
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Settings:
    """What a training is asked for; written into its log and its card."""

    stages: tuple[Stage, ...] = (
        Stage("coarse", (20, 24, 32), 4, batch=8, steps=2000, learning_rate=2e-3),
        Stage("middle", (40, 48, 64), 2, batch=2, steps=600, learning_rate=1.5e-3),
        Stage("fine", PATCH, 1, batch=1, steps=250, learning_rate=1e-3),
        Stage("middle again", (40, 48, 64), 2, batch=2, steps=800, learning_rate=1.5e-3),
        Stage("fine again", PATCH, 1, batch=1, steps=400, learning_rate=1e-3),
        Stage("coarse, third", (20, 24, 32), 4, batch=8, steps=5000, learning_rate=2e-3),
        Stage("middle, third", (40, 48, 64), 2, batch=2, steps=1500, learning_rate=1.5e-3),
        Stage("fine, third", PATCH, 1, batch=1, steps=800, learning_rate=1e-3),
    )
    channels: tuple[int, ...] = CHANNELS
    seed: int = 7
    device: str = "cpu"
    threads: int = 1


def loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return cross-entropy plus 1 - Dice averaged over the classes in the patch; unknown voxels count in neither."""
    known = labels != UNKNOWN
    labels = torch.where(known, labels, 0)
    log_shares = scores.log_softmax(dim=1)
    own = torch.where(known, log_shares.gather(1, labels[:, None])[:, 0], 0)
    shares = (log_shares.exp() * known[:, None]).sum((0, 2, 3, 4))
    # one pass over the voxels instead of a one-hot map per class
    zeros = torch.zeros(len(CLASSES), device=scores.device)
    both = zeros.index_add(0, labels.flatten(), torch.where(known, own.exp(), 0).flatten())
    truth = zeros.index_add(0, labels.flatten(), known.flatten().float())
    dice = (2 * both / (shares + truth).clamp(min=1))[truth > 0]
    return 1 - dice.mean() - own.sum() / known.sum().clamp(min=1)


def train(work: Path, anatomies: Sequence[Bytes], real: Sequence[Drawn], settings: Settings) -> Path:
    """Train all stages, resuming from checkpoints in ``work``, and return the path of the finished weights."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    net = OrganNet(settings.channels).to(settings.device)
    for stage in settings.stages:
        samples = Samples(anatomies, real, seed=settings.seed, patch=stage.patch, coarser=stage.coarser)
        net = _trained(net, work, samples, stage, settings)
    torch.save(net.state_dict(), work / "weights.pt")
    return work / "weights.pt"


def _trained(net: OrganNet, work: Path, samples: Samples, stage: Stage, settings: Settings) -> OrganNet:
    """Return the network after one stage: a running mean of its weights."""
    mean = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995))
    optimizer = torch.optim.AdamW(net.parameters(), lr=stage.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, stage.steps))
    state = {"net": net, "mean": mean, "optimizer": optimizer, "schedule": schedule}
    checkpoint = work / f"checkpoint-{stage.name}.pt"
    start = _resumed(checkpoint, state, settings)
    numbers = range(start * stage.batch, stage.steps * stage.batch)
    loader = DataLoader(samples, stage.batch, sampler=list(numbers), num_workers=1, prefetch_factor=4) if numbers else ()
    log, board = (work / "log.jsonl").open("a"), SummaryWriter(str(work / "tensorboard"))
    with Progress() as progress, log, board:
        bar = progress.add_task(stage.name, total=stage.steps, completed=start)
        for step, (image, labels) in enumerate(loader, start=start + 1):
            with torch.autocast(settings.device, dtype=torch.bfloat16):
                scores = net(image.to(settings.device), stage.coarser)
            value = loss(scores.float(), labels.to(settings.device))
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            # where a patch is all air, a norm's gradient may overflow: such a batch teaches nothing instead of spoiling all weights
            if torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0).isfinite():
                optimizer.step()
            schedule.step()
            mean.update_parameters(net)
            board.add_scalar(f"loss/{stage.name}", value.item(), step)
            row = {"stage": stage.name, "step": step, "loss": round(value.item(), 4), "at": round(time.time(), 1)}
            print(json.dumps(row), file=log, flush=True)
            if step % SAVE_EVERY == 0 or step == stage.steps:
                _save(checkpoint, state, step, settings)
            progress.update(bar, advance=1)
    net.load_state_dict(mean.module.state_dict())
    return net


def _rate(step: int, steps: int) -> float:
    """Return the learning rate's factor: a short warm-up, then a polynomial decay."""
    return float(min((step + 1) / WARM_UP, 1.0) * max(1 - step / steps, 0.0) ** 0.9)


def _resumed(path: Path, state: dict[str, Any], settings: Settings) -> int:
    if not path.exists():
        return 0
    saved = torch.load(path, weights_only=True)
    if saved["settings"] != _what_is_learnt(settings):
        raise ValueError(f"{path} belongs to a training with other settings; choose another work folder or remove it")
    for name, part in state.items():
        part.load_state_dict(saved[name])
    return int(saved["step"])


def _what_is_learnt(settings: Settings) -> str:
    """Return the settings that must not change on the way: all but where it runs."""
    return json.dumps({name: value for name, value in asdict(settings).items() if name not in ("device", "threads")})


def _save(path: Path, state: dict[str, Any], step: int, settings: Settings) -> None:
    parts = {name: part.state_dict() for name, part in state.items()}
    torch.save({**parts, "step": step, "settings": _what_is_learnt(settings)}, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder with the anatomies; checkpoint, log and weights go there")
    parser.add_argument("--cases", type=Path, help="folder of signed CASEs to train on as well")
    usual = Settings()
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--device", default=usual.device, help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=usual.threads)
    asked = parser.parse_args()
    real = read_contours() + (split(read_cases(asked.cases), HELD_OUT, asked.seed)[0] if asked.cases else [])
    settings = Settings(seed=asked.seed, device=asked.device, threads=asked.threads)
    train(asked.work, read_anatomies(asked.work), real, settings)


if __name__ == "__main__":
    main()
