"""Pictures of contours that a gate flagged: three planes through the organ's middle, or through the end of the data that cuts it."""

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mrtai.io.figure_maps import side_letters
from mrtai.io.report_views import CT_WINDOW_HU, Pixels, Plane, in_patient_order, outlines, patient_spacing_mm, picture
from mrtai.physics.contour_gates import CODES
from mrtai.physics.organs_in_view import EDGE, Organ, face_name, organs_in_view
from mrtai.physics.resample import cropped
from mrtai.values.flag import Severity
from mrtai.values.image import Image
from mrtai.values.labels import Labels

ORGANS_AT_MOST: Final = 8
MARGIN_MM: Final = 40.0
LUNG_WINDOW_HU: Final = (-1100.0, 200.0)
FLAGGED, OTHERS = "#E69F00", "#56B4E9"

Box = tuple[slice, slice, slice]


def doubtful(labels: Labels) -> tuple[str, ...]:
    """Return the regions whose contour a person must look at by a gate's word, in label order."""

    def looked_at(name: str) -> bool:
        return any(flag.code in CODES and flag.severity is not Severity.INFO for flag in labels.flags.get(name, ()))

    return tuple(name for name in labels.names.values() if looked_at(name))


def organ_figures(labels: Labels, ct: Image) -> dict[str, Figure]:
    """Return a figure by name of the first ``ORGANS_AT_MOST`` doubtful regions; none where contours and CT have different grids."""
    names = doubtful(labels)
    if not names or not labels.grid.same_as(ct.grid):
        return {}
    organs = organs_in_view(labels, ct)
    return {name: organ_figure(organs[name], labels, ct) for name in names[:ORGANS_AT_MOST] if name in organs}


def organ_figure(organ: Organ, labels: Labels, ct: Image) -> Figure:
    """Return axial, coronal and sagittal cuts of the CT around an organ, its outline bold and those of other regions fine."""
    box = _around(organ, ct)
    part = cropped(ct.grid, box)
    hounsfield, regions = in_patient_order(ct.voxels[box], part), in_patient_order(labels.voxels[box], part)
    marked = np.zeros(part.shape, dtype=np.bool_)
    marked[tuple(at - side.start for at, side in zip(focus(organ, ct), box, strict=True))] = True
    z, y, x = (int(at) for at in np.argwhere(in_patient_order(marked, part))[0])
    value = {name: value for value, name in labels.names.items()}[organ.name]
    dx, dy, dz = patient_spacing_mm(part)
    nz, ny, nx = hounsfield.shape
    sizes = {Plane.AXIAL: (nx * dx, ny * dy), Plane.CORONAL: (nx * dx, nz * dz), Plane.SAGITTAL: (ny * dy, nz * dz)}
    cuts = {Plane.AXIAL: z, Plane.CORONAL: y, Plane.SAGITTAL: x}
    widths, tallest = [size[0] for size in sizes.values()], max(size[1] for size in sizes.values())
    figure = Figure(figsize=(6.6, min(3.4, 6.4 * tallest / sum(widths)) + 0.25), layout="constrained")
    axes = np.asarray(figure.subplots(1, 3, width_ratios=widths), dtype=object)
    for axis, plane in zip(axes, Plane, strict=True):
        window = LUNG_WINDOW_HU if organ.name.startswith("lung") else CT_WINDOW_HU
        cut = (picture(hounsfield, plane, cuts[plane]), picture(regions, plane, cuts[plane]))
        _panel(axis, *cut, value=value, plane=plane, size_mm=sizes[plane], window=window)
    return figure


def focus(organ: Organ, ct: Image) -> tuple[int, int, int]:
    """Return the voxel ``(z, y, x)`` that the planes meet in: in the largest face that cuts the organ, else nearest to its middle."""
    inside = np.argwhere(organ.mask)
    faces = {face: area for face, area in organ.cuts_mm2.items() if face != EDGE}
    if faces:
        worst = max(faces, key=faces.__getitem__)
        axis, end = next((a, e) for a in range(3) for e in (-1, 1) if face_name(ct.grid, a, e) == worst)
        layer = inside[:, axis].max() if end > 0 else inside[:, axis].min()
        inside = inside[inside[:, axis] == layer]
    nearest = inside[np.argmin(((inside - inside.mean(axis=0)) ** 2).sum(axis=1))]
    z, y, x = (int(at) + side.start for at, side in zip(nearest, organ.box, strict=True))
    return z, y, x


def _around(organ: Organ, ct: Image) -> Box:
    """Return the organ's box with a margin, inside the CT."""
    more = np.ceil(MARGIN_MM / ct.grid.spacing_mm[::-1]).astype(int)
    sides = [slice(max(s.start - m, 0), min(s.stop + m, n)) for s, m, n in zip(organ.box, more.tolist(), ct.grid.shape, strict=True)]
    return sides[0], sides[1], sides[2]


def _panel(
    axis: Axes,
    hounsfield: Pixels,
    regions: NDArray[np.integer],
    *,
    value: int,
    plane: Plane,
    size_mm: tuple[float, float],
    window: tuple[float, float],
) -> None:
    extent = (0.0, size_mm[0], size_mm[1], 0.0)
    axis.imshow(hounsfield, cmap="gray", vmin=window[0], vmax=window[1], extent=extent, interpolation="bilinear")
    pixel_mm = np.array(size_mm) / np.array(regions.shape[::-1])
    # the flagged one last, so that it lies on top
    for region in sorted(set(np.unique(regions).tolist()) - {0}, key=lambda one: one == value):
        for line in outlines(regions == region):
            own = region == value
            axis.plot(*(line * pixel_mm).T, color=FLAGGED if own else OTHERS, lw=1.4 if own else 0.6)
    side_letters(axis, plane, "white")
    axis.set_title(plane.name.lower(), fontsize=8)
    axis.set_axis_off()
    axis.set_xlim(0, size_mm[0])
    axis.set_ylim(size_mm[1], 0)
