"""Trains `organs-ct`: one loop, resumable, the same again for the same seed.

    python -m training.organs.train --work FOLDER [--device cuda] [--minutes 60] [--start models/organs-ct/models/model.onnx]

It runs three times: the coarse part of the network at 12 mm, where a step is cheap and most is learnt, with the middle one at 6 mm,
then all of it at 3 mm. A checkpoint in FOLDER is written every ``SAVE_EVERY`` steps; the same command goes on from it after a kill.
With ``--minutes`` each stage ends after its share of them at the latest, its learning rate having fallen as it should; then the
machine's speed decides how many steps there are, and the log tells.
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

from mrtai.io.hashes import file_sha256
from training.checkpoint import keep
from training.organs.batches import Batches, Torsos
from training.organs.data import HELD_OUT, PATCH, Bytes, Drawn, read_anatomies, read_cases, read_contours, split
from training.organs.model import CHANNELS, OrganNet, begun_from
from training.organs.tissues import CLASSES, UNKNOWN
from training.precision import mixed

SAVE_EVERY: Final = 200
WARM_UP: Final = 100


@dataclass(frozen=True, slots=True)
class Stage:
    """One run of the loop: a patch of voxels ``coarser`` times 3 mm wide, its batch, how long and how fast.

    ``share`` is the stage's part of a training that is given minutes.
    """

    name: str
    patch: tuple[int, int, int]
    coarser: int
    batch: int
    steps: int
    learning_rate: float
    share: float = 1.0


ON_CPU: Final = (
    Stage("coarse", (20, 24, 32), 4, batch=8, steps=7000, learning_rate=2e-3, share=0.45),
    Stage("middle", (40, 48, 64), 2, batch=2, steps=2500, learning_rate=1.5e-3, share=0.3),
    Stage("fine", PATCH, 1, batch=1, steps=1200, learning_rate=1e-3, share=0.25),
)
ON_GPU: Final = (
    Stage("coarse", (20, 24, 32), 4, batch=64, steps=12000, learning_rate=2e-3, share=0.4),
    Stage("middle", (40, 48, 64), 2, batch=16, steps=5000, learning_rate=1e-3, share=0.3),
    Stage("fine", PATCH, 1, batch=4, steps=5000, learning_rate=6e-4, share=0.3),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a training is asked for; written into its log and its card.

    ``start`` is an exported ONNX file to begin from, ``minutes`` bounds the whole training.
    """

    stages: tuple[Stage, ...] = ON_CPU
    channels: tuple[int, ...] = CHANNELS
    seed: int = 7
    device: str = "cpu"
    threads: int = 1
    start: str = ""
    minutes: float | None = None


def loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return cross-entropy plus 1 - Dice averaged over the classes in the patch; unknown voxels count in neither."""
    known = labels != UNKNOWN
    labels = torch.where(known, labels, 0)
    log_shares = scores.log_softmax(dim=1)
    own = torch.where(known, log_shares.gather(1, labels[:, None])[:, 0], 0)
    shares = (log_shares.exp() * known[:, None]).sum((0, 2, 3, 4))
    is_class = labels[:, None] == torch.arange(len(CLASSES), device=labels.device).view(1, -1, 1, 1, 1)
    is_class &= known[:, None]
    both, truth = (log_shares.exp() * is_class).sum((0, 2, 3, 4)), is_class.sum((0, 2, 3, 4))
    dice = (2 * both / (shares + truth).clamp(min=1))[truth > 0]
    return 1 - dice.mean() - own.sum() / known.sum().clamp(min=1)


def train(work: Path, anatomies: Sequence[Bytes], real: Sequence[Drawn], settings: Settings) -> Path:
    """Train all stages, resuming from checkpoints in ``work``, and return the path of the finished weights."""
    start = {"start_sha256": file_sha256(Path(settings.start))} if settings.start else {}
    (work / "settings.json").write_text(json.dumps(asdict(settings) | start))
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    net = OrganNet(settings.channels).to(settings.device)
    if settings.start:
        begun_from(Path(settings.start), net)
    torsos = Torsos.of(anatomies, settings.device)
    for number, stage in enumerate(settings.stages):
        seed, device = settings.seed + 1000 * number, settings.device
        batches = Batches(torsos, real, seed=seed, batch=stage.batch, patch=stage.patch, coarser=stage.coarser, device=device)
        net = _trained(net, work, batches, stage, settings)
    torch.save(net.state_dict(), work / "weights.pt")
    return work / "weights.pt"


def _trained(net: OrganNet, work: Path, batches: Batches, stage: Stage, settings: Settings) -> OrganNet:
    """Return the network after one stage: a running mean of its weights."""
    mean = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995))
    optimizer = torch.optim.AdamW(net.parameters(), lr=stage.learning_rate, weight_decay=1e-4)
    state = {"net": net, "mean": mean, "optimizer": optimizer}
    checkpoint = work / f"checkpoint-{stage.name}.pt"
    start, spent_s = _resumed(checkpoint, state, settings)
    begun, done = time.monotonic() - spent_s, _done(stage, start, spent_s, settings)
    log, board = (work / "log.jsonl").open("a"), SummaryWriter(str(work / "tensorboard"))
    with Progress() as progress, log, board:
        bar = progress.add_task(stage.name, total=1.0)
        for step, (image, labels) in enumerate(_loader(batches, range(start, stage.steps) if done < 1 else range(0)), start=start + 1):
            for group in optimizer.param_groups:
                group["lr"] = stage.learning_rate * _rate(step - 1, done)
            with mixed(settings.device):
                scores = net(image, stage.coarser)
            value = loss(scores.float(), labels)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            # where a patch is all air, a norm's gradient may overflow: such a batch teaches nothing instead of spoiling all weights
            if torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0).isfinite():
                optimizer.step()
            mean.update_parameters(net)
            board.add_scalar(f"loss/{stage.name}", value.item(), step)
            row = {"stage": stage.name, "step": step, "loss": round(value.item(), 4), "at": round(time.time(), 1)}
            print(json.dumps(row), file=log, flush=True)
            spent_s = time.monotonic() - begun
            done = _done(stage, step, spent_s, settings)
            if step % SAVE_EVERY == 0 or done >= 1:
                _save(checkpoint, state, {"step": step, "spent_s": spent_s}, settings)
            progress.update(bar, completed=done)
            if done >= 1:
                break
    net.load_state_dict(mean.module.state_dict())
    return net


def _loader(batches: Batches, steps: range) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """Return the batches of the steps: a CPU paints in a process beside the one that learns, a GPU between its steps."""
    beside = batches.device == "cpu" and len(steps) > 0
    return DataLoader(batches, None, sampler=list(steps), num_workers=int(beside), prefetch_factor=4 if beside else None)


def _done(stage: Stage, step: int, spent_s: float, settings: Settings) -> float:
    """Return how much of a stage is done, by its steps or by its time, whichever is further."""
    if settings.minutes is None:
        return step / stage.steps
    allowed_s = 60 * settings.minutes * stage.share / sum(one.share for one in settings.stages)
    return max(step / stage.steps, spent_s / allowed_s)


def _rate(step: int, done: float) -> float:
    """Return the learning rate's factor: a short warm-up, then a polynomial decay."""
    return float(min((step + 1) / WARM_UP, 1.0) * max(1 - done, 0.0) ** 0.9)


def _resumed(path: Path, state: dict[str, Any], settings: Settings) -> tuple[int, float]:
    """Return how many steps were made and how many seconds they took."""
    if not path.exists():
        return 0, 0.0
    saved = torch.load(path, weights_only=True)
    if saved["settings"] != _what_is_learnt(settings):
        raise ValueError(f"{path} belongs to a training with other settings; choose another work folder or remove it")
    for name, part in state.items():
        part.load_state_dict(saved[name])
    return int(saved["step"]), float(saved["spent_s"])


def _what_is_learnt(settings: Settings) -> str:
    """Return the settings that must not change on the way: all but where it runs."""
    return json.dumps({name: value for name, value in asdict(settings).items() if name not in ("device", "threads")})


def _save(path: Path, state: dict[str, Any], reached: dict[str, float], settings: Settings) -> None:
    parts = {name: part.state_dict() for name, part in state.items()}
    keep(path, {**parts, **reached, "settings": _what_is_learnt(settings)})


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder with the anatomies; checkpoint, log and weights go there")
    parser.add_argument("--cases", type=Path, help="folder of signed CASEs to train on as well")
    usual = Settings()
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--device", default=usual.device, help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=usual.threads)
    parser.add_argument("--start", default=usual.start, help="exported ONNX file whose weights to begin from, as a department would")
    parser.add_argument("--minutes", type=float, help="how long the whole training may last; else as many steps as its stages say")
    asked = parser.parse_args()
    real = read_contours() + (split(read_cases(asked.cases), HELD_OUT, asked.seed)[0] if asked.cases else [])
    stages = ON_GPU if asked.device.startswith("cuda") else ON_CPU
    settings = Settings(stages, seed=asked.seed, device=asked.device, threads=asked.threads, start=asked.start, minutes=asked.minutes)
    train(asked.work, read_anatomies(asked.work), real, settings)


if __name__ == "__main__":
    main()
