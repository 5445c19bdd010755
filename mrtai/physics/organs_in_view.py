"""Organs as a CT shows them: where each lies, how large it is, and where the data end before it does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.values.grid import Array, Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels

Box = tuple[slice, slice, slice]
Mask = NDArray[np.bool_]

REST: Final = ("body", "remainder")
EDGE: Final = "edge of the reconstructed circle"
FACES: Final = {(0, 1): "left", (0, -1): "right", (1, 1): "back", (1, -1): "front", (2, 1): "head", (2, -1): "feet"}
"""Names of the ends of the data, by patient axis (x, y, z; LPS) and direction."""

NEVER_MEASURED_HU: Final = -1500.0
"""Scanners fill what they did not measure with less than this; some with the least value of all."""

MOST_AIR_HU: Final = -900.0

FADES_MM: Final = 10.0
"""The coarsest voxels that a model looks at are about as wide."""

STILL_WIDE: Final = 0.5
"""Of the largest cross-section."""


@dataclass(frozen=True, slots=True, eq=False)
class Organ:
    """One region of a CT.

    Attributes:
        box: slices ``(z, y, x)`` that just hold it; ``mask`` its voxels in there.
        centre_mm: centre of mass ``(x, y, z)`` LPS.
        low_mm, high_mm: its ends along z, feet and head.
        cuts_mm2: cross-section at each end of the data that it reaches, by the end's name.
    """

    name: str
    box: Box
    mask: Mask
    volume_ml: float
    centre_mm: Array
    low_mm: float
    high_mm: float
    cuts_mm2: Mapping[str, float]


def organs_in_view(labels: Labels, ct: Image) -> dict[str, Organ]:
    """Return every region that has a voxel, but for the body and what is left of it.

    ``ValueError`` when the contours do not lie on the CT's grid.
    """
    if not labels.grid.same_as(ct.require(Quantity.HOUNSFIELD).grid):
        raise ValueError("contours are judged on the CT's own grid")
    data, boxes = data_box(ct), ndimage.find_objects(labels.voxels)
    least_hu = float(ct.voxels.min())
    level_hu = NEVER_MEASURED_HU if least_hu <= NEVER_MEASURED_HU else least_hu
    found = {}
    for value, name in labels.names.items():
        box = boxes[value - 1] if 0 < value <= len(boxes) else None
        if box is not None and name not in REST:
            found[name] = _organ(name, box, labels.voxels[box] == value, ct, data, level_hu)
    return found


def data_box(ct: Image) -> Box:
    """Return the slices ``(z, y, x)`` that hold data: beyond them every layer has one value throughout, as padding has."""
    spans = []
    for axis in range(3):
        layers = np.moveaxis(ct.voxels, axis, 0)
        varied = (n for n in range(len(layers)) if layers[n].min() != layers[n].max())
        first = next(varied, 0)
        last = next((n for n in range(len(layers) - 1, first, -1) if layers[n].min() != layers[n].max()), first)
        spans.append(slice(first, last + 1))
    return spans[0], spans[1], spans[2]


def ends_mm(grid: Grid, box: Box) -> tuple[float, float]:
    """Return where a box of slices ``(z, y, x)`` ends along z, feet and head, at the outer faces of its voxels."""
    index = np.array([[(part.start, part.stop)[end] for part, end in zip(box, ends, strict=True)] for ends in np.ndindex(2, 2, 2)]) - 0.5
    z_mm = index[:, ::-1] @ grid.affine[2, :3] + grid.origin_mm[2]
    return float(z_mm.min()), float(z_mm.max())


def face_name(grid: Grid, axis: int, end: int) -> str:
    """Return the name of the end of array ``axis`` (0 = z) that lies at its first voxel (``end`` -1) or its last (1)."""
    direction = grid.direction[:, 2 - axis]
    patient = int(np.argmax(np.abs(direction)))
    return FACES[patient, int(end * np.sign(direction[patient]))]


def face_mm2(grid: Grid, axis: int) -> float:
    """Return the area of a voxel's face across array ``axis`` (0 = z)."""
    return float(np.prod(np.delete(grid.spacing_mm, 2 - axis)))


def _organ(name: str, box: Box, mask: Mask, ct: Image, data: Box, level_hu: float) -> Organ:
    grid = ct.grid
    count = int(np.count_nonzero(mask))
    sums = [np.arange(mask.shape[axis]) @ mask.sum(axis=tuple({0, 1, 2} - {axis})) / count + box[axis].start for axis in (2, 1, 0)]
    low_mm, high_mm = ends_mm(grid, box)
    return Organ(
        name=name,
        box=box,
        mask=mask,
        volume_ml=count * grid.voxel_ml,
        centre_mm=grid.affine[:3, :3] @ np.array(sums) + grid.origin_mm,
        low_mm=low_mm,
        high_mm=high_mm,
        cuts_mm2=_cuts_mm2(box, mask, ct, data, level_hu),
    )


def _cuts_mm2(box: Box, mask: Mask, ct: Image, data: Box, level_hu: float) -> dict[str, float]:
    cuts = {
        face_name(ct.grid, axis, end): _end_voxels(box[axis], mask, data[axis], axis, end, ct.grid) * face_mm2(ct.grid, axis)
        for axis in range(3)
        for end in (-1, 1)
    }
    rim = _rim_mm2(box, mask, ct, data, level_hu)
    return {face: area for face, area in cuts.items() if area} | ({EDGE: rim} if rim else {})


def _end_voxels(own: slice, mask: Mask, data: slice, axis: int, end: int, grid: Grid) -> int:
    """Return how many voxels of a region the data's end cuts: those of its last layer, or 0.

    A model that sees air beyond the end lets an organ fade before it. A region that comes near the end and is wide just before it was
    cut, too: a dome or a pole would be narrow there.
    """
    layers = mask.sum(axis=tuple({0, 1, 2} - {axis}))
    last = (data.start if end < 0 else data.stop - 1) - own.start
    at_end = int(layers[np.clip(last, 0, len(layers) - 1)]) if 0 <= last < len(layers) else 0
    if at_end:
        return at_end
    before = last - end * round(FADES_MM / float(grid.spacing_mm[2 - axis]))
    reaches = 0 <= last - len(layers) + 1 <= last - before if end > 0 else 0 <= -last <= before - last
    wide = int(layers[before]) if reaches and 0 <= before < len(layers) else 0
    return wide if wide >= STILL_WIDE * int(layers.max()) else 0


def _rim_mm2(box: Box, mask: Mask, ct: Image, data: Box, level_hu: float) -> float:
    """Return the surface [mm²] that a region shares with what the scanner never measured, beside the round field of view.

    Layers of padding do not count: they are ends of the data of their own.
    """
    if level_hu > MOST_AIR_HU:
        return 0.0
    wide = tuple(slice(max(part.start - 1, 0), min(part.stop + 1, n)) for part, n in zip(box, ct.grid.shape, strict=True))
    inside = np.zeros([part.stop - part.start for part in wide], dtype=np.bool_)
    inside[tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(box, wide, strict=True))] = mask
    held = tuple(slice(max(d.start - w.start, 0), max(d.stop - w.start, 0)) for d, w in zip(data, wide, strict=True))
    if not _shared_mm2(inside[held], (ct.voxels[wide] <= level_hu)[held], ct.grid):
        return 0.0
    # gas in the bowel may have the least value too: only what reaches the image's own border was not measured
    outside = np.stack([_from_border(ct.voxels[k] <= level_hu) for k in range(wide[0].start, wide[0].stop)])
    return _shared_mm2(inside[held], outside[:, wide[1], wide[2]][held], ct.grid)


def _shared_mm2(inside: Mask, outside: Mask, grid: Grid) -> float:
    area = 0.0
    for axis in range(3):
        a, b = np.moveaxis(inside, axis, 0), np.moveaxis(outside, axis, 0)
        area += (int((a[1:] & b[:-1]).sum()) + int((a[:-1] & b[1:]).sum())) * face_mm2(grid, axis)
    return area


def _from_border(empty: Mask) -> Mask:
    """Return the parts of a slice's empty region that reach its border."""
    parts, _ = ndimage.label(empty)
    reached = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    connected: Mask = np.isin(parts, reached[reached > 0])
    return connected
