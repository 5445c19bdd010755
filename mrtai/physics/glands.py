"""Glands that take up PSMA ligands and lie in the head: told plainly where the CT shows their place and nothing drew them."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from scipy import ndimage

from mrtai.physics.organs_in_view import data_box, ends_mm
from mrtai.values.flag import Flag, Severity
from mrtai.values.image import Image
from mrtai.values.labels import Labels

GLANDS: Final = ("parotid", "submandibular", "lacrimal")

HEAD_ABOVE_LUNGS_MM: Final = 120.0
"""The submandibular glands lie some 10 cm above the lungs' apex, the parotids 13 and the orbits 18: less shows no gland whole."""


def gland_flags(labels: Labels, ct: Image, agent: str) -> tuple[Flag, ...]:
    """Return a note on glands that were not drawn: for a PSMA ligand, on a CT that reaches well above the lungs.

    ``labels`` lie on the grid of ``ct``. Where no lung was drawn nothing tells where the head is, and nothing is said.
    """
    absent = [gland for gland in GLANDS if not any(name.startswith(gland) for name in labels.names.values())]
    if "psma" not in agent.casefold() or not absent or above_lungs_mm(labels, ct) < HEAD_ABOVE_LUNGS_MM:
        return ()
    text = (
        f"The head is in view, and the {_listed(absent)} glands were not segmented: {labels.origin} does not draw them. They have no dose."
    )
    remedy = "Give their contours with --labels or as SEG or RTSTRUCT, or add a model that draws them: mrtai models add, then --segmenter."
    return (Flag("GLANDS_NOT_SEGMENTED", Severity.INFO, text, remedy),)


def with_gland_flags(labels: Labels, ct: Image, agent: str) -> Labels:
    """Return the labels with what ``gland_flags`` tells of the whole case."""
    told = gland_flags(labels, ct, agent)
    return replace(labels, flags={**labels.flags, "": (*labels.flags.get("", ()), *told)}) if told else labels


def above_lungs_mm(labels: Labels, ct: Image) -> float:
    """Return how far the CT's data reach above the top of the lungs [mm]; 0 where no lung was drawn."""
    boxes = ndimage.find_objects(labels.voxels)
    lungs = [value for value, name in labels.names.items() if name.startswith("lung_") and value <= len(boxes) and boxes[value - 1]]
    tops = [ends_mm(ct.grid, boxes[value - 1])[1] for value in lungs]
    return ends_mm(ct.grid, data_box(ct))[1] - max(tops) if tops else 0.0


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
