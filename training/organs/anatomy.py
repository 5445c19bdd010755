"""Torsos drawn at random around real or formula-made abdominal organs: what a CT of a patient is made of, tissue by tissue.

Organ shapes come from published label maps (liver, spleen, left kidney, stomach and neighbours that belong together) or from
ellipsoids; the right kidney is the mirrored left one of another drawing. Everything around them — cavity, lungs over the
diaphragm, spine, ribs, pelvis, muscles, fat, vessels, bowel — is built to fit, so no two anatomies are alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.organs.canvas import SPACING_MM, Canvas, Floats, Mask, along, smooth_noise, superellipse
from training.organs.ends import head, thighs
from training.organs.spine import spine

LOW_MM: Final = (-255.0, -210.0, -345.0)
HIGH_MM: Final = (255.0, 195.0, 375.0)

CAVITY: Final = ((-300, 0.45), (-250, 0.68), (-190, 0.82), (-80, 0.9), (0, 1.0), (90, 1.02), (190, 0.9), (270, 0.66), (325, 0.3))
BODY: Final = (
    (-345, 1.02),
    (-230, 1.1),
    (-150, 1.05),
    (-60, 0.96),
    (0, 0.98),
    (120, 1.0),
    (210, 1.06),
    (290, 1.12),
    (335, 0.85),
    (375, 0.5),
)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The torso's measures: middle of the spine in y, the cavity's half-width, front and back [mm], muscle and fat [mm]."""

    spine_y: float
    half_width: float
    front_y: float
    back_y: float
    wall: float
    fat: float
    roundness: float


def torso(rng: np.random.Generator, organs: Mapping[str, Mask], canvas: Canvas, spine_y: float) -> NDArray[np.uint8]:
    """Return the tissues of a torso, ``(z, y, x)`` at 3 mm, built around ``organs`` (masks on the canvas, the spine at x = 0).

    One in three has its head and one in three its thighs too.
    """
    frame = _frame(rng, organs, canvas, spine_y)
    radius = _cavity_radius(canvas, frame, rng)
    _body(canvas, frame, radius, rng)
    cavity = (radius < 1) & (canvas.z < 322) & (canvas.z > -290)
    chest = cavity & (canvas.z > _diaphragm(canvas, organs, radius, rng))
    _chest(canvas, chest, frame, rng)
    _abdomen(canvas, cavity & ~chest, rng)
    _bones(canvas, frame, radius, rng)
    _vessels(canvas, frame, cavity, rng)
    _pelvis(canvas, frame, cavity, rng)
    _organs(canvas, organs, rng)
    spine(canvas, frame.spine_y, rng)
    above = [head(rng, canvas, spine_y)] if rng.random() < 1 / 3 else []
    below = [thighs(rng, canvas, spine_y)] if rng.random() < 1 / 3 else []
    return np.concatenate([*below, canvas.tissue, *above])


def _frame(rng: np.random.Generator, organs: Mapping[str, Mask], canvas: Canvas, spine_y: float) -> Frame:
    solid = np.any([mask.any(axis=0) for mask in organs.values()], axis=0)
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    y, x = canvas.y.ravel(), canvas.x.ravel()
    half_width = float(max(-x[columns[0]], x[columns[-1]])) + rng.uniform(2, 10)
    front = min(float(y[rows[0]]) - rng.uniform(0, 12), spine_y - 95)
    back = max(float(y[rows[-1]]) + rng.uniform(3, 10), spine_y + rng.uniform(28, 42))
    fat = float(np.clip(rng.lognormal(2.8, 0.55), 4, 55))
    return Frame(spine_y, min(half_width, 195), max(front, -165), back, rng.uniform(9, 20), fat, rng.uniform(2.1, 2.8))


def _cavity_radius(canvas: Canvas, frame: Frame, rng: np.random.Generator) -> Floats:
    """Return where a voxel lies between the cavity's axis (0) and its wall (1)."""
    scale = along(canvas.z, CAVITY)
    middle, half_depth = (frame.front_y + frame.back_y) / 2, (frame.back_y - frame.front_y) / 2
    depth = half_depth * along(canvas.z, ((-300, 0.6), (-200, 0.9), (0, 1.0), (110, 1.0), (230, 0.85), (325, 0.4)))
    # the back stays where the spine is; only the front comes nearer
    centre = middle + (half_depth - depth)
    radius = superellipse(canvas.x / (frame.half_width * scale), (canvas.y - centre) / depth, frame.roundness)
    return radius * (1 + 0.03 * smooth_noise(rng, canvas.shape, 90))


def _body(canvas: Canvas, frame: Frame, radius: Floats, rng: np.random.Generator) -> None:
    wall = frame.wall * (1 + 0.25 * smooth_noise(rng, canvas.shape, 70))
    scale = along(canvas.z, BODY)
    front = frame.front_y - frame.wall - frame.fat * rng.uniform(0.5, 1.5)
    back = frame.spine_y + rng.uniform(58, 75) + frame.fat * rng.uniform(0.3, 0.9)
    side = frame.half_width * 0.95 + frame.wall + frame.fat * rng.uniform(0.7, 1.1)
    skin = superellipse(canvas.x / (side * scale), (canvas.y - (front + back) / 2) / ((back - front) / 2), rng.uniform(2.2, 3.0))
    skin *= 1 + 0.02 * smooth_noise(rng, canvas.shape, 120)
    inside = skin < 1
    canvas.paint("fat", inside)
    near_wall = (radius - 1) * frame.half_width < wall
    pelvic = (canvas.z < -60) & ((radius - 1) * frame.half_width < wall + along(canvas.z, ((-300, 55), (-160, 38), (-60, 0))))
    shoulder = (canvas.z > 180) & ((radius - 1) * frame.half_width < wall + along(canvas.z, ((180, 0), (260, 45), (375, 60))))
    beside_spine = superellipse((np.abs(canvas.x) - 34) / 36, (canvas.y - frame.spine_y - 28) / rng.uniform(22, 32), 2.4) < 1
    muscle = (near_wall | pelvic | shoulder | beside_spine) & inside & (skin < 1 - 6 / frame.half_width)
    # fat lies between the muscles too
    canvas.paint("muscle", muscle & (smooth_noise(rng, canvas.shape, 14) < rng.uniform(1.2, 2.6)))
    if rng.random() < 0.3:
        _arms(canvas, side, frame, rng)


def _arms(canvas: Canvas, side: float, frame: Frame, rng: np.random.Generator) -> None:
    for sign in (-1, 1):
        x, y, radius = sign * (side + rng.uniform(40, 60)), frame.spine_y - rng.uniform(0, 60), rng.uniform(32, 46)
        bottom, top = rng.uniform(-260, -60), 300.0
        ends = np.array([(x, y, bottom), (x * 0.95, y + rng.uniform(-10, 10), top)])
        for name, r in (("fat", radius), ("muscle", radius - rng.uniform(4, 12)), ("cortical bone", 11.0), ("spongy bone", 6.0)):
            canvas.tube(name, ends, r)


def _diaphragm(canvas: Canvas, organs: Mapping[str, Mask], radius: Floats, rng: np.random.Generator) -> Floats:
    """Return the diaphragm's height over each point, ``(1, y, x)``: above liver, spleen and stomach, lower at the wall."""
    z = canvas.z.ravel()
    top = np.full(canvas.shape[1:], -np.inf, dtype=np.float32)
    for name in ("liver", "spleen", "stomach"):
        mask = organs.get(name)
        if mask is not None and mask.any():
            highest = z[mask.shape[0] - 1 - np.argmax(mask[::-1], axis=0)]
            top = np.maximum(top, np.where(mask.any(axis=0), highest, -np.inf))
    known = np.isfinite(top)
    dome = float(np.percentile(top[known], 97))
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled = np.where(known, top, top[tuple(nearest)])
    # no lower than the dome would leave it, lower towards the wall: the lungs' recess behind and beside the liver
    middle = radius[int(np.argmin(np.abs(z - dome + 30)))]
    recess = rng.uniform(60, 130) * np.clip((middle - 0.55) / 0.45, 0, 1) ** 1.5
    floor = dome - 10 - recess * np.where(canvas.y[0] > 0, 1.0, rng.uniform(0, 0.4))
    height = np.maximum(ndimage.gaussian_filter(np.minimum(np.maximum(filled, floor), dome), 4), np.where(known, top, -np.inf))
    return np.asarray(height[None] + rng.uniform(2, 6), dtype=np.float32)


def _chest(canvas: Canvas, chest: Mask, frame: Frame, rng: np.random.Generator) -> None:
    x, y, z = canvas.x, canvas.y, canvas.z
    dome = float(canvas.z.ravel()[np.flatnonzero(chest.any(axis=(1, 2)))[0]]) + 60
    width = along(z, ((-100, 42), (200, 32), (300, 26))) * (1 + 0.15 * smooth_noise(rng, canvas.shape, 60))
    behind = y > frame.spine_y - 45
    mediastinum = (np.abs(x) < np.where(behind, 24, width)) & chest
    canvas.paint("left lung", chest & (x > 0))
    canvas.paint("right lung", chest & (x <= 0))
    canvas.paint("visceral fat", mediastinum)
    size = rng.uniform(0.85, 1.2)
    middle = (22 + rng.uniform(-8, 8), frame.front_y + 62 * size, dome + 25)
    canvas.ellipsoid("heart", middle, (58 * size, 44 * size, 52 * size), over=chest)
    _in_lungs(canvas, rng)
    if rng.random() < 0.15:  # fluid gathers at the back
        canvas.paint("fluid", canvas.holds("left lung", "right lung") & (y > frame.back_y - rng.uniform(15, 45)))
    trachea = np.array([(0, frame.spine_y - 42, 235), (2, frame.spine_y - 55, 360)], dtype=float)
    for side in (-1, 1):
        canvas.tube("airways", np.array([trachea[0], (side * 45, frame.spine_y - 40, 205)]), 6)
    canvas.tube("airways", trachea, 9)
    canvas.tube("soft organ", np.array([(10, frame.spine_y - 32, dome), (4, frame.spine_y - 36, 360)]), 8, over=chest)


def _in_lungs(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint vessels and now and then denser parts into the lungs; they stay lung."""
    dense = smooth_noise(rng, canvas.shape, 10) > rng.uniform(1.9, 2.8)
    for side in ("left", "right"):
        canvas.paint(f"{side} lung vessels", dense & canvas.holds(f"{side} lung"))


def _abdomen(canvas: Canvas, abdomen: Mask, rng: np.random.Generator) -> None:
    canvas.paint("visceral fat", abdomen)
    lumps = smooth_noise(rng, canvas.shape, rng.uniform(22, 34))
    bowel = abdomen & (lumps > rng.uniform(-0.9, 0.4)) & (canvas.z < 60)
    canvas.paint("bowel", bowel)
    inner = ndimage.binary_erosion(bowel)
    kind = smooth_noise(rng, canvas.shape, 45)
    canvas.paint("bowel content", inner & (kind > rng.uniform(0.4, 1.4)))
    canvas.paint("bowel gas", inner & (kind < rng.uniform(-1.8, -0.8)))
    if rng.random() < 0.08:
        canvas.paint("fluid", abdomen & (lumps < -0.9))


def _bones(canvas: Canvas, frame: Frame, radius: Floats, rng: np.random.Generator) -> None:
    x, y, z = canvas.x, canvas.y, canvas.z
    beyond = (radius - 1) * frame.half_width
    pitch, drop = rng.uniform(27, 34), rng.uniform(0.35, 0.65)
    phase = (z + drop * (frame.back_y - y) + rng.uniform(0, pitch)) % pitch
    rib = (beyond > 0) & (beyond < rng.uniform(7, 10)) & (phase < rng.uniform(9, 13)) & (z + 0.4 * (frame.back_y - y) > -5) & (z < 320)
    front = (y < frame.front_y + 55) & (np.abs(x) < 95)
    canvas.paint("cortical bone", rib & ~front)
    canvas.paint("spongy bone", rib & ~front & (beyond > 2.5) & (beyond < 6) & (phase > 3) & (phase < 8))
    canvas.paint("cartilage", rib & front & (z < 210))
    canvas.paint("spongy bone", (np.abs(x) < 19) & (beyond > 0) & (beyond < 10) & (y < 0) & (z > 110) & (z < 270))
    angle = np.degrees(np.arctan2(np.abs(x), y - (frame.front_y + frame.back_y) / 2))
    wing = (beyond > 2) & (beyond < rng.uniform(9, 16)) & (angle > 22) & (angle < rng.uniform(85, 120))
    wing &= (z > -235) & (z < -75 - 0.25 * np.abs(angle - 60))
    canvas.paint("cortical bone", wing)
    canvas.paint("spongy bone", ndimage.binary_erosion(wing))
    shoulder_blade = (z > 190) & (z < 330) & (beyond > 14) & (beyond < 20) & (np.abs(x) > 60) & (y > frame.spine_y - 40)
    canvas.paint("cortical bone", shoulder_blade)
    for side in (-1, 1):
        hip = (side * rng.uniform(84, 96), frame.spine_y - rng.uniform(35, 55), -238.0)
        canvas.ellipsoid("cortical bone", hip, (33, 33, 33))
        canvas.ellipsoid("spongy bone", hip, (24, 24, 24))
        shaft = np.array([hip, (side * 125, hip[1] + 5, -262), (side * 120, hip[1], -345)])
        canvas.tube("cortical bone", shaft, 15)
        canvas.tube("spongy bone", shaft, 9)
    canvas.tube("cortical bone", np.array([(-45, hip[1] - 35, -262), (45, hip[1] - 35, -262)]), 8)


def _vessels(canvas: Canvas, frame: Frame, cavity: Mask, rng: np.random.Generator) -> None:
    s, r = frame.spine_y, rng.uniform(8.5, 14.0)
    end = rng.uniform(-95, -60)
    wiggle = rng.normal(0, 3, (5, 3))
    down = np.array([(16, s - 24, 245), (20, s - 20, 170), (14, s - 26, 95), (6, s - 33, 20), (4, s - 33, end)]) + wiggle
    arch = np.array([down[0], (12, s - 45, 268), (-6, s - 70, 262), (-16, s - 86, 235), (-6, s - 90, 165)])
    veins = np.array([(-14, s - 32, end - 8), (-20, s - 34, 30), (-24, s - 44, 90), (-22, s - 60, 150)]) + rng.normal(0, 3, (4, 3))
    canvas.tube("veins", veins, rng.uniform(8, 13), over=cavity)
    for side in (-1, 1):
        iliac = np.array([(0, s - 34, end), (side * 35, s - 40, end - 70), (side * 58, s - 75, -210), (side * 66, s - 110, -270)])
        canvas.tube("veins", iliac + np.array((0, 6, -4)), 7)
        canvas.tube("veins", iliac, 5.5)
        psoas = np.array([(side * 30, s - 5, 10), (side * 42, s - 10, -70), (side * 62, s - 40, -160), (side * 85, s - 60, -250)])
        canvas.tube("muscle", psoas[:2], rng.uniform(13, 20))
        canvas.tube("muscle", psoas[1:], rng.uniform(18, 26))
    canvas.tube("aorta", np.concatenate([down[::-1], arch[1:]]), r)


def _pelvis(canvas: Canvas, frame: Frame, cavity: Mask, rng: np.random.Generator) -> None:
    size = rng.uniform(0.6, 1.5)
    half = tuple(size * np.array([38, 30, 26]) * rng.lognormal(0, 0.15, 3))
    middle = (rng.uniform(-8, 8), frame.front_y + 45 + rng.uniform(0, 20), -238 + half[2] + rng.uniform(-10, 8))
    outer = tuple(np.array(half) + rng.uniform(3, 6))
    below = (0.0, middle[1] + 15, middle[2] - half[2] - 14)
    canvas.ellipsoid("soft organ", below, (26, 22, 22))
    canvas.ellipsoid("soft organ", (rng.uniform(-10, 10), middle[1] + half[1] + 25, middle[2] + 5), (34, 20, 30), over=cavity)
    canvas.ellipsoid("soft organ", middle, outer)
    canvas.ellipsoid("bladder", middle, half)
    rectum = np.array([(0, frame.spine_y - 12, -290), (4, frame.spine_y - 15, -200), (20, frame.spine_y - 40, -150)])
    canvas.tube("bowel", rectum, rng.uniform(11, 20))
    canvas.tube("bowel gas" if rng.random() < 0.4 else "bowel content", rectum, rng.uniform(5, 10))


def _organs(canvas: Canvas, organs: Mapping[str, Mask], rng: np.random.Generator) -> None:
    kidneys = np.any([mask for name, mask in organs.items() if name.startswith("kidney")], axis=0)
    around = ndimage.distance_transform_edt(~kidneys) * SPACING_MM < rng.uniform(2, 22) * (1 + 0.3 * smooth_noise(rng, canvas.shape, 40))
    canvas.paint("visceral fat", around & canvas.holds("bowel", "bowel gas", "bowel content", "left lung", "right lung"))
    for name in ("pancreas", "duodenum", "esophagus"):
        if name in organs:
            canvas.paint("soft organ" if name == "pancreas" else "bowel", organs[name])
    if "stomach" in organs:
        _stomach(canvas, organs["stomach"], rng)
    _liver(canvas, organs["liver"], rng)
    if "gallbladder" in organs:
        canvas.paint("gallbladder", organs["gallbladder"])
    if "spleen" in organs:
        canvas.paint("spleen", organs["spleen"])
    for side in ("left", "right"):
        if f"kidney_{side}" in organs:
            _kidney(canvas, organs[f"kidney_{side}"], side, rng)


def _stomach(canvas: Canvas, where: Mask, rng: np.random.Generator) -> None:
    canvas.paint("stomach wall", where)
    inner = ndimage.binary_erosion(where, iterations=int(rng.integers(1, 3)))
    canvas.paint("stomach", inner)
    if inner.any() and rng.random() < 0.75:  # gas rises to the front of a patient on the back
        level = np.quantile(np.broadcast_to(canvas.y, canvas.shape)[inner], rng.uniform(0.05, 0.5))
        canvas.paint("stomach gas", inner & (canvas.y < level))


def _liver(canvas: Canvas, where: Mask, rng: np.random.Generator) -> None:
    canvas.paint("liver", where)
    inner = ndimage.binary_erosion(where, iterations=3)
    ridges = np.abs(smooth_noise(rng, canvas.shape, 40)) + np.abs(smooth_noise(rng, canvas.shape, 40))
    canvas.paint("liver vessels", inner & (ridges < rng.uniform(0.12, 0.3)))
    points = np.argwhere(inner)
    for _ in range(int(rng.integers(0, 6)) if rng.random() < 0.6 else 0):
        z, y, x = points[int(rng.integers(len(points)))]
        centre = (float(canvas.x.ravel()[x]), float(canvas.y.ravel()[y]), float(canvas.z.ravel()[z]))
        half = tuple(rng.uniform(5, 28) * rng.lognormal(0, 0.2, 3))
        canvas.ellipsoid("liver lesion", centre, half, over=where)


def _kidney(canvas: Canvas, where: Mask, side: str, rng: np.random.Generator) -> None:
    depth = ndimage.distance_transform_edt(where) * SPACING_MM
    canvas.paint(f"{side} cortex", where)
    ridged = depth + 2.5 * smooth_noise(rng, canvas.shape, 14)
    canvas.paint(f"{side} medulla", where & (ridged > rng.uniform(6, 10)))
    canvas.paint("renal sinus", where & (depth > rng.uniform(15, 22)))
    if rng.random() < 0.2:
        z, y, x = np.argwhere(where)[int(rng.integers(where.sum()))]
        centre = (float(canvas.x.ravel()[x]), float(canvas.y.ravel()[y]), float(canvas.z.ravel()[z]))
        canvas.ellipsoid(f"{side} cyst", centre, (rng.uniform(5, 22),) * 3, over=~canvas.holds("muscle", "spine bone", "liver", "spleen"))
