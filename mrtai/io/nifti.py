"""NIfTI images and label maps: units, axes and names are settled here and nowhere else.

On disk: HU, Bq/mL, Bq s/mL, Gy, Gy/h, density in g/mL; positions in RAS millimetres, arrays ``(x, y, z)``. Inside: the units of
``Quantity`` (density in kg/mL), LPS millimetres and arrays ``(z, y, x)``.
"""

import gzip
import json
import re
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from mrtai.io.atomic import write_bytes
from mrtai.io.hashes import input_file
from mrtai.io.region_names import SourceRegion, region_names, require_free_names
from mrtai.physics.materials import NAMES as MATERIAL_NAMES
from mrtai.units import GRAM_PER_KG, KG_PER_GRAM, SECONDS_PER_HOUR
from mrtai.values.grid import Array, Grid
from mrtai.values.image import Image, Quantity, Voxels
from mrtai.values.labels import VIRTUAL_ORIGIN, Labels
from mrtai.values.refusal import DosimetryError
from mrtai.values.study import InputFile

nib: Any = nibabel  # typed in parts only, so its calls are left unchecked
RAS_PER_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SHEAR_TOLERANCE = 1e-4
"""Largest cosine between two axes of an orthogonal volume; headers in float32 stay far below."""

MATERIALS_FORM = f'write {{"0": "air", …}} beside it, with {", ".join(MATERIAL_NAMES)}'
NAMES_FORM = '{"1": "kidney_left", …}'
WHOLE_FROM_1 = re.compile(r"[1-9][0-9]{0,8}")

DEFLATE_LARGEST_RATIO = 1100
"""Deflate cannot shrink data by more than about 1032:1, so a header that declares more is false."""


def read_image(path: Path, quantity: Quantity) -> Image:
    """Return a NIfTI map as an image of ``quantity``; CT as int16 where whole numbers allow, all else float32.

    Raises:
        DosimetryError: not NIfTI, truncated, sheared, without geometry, not three-dimensional, or NaN or infinite voxels.
    """
    voxels, grid = _volume(path)
    if not np.isfinite(voxels).all():
        raise DosimetryError(
            "voxels must be finite",
            where=path.name,
            found=f"{int(np.count_nonzero(~np.isfinite(voxels)))} NaN or infinite voxels",
            remedy="repair or re-export the image",
            code="NOT_FINITE",
        )
    if quantity is Quantity.DENSITY:
        return Image((voxels * KG_PER_GRAM).astype(np.float32), quantity, grid)
    if quantity is Quantity.DOSE_RATE:
        return Image((voxels / SECONDS_PER_HOUR).astype(np.float32), quantity, grid)
    return Image(_compact(voxels) if quantity is Quantity.HOUNSFIELD else voxels.astype(np.float32), quantity, grid)


def write_image(path: Path, image: Image) -> None:
    """Write a map in the units of the contract: float32, HU as int16; the same image gives the same bytes."""
    voxels = image.voxels
    if image.quantity is Quantity.DENSITY:
        voxels = voxels * GRAM_PER_KG
    elif image.quantity is Quantity.DOSE_RATE:
        voxels = voxels * SECONDS_PER_HOUR
    elif image.quantity is Quantity.HOUNSFIELD and _fits_int16(voxels):
        voxels = np.rint(voxels).astype(np.int16)
    _write(path, voxels if voxels.dtype == np.int16 else voxels.astype(np.float32), image.grid)


def read_labels(path: Path) -> Labels:
    """Return the label map of a NIfTI file with the names of ``<stem>.json`` or else of ``labels.json`` in its folder.

    Names follow the rules of ``region_names``, as those of SEG and RTSTRUCT do.

    Raises:
        DosimetryError: values that are not whole numbers, a value or file without name, one name twice, or a reserved name.
    """
    voxels, grid = _volume(path)
    values = np.unique(voxels)
    if not np.isfinite(values).all() or np.any(values != np.rint(values)) or values[0] < 0:
        raise DosimetryError(
            "labels must be whole numbers from 0",
            where=path.name,
            found=f"values from {values[0]:g} to {values[-1]:g}",
            remedy="give a label map, not an image or a probability",
            code="LABELS_NOT_WHOLE",
        )
    names, source_names = _label_names(path)
    nameless = sorted({int(value) for value in values} - {0} - set(names))
    if nameless:
        raise DosimetryError(
            "every label needs a name",
            where=path.name,
            found=f"no name for {nameless}",
            remedy=f"name them in {stem(path)}.json",
            code="LABELS_WITHOUT_NAME",
        )
    whole: NDArray[np.integer[Any]] = voxels.astype(np.uint8 if values[-1] <= np.iinfo(np.uint8).max else np.int32)
    return Labels(whole, names, grid, source_names, origin=f"given {path.name}{_simulated(path)}")


def label_inputs(path: Path) -> tuple[InputFile, ...]:
    """Return a label map and the file of its names as inputs of a run: either changes the results."""
    names = _names_file(path)
    return (input_file(path), *([] if names is None else [input_file(names)]))


def read_materials(path: Path, grid: Grid) -> NDArray[np.uint8]:
    """Return a material map as indices into ``mrtai.physics.materials.NAMES``, shape ``(z, y, x)``.

    Raises:
        DosimetryError: not on ``grid``, without a JSON of names beside it, or with a value or a name that is unknown.
    """
    voxels, own = _volume(path)
    if not own.same_as(grid):
        raise DosimetryError(
            "the material map lies on another grid",
            where=path.name,
            found=f"{own.shape} voxels (z, y, x), or shifted",
            remedy="resample it onto the grid of the activity",
            code="FOREIGN_GRID",
        )
    source = path.with_name(f"{stem(path)}.json")
    try:
        names = {int(value): str(name) for value, name in json.loads(source.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise _immaterial("a material map needs its names", path.name, f"no readable {source.name}") from error
    unknown = sorted(set(names.values()) - set(MATERIAL_NAMES)) + sorted(
        str(value) for value in np.unique(voxels).tolist() if value not in names
    )
    if unknown:
        raise _immaterial("unknown material", path.name, ", ".join(unknown[:5]))
    result = np.zeros(voxels.shape, dtype=np.uint8)
    for value, name in names.items():
        result[voxels == value] = MATERIAL_NAMES.index(name)
    return result


def write_labels(path: Path, labels: Labels) -> None:
    """Write a label map and its names as ``<stem>.json`` beside it."""
    largest = max([0, *labels.names])
    voxels = labels.voxels.astype(np.uint8 if largest <= np.iinfo(np.uint8).max else np.int32)
    _write(path, voxels, labels.grid, description=labels.origin if labels.origin == VIRTUAL_ORIGIN else "")
    names = {str(value): name for value, name in labels.names.items()}
    write_bytes(names_beside(path), (json.dumps(names, indent=2, ensure_ascii=False) + "\n").encode())


def names_beside(path: Path) -> Path:
    """Return where the names of a label map are written: ``<stem>.json`` beside it."""
    return path.parent / f"{stem(path)}.json"


def grid_of_affine(affine_lps: Array, shape_zyx: tuple[int, int, int], where: str) -> Grid:
    """Return the grid of a (4, 4) matrix from voxel index (x, y, z) to LPS millimetres; refuses a sheared one."""
    columns = affine_lps[:3, :3]
    spacing_mm = np.linalg.norm(columns, axis=0)
    if not np.isfinite(affine_lps).all() or np.any(spacing_mm <= 0):
        raise DosimetryError(
            "the volume has no usable geometry",
            where=where,
            found=f"voxel edges {spacing_mm.tolist()} mm",
            remedy="re-export the image with its position and spacing",
            code="NO_GEOMETRY",
        )
    direction = columns / spacing_mm
    cosine = float(np.abs(direction.T @ direction - np.eye(3)).max())
    if cosine > SHEAR_TOLERANCE:
        raise DosimetryError(
            "the volume's axes are not perpendicular (gantry tilt or shear)",
            where=where,
            found=f"axes {np.degrees(np.arcsin(min(cosine, 1.0))):.2f} degrees off the right angle",
            remedy="resample it to an orthogonal grid first",
            code="GANTRY_TILT",
        )
    return Grid(shape_zyx, spacing_mm, affine_lps[:3, 3], direction)


def _volume(path: Path) -> tuple[Voxels, Grid]:
    try:
        image = nib.load(path)
        _require_honest_size(path, image)
        raw: Voxels = np.asanyarray(image.dataobj)
    except FileNotFoundError:
        raise DosimetryError("file not found", where=path.name, found="nothing there", remedy="check the path", code="NOT_FOUND") from None
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, OSError, EOFError, ValueError, zlib.error) as fault:
        raise DosimetryError(
            "not a readable NIfTI image",
            where=path.name,
            found=type(fault).__name__,
            remedy="give a complete .nii or .nii.gz file",
            code="NOT_NIFTI",
        ) from fault
    if raw.ndim == 4 and raw.shape[3] == 1:
        raw = raw[..., 0]
    if raw.ndim != 3 or raw.dtype.kind not in "iuf":
        raise DosimetryError(
            "a three-dimensional map of real numbers is needed",
            where=path.name,
            found=f"shape {raw.shape} of {raw.dtype}",
            remedy="split or convert it",
            code="NOT_A_VOLUME",
        )
    voxels = np.ascontiguousarray(raw.T)
    return voxels, grid_of_affine(_affine_lps(image, path), voxels.shape, path.name)


def _require_honest_size(path: Path, image: Any) -> None:
    declared = int(np.prod(image.shape, dtype=np.int64)) * image.get_data_dtype().itemsize
    held = path.stat().st_size * (DEFLATE_LARGEST_RATIO if path.suffix == ".gz" else 1)
    if declared > held:
        raise DosimetryError(
            "the header declares more voxels than the file can hold",
            where=path.name,
            found=f"{declared} bytes declared, file of {path.stat().st_size}",
            remedy="transfer or export the file again",
            code="SIZE_BEYOND_DATA",
        )


def _affine_lps(image: Any, path: Path) -> Array:
    header = image.header
    unit = header.get_xyzt_units()[0]
    if (header["sform_code"] == 0 and header["qform_code"] == 0) or unit not in ("mm", "unknown"):
        raise DosimetryError(
            "the NIfTI header does not place the volume in millimetres",
            where=path.name,
            found=f"sform_code {int(header['sform_code'])}, qform_code {int(header['qform_code'])}, unit {unit}",
            remedy="write an sform or qform in millimetres",
            code="NO_GEOMETRY",
        )
    lps: Array = RAS_PER_LPS @ np.asarray(image.affine, dtype=np.float64)
    return lps


def _simulated(path: Path) -> str:
    """Return a remark when the file says that a simulator drew it; no other description is repeated, it may hold anything."""
    said = bytes(nib.load(path).header["descrip"]).rstrip(b"\0").decode("latin-1")
    return f", {VIRTUAL_ORIGIN}" if said == VIRTUAL_ORIGIN else ""


def _write(path: Path, voxels: Voxels, grid: Grid, *, description: str = "") -> None:
    image = nib.Nifti1Image(voxels.T, RAS_PER_LPS @ grid.affine)
    image.header["descrip"] = description.encode("latin-1")
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    content: bytes = image.to_bytes()
    # a fixed time and no file name in the gzip header: equal images are equal files
    write_bytes(path, gzip.compress(content, compresslevel=6, mtime=0) if path.suffix == ".gz" else content)


def _compact(voxels: Voxels) -> Voxels:
    whole = voxels.dtype.kind in "iu" or bool(np.all(voxels == np.rint(voxels)))
    return voxels.astype(np.int16) if whole and _fits_int16(voxels) else voxels.astype(np.float32)


def _fits_int16(voxels: NDArray[Any]) -> bool:
    bounds = np.iinfo(np.int16)
    return bool(voxels.min() >= bounds.min and voxels.max() <= bounds.max)


def stem(path: Path) -> str:
    """Return the name of a NIfTI file without its endings."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _names_file(path: Path) -> Path | None:
    return next((file for file in (path.parent / f"{stem(path)}.json", path.parent / "labels.json") if file.is_file()), None)


def _label_names(path: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Return the contract's name of each label value, and the name in the file where it is another."""
    source = _names_file(path)
    if source is None:
        found = f"neither {stem(path)}.json nor labels.json beside it"
        raise _nameless("labels without names", path.name, found, f"write {NAMES_FORM} there")
    written = _names_as_written(source)
    regions = [SourceRegion(value, label.strip()) for value, label in written.items()]
    require_free_names(regions, source.name)
    names = region_names(regions)
    if len(set(names.values())) < len(names) or len(set(written.values())) < len(written):
        found = f"{len(names)} labels with {len(set(names.values()))} names"
        raise _nameless("label names must differ", source.name, found, "give each label its own name")
    return names, {value: label for value, label in written.items() if label != names[value]}


def _names_as_written(source: Path) -> dict[int, str]:
    try:
        table = json.loads(source.read_text(encoding="utf-8"), object_pairs_hook=lambda pairs: pairs)
    except (ValueError, OSError, RecursionError) as fault:
        raise _nameless("label names cannot be read", source.name, type(fault).__name__, f"write {NAMES_FORM}") from fault
    if not isinstance(table, list) or not all(isinstance(pair, tuple) for pair in table):
        raise _nameless("label names cannot be read", source.name, "no table of names", f"write {NAMES_FORM}")
    keys = [key for key, _ in table]
    if not all(WHOLE_FROM_1.fullmatch(key) for key in keys) or len(set(keys)) < len(keys):
        wrong = next((key for key in keys if not WHOLE_FROM_1.fullmatch(key) or keys.count(key) > 1), "")
        raise _nameless("label values must be whole numbers from 1, each once", source.name, f"the key {wrong!r}", f"write {NAMES_FORM}")
    if not all(isinstance(name, str) and name.strip() for _, name in table):
        wrong = next(key for key, name in table if not isinstance(name, str) or not name.strip())
        raise _nameless("label names must be texts that are not empty", source.name, f"none for label {wrong}", f"write {NAMES_FORM}")
    return {int(key): name for key, name in table}


def _nameless(what: str, where: str, found: str, remedy: str) -> DosimetryError:
    return DosimetryError(what, where=where, found=found, remedy=remedy, code="LABELS_WITHOUT_NAME")


def _immaterial(what: str, where: str, found: str) -> DosimetryError:
    return DosimetryError(what, where=where, found=found, remedy=MATERIALS_FORM, code="BAD_MATERIAL_MAP")
