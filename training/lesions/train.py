"""Trains `lesions`: one loop, resumable, the same again for the same seed.

    python -m training.lesions.train --work FOLDER --sts FOLDER [--cases FOLDER] [--folds] [--device cuda --seconds 400]
    python -m training.lesions.train --work FOLDER --cases FOLDER --start models/lesions/models/model.onnx --seconds 3600

First on simulated bodies alone the coarse part of the network (``base``, ``base-more``), then all of it (``base-longer``); then all of
it on real and simulated by halves: on all real patients (``final``), and on all but those of each fold. The second form leaves out what
is simulated alone and goes on from exported weights, as a department would that has corrected some cases. Volumes and checkpoints lie in
the work folder; the same command goes on from the last checkpoint after a kill.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from monai.losses import DiceCELoss
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from training.checkpoint import keep, tell
from training.lesions.data import (
    Scan,
    Volume,
    case_scans,
    held_out_groups,
    prepare,
    real_volumes,
    require_apart,
    simulated_volumes,
    sts_scans,
    summary,
)
from training.lesions.model import CHANNELS, DRAWN_FROM, LesionNet, drawing_from
from training.lesions.patches import batch
from training.precision import mixed
from training.start import begun_from

SAVE_EVERY: Final = 100
WARM_UP: Final = 50
SIMULATED: Final = range(400)
"""Seeds of the simulated bodies that are learned from; those of any evaluation begin at 1000000."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What one run of the loop is asked for; written into its log.

    Attributes:
        edge: of a patch, in voxels of 4 mm.
        coarser: 2 trains the coarse part alone, on voxels of 8 mm.
        averaging: share of the running average of weights that a step leaves.
        seconds: no longer than this; the learning rate then falls with the clock, and another machine gets other weights.
    """

    steps: int = 4000
    batch: int = 16
    edge: int = 64
    coarser: int = 2
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    averaging: float = 0.995
    channels: tuple[int, ...] = CHANNELS
    seed: int = 7
    device: str = "cpu"
    threads: int = 1
    seconds: float = math.inf


BASE: Final = {
    "base": (Settings(steps=2000), 0.25),
    "base-more": (Settings(steps=3000, seed=8), 0.6),
    "base-longer": (Settings(steps=1500, coarser=1, learning_rate=1.5e-3, seed=9), 1.0),
}
"""On simulated bodies alone: the coarse part, twice, then all of it; with the share of the bodies, so that the first begins while others
are being made."""

TUNED: Final = Settings(steps=800, coarser=1, learning_rate=1e-3, seed=10)
"""On real and simulated by halves."""

FURTHER: Final = Settings(steps=1200, batch=6, coarser=1, learning_rate=7e-4, averaging=0.99, seed=11)
"""On real and simulated by halves, from exported weights; small batches, so that an hour of a CPU has some hundred steps."""

LEAST_S: Final = 1e-3
"""Seconds of a run whose time is over before it begins: one step."""

SHARES: Final = {"base": 0.14, "base-more": 0.24, "base-longer": 0.18, "final": 0.14} | {f"fold-{number}": 0.06 for number in range(1, 6)}
"""Of the time until a deadline, in the order in which the runs are made."""


def train(folder: Path, real: Sequence[Volume], made: Sequence[Volume], settings: Settings, start: Path | None = None) -> Path:
    """Train in ``folder``, resuming from its checkpoint, and return the path of the finished weights.

    ``start``: finished weights to begin with instead of random ones.
    """
    torch.set_num_threads(settings.threads)
    # patches are of one size, so the fastest convolution is worth looking for
    torch.backends.cudnn.benchmark = True
    weights, checkpoint = folder / "weights.pt", folder / "checkpoint.pt"
    if weights.exists():
        return weights
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    network = LesionNet(settings.channels).to(settings.device)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stubs know it of tensors only
    if start is not None:
        network.load_state_dict(torch.load(start, weights_only=True, map_location=settings.device))
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(settings.averaging), use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    state: dict[str, Any] = {"network": network, "averaged": averaged, "optimizer": optimizer}
    real, made = ([volume.on(settings.device) for volume in volumes] for volumes in (real, made))
    step, spent_s = _resumed(checkpoint, state, settings.device)
    begun = time.monotonic() - spent_s
    loss_of = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    with SummaryWriter(str(folder / "tensorboard")) as board:
        tell(folder, event="start", step=step, settings=asdict(settings), data=summary([*real, *made]))
        done = _share_done(step, spent_s, settings)
        while done < 1:
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * min((step + 1) / WARM_UP, 1.0) * (1 - done) ** 0.9
            # drawn from seed and step alone: a resumed training sees what an uninterrupted one sees
            patches = batch(real, made, size=settings.batch, edge=settings.edge, key=(settings.seed, step), device=settings.device)
            seen, truth = _coarser(*patches, settings)
            with mixed(settings.device):
                scores = network.train()(seen, settings.coarser)  # (batch, classes, z, y, x)
            loss = loss_of(scores.float(), truth)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            # a batch whose gradient overflows teaches nothing instead of spoiling the weights
            if torch.isfinite(torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)):
                optimizer.step()
                averaged.update_parameters(network)
            step += 1
            spent_s = time.monotonic() - begun
            done = _share_done(step, spent_s, settings)
            board.add_scalar("loss", loss.item(), step)
            if step % SAVE_EVERY == 0 or done >= 1:
                tell(folder, event="step", step=step, loss=round(loss.item(), 4), seconds=round(spent_s, 1))
                keep(checkpoint, {"step": step, "seconds": spent_s} | {name: part.state_dict() for name, part in state.items()})
    measure_statistics(averaged.module, real, made, settings)
    keep(weights, _rounded(averaged.module))
    checkpoint.unlink()
    return weights


def measure_statistics(
    network: torch.nn.Module, real: Sequence[Volume], made: Sequence[Volume], settings: Settings, batches: int = 16
) -> None:
    """Measure what batch norm subtracts and divides by anew, in place, over patches like those of the training.

    A running average of weights never saw the images itself: the statistics it averaged along are those of other weights.
    """
    norms = [part for part in network.modules() if isinstance(part, torch.nn.BatchNorm3d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean of all batches
    for number in range(batches):
        # steps that no training reaches, so other patches
        key = (settings.seed, 2**31 + number)
        patches = batch(real, made, size=settings.batch, edge=settings.edge, key=key, device=settings.device)
        with torch.no_grad(), mixed(settings.device):
            network.train()(_coarser(*patches, settings)[0], settings.coarser)
    for norm in norms:
        norm.momentum = 0.1


def _share_done(step: int, spent_s: float, settings: Settings) -> float:
    return max(step / settings.steps, spent_s / settings.seconds)


def _rounded(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights at half precision in single: far below what they are uncertain by, and packed they are half as large.

    The statistics of batch norm stay as they are: deep inside they exceed the range of half precision.
    """
    learned = {name for name, _ in network.named_parameters()}
    return {name: (value.half().float() if name in learned else value).cpu() for name, value in network.state_dict().items()}


def _coarser(image: torch.Tensor, lesion: torch.Tensor, settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Return patches and labels ``(batch, 1, z, y, x)`` on the lattice that is trained on."""
    # channels last: an eighth faster on a CPU
    seen = image.contiguous(memory_format=torch.channels_last_3d)
    if settings.coarser == 1:
        return seen, lesion
    pool = partial(torch.nn.functional.avg_pool3d, kernel_size=settings.coarser)
    # a quarter of a voxel is enough: small lesions must not vanish
    return pool(seen), (pool(lesion.float()) >= 0.25).long()


def _resumed(checkpoint: Path, state: dict[str, Any], device: str) -> tuple[int, float]:
    """Bring every part to where the checkpoint left it and return the steps done and the seconds they took."""
    if not checkpoint.exists():
        return 0, 0.0
    stored = torch.load(checkpoint, weights_only=True, map_location=device)
    for name, part in state.items():
        part.load_state_dict(stored[name])
    return int(stored["step"]), float(stored["seconds"])


@dataclass(frozen=True, slots=True)
class Plan:
    """Where and how all runs are made.

    Attributes:
        work: folder of volumes, checkpoints and weights.
        device: where; ``threads`` on a CPU.
        deadline_s: of the clock, by which the last run ends; each takes its share of what is left.
        seeds: of the simulated bodies.
    """

    work: Path
    device: str = "cpu"
    threads: int = 1
    deadline_s: float = math.inf
    seeds: range = SIMULATED

    def settings(self, run: str, settings: Settings) -> Settings:
        """Return the settings of a run with device and time."""
        order = list(SHARES)
        share = SHARES[run] / sum(SHARES[later] for later in order[order.index(run) :])
        seconds = max((self.deadline_s - time.time()) * share, LEAST_S)
        return replace(settings, device=self.device, threads=self.threads, seconds=seconds)


def all_trained(plan: Plan, scans: Sequence[Scan], *, with_folds: bool = False) -> None:
    """Train on simulated bodies, then the final network and, where asked for, that of each fold, by which its patients are not seen."""
    base, made = None, []
    for name, (settings, share) in BASE.items():
        made = [volume.on(plan.device) for volume in simulated_volumes(plan.seeds[: round(share * len(plan.seeds))], plan.work)]
        base = train(plan.work / name, [], made, plan.settings(name, settings), start=base)
    real = [volume.on(plan.device) for volume in real_volumes(scans, plan.work)]
    groups = held_out_groups(scans) if with_folds else []
    for name, held_out in [("final", ()), *[(f"fold-{number}", group) for number, group in enumerate(groups, start=1)]]:
        seen = [volume for volume in real if volume.patient not in held_out]
        require_apart((volume.patient for volume in seen), held_out)
        train(plan.work / name, seen, made, plan.settings(name, TUNED), start=base)


def trained_further(plan: Plan, scans: Sequence[Scan], exported: Path) -> Path:
    """Train on from an exported network and return the path of the finished weights; the whole time is for this run."""
    made, real = simulated_volumes(plan.seeds, plan.work), real_volumes(scans, plan.work)
    start, seconds = plan.work / "start.pt", max(plan.deadline_s - time.time(), LEAST_S)
    settings = replace(FURTHER, device=plan.device, threads=plan.threads, seconds=seconds)
    if not start.exists():
        network = LesionNet(settings.channels)
        keys = ((settings.seed, 2**32 + number) for number in range(8))  # of no step
        begun_from(exported, network, (batch(real, made, size=settings.batch, edge=settings.edge, key=key)[0] for key in keys))
        keep(start, drawing_from(1 - DRAWN_FROM, network).state_dict())  # as it was before the export
    return train(plan.work / "final", real, made, settings, start=start)


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
    parser.add_argument("--folds", action="store_true", help="also a network for each fifth of the patients of --sts, who are held out")
    parser.add_argument("--start", type=Path, help="exported ONNX file of lesions 0.3.0 or later to go on from, as a department would")
    parser.add_argument("--prepare", action="store_true", help="make the volumes and stop")
    parser.add_argument("--processes", type=int, default=1, help="that make volumes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=math.inf, help="for everything together; the last weights are what there is then")
    parser.add_argument("--bodies", type=int, default=len(SIMULATED), help="simulated, to learn from")
    parser.add_argument("--smoke", action="store_true", help="tiny data made here, a few steps")
    asked = parser.parse_args()
    if asked.smoke:
        print(smoke(asked.work))
        return
    if asked.folds and not asked.sts:
        parser.error("--folds holds out patients of --sts: give that folder too")
    if asked.start and asked.folds:
        parser.error("--folds begins with networks that saw no patient: exported weights saw them all")
    plan = Plan(asked.work, asked.device, asked.threads, time.time() + asked.seconds, range(asked.bodies))
    scans = [*(sts_scans(asked.sts) if asked.sts else []), *(case_scans(asked.cases) if asked.cases else [])]
    if asked.prepare:
        prepare(asked.work, plan.seeds, scans, asked.processes)
        return
    if asked.start:
        print(trained_further(plan, scans, asked.start))
        return
    all_trained(plan, scans, with_folds=asked.folds)


if __name__ == "__main__":
    main()
