"""From tissues to a picture as a scanner would give it: numbers, texture, blur, noise, streaks, truncation, table and slices."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from training.organs.canvas import Floats, smooth_noise
from training.organs.tissues import INDEX, drawn_hounsfield

AIR_HU = -1000.0


def painted(rng: np.random.Generator, tissue: NDArray[np.uint8], coarser: int = 1) -> Floats:
    """Return a CT [HU] of the tissues, both ``(z, y, x)``, with everything about the picture drawn by ``rng``.

    Voxels are ``coarser`` times 3 mm wide; noise and texture are weaker there, as an average is.
    """
    values, texture = drawn_hounsfield(rng)
    fine, wide = smooth_noise(rng, tissue.shape, rng.uniform(4, 9)), smooth_noise(rng, tissue.shape, rng.uniform(15, 50))
    image = values[tissue] + texture[tissue] / np.float32(coarser) * (rng.uniform(0.3, 1.0) * fine + rng.uniform(0.2, 0.8) * wide)
    if rng.random() < 0.6:
        _lay_down(rng, image, tissue)
    image = ndimage.gaussian_filter(image, rng.uniform(0.25, 0.8))
    if rng.random() < 0.35:
        image = _in_slices(rng, image)
    return scanned(rng, image, coarser)


def scanned(rng: np.random.Generator, image: Floats, coarser: int = 1) -> Floats:
    """Return the picture with a scanner's noise, streaks, shading, wrong scale and truncation; real CTs are varied by it too."""
    noise = rng.normal(size=image.shape).astype(np.float32)
    grain = rng.uniform(0, 0.8)
    if grain > 0.3:
        noise = ndimage.gaussian_filter(noise, grain)
        noise /= noise.std()
    image = image + np.float32(rng.gamma(1.6, 10.0) / coarser) * noise
    if rng.random() < 0.4:
        image = image + _streaks(rng, image)
    if rng.random() < 0.3:  # cupping and scatter
        image = image + np.float32(rng.uniform(5, 25)) * smooth_noise(rng, image.shape, 200)
    image = np.maximum(image * np.float32(rng.normal(1, 0.02)) + np.float32(rng.normal(0, 6)), -1024)
    return _cut_view(rng, image) if rng.random() < 0.25 else image


def _streaks(rng: np.random.Generator, image: Floats) -> Floats:
    """Return horizontal streaks through dense slices, as between arms or hips."""
    lines = ndimage.gaussian_filter(rng.normal(size=image.shape[:2]).astype(np.float32), (rng.uniform(0.5, 3), 0.8))
    dense = ndimage.gaussian_filter1d((image > 250).mean(axis=(1, 2)), 2)
    strength = rng.uniform(5, 40) * (0.2 + dense / max(float(dense.max()), 1e-6))
    body = image > -500
    streaks: Floats = (lines / lines.std() * strength[:, None]).astype(np.float32)[:, :, None] * body
    return streaks


def _lay_down(rng: np.random.Generator, image: Floats, tissue: NDArray[np.uint8]) -> None:
    """Paint a table behind the body, and now and then clothes or a blanket over it."""
    body = tissue != INDEX["air"]
    rows = np.flatnonzero(body.any(axis=(0, 2)))
    if not rows.size or rows[-1] + 2 >= image.shape[1]:
        return
    top = int(rows[-1]) + int(rng.integers(0, 3))
    x = np.arange(image.shape[2]) - image.shape[2] / 2
    bent = (top + 1 - rng.uniform(0, 0.0022) * x**2).astype(int)
    shell, inside = rng.uniform(-700, 200), rng.uniform(-980, -850)
    for column, row in enumerate(bent):
        for depth in range(int(rng.integers(5, 9))):
            at = row + depth
            if 0 <= at < image.shape[1]:
                free = ~body[:, at, column]
                image[free, at, column] = shell if depth in (0, 5) else inside
    if rng.random() < 0.4:
        cloth = ndimage.binary_dilation(body, iterations=2) & ~ndimage.binary_dilation(body)
        image[cloth & (image < -900)] = rng.uniform(-950, -600)


def _in_slices(rng: np.random.Generator, image: Floats) -> Floats:
    """Return the picture as thicker slices show it: averaged and interpolated along z."""
    count = max(int(image.shape[0] * 3.0 / rng.uniform(3.5, 6.0)), 2)
    column = torch.from_numpy(image)[None, None]
    size = tuple(image.shape)
    thick = torch.nn.functional.interpolate(column, size=(count, *size[1:]), mode="area")
    return torch.nn.functional.interpolate(thick, size=size, mode="trilinear", align_corners=False)[0, 0].numpy()


def _cut_view(rng: np.random.Generator, image: Floats) -> Floats:
    """Return the picture cut to a round field of view, with air or the scanner's padding beyond."""
    _, ny, nx = image.shape
    radius = rng.uniform(0.36, 0.6) * nx
    y, x = np.ogrid[:ny, :nx]
    beyond = (y - ny / 2 - rng.normal(0, 6)) ** 2 + (x - nx / 2 - rng.normal(0, 6)) ** 2 > radius**2
    return np.where(beyond[None], np.float32(rng.choice([AIR_HU, -1024.0])), image)
