"""Tissues of a generated CT, the class each one belongs to, and the CT numbers it may have.

CT numbers are drawn anew for every picture, wider than in patients, so that the network learns shapes and neighbours rather
than numbers. Soft organs follow a contrast phase: native, arterial or portal-venous (means after common radiology references,
spreads wide on purpose).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

CLASSES: Final = (
    "background",
    "body",
    "lung_left",
    "lung_right",
    "liver",
    "spleen",
    "kidney_left",
    "kidney_right",
    "stomach",
    "aorta",
    "urinary_bladder",
    "spine",
    "red_marrow",
)
UNKNOWN: Final = 255
"""Label of voxels that nobody drew: no loss there."""

PHASES: Final = ("native", "arterial", "portal")


@dataclass(frozen=True, slots=True)
class Tissue:
    """One tissue: its class, CT number by phase (native, arterial, portal), spread of that number, and texture, all in HU."""

    name: str
    region: str
    hounsfield: tuple[float, float, float]
    spread: float
    texture: float


def _same(name: str, region: str, hounsfield: float, spread: float, texture: float) -> Tissue:
    return Tissue(name, region, (hounsfield, hounsfield, hounsfield), spread, texture)


TISSUES: Final = (
    _same("air", "background", -1000, 5, 2),
    _same("fat", "body", -100, 12, 8),
    Tissue("muscle", "body", (52, 58, 65), 10, 14),
    _same("visceral fat", "body", -98, 15, 16),
    Tissue("bowel", "body", (35, 50, 60), 30, 35),
    _same("bowel gas", "body", -850, 120, 60),
    _same("bowel content", "body", 60, 130, 70),
    _same("left lung", "lung_left", -800, 70, 45),
    _same("right lung", "lung_right", -800, 70, 45),
    _same("left lung vessels", "lung_left", -150, 180, 40),
    _same("right lung vessels", "lung_right", -150, 180, 40),
    Tissue("liver", "liver", (52, 68, 108), 16, 8),
    Tissue("liver vessels", "liver", (42, 90, 145), 22, 8),
    Tissue("liver lesion", "liver", (38, 60, 70), 28, 12),
    Tissue("spleen", "spleen", (47, 110, 120), 18, 8),
    Tissue("left cortex", "kidney_left", (34, 170, 180), 28, 10),
    Tissue("right cortex", "kidney_right", (34, 170, 180), 28, 10),
    Tissue("left medulla", "kidney_left", (30, 80, 165), 28, 12),
    Tissue("right medulla", "kidney_right", (30, 80, 165), 28, 12),
    _same("left cyst", "kidney_left", 8, 10, 5),
    _same("right cyst", "kidney_right", 8, 10, 5),
    _same("renal sinus", "body", -40, 70, 40),
    Tissue("stomach", "stomach", (25, 35, 40), 45, 30),
    _same("stomach gas", "stomach", -850, 120, 40),
    Tissue("stomach wall", "stomach", (40, 65, 80), 15, 10),
    Tissue("aorta", "aorta", (40, 290, 160), 35, 8),
    Tissue("veins", "body", (40, 70, 150), 30, 10),
    _same("bladder", "urinary_bladder", 8, 8, 5),
    Tissue("soft organ", "body", (42, 70, 85), 16, 14),
    Tissue("heart", "body", (42, 190, 140), 30, 25),
    _same("cortical bone", "body", 550, 180, 110),
    _same("spongy bone", "body", 180, 80, 60),
    _same("cartilage", "body", 100, 35, 30),
    _same("spine bone", "spine", 420, 150, 120),
    _same("disc", "spine", 85, 22, 18),
    _same("marrow", "red_marrow", 165, 65, 40),
    _same("spinal canal", "body", 28, 12, 14),
    _same("gallbladder", "body", 10, 14, 6),
    _same("fluid", "body", 10, 12, 6),
    _same("airways", "body", -960, 30, 15),
    _same("table", "background", -300, 350, 60),
)
INDEX: Final = {tissue.name: index for index, tissue in enumerate(TISSUES)}
LABEL_OF_TISSUE: Final[NDArray[np.uint8]] = np.array([CLASSES.index(tissue.region) for tissue in TISSUES], dtype=np.uint8)

TWINS: Final = (
    ("left lung", "right lung"),
    ("left lung vessels", "right lung vessels"),
    ("left cortex", "right cortex"),
    ("left medulla", "right medulla"),
    ("left cyst", "right cyst"),
)
"""Tissues of paired organs: of one nature in a patient, and they change names in a mirror."""


def drawn_hounsfield(rng: np.random.Generator, patients: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return CT number and texture of each tissue [HU] in so many patients, both of shape ``(patients, tissues)``."""
    table = np.array([(*t.hounsfield, t.spread, t.texture) for t in TISSUES], dtype=np.float32)
    phase = rng.choice(len(PHASES), patients, p=(0.5, 0.2, 0.3))
    size = (patients, len(TISSUES))
    # between two phases lie others
    by_phase = table[:, phase].T + rng.uniform(0, 0.5, (patients, 1)) * (table[:, 0] - table[:, phase].T)
    values = by_phase + table[:, 3] * rng.normal(0, 1.2, size)
    for left, right in TWINS:
        values[:, INDEX[right]] = values[:, INDEX[left]] + rng.normal(0, 4, patients)
    fatty = rng.uniform(15, 70, patients) * (rng.random(patients) < 0.2)
    values[:, INDEX["liver"]] -= fatty
    values[:, INDEX["liver vessels"]] -= 0.2 * fatty
    # contrast already excreted
    values[:, INDEX["bladder"]] += rng.uniform(50, 600, patients) * (rng.random(patients) < 0.08)
    # neighbours that are close together: only their shape tells them apart
    for own, other, share in (("soft organ", "muscle", 0.5), ("bowel", "stomach", 0.3), ("spleen", "liver", 0.2)):
        alike = rng.random(patients) < share
        values[alike, INDEX[own]] = values[alike, INDEX[other]] + rng.normal(0, 6, int(alike.sum()))
    texture = table[:, 4] * rng.lognormal(0, 0.4, size)
    return values.astype(np.float32), texture.astype(np.float32)
