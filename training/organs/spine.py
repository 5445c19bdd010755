"""The spine of a generated torso, from neck to sacrum."""

import numpy as np
from scipy import ndimage

from training.organs.canvas import Canvas, superellipse
from training.organs.tissues import INDEX


def spine(canvas: Canvas, spine_y: float, rng: np.random.Generator) -> None:
    """Paint vertebrae from neck to sacrum: bodies with a shell around marrow, discs, arches, processes and the canal."""
    bend, phase, sideways = rng.uniform(4, 16), rng.uniform(-0.4, 0.4), rng.normal(0, 3)
    level = rng.uniform(-180, -150)
    while level < 360:
        grown = float(np.interp(level, (-150, 0, 150, 350), (1.12, 1.0, 0.85, 0.68))) * rng.normal(1, 0.02)
        middle = (
            sideways * float(np.sin(level / 120 + phase)),
            spine_y + bend * float(np.sin(level / 95 + phase)),
            level,
        )
        vertebra(canvas, middle, grown, rng)
        level += 36 * grown
    _sacrum(canvas, spine_y, rng)


def vertebra(canvas: Canvas, middle: tuple[float, float, float], grown: float, rng: np.random.Generator) -> None:
    """Paint one vertebra and the disc above it; ``grown`` is its size relative to the first lumbar one's."""
    x, y, z = middle
    half = np.array([23.0, 17.0, 14.0]) * grown * rng.lognormal(0, 0.04, 3)
    box = canvas.box(middle, 75)
    dx, dy, dz = canvas.x[:, :, box[2]] - x, canvas.y[:, box[1], :] - y, canvas.z[box[0], :, :] - z
    part = canvas.tissue[box]
    round_ = superellipse(dx / half[0], dy / half[1], 2.3)
    waist = 1 - 0.1 * np.cos(np.clip(dz / half[2], -1, 1) * np.pi / 2)
    body, disc = (
        (round_ < waist) & (np.abs(dz) < half[2]),
        (round_ < 0.97) & (np.abs(dz) >= half[2]) & (dz > 0) & (dz < half[2] + 8 * grown),
    )
    back = dy - half[1]
    canal = superellipse(dx / 10, (back - 9) / 8.5, 2.0) < 1
    ring = (superellipse(dx / 18, (back - 8) / 14, 2.0) < 1) & (np.abs(dz) < 0.65 * half[2]) & (back > -4)
    spinous = (np.abs(dx) < 4) & (back > 18) & (back < 48 * grown) & (np.abs(dz + 0.35 * (back - 18)) < 8 * grown)
    transverse = (np.abs(dx) > 12) & (np.abs(dx) < 42 * grown) & (np.abs(back - 8 - 0.15 * np.abs(dx)) < 5) & (np.abs(dz) < 6)
    facets = (np.abs(np.abs(dx) - 17) < 7) & (np.abs(back - 15) < 7) & (np.abs(dz - half[2]) < 12)
    for where in (ring, spinous, transverse, facets):
        part[where] = INDEX["spine bone"]
    part[disc] = INDEX["disc"]
    part[body] = INDEX["spine bone"]
    shell = rng.uniform(2.0, 3.2)
    marrow = (round_ < waist - shell / half[1]) & (np.abs(dz) < half[2] - shell)
    part[marrow] = INDEX["marrow"]
    part[canal & (back > 0) & (dz > -half[2] - 10) & (dz < half[2] + 14)] = INDEX["spinal canal"]


def _sacrum(canvas: Canvas, spine_y: float, rng: np.random.Generator) -> None:
    z = canvas.z
    share = np.clip((-150 - z) / 115, 0, 1)
    width = 56 * (1 - 0.75 * share) * rng.uniform(0.9, 1.1)
    middle = spine_y + 8 + 45 * np.sin(share * np.pi * 0.6)
    thick = 26 * (1 - 0.6 * share)
    inside = (superellipse(canvas.x / width, (canvas.y - middle) / thick, 2.4) < 1) & (z < -150) & (z > -268)
    canvas.paint("spine bone", inside)
    canvas.paint("marrow", ndimage.binary_erosion(inside) & (np.abs(canvas.x) < 26) & (z > -180))
    spongy = ndimage.binary_erosion(inside) & ~canvas.holds("marrow")
    canvas.paint("spine bone", spongy)
