"""Head and thighs: what a long scan sees beside the torso, so that a network does not find organs there."""

import numpy as np
from numpy.typing import NDArray

from training.organs.canvas import Canvas, superellipse
from training.organs.spine import vertebra

HEAD_MM = 240.0
THIGHS_MM = 240.0


def head(rng: np.random.Generator, torso: Canvas, spine_y: float) -> NDArray[np.uint8]:
    """Return the tissues of neck and head, to be put on top of the torso's last slice, ``(z, y, x)``."""
    bottom = float(torso.z.max()) + 3
    canvas = _beside(torso, bottom, HEAD_MM)
    y = spine_y - rng.uniform(15, 35)
    neck = superellipse(canvas.x / 64, (canvas.y - y) / 64, 2.2) + 0 * canvas.z
    canvas.paint("fat", (neck < 1) & (canvas.z < bottom + 90))
    canvas.paint("muscle", (neck < 0.88) & (canvas.z < bottom + 90))
    size = rng.uniform(0.93, 1.07)
    middle = (0.0, y - 5, bottom + 150)
    half = tuple(np.array([74, 96, 88]) * size)
    for name, thinner in (("muscle", 0), ("fat", 3), ("cortical bone", 6), ("spongy bone", 9), ("cortical bone", 11), ("soft organ", 14)):
        canvas.ellipsoid(name, middle, (half[0] - thinner, half[1] - thinner, half[2] - thinner))
    jaw = (0.0, y - 62, bottom + 75)
    canvas.ellipsoid("muscle", jaw, (62, 48, 50))
    canvas.ellipsoid("cortical bone", (0.0, jaw[1] - 12, jaw[2] - 8), (48, 34, 24))
    canvas.ellipsoid("soft organ", (0.0, jaw[1] - 6, jaw[2] - 6), (36, 32, 30))
    for name, x, forward, up, radius in (("airways", 0, -62, 105, 18), ("fluid", 32, -78, 128, 12), ("airways", 30, -60, 98, 14)):
        for side in (-1, 1):
            canvas.ellipsoid(name, (side * float(x), y + forward, bottom + up), (radius, radius, radius))
    for side in (-1, 1):
        canvas.ellipsoid("soft organ", (side * 58.0, y - 25, bottom + 82), (13, 20, 26))
    level = bottom + 12
    while level < bottom + 75:
        vertebra(canvas, (0.0, y + 10, level), 0.66, rng)
        level += 22
    canvas.tube("airways", np.array([(0, y - 38, bottom), (0, y - 45, bottom + 80)]), 9)
    return canvas.tissue


def thighs(rng: np.random.Generator, torso: Canvas, spine_y: float) -> NDArray[np.uint8]:
    """Return the tissues of both thighs, to be put below the torso's first slice, ``(z, y, x)``."""
    canvas = _beside(torso, float(torso.z.min()) - THIGHS_MM, THIGHS_MM)
    wide, fat = rng.uniform(78, 100), rng.uniform(5, 25)
    y, top = spine_y - rng.uniform(25, 50), float(canvas.z.max())
    for side in (-1, 1):
        x = side * (wide + rng.uniform(2, 10))
        narrower = 1 - 0.3 * (top - canvas.z) / THIGHS_MM
        radius = superellipse((canvas.x - x) / (wide * narrower), (canvas.y - y) / (wide * 0.95 * narrower), 2.1)
        canvas.paint("fat", radius < 1)
        canvas.paint("muscle", radius < 1 - fat / wide)
        femur = np.array([(side * 118, y + 5, top), (side * 95, y, float(canvas.z.min()))])
        canvas.tube("cortical bone", femur, 14)
        canvas.tube("spongy bone", femur, 8)
    return canvas.tissue


def _beside(torso: Canvas, bottom: float, length: float) -> Canvas:
    """Return an empty canvas of ``length`` [mm] from ``bottom`` on with the torso's width and depth."""
    x, y = torso.x.ravel(), torso.y.ravel()
    canvas = Canvas((float(x[0]), float(y[0]), bottom), (float(x[-1]) + 1, float(y[-1]) + 1, bottom + length))
    assert canvas.shape[1:] == torso.shape[1:]
    return canvas
