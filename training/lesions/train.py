"""Trains `lesions`: one loop, resumable, the same again for the same seed.

    python -m training.lesions.train --work FOLDER --sts FOLDER [--cases FOLDER] [--fold 1..5]

First the coarse part of the network on simulated bodies alone (``base``, ``base-longer``); then, real and simulated by halves, the
coarse part and all of it: on all real patients, or all but those of a fold. Volumes and checkpoints lie in the work folder; the same
command goes on from the last checkpoint after a kill.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from monai.losses import DiceCELoss
from numpy.typing import NDArray
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from training.lesions.data import Volume, batch, case_scans, folds, real_volumes, require_apart, simulated_volumes, sts_scans, summary
from training.lesions.model import CHANNELS, LesionNet

SAVE_EVERY: Final = 100
WARM_UP: Final = 50
SIMULATED: Final = range(360)
"""Seeds of the simulated bodies that are learned from; the evaluation's begin at 2000000."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What one run of the loop is asked for; written into its log.

    Attributes:
        edge: of a patch, in voxels of 4 mm.
        coarser: 2 trains the coarse part alone, on voxels of 8 mm.
        averaging: share of the running average of weights that a step leaves.
    """

    steps: int = 2000
    batch: int = 4
    edge: int = 64
    coarser: int = 2
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    averaging: float = 0.99
    channels: tuple[int, ...] = CHANNELS
    seed: int = 7
    device: str = "cpu"
    threads: int = 1


BASE: Final = Settings()
LONGER: Final = Settings(learning_rate=1.5e-3, seed=8)
"""Once more on simulated bodies: other patches, a slower end."""

TUNED: Final = (
    Settings(steps=400, learning_rate=1e-3),
    Settings(steps=500, edge=48, coarser=1),
)


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
    network = LesionNet(settings.channels).to(settings.device)
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
            seen, truth = _coarser(image, lesion, settings)
            with torch.autocast(settings.device, dtype=torch.bfloat16):
                scores = network.train()(seen, settings.coarser)  # (batch, classes, z, y, x)
            loss = loss_of(scores.float(), truth)
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


def _coarser(image: NDArray[np.float32], lesion: NDArray[np.int64], settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Return patches and labels ``(batch, 1, z, y, x)`` on the lattice that is trained on."""
    # channels last: an eighth faster on a CPU
    seen = torch.from_numpy(image).to(settings.device, memory_format=torch.channels_last_3d)
    truth = torch.from_numpy(lesion[:, None]).to(settings.device)
    if settings.coarser == 1:
        return seen, truth
    pool = partial(torch.nn.functional.avg_pool3d, kernel_size=settings.coarser)
    # a quarter of a voxel is enough: small lesions must not vanish
    return pool(seen), (pool(truth.float()) >= 0.25).long()


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
    """Return the weights trained on simulated bodies alone, in two runs."""
    made, longer = simulated_volumes(seeds, work), replace(LONGER, device=settings.device, threads=settings.threads)
    return train(work / "base-longer", [], made, longer, start=train(work / "base", [], made, settings))


def trained(
    work: Path,
    real: Sequence[Volume],
    held_out: Sequence[str],
    name: str,
    settings: tuple[Settings, Settings] = TUNED,
    seeds: range = SIMULATED,
) -> Path:
    """Return the weights tuned on the volumes of all patients but those held out."""
    seen = [volume for volume in real if volume.patient not in held_out]
    require_apart((volume.patient for volume in seen), held_out)
    made = simulated_volumes(seeds, work)
    coarse = train(work / name / "coarse", seen, made, settings[0], start=trained_base(work, seeds=seeds))
    return train(work / name, seen, made, settings[1], start=coarse)


def smoke(work: Path) -> Path:
    """Return the weights of the whole path on tiny data made here."""
    coarse, full = (Settings(steps=6, batch=2, edge=16, coarser=coarser, channels=(4, 8, 8)) for coarser in (2, 1))
    volumes = simulated_volumes(range(2), work)
    base = train(work / "base", [], volumes, coarse)
    real = [replace(volumes[0], source="case")]
    return train(work / "final", real, volumes[1:], full, start=base)


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
    first, second = (replace(one, device=asked.device, threads=asked.threads) for one in TUNED)
    if asked.smoke:
        print(smoke(asked.work))
    elif asked.base:
        print(trained_base(asked.work, replace(BASE, device=asked.device, threads=asked.threads)))
    else:
        scans = [*(sts_scans(asked.sts) if asked.sts else []), *(case_scans(asked.cases) if asked.cases else [])]
        held_out = folds(scan.patient for scan in scans)[asked.fold - 1] if asked.fold else ()
        print(
            trained(asked.work, real_volumes(scans, asked.work), held_out, f"fold-{asked.fold}" if asked.fold else "final", (first, second))
        )


if __name__ == "__main__":
    main()
