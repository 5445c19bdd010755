"""Slices for the viewer in report.html: mosaics of anatomy, SPECT and dose with outlines as lines.

Dose and SPECT travel as 8-bit numbers on a square-root scale, value = top · (level/255)², so that the reader can change the
window and read a value under the pointer to about 1 % of the top's neighbourhood and finer below.
"""

import base64
import math
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final

import matplotlib
import numpy as np
from PIL import Image as PillowImage

from mrtai.io.figure_maps import colours
from mrtai.io.report_views import Pixels, Plane, Views, anatomy_picture, outlines, picture, size_mm

SLICES_AT_MOST: Final = 72
"""Per plane; thicker patients are shown in every second or third slice, which the slider's label says."""

ANATOMY_PIXELS_AT_MOST: Final = 220
MOSAIC_COLUMNS: Final = 8
JPEG_QUALITY: Final = 72
LEVELS: Final = 255
POINT_DECIMALS: Final = 1


def viewer_data(shown: Views) -> dict[str, Any]:
    """Return what the page's script draws from: per plane mosaics as data URIs, outlines in pixels, sizes in millimetres."""
    names = list(shown.names.values())
    return {
        "regions": [{"name": name, "colour": colour} for name, colour in colours(names).items()],
        "maps": {"dose": {"unit": "Gy", "colours": _table("plasma")}, "spect": {"unit": "MBq/mL", "colours": _table("afmhot")}},
        "planes": {plane.name.lower(): _plane(shown, plane) for plane in (Plane.AXIAL, Plane.CORONAL)},
    }


def data_uri(content: bytes, kind: str) -> str:
    """Return ``content`` as a data URI of media type ``kind``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _plane(shown: Views, plane: Plane) -> dict[str, Any]:
    count = shown.dose_gy.shape[0 if plane is Plane.AXIAL else 1]
    indices = range(0, count, math.ceil(count / SLICES_AT_MOST))
    width, height = size_mm(shown, plane)
    thin = max(1, math.ceil(max(anatomy_picture(shown, plane, 0).shape) / ANATOMY_PIXELS_AT_MOST))
    anatomy = [_grey(anatomy_picture(shown, plane, index)[::thin, ::thin], shown.window) for index in indices]
    rows, columns = picture(shown.dose_gy, plane, 0).shape
    along = shown.spacing_mm[2 if plane is Plane.AXIAL else 1]
    return {
        "count": len(indices),
        "slice_mm": along * indices.step,
        "mosaic_columns": MOSAIC_COLUMNS,
        "size_mm": [width, height],
        "letters": list(plane.value),
        "pixels": [columns, rows],
        "anatomy": _mosaic(anatomy, "JPEG"),
        "anatomy_pixels": [anatomy[0].shape[1], anatomy[0].shape[0]],
        "dose": _levels(shown.dose_gy, plane, indices),
        "spect": _levels(shown.spects_mbq_per_ml[0], plane, indices),
        "outlines": [_lines(picture(shown.labels, plane, index), shown.names) for index in indices],
        "start": _busiest(shown, plane, indices),
    }


def _levels(volume: Pixels, plane: Plane, indices: Sequence[int]) -> dict[str, Any]:
    top = float(volume.max()) or 1.0
    coded = [np.rint(LEVELS * np.sqrt(np.clip(picture(volume, plane, index) / top, 0, 1))).astype(np.uint8) for index in indices]
    return {
        "top": top,
        "window": float(np.quantile(volume[volume > 0], 0.998)) if (volume > 0).any() else top,
        "mosaic": _mosaic(coded, "PNG"),
    }


def _lines(cut: Pixels, names: dict[int, str]) -> list[list[Any]]:
    """Return ``[region number, [x0, y0, x1, y1, …]]`` for every closed line, in pixels of the map."""
    found: list[list[Any]] = []
    for number, value in enumerate(names):
        for line in outlines(cut == value):
            found.append([number, np.round(line, POINT_DECIMALS).ravel().tolist()])
    return found


def _busiest(shown: Views, plane: Plane, indices: Sequence[int]) -> int:
    areas = [int(np.count_nonzero(picture(shown.labels, plane, index))) for index in indices]
    return int(np.argmax(areas))


def _grey(values: Pixels, window: tuple[float, float]) -> Pixels:
    low, high = window
    return (np.clip((values - low) / (high - low), 0, 1) * LEVELS).astype(np.uint8)


def _mosaic(tiles: Sequence[Pixels], kind: str) -> str:
    rows, columns = tiles[0].shape
    canvas = np.zeros((-(-len(tiles) // MOSAIC_COLUMNS) * rows, MOSAIC_COLUMNS * columns), np.uint8)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, MOSAIC_COLUMNS)
        canvas[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns] = tile
    stream = BytesIO()
    options: dict[str, Any] = {"quality": JPEG_QUALITY} if kind == "JPEG" else {"optimize": True}
    PillowImage.fromarray(canvas).save(stream, kind, **options)
    return data_uri(stream.getvalue(), f"image/{kind.lower()}")


def _table(name: str) -> list[int]:
    """Return a colour map as 256 triples in one list."""
    table = matplotlib.colormaps[name](np.arange(LEVELS + 1))[:, :3]
    return [int(level) for level in np.rint(table * LEVELS).ravel()]
