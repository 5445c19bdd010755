"""A lattice of 3 mm voxels on which an anatomy is painted, in millimetres of the patient (LPS)."""

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from training.organs.tissues import INDEX

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

SPACING_MM = 3.0


class Canvas:
    """Tissue of every voxel, ``(z, y, x)``; x = 0 is the middle of the spine, z = 0 the level of the kidneys."""

    def __init__(self, low_mm: tuple[float, float, float], high_mm: tuple[float, float, float]) -> None:
        """Make an empty canvas from ``low_mm`` to ``high_mm`` ``(x, y, z)``."""
        x, y, z = (np.arange(a, b, SPACING_MM, dtype=np.float32) for a, b in zip(low_mm, high_mm, strict=True))
        self.x, self.y, self.z = x[None, None, :], y[None, :, None], z[:, None, None]
        self.origin_mm = np.array(low_mm)
        self.tissue: NDArray[np.uint8] = np.zeros((z.size, y.size, x.size), dtype=np.uint8)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels ``(z, y, x)``."""
        return self.tissue.shape

    def paint(self, name: str, where: Mask, over: Mask | None = None) -> None:
        """Paint a tissue on ``where``, only on voxels of ``over`` if given."""
        self.tissue[where if over is None else where & over] = INDEX[name]

    def holds(self, *names: str) -> Mask:
        """Return the voxels of these tissues."""
        found: Mask = np.isin(self.tissue, [INDEX[name] for name in names])
        return found

    def box(self, centre_mm: tuple[float, float, float], reach_mm: float) -> tuple[slice, slice, slice]:
        """Return the slices (z, y, x) of a cube around a point."""
        starts = np.clip((np.array(centre_mm) - reach_mm - self.origin_mm) / SPACING_MM, 0, self.shape[::-1]).astype(int)
        stops = np.clip((np.array(centre_mm) + reach_mm - self.origin_mm) / SPACING_MM + 2, 0, self.shape[::-1]).astype(int)
        (a, b, c), (d, e, f) = starts, stops
        return slice(c, f), slice(b, e), slice(a, d)

    def ellipsoid(
        self,
        name: str,
        centre_mm: tuple[float, float, float],
        half_mm: tuple[float, float, float],
        *,
        turn: NDArray[np.float64] | None = None,
        over: Mask | None = None,
    ) -> None:
        """Paint an ellipsoid, turned by a rotation matrix where one is given."""
        box = self.box(centre_mm, max(half_mm))
        d = np.stack(
            np.broadcast_arrays(
                self.x[:, :, box[2]] - centre_mm[0], self.y[:, box[1], :] - centre_mm[1], self.z[box[0], :, :] - centre_mm[2]
            )
        )
        own = d if turn is None else np.einsum("ij,jzyx->izyx", turn.T.astype(np.float32), d)
        inside = sum((own[i] / np.float32(half_mm[i])) ** 2 for i in range(3)) < 1
        if over is not None:
            inside &= over[box]
        self.tissue[box][inside] = INDEX[name]

    def tube(self, name: str, points_mm: NDArray[np.float64], radius_mm: float, *, over: Mask | None = None) -> None:
        """Paint a tube along a polyline, ``points_mm`` of shape ``(points, 3)``."""
        for start, stop in pairwise(points_mm):
            steps = max(int(np.linalg.norm(stop - start) / (0.5 * max(radius_mm, 3.0))), 1)
            for share in np.linspace(0, 1, steps + 1):
                middle = start + share * (stop - start)
                self.ellipsoid(name, tuple(middle), (radius_mm,) * 3, over=over)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int, int], scale_mm: float) -> Floats:
    """Return a smooth random field of unit standard deviation whose bumps are some ``scale_mm`` wide."""
    coarse = [max(int(np.ceil(n * SPACING_MM / scale_mm)), 1) + 3 for n in shape]
    small = torch.from_numpy(rng.normal(size=coarse).astype(np.float32))
    wide = torch.nn.functional.interpolate(small[None, None], size=shape, mode="trilinear", align_corners=True)[0, 0].numpy()
    noise: Floats = wide / max(float(wide.std()), 1e-6)
    return noise


def along(z: Floats, knots: tuple[tuple[float, float], ...]) -> Floats:
    """Return a value that follows ``knots`` (height in mm, value) linearly."""
    heights, values = zip(*knots, strict=True)
    value: Floats = np.interp(z, heights, values).astype(np.float32)
    return value


def superellipse(u: Floats, v: Floats, power: float) -> Floats:
    """Return (|u|ᵖ + |v|ᵖ)^(1/p): 1 on the outline, an ellipse for a power of 2, boxier above."""
    radius: Floats = (np.abs(u) ** power + np.abs(v) ** power) ** np.float32(1 / power)
    return radius
