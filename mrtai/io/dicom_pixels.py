"""Stored pixel values of one DICOM file, with every promise of its header checked before memory is taken."""

from typing import Any, Final

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from mrtai.io.dicom_tree import Instance
from mrtai.values.refusal import DosimetryError

COMPRESSED_LARGEST_RATIO: Final = 10_000
"""An empty 512 × 512 image compresses about 3500:1; more is a false header."""

PIXEL_TAGS: Final = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def stored_values(instance: Instance) -> NDArray[Any]:
    """Return the stored values of one file, shape ``(frames, rows, columns)``.

    Raises:
        DosimetryError: a compression that cannot be decoded, a declared size beyond the data, or truncated pixel data.
    """
    _require_decodable(instance)
    require_honest_size(instance)
    header = pydicom.dcmread(instance.path)
    _require_whole(header, instance)
    try:
        pixels = header.pixel_array
    except (ValueError, RuntimeError, AttributeError, NotImplementedError, EOFError, OSError) as fault:
        raise _truncated(instance, f"pixel data that cannot be decoded ({type(fault).__name__})") from fault
    return pixels.reshape((-1, int(header.Rows), int(header.Columns)))


def declared_bytes(header: Dataset) -> int:
    """Return Rows × Columns × frames × bytes per pixel as the header states them."""
    bits = int(header.get("BitsAllocated", 0) or 0)
    samples = int(header.get("SamplesPerPixel", 1) or 1)
    frames = int(header.get("NumberOfFrames", 1) or 1)
    return int(header.get("Rows", 0) or 0) * int(header.get("Columns", 0) or 0) * frames * samples * bits // 8


def _syntax(header: Dataset) -> UID:
    meta = getattr(header, "file_meta", None)
    return UID(str(meta.get("TransferSyntaxUID", "1.2.840.10008.1.2"))) if meta is not None else UID("1.2.840.10008.1.2")


def _require_decodable(instance: Instance) -> None:
    syntax = _syntax(instance.header)
    try:
        decodable = not syntax.is_compressed or get_decoder(syntax).is_available
    except (NotImplementedError, ValueError):
        decodable = False
    if not decodable:
        raise DosimetryError(
            "pixel data in a compression that cannot be read here",
            where=instance.name,
            found=syntax.name,
            remedy="export it uncompressed (Explicit VR Little Endian)",
            code="COMPRESSION_NOT_SUPPORTED",
        )
    if int(instance.header.get("SamplesPerPixel", 1) or 1) != 1:
        raise DosimetryError(
            "a picture in colour, not a map", where=instance.name, found="several samples per pixel", remedy="remove it", code="NOT_A_MAP"
        )


def require_honest_size(instance: Instance) -> None:
    """Refuse a header that declares more pixels than its file can hold, before memory is taken for them."""
    declared, held = declared_bytes(instance.header), instance.path.stat().st_size
    syntax = _syntax(instance.header)
    packed = syntax.is_compressed or syntax == DeflatedExplicitVRLittleEndian
    if declared <= 0 or declared > held * (COMPRESSED_LARGEST_RATIO if packed else 2):
        raise DosimetryError(
            "the header declares a size the file cannot hold",
            where=instance.name,
            found=f"{declared} bytes of pixels declared, file of {held} bytes",
            remedy="export or transfer the file again",
            code="SIZE_BEYOND_DATA",
        )
    if declared > held and not packed:
        raise _truncated(instance, f"{held} bytes of file for {declared} of pixels")


def _require_whole(header: Dataset, instance: Instance) -> None:
    tag = next((name for name in PIXEL_TAGS if name in header), None)
    if tag is None:
        raise _truncated(instance, "no pixel data")
    length = len(header[tag].value or b"")
    if not _syntax(header).is_compressed and length < declared_bytes(header):
        raise _truncated(instance, f"{length} of {declared_bytes(header)} bytes")


def _truncated(instance: Instance, found: str) -> DosimetryError:
    return DosimetryError(
        "truncated pixel data", where=instance.name, found=found, remedy="export or transfer the file again", code="TRUNCATED_PIXEL_DATA"
    )


def finite(values: NDArray[Any], where: str) -> NDArray[np.float32]:
    """Return ``values`` as float32, or refuse NaN and infinite voxels."""
    single = values.astype(np.float32)
    bad = int(np.count_nonzero(~np.isfinite(single)))
    if bad:
        raise DosimetryError(
            "voxels must be finite",
            where=where,
            found=f"{bad} NaN or infinite voxels",
            remedy="repair or re-export the image",
            code="NOT_FINITE",
        )
    return single
