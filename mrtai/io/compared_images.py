"""The images of a CASE folder and the choices of its manifest, read back so that its steps can be taken again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from mrtai.io.nifti import read_image, read_labels
from mrtai.io.protocols import load_protocol
from mrtai.physics.partial_volume import OFF
from mrtai.units import BQ_PER_MBQ
from mrtai.values.compared_images import CycleImages
from mrtai.values.image import Image, Quantity
from mrtai.values.protocol import NO_SEGMENTER, Protocol
from mrtai.values.refusal import DosimetryError
from mrtai.values.study import Administration, Cycle, TimePoint

Json = Mapping[str, Any]

WITHOUT_CURVE: Final = ("header", "study.toml")
"""What a scan's calibration is called where it is no file of ours, which alone brings a recovery curve."""


def read_images(folder: Path, document: Json, protocols: Sequence[Path] = ()) -> CycleImages:
    """Return the images of a CASE folder whose ``results.json`` is ``document``.

    ``protocols`` are the files among which a protocol of the site is found by its digest; shipped ones are known.

    Raises:
        DosimetryError: the case keeps no images or choices, or its protocol or recovery curve is not at hand.
    """
    protocol = _protocol(_manifest(folder), protocols)
    calibrations = {scan["calibration"] for scan in document["scans"]}
    if protocol.partial_volume != OFF and (protocol.recovery is None or calibrations - set(WITHOUT_CURVE)):
        raise _cannot("the recovery curve of the calibration is", "its digest alone", "compare a case that was worked up without --pvc")
    images = folder / "images"
    try:
        contours, labels = (read_labels(images / f"{name}.nii.gz") for name in ("contours", "labels"))
        spects = [read_image(images / f"spect_{scan['index']}.nii.gz", Quantity.ACTIVITY_CONCENTRATION) for scan in document["scans"]]
        ct = read_image(images / "ct.nii.gz", Quantity.HOUNSFIELD) if (images / "ct.nii.gz").is_file() else None
    except DosimetryError as fault:
        raise _cannot("the images of the case are", f"{fault.where}: {fault.found}", "keep the folder images of the case") from fault
    indices = {scan["index"] for scan in document["scans"]}
    whole = all(indices <= set(row["found_in_scans"]) for row in document["regions"] if row["tia_mbq_h"] is not None)
    return CycleImages(_cycle(document, spects, ct), contours, labels, protocol, whole)


def _cycle(document: Json, spects: Sequence[Image], ct: Image | None) -> Cycle:
    given = document["administrations"][0]
    at = datetime.fromisoformat(given["time"])
    scans = document["scans"]
    home = next((n for n, scan in enumerate(scans) if not scan["registration"]["moved"]), 0)
    points = tuple(
        TimePoint(
            index=scan["index"],
            started_at=at + timedelta(hours=scan["time_h"]),
            t_h=scan["time_h"],
            duration_s=scan["duration_s"],
            spect=spect,
            ct=ct if n == home else None,
            contours=None,
            series_uid_sha256=scan["series_uid_sha256"],
            decay_referred_to="scan",
            calibration=scan["calibration"],
        )
        for n, (scan, spect) in enumerate(zip(scans, spects, strict=True))
    )
    administration = Administration(given["nuclide"], given["agent"], given["activity_mbq"] * BQ_PER_MBQ, at)
    return Cycle(document["patient"]["pseudonym"], document["cycle"], administration, points)


def _manifest(folder: Path) -> Json:
    try:
        manifest: Json = json.loads((folder / "manifest.json").read_bytes())
        return {**manifest["parameters"], **manifest["protocol"]}
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise _cannot("the choices of the case are", f"no readable manifest ({type(fault).__name__})", "keep its manifest.json") from fault


def _protocol(manifest: Json, places: Sequence[Path]) -> Protocol:
    """Return the protocol of a case with what was chosen in its place."""
    for name in (str(manifest["name"]), *map(str, places)):
        try:
            found = load_protocol(name)
        except DosimetryError:
            if name in map(str, places):
                raise
            continue
        if found.sha256 == manifest["sha256"]:
            return replace(
                found,
                kinetics=manifest.get("kinetics", found.kinetics),
                dose_engine=manifest.get("dose_engine", found.dose_engine),
                partial_volume=manifest.get("partial_volume", found.partial_volume),
                check_engine="none",
                segmenter=NO_SEGMENTER,
                lesion_segmenter=NO_SEGMENTER,
            )
    raise _cannot("the protocol of the case is", f"'{manifest['name']}' of another content", "give its file with --protocol")


def _cannot(what: str, found: str, remedy: str) -> DosimetryError:
    return DosimetryError(f"{what} not at hand", where="recomputation", found=found, remedy=remedy, code="NOT_RECOMPUTED")
