"""Trains `lesions`: one loop, resumable, the same again for the same seed.

    python -m training.lesions.train --work FOLDER --sts FOLDER [--cases FOLDER] [--fold 1..5]

First on simulated bodies alone (``base``), then real and simulated by halves: all real patients, or all but those of a fold. Volumes and
checkpoints lie in the work folder; the same command goes on from the last checkpoint after a kill.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from monai.losses import DiceCELoss
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from training.lesions.data import Volume, batch, case_scans, folds, real_volumes, require_apart, simulated_volumes, sts_scans, summary
from training.lesions.model import CHANNELS, lesion_net

SAVE_EVERY: Final = 100
WARM_UP: Final = 50
SIMULATED: Final = range(240)
"""Seeds of the simulated bodies that are learned from; the evaluation's begin at 1000000."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a training is asked for; written into its log."""

    steps: int = 2500
    batch: int = 4
    edge: int = 48
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    averaging: float = 0.99
    channels: tuple[int, ...] = CHANNELS
    seed: int = 7
    device: str = "cpu"
    threads: int = 1


BASE: Final = Settings()
TUNED: Final = Settings(steps=1000, learning_rate=1e-3)


def train(folder: Path, real: Sequence[Volume], made: Sequence[Volume], settings: Settings, start: Path | None = None) -> Path:
    """Train in ``folder``, resuming from its checkpoint, and return the path of the finished weights.

    ``start``: finished weights to begin with instead of random ones.
    """
    torch.set_num_threads(settings.threads)
    weights, checkpoint = folder / "weights.pt", folder / "checkpoint.pt"
    if weights.exists():
        return weights
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    network = lesion_net(settings.channels).to(settings.device)
    if start is not None:
        network.load_state_dict(torch.load(start, weights_only=True))
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(settings.averaging), use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARM_UP, 1.0) * (1 - step / settings.steps) ** 0.9
    )
    state: dict[str, Any] = {"network": network, "averaged": averaged, "optimizer": optimizer, "schedule": schedule}
    step = _resumed(checkpoint, state)
    loss_of = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    with SummaryWriter(str(folder / "tensorboard")) as board:
        _log(folder, event="start", step=step, settings=asdict(settings), data=summary([*real, *made]))
        while step < settings.steps:
            # drawn from seed and step alone: a resumed training sees what an uninterrupted one sees
            image, lesion = batch(real, made, size=settings.batch, edge=settings.edge, key=(settings.seed, step))
            with torch.autocast(settings.device, dtype=torch.bfloat16):
                scores = network.train()(torch.from_numpy(image).to(settings.device))  # (batch, classes, z, y, x)
            loss = loss_of(scores.float(), torch.from_numpy(lesion[:, None]).to(settings.device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            averaged.update_parameters(network)
            step += 1
            board.add_scalar("loss", loss.item(), step)
            if step % SAVE_EVERY == 0 or step == settings.steps:
                _log(folder, event="step", step=step, loss=round(loss.item(), 4))
                _saved(checkpoint, {"step": step} | {name: part.state_dict() for name, part in state.items()})
    _saved(weights, averaged.module.state_dict())
    checkpoint.unlink()
    return weights


def _resumed(checkpoint: Path, state: dict[str, Any]) -> int:
    """Bring every part to where the checkpoint left it and return the steps done."""
    if not checkpoint.exists():
        return 0
    stored = torch.load(checkpoint, weights_only=True)
    for name, part in state.items():
        part.load_state_dict(stored[name])
    return int(stored["step"])


def _saved(path: Path, what: Any) -> None:
    part = path.with_suffix(".part")
    torch.save(what, part)
    part.replace(path)


def _log(folder: Path, **entry: Any) -> None:
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps({"time": round(time.time(), 1)} | entry) + "\n")


def trained_base(work: Path, settings: Settings = BASE, seeds: range = SIMULATED) -> Path:
    """Return the weights trained on simulated bodies alone."""
    return train(work / "base", [], simulated_volumes(seeds, work), settings)


def trained(
    work: Path, real: Sequence[Volume], held_out: Sequence[str], name: str, settings: Settings = TUNED, seeds: range = SIMULATED
) -> Path:
    """Return the weights tuned on the volumes of all patients but those held out."""
    seen = [volume for volume in real if volume.patient not in held_out]
    require_apart((volume.patient for volume in seen), held_out)
    base = trained_base(work, seeds=seeds)
    return train(work / name, seen, simulated_volumes(seeds, work), settings, start=base)


def smoke(work: Path) -> Path:
    """Return the weights of the whole path on tiny data made here."""
    tiny = Settings(steps=6, batch=2, edge=16, channels=(4, 8, 8))
    volumes = simulated_volumes(range(2), work)
    base = train(work / "base", [], volumes, tiny)
    real = [replace(volumes[0], source="case")]
    return train(work / "final", real, volumes[1:], tiny, start=base)


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sts", type=Path, help="folder of soft-tissue sarcomas, STS_<n>/pet_suv.nii.gz")
    parser.add_argument("--cases", type=Path, help="folder of reviewed cases")
    parser.add_argument("--fold", type=int, choices=range(1, 6), help="hold this fifth of the patients out")
    parser.add_argument("--base", action="store_true", help="train on simulated bodies only and stop")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="tiny data made here, a few steps")
    asked = parser.parse_args()
    run = replace(TUNED, device=asked.device, threads=asked.threads)
    if asked.smoke:
        print(smoke(asked.work))
    elif asked.base:
        print(trained_base(asked.work, replace(BASE, device=asked.device, threads=asked.threads)))
    else:
        scans = [*(sts_scans(asked.sts) if asked.sts else []), *(case_scans(asked.cases) if asked.cases else [])]
        held_out = folds(scan.patient for scan in scans)[asked.fold - 1] if asked.fold else ()
        print(trained(asked.work, real_volumes(scans, asked.work), held_out, f"fold-{asked.fold}" if asked.fold else "final", run))


if __name__ == "__main__":
    main()
