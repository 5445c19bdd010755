"""Batches for the network: patches of anatomies and real CTs, turned, bent, mirrored, painted and cut anew for every step.

All of a batch is made at once in torch on the device that learns. A batch is a function of the seed and the step alone, so a
training that was cut goes on with exactly the samples it would have seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.simulate.solids import rotation
from training.organs.data import CONTRACT, PATCH, Bytes, Drawn
from training.organs.luck import Luck
from training.organs.paint import AIR_HU, painted, scanned
from training.organs.tissues import INDEX, LABEL_OF_TISSUE, TWINS, UNKNOWN

REAL_SHARE: Final = 0.25
CUT_SHARE: Final = 0.4
"""Of the samples: their CT ends within the patch, and its last slice goes on from there, as in ``prepare.around_body``."""

TURN_DEG: Final = 8.0
POINTS_FROM: Final = 3
"""Voxels between those among which a patch's middle is chosen."""

Reals = NDArray[np.float64]


def _mirror_table() -> Bytes:
    table = np.arange(256, dtype=np.uint8)
    for left, right in {LABEL_OF_TISSUE[INDEX[left]]: LABEL_OF_TISSUE[INDEX[right]] for left, right in TWINS}.items():
        table[left], table[right] = right, left
    return table


MIRRORED: Final = _mirror_table()
"""Class in a mirror by class: a mirrored left kidney is a right kidney."""


@dataclass(frozen=True, slots=True, eq=False)
class Shelf:
    """Volumes of one kind, end to end in memory on the device.

    Attributes:
        voxels: all voxels of all volumes.
        shapes: ``(volumes, 3)``, z y x.
        starts: of each volume in ``voxels``, ``(volumes,)``.
    """

    voxels: torch.Tensor
    shapes: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, volumes: Sequence[NDArray[np.generic]], device: str) -> "Shelf":
        """Return the shelf of some volumes ``(z, y, x)``."""
        voxels = torch.from_numpy(np.concatenate([volume.ravel() for volume in volumes])).to(device)
        sizes = [volume.size for volume in volumes]
        return cls(voxels, np.array([volume.shape for volume in volumes]), np.cumsum([0, *sizes[:-1]]))

    def at(self, which: NDArray[np.intp], index: torch.Tensor, outside: float) -> torch.Tensor:
        """Return voxels ``(n, z, y, x)`` of volumes at whole positions ``(n, 3, z, y, x)``; beyond the ends along z the last slices."""
        shape = torch.from_numpy(self.shapes[which]).to(index.device).view(-1, 3, 1, 1, 1)
        start = torch.from_numpy(self.starts[which]).to(index.device).view(-1, 1, 1, 1)
        inner = torch.minimum(index.clamp(min=0), shape - 1)
        flat = start + (inner[:, 0] * shape[:, 1] + inner[:, 1]) * shape[:, 2] + inner[:, 2]
        return torch.where((inner == index)[:, 1:].all(dim=1), self.voxels[flat], outside)

    def between(self, which: NDArray[np.intp], at: torch.Tensor, outside: float) -> torch.Tensor:
        """Return voxels interpolated linearly, as ``at``."""
        low = at.floor()
        total = torch.zeros_like(at[:, 0])
        for corner in np.ndindex(2, 2, 2):
            step = torch.tensor(corner, device=at.device).view(1, 3, 1, 1, 1)
            weight = (1 - (at - low - step).abs()).prod(dim=1)
            total += weight * self.at(which, low.long() + step, outside)
        return total

    def beyond_z(self, which: NDArray[np.intp], at: torch.Tensor) -> torch.Tensor:
        """Return True where positions lie beyond the first or last slice."""
        last = torch.from_numpy(self.shapes[which, 0] - 0.5).to(at.device).view(-1, 1, 1, 1)
        return (at[:, 0] < -0.5) | (at[:, 0] > last)


def as_seen(hu: torch.Tensor) -> torch.Tensor:
    """Return CT numbers [HU] as the network is given them: ``prepare.normalised`` for tensors on any device."""
    channel = CONTRACT.channels[0]
    return (hu.clamp(channel.low, channel.high) - channel.shift) / channel.scale


@dataclass(frozen=True, slots=True, eq=False)
class Torsos:
    """Anatomies on the device, and for each some voxels of every class, as ``_points`` finds them."""

    shelf: Shelf
    points: tuple[dict[int, Reals], ...]

    @classmethod
    def of(cls, anatomies: Sequence[Bytes], device: str = "cpu") -> "Torsos | None":
        """Return the torsos of some tissues ``(z, y, x)``; None of none."""
        points = tuple(_points(LABEL_OF_TISSUE[tissue[_EVERY]]) for tissue in anatomies)
        return cls(Shelf.of(anatomies, device), points) if anatomies else None


class Batches(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Step → (input ``(n, 1, z, y, x)`` float32, labels ``(n, z, y, x)`` int64); the same for the same seed and step."""

    def __init__(
        self,
        torsos: Torsos | None,
        real: Sequence[Drawn],
        *,
        seed: int,
        batch: int = 1,
        patch: tuple[int, int, int] = PATCH,
        coarser: int = 1,
        device: str = "cpu",
    ) -> None:
        """Keep the real CTs on the device of the torsos; voxels of the patch are ``coarser`` times 3 mm wide."""
        self.seed, self.batch, self.patch, self.coarser, self.device = seed, batch, patch, coarser, device
        self.torsos = torsos
        # what a coarse voxel sees is an average
        real = [replace(case, hu=ndimage.uniform_filter(case.hu, coarser)) for case in real]
        self.real = (Shelf.of([c.hu for c in real], device), Shelf.of([c.labels for c in real], device)) if real else None
        self.real_points = [_points(case.labels[_EVERY]) for case in real]
        # a CT that shows more organs is seen more often
        organs = np.array([0.2 + np.setdiff1d(np.unique(case.labels), (0, 1, UNKNOWN)).size for case in real])
        self.shares = organs / organs.sum() if real else organs
        self.label_of_tissue, self.mirrored = (torch.from_numpy(table.astype(np.int64)).to(device) for table in (LABEL_OF_TISSUE, MIRRORED))

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the batch of a step."""
        luck = Luck((self.seed, step), self.batch, self.device)
        share = REAL_SHARE if self.torsos is not None and self.real is not None else float(self.real is not None)
        count = int(luck.rng.binomial(self.batch, share))
        parts = []
        if count and self.real is not None:
            parts.append(self._real(Luck((self.seed, step, 1), count, self.device)))
        if count < self.batch and self.torsos is not None:
            parts.append(self._generated(Luck((self.seed, step, 2), self.batch - count, self.device)))
        image, labels = (torch.cat(both) for both in zip(*parts, strict=True))
        image, labels = _cut_short(luck, image, labels)
        return as_seen(image)[:, None], labels

    def _generated(self, luck: Luck) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.torsos is not None
        shelf, points = self.torsos.shelf, self.torsos.points
        which = luck.rng.integers(len(points), size=luck.pictures)
        at, mirrored = self._warp(luck, [points[n] for n in which], shelf.shapes[which])
        tissue = shelf.at(which, at.round().long(), INDEX["air"])
        labels = self._named(self.label_of_tissue[tissue.long()], mirrored, shelf.beyond_z(which, at))
        return painted(luck, tissue, self.coarser), labels

    def _real(self, luck: Luck) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.real is not None
        hu, drawn = self.real
        which = luck.rng.choice(len(self.real_points), luck.pictures, p=self.shares)
        at, mirrored = self._warp(luck, [self.real_points[n] for n in which], drawn.shapes[which])
        labels = self._named(drawn.at(which, at.round().long(), UNKNOWN).long(), mirrored, drawn.beyond_z(which, at))
        return scanned(luck, hu.between(which, at, AIR_HU), self.coarser), labels

    def _named(self, labels: torch.Tensor, mirrored: torch.Tensor, unseen: torch.Tensor) -> torch.Tensor:
        return torch.where(unseen, UNKNOWN, torch.where(mirrored, self.mirrored[labels], labels))

    def _warp(self, luck: Luck, points: Sequence[dict[int, Reals]], shapes: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return where each voxel comes from, ``(n, 3, z, y, x)``, and whether left and right changed sides, ``(n, 1, 1, 1)``."""
        rng, patch = luck.rng, self.patch
        mirrored = rng.random(luck.pictures) < 0.1
        matrix = np.stack([np.diag(1 / rng.normal(1, 0.09, 3)) @ rotation(np.deg2rad(rng.normal(0, TURN_DEG, 3))) for _ in mirrored])
        matrix[mirrored, :, 2] *= -1
        middle = np.stack([_middle(rng, own, shape) for own, shape in zip(points, shapes, strict=True)])
        axes = [self.coarser * (torch.arange(n, device=self.device) - (n - 1) / 2) for n in patch]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
        sent = (torch.from_numpy(numbers.astype(np.float32)).to(self.device) for numbers in (matrix, middle))
        at = torch.einsum("nij,jzyx->nizyx", next(sent), grid) + next(sent).view(-1, 3, 1, 1, 1)
        size = luck.uniform(0, 4)
        bent = [size * luck.smooth(patch, rng.uniform(60, 140) / (3 * self.coarser)) for _ in range(3)]
        return at + torch.stack(bent, dim=1), luck.sent(mirrored.astype(float)) > 0


_EVERY: Final = (slice(None, None, POINTS_FROM),) * 3


def _points(labels: Bytes) -> dict[int, Reals]:
    """Return some voxels ``(points, 3)`` of every class but air, of labels of which only every ``POINTS_FROM``-th is given."""
    found = {}
    for value in np.setdiff1d(np.unique(labels), (0, UNKNOWN)):
        some = np.argwhere(labels == value)
        found[int(value)] = POINTS_FROM * some[:: max(len(some) // 300, 1)].astype(float)
    return found or {1: (np.array(labels.shape)[None] - 1) * POINTS_FROM / 2}


def _middle(rng: np.random.Generator, points: dict[int, Reals], shape: NDArray[np.int64]) -> Reals:
    """Return the patch's middle: near a voxel of a class drawn at random, or anywhere in the body."""
    value = int(rng.choice(list(points))) if rng.random() < 0.8 else 1
    some = points.get(value, next(iter(points.values())))
    point = some[int(rng.integers(len(some)))].copy()
    centre = (shape - 1) / 2
    # a window of inference lies anywhere along z, but mostly around the body's middle across
    point[1:] = centre[1:] + 0.35 * (point[1:] - centre[1:])
    return np.asarray(point + rng.normal(0, (14, 5, 5)))


def _cut_short(luck: Luck, image: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return some of the pictures as if their CT ended within the patch: its last slice goes on, and what lies there is unknown."""
    length = image.shape[1]
    slices = torch.arange(length, device=image.device).view(1, -1, 1, 1)
    low = (luck.chance(CUT_SHARE) * luck.uniform(0, 0.35) * length).long()
    high = length - 1 - (luck.chance(CUT_SHARE) * luck.uniform(0, 0.35) * length).long()
    seen = torch.minimum(torch.maximum(slices, low), high)
    image = image.gather(1, seen.expand(-1, -1, *image.shape[2:]))
    return image, torch.where(seen == slices, labels, UNKNOWN)
