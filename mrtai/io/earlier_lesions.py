"""Lesions of earlier cycles read from their CASE folders: contours, names, tracking UIDs, and the images that say where they lay."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from mrtai.io.earlier_cycles import EarlierCase
from mrtai.io.hashes import file_sha256
from mrtai.io.nifti import read_image, read_labels
from mrtai.values.earlier_lesions import EarlierLesions
from mrtai.values.image import Quantity
from mrtai.values.labels import Labels
from mrtai.values.regions import is_lesion
from mrtai.values.study import InputFile
from mrtai.values.uid import lesion_uid

CONTOURS: Final = "contours.nii.gz"
CT: Final = "ct.nii.gz"


def read_earlier_lesions(cases: Sequence[EarlierCase]) -> tuple[EarlierLesions, ...]:
    """Return the lesions of the cases that have any, in the same order; of those alone that lie in a CASE folder with their images."""
    return tuple(found for case in cases if (found := _lesions(case)) is not None)


def names_are_identities(cases: Sequence[EarlierCase], lesions: Sequence[EarlierLesions]) -> bool:
    """Return True where a lesion's name means the same lesion in all earlier cycles: every case was read, and names and UIDs agree."""
    pairs = {(name, uid) for one in lesions for name, uid in one.labels.tracking_uids.items()}
    once = len({name for name, _ in pairs}) == len({uid for _, uid in pairs}) == len(pairs)
    return once and len(lesions) == sum(map(_has_lesions, cases))


def lesion_inputs(cases: Sequence[EarlierCase]) -> tuple[InputFile, ...]:
    """Return the images that identity was told by as inputs of a run, ``prior N FILE``, for its manifest."""
    return tuple(
        InputFile(f"prior {number} {path.name}", file_sha256(path)) for number, case in enumerate(cases, start=1) for path in _files(case)
    )


def _lesions(case: EarlierCase) -> EarlierLesions | None:
    files = {path.name: path for path in _files(case)}
    if not files:
        return None
    document = json.loads(case.path.read_bytes())
    spect = next((path for name, path in files.items() if name.startswith("spect_")), None)
    return EarlierLesions(
        cycle=int(document["cycle"]),
        labels=_with_uids(read_labels(files[CONTOURS]), document),
        ct=read_image(files[CT], Quantity.HOUNSFIELD) if CT in files else None,
        spect=None if spect is None else read_image(spect, Quantity.ACTIVITY_CONCENTRATION),
    )


def _with_uids(contours: Labels, document: dict[str, Any]) -> Labels:
    """Return the lesions alone, with the UIDs of the results, or those that objects of an older case have."""
    rows = {row["name"]: row for row in document["regions"]}
    names = {value: name for value, name in contours.names.items() if is_lesion(name) and name in rows}
    pseudonym, first = document["patient"]["pseudonym"], document["scans"][0]["series_uid_sha256"]
    uids = {name: rows[name]["tracking_uid"] or lesion_uid(pseudonym, name, first) for name in names.values()}
    voxels = np.where(np.isin(contours.voxels, list(names)), contours.voxels, 0)
    return replace(contours, voxels=voxels, names=names, source_names={}, tracking_uids=uids)


def _has_lesions(case: EarlierCase) -> bool:
    names = case.cycles if case.counted is None else [region.name for region in case.counted.regions]
    return any(map(is_lesion, names))


def _files(case: EarlierCase) -> list[Path]:
    """Return contours, their names, CT and one SPECT of a CASE with lesions; nothing where it has none, or an image is missing."""
    images = case.path.parent / "images"
    spects = sorted(images.glob("spect_*.nii.gz"))
    wanted = [images / CONTOURS, images / "contours.json"]
    if case.counted is None or not _has_lesions(case) or not spects or not all(path.is_file() for path in wanted):
        return []
    return [*wanted, *(path for path in [images / CT] if path.is_file()), spects[0]]
