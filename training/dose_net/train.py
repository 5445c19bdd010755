"""Train `dose-net` on pairs; an interrupted training goes on where it was.

python -m training.dose_net.train --work FOLDER [--steps N] [--device cuda] [--start MODEL.onnx]

The folder holds the pairs of `training.dose_net.data`; checkpoint, log and weights go there, too. Pairs that appear while it trains are
taken up.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from training.checkpoint import keep
from training.dose_net.data import Pair, pairs, read
from training.dose_net.model import CHANNELS, DoseNet, of_base
from training.exported import read_tensors
from training.precision import mixed
from training.start import begun_from

PATCH: Final = (48, 48, 48)
AIR: Final = 255
FAINT: Final = 0.02
FAINT_VOXEL: Final = 0.2
"""Of the level: a region's mean dose below it, or a voxel's, weighs as much as dose of it."""
ON_REGION: Final = 0.6
"""Share of the patches whose middle lies in a small region."""
SMALL: Final = 4000
"""Voxels; lesions and kidneys have fewer."""
SAVE_EVERY: Final = 100
WARM_UP: Final = 100
START_BATCHES: Final = 4
"""From which the norms of a network to go on from learn what its channels are like."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a training depends on; ``until`` is the clock's time [s] to stop at, if the steps are not done before."""

    steps: int = 6000
    batch: int = 16
    learning_rate: float = 2e-3
    channels: tuple[int, ...] = CHANNELS
    patch: tuple[int, int, int] = PATCH
    seed: int = 7
    recovered: float = 0.5
    device: str = "cpu"
    threads: int = 1
    until: float = float("inf")


class Case:
    """A pair on the device, with the places where its patches may have their middle."""

    def __init__(self, pair: Pair, device: str, patch: tuple[int, int, int]) -> None:
        """Copy the pair, padded to hold a patch."""
        rest = [max(p - n, 0) for n, p in zip(pair.base.shape, patch, strict=True)]
        pads = (0, rest[2], 0, rest[1], 0, rest[0])
        self.recovered = pair.recovered
        maps = torch.from_numpy(pair.channels), *(torch.from_numpy(x)[None] for x in (pair.base, pair.truth, pair.truth_sd))
        self.maps = torch.nn.functional.pad(torch.cat(maps), pads).to(device)
        regions = torch.nn.functional.pad(torch.from_numpy(pair.regions), pads, value=AIR)
        self.regions = regions.to(device)
        sizes = torch.bincount(regions.flatten(), minlength=256)
        self.small = [value for value in range(1, AIR) if 0 < sizes[value] < SMALL]
        self.places = {value: (regions == value).nonzero() for value in self.small}
        self.body = (regions != AIR).nonzero()[:: max(int((regions != AIR).sum()) // 5000, 1)]

    def patch(self, at: torch.Generator, size: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return maps ``(channels + 3, z, y, x)`` and regions ``(z, y, x)`` of one patch, mirrored and turned at random."""
        places = self.body
        if self.small and float(torch.rand((), generator=at)) < ON_REGION:
            places = self.places[self.small[int(torch.randint(len(self.small), (), generator=at))]]
        middle = places[int(torch.randint(len(places), (), generator=at))]
        jitter = torch.randint(-8, 9, (3,), generator=at)
        box = []
        for axis, n in enumerate(self.regions.shape):
            start = int((middle[axis] + jitter[axis] - size[axis] // 2).clamp(0, n - size[axis]))
            box.append(slice(start, start + size[axis]))
        maps, regions = self.maps[(slice(None), *box)], self.regions[tuple(box)]
        flips = [axis for axis in range(3) if float(torch.rand((), generator=at)) < 0.5]
        maps, regions = maps.flip([axis + 1 for axis in flips]), regions.flip(flips)
        if size[1] == size[2] and float(torch.rand((), generator=at)) < 0.5:
            maps, regions = maps.transpose(2, 3), regions.transpose(1, 2)
        return maps, regions


class Cases:
    """The pairs of a folder that are for training, read as they appear."""

    def __init__(self, work: Path, settings: Settings) -> None:
        """Read what is there."""
        self.work, self.settings = work, settings
        self.cases: dict[str, Case] = {}
        self.refresh()

    def refresh(self, at_most: int = 10_000) -> None:
        """Read pairs that are new."""
        new = [path for path in pairs(self.work, held_out=False) if path.stem not in self.cases]
        for path in new[:at_most]:
            self.cases[path.stem] = Case(read(path), self.settings.device, self.settings.patch)

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return maps ``(n, channels + 3, z, y, x)``, regions ``(n, z, y, x)`` and whose base is recovered ``(n,)`` of a step."""
        at = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + step)
        chosen = [self._drawn(at) for _ in range(self.settings.batch)]
        patches = [self.cases[name].patch(at, self.settings.patch) for name in chosen]
        recovered = torch.tensor([self.cases[name].recovered for name in chosen], device=self.settings.device)
        return torch.stack([maps for maps, _ in patches]), torch.stack([regions for _, regions in patches]), recovered

    def _drawn(self, at: torch.Generator) -> str:
        """Return the name of a case, with or without recovery as often as the settings say, as far as there are both."""
        wanted = float(torch.rand((), generator=at)) < self.settings.recovered
        names = [name for name, case in self.cases.items() if case.recovered == wanted] or list(self.cases)
        return names[int(torch.randint(len(names), (), generator=at))]


def loss(answer: torch.Tensor, maps: torch.Tensor, regions: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the parts of the loss: voxels' dose, regions' mean dose, and the likelihood of the error map.

    Args:
        answer: of the network, ``(n, 2, z, y, x)``.
        maps: base, truth and the truth's own sd, relative to the level, ``(n, 3, z, y, x)``.
        regions: ``(n, z, y, x)``.
    """
    base, truth, truth_sd = maps.float().unbind(1)
    dose, sd = base * answer[:, 0].exp(), base * answer[:, 1].exp()
    inside = (regions != AIR) & (base > 0)
    samples = torch.arange(len(regions), device=regions.device).view(-1, 1, 1, 1)
    place = (samples * 256 + regions.long()).flatten()
    zeros = torch.zeros(len(regions) * 256, device=regions.device)
    size = zeros.index_add(0, place, inside.flatten().float())
    # a voxel of a small region weighs more, so that organs do not drown lesions, nor the body organs
    weight = torch.where(inside, size.clamp(min=1).rsqrt()[place].view(regions.shape), 0)
    weight = weight / weight.sum().clamp(min=1e-6)
    scale, steady = base + FAINT, base + FAINT_VOXEL
    voxel = (weight * torch.nn.functional.huber_loss(dose / steady, truth / steady, reduction="none", delta=2.0)).sum()
    mean_dose, mean_truth = (zeros.index_add(0, place, torch.where(inside, x, 0).flatten()) / size.clamp(min=1) for x in (dose, truth))
    counted = (size >= 4) & (mean_truth > 0)
    relative = (mean_dose - mean_truth) / (mean_truth + FAINT)
    region = torch.nn.functional.smooth_l1_loss(relative[counted], torch.zeros_like(relative[counted]), beta=0.05)
    variance = sd.square() + truth_sd.square() + 1e-8
    surprise = 0.5 * (truth - dose.detach()).square() / variance + 0.5 * (variance / scale.square()).log()
    likelihood = torch.where(inside, surprise.clamp(max=20.0), 0).sum() / inside.sum().clamp(min=1)
    return {"voxel": voxel, "region": region, "likelihood": likelihood}


def begin(net: DoseNet, exported: Path, cases: Cases, settings: Settings) -> None:
    """Give ``net`` the weights of an exported file of one network; 0.1.0 has no answer to recovered bases, so that they stay as they are.

    Raises:
        ValueError: the file is another network's, or holds two.
    """
    planes = len(read_tensors(exported)[0].get("head.weight", ()))
    if not planes:
        raise ValueError(f"{exported} holds no one network of doses")
    old, own = DoseNet(settings.channels, planes).to(settings.device), net.state_dict()
    steps = [cases.batch(-number)[0][:, :-3].float() for number in range(1, 1 + START_BATCHES)]
    begun_from(exported, old, steps)
    state = old.state_dict()
    for name in ("head.weight", "head.bias"):
        state[name] = torch.cat([state[name], own[name][planes:]])
    net.load_state_dict(state)


def train(work: Path, settings: Settings, start: Path | None = None) -> Path:
    """Train on the pairs in ``work`` and return the path of the weights, a running mean; ``start``: exported weights to go on from."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    net, cases = DoseNet(settings.channels).to(settings.device), Cases(work, settings)
    checkpoint = work / "checkpoint.pt"
    if start is not None and not checkpoint.exists():
        begin(net, start, cases, settings)
    net.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    mean = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995), use_buffers=True)
    optimizer = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    state: dict[str, Any] = {"net": net, "mean": mean, "optimizer": optimizer}
    first, began = 1 + _resumed(checkpoint, state, settings), time.time()
    if start is not None:
        # norms stand still: those of small patches around lesions would differ from those of the whole body by per cents of the dose
        for part in net.modules():
            part.train(not isinstance(part, torch.nn.BatchNorm3d))
    with (work / "log.jsonl").open("a") as log:
        for step in range(first, settings.steps + 1):
            # learning slows down towards the end, whichever comes first: the steps or the time
            done = max(step / settings.steps, (time.time() - began) / max(settings.until - began, 1e-9))
            if done >= 1 and step < settings.steps:
                break
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * min(step / WARM_UP, 1.0) * max(1 - done, 0.02) ** 0.9
            maps, regions, recovered = cases.batch(step)
            with mixed(settings.device):
                answer = net(maps[:, :-3].float().contiguous(memory_format=torch.channels_last_3d))
            parts = loss(of_base(answer.float(), recovered), maps[:, -3:], regions)
            total = parts["voxel"] + 2 * parts["region"] + 0.2 * parts["likelihood"]
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            if torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0).isfinite():
                optimizer.step()
            mean.update_parameters(net)
            if step % 20 == 0:
                row = {"step": step, "pairs": len(cases.cases), "at": round(time.time() - began, 1)}
                print(json.dumps(row | {name: round(float(value), 4) for name, value in parts.items()}), file=log, flush=True)
                cases.refresh(at_most=4)
            if step % SAVE_EVERY == 0:
                _save(checkpoint, state, step, settings)
    weights = work / "weights.pt"
    torch.save(mean.module.state_dict(), weights)
    return weights


def _what_is_learnt(settings: Settings) -> str:
    """Return the settings that must not change on the way: all but where and how long it runs."""
    return json.dumps({name: value for name, value in asdict(settings).items() if name not in ("device", "threads", "until")})


def _resumed(path: Path, state: dict[str, Any], settings: Settings) -> int:
    if not path.exists():
        return 0
    saved = torch.load(path, weights_only=True, map_location=settings.device)
    if saved["settings"] != _what_is_learnt(settings):
        raise ValueError(f"{path} belongs to a training with other settings; choose another work folder or remove it")
    for name, part in state.items():
        part.load_state_dict(saved[name])
    return int(saved["step"])


def _save(path: Path, state: dict[str, Any], step: int, settings: Settings) -> None:
    parts = {name: part.state_dict() for name, part in state.items()}
    keep(path, {**parts, "step": step, "settings": _what_is_learnt(settings)})


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Settings()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=usual.steps)
    parser.add_argument("--batch", type=int, default=usual.batch)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--device", default=usual.device, help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=usual.threads)
    parser.add_argument("--recovered", type=float, default=usual.recovered, help="share of the patches that have recovery")
    parser.add_argument("--patch", type=int, default=usual.patch[0], help="edge of a patch in voxels, a multiple of 8")
    parser.add_argument("--learning-rate", type=float, default=usual.learning_rate)
    parser.add_argument("--start", type=Path, help="exported ONNX file of one network to go on from, as dose-net 0.1.0 is")
    asked = parser.parse_args()
    told = {name: getattr(asked, name) for name in ("steps", "batch", "seed", "device", "threads", "recovered", "learning_rate")}
    print(train(asked.work, Settings(**told, patch=(asked.patch,) * 3), asked.start))


if __name__ == "__main__":
    main()
