"""Organs drawn by TotalSegmentator (Wasserthal et al., Radiology AI 2023), where the library and its weights are present.

The library runs in a process of its own with a home of its own: it sends nothing, downloads nothing and changes no settings of the
user. It wants the extra ``mrtai[totalsegmentator]``.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np

from mrtai.engines.onnx_segmenter import require_ct
from mrtai.physics.contour_gates import contour_flags
from mrtai.physics.glands import with_gland_flags
from mrtai.values.class_names import our_region
from mrtai.values.image import Image
from mrtai.values.labels import Labels
from mrtai.values.protocol import TOTAL_SEGMENTATOR
from mrtai.values.refusal import DosimetryError
from mrtai.values.report import Aligned

FINE: Final = (291, 292, 293, 294, 295)
"""Data sets of the five networks at 1.5 mm."""

COARSE: Final = (297,)
"""The one network at 3 mm."""

RAS_PER_LPS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
AFFINE_TOLERANCE_MM: Final = 0.01
NOWHERE: Final = "http://127.0.0.1:9"
"""A proxy that nobody answers: whatever the library would fetch or send fails at once."""

nib: Any = nibabel  # typed in parts only, so its calls are left unchecked


@dataclass(frozen=True, slots=True, eq=False)
class TotalSegmentator:
    """Draws what the library's task ``total`` knows on the reference scan's CT; fills ``ports.Segmenter``."""

    device: str = "cpu"
    threads: int = 1

    def __call__(self, aligned: Aligned) -> Labels:
        """Return the organs under our names; refuses a study without CT, and where library or weights are missing."""
        point = aligned.cycle.time_points[aligned.reference]
        if point.ct is None:
            raise _refused("no CT to draw organs on", f"scan {point.index}", "a SPECT alone", "send its CT, or give --labels", "NO_CT")
        return with_gland_flags(self.drawn(point.ct), point.ct, aligned.cycle.administration.agent)

    def drawn(self, ct: Image) -> Labels:
        """Return the regions of a CT on its own grid, with flags where a person must look."""
        require_library()
        fine, weights = present_weights()
        require_ct(ct)
        with tempfile.TemporaryDirectory(prefix="mrtai-") as folder:
            drawn, classes = self._run(ct, Path(folder), weights, fine)
        values, names = by_region(classes)
        origin = f"{TOTAL_SEGMENTATOR}@{library_version()}, {'1.5' if fine else '3'} mm"
        labels = Labels(values[drawn], names, ct.grid, origin=origin)
        return replace(labels, flags=contour_flags(labels, ct, {}, {}))

    def _run(self, ct: Image, folder: Path, weights: Path, fine: bool) -> tuple[Any, Mapping[int, str]]:
        """Return the library's labels ``(z, y, x)`` and its class names."""
        affine = RAS_PER_LPS @ ct.grid.affine
        nib.save(nib.Nifti1Image(np.asarray(ct.voxels.T, dtype=np.float32), affine), folder / "ct.nii.gz")
        (folder / ".totalsegmentator").mkdir()
        settings = {"totalseg_id": "mrtai", "send_usage_stats": False, "prediction_counter": 0, "statistics_disclaimer_shown": True}
        (folder / ".totalsegmentator" / "config.json").write_text(json.dumps(settings), encoding="utf-8")
        asked = {"device": self.device, "threads": self.threads, "fast": not fine}
        (folder / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
        # -P: the modules beside that file are none of the library's
        command = [sys.executable, "-P", str(Path(__file__).with_name("total_segmentator_run.py")), str(folder)]
        ended = subprocess.run(command, env=self._environment(folder, weights), capture_output=True, text=True, check=False)
        logging.getLogger(__name__).debug("TotalSegmentator: %s%s", ended.stdout, ended.stderr)
        if ended.returncode != 0:
            last = (ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"])[-1]
            raise _refused(
                "TotalSegmentator failed", TOTAL_SEGMENTATOR, last[:200], "try it alone: TotalSegmentator --help", "TOTAL_SEGMENTATOR"
            )
        return _read(folder, ct)

    def _environment(self, folder: Path, weights: Path) -> dict[str, str]:
        threads = {key: str(self.threads) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        own = {"HOME": str(folder), "TOTALSEG_HOME_DIR": str(folder / ".totalsegmentator"), "TOTALSEG_WEIGHTS_PATH": str(weights)}
        offline = {key: NOWHERE for name in ("http_proxy", "https_proxy", "all_proxy") for key in (name, name.upper())}
        path = {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        kept = {key: value for key, value in os.environ.items() if key.lower() != "no_proxy"}
        return kept | threads | own | offline | path


def require_library() -> None:
    """Refuse where the library is not installed."""
    if find_spec("totalsegmentator") is None:
        remedy = "pip install 'mrtai[totalsegmentator]', or choose another segmenter: mrtai models list"
        raise _refused(
            "TotalSegmentator is not installed", TOTAL_SEGMENTATOR, "no package totalsegmentator", remedy, "NO_TOTAL_SEGMENTATOR"
        )


def library_version() -> str:
    """Return the library's version."""
    try:
        return version("TotalSegmentator")
    except PackageNotFoundError:
        return "unknown"


def weights_folder() -> Path:
    """Return where the library looks for its weights."""
    named = os.environ.get("TOTALSEG_WEIGHTS_PATH")
    home = os.environ.get("TOTALSEG_HOME_DIR")
    return Path(named) if named else (Path(home) if home else Path.home() / ".totalsegmentator") / "nnunet" / "results"


def present_weights() -> tuple[bool, Path]:
    """Return whether all networks of 1.5 mm are there, else the one of 3 mm, and their folder; refuses where neither is."""
    folder = weights_folder()
    for fine, sets in ((True, FINE), (False, COARSE)):
        if all(_has_weights(folder, number) for number in sets):
            return fine, folder
    found = ", ".join(str(number) for number in (*FINE, *COARSE) if _has_weights(folder, number)) or "none"
    remedy = (
        "run where there is a network: totalseg_download_weights -t total (or total_fast), and copy its ~/.totalsegmentator/nnunet/results "
        "there, or name their folder in TOTALSEG_WEIGHTS_PATH"
    )
    raise _refused("TotalSegmentator's weights are missing", str(folder), f"of its data sets: {found}", remedy, "NO_TOTAL_SEGMENTATOR")


def by_region(classes: Mapping[int, str]) -> tuple[Any, dict[int, str]]:
    """Return our label value by the library's, shape ``(largest + 1,)``, and our names; classes of one region share a value."""
    regions = {value: region for value, name in classes.items() if (region := our_region(name))}
    names = list(dict.fromkeys(regions[value] for value in sorted(regions)))
    values = np.zeros(max(classes, default=0) + 1, dtype=np.uint8)
    for value, region in regions.items():
        values[value] = names.index(region) + 1
    return values, dict(enumerate(names, start=1))


def _has_weights(folder: Path, number: int) -> bool:
    return any(any(found.rglob("checkpoint_final.pth")) for found in folder.glob(f"Dataset{number}_*"))


def _read(folder: Path, ct: Image) -> tuple[Any, Mapping[int, str]]:
    image = nib.load(folder / "labels.nii.gz")
    classes = {int(value): str(name) for value, name in json.loads((folder / "classes.json").read_text(encoding="utf-8")).items()}
    drawn = np.asarray(image.dataobj).T.astype(np.int64)
    moved = np.abs(image.affine - RAS_PER_LPS @ ct.grid.affine).max()
    if drawn.shape != ct.grid.shape or moved > AFFINE_TOLERANCE_MM or not set(np.unique(drawn).tolist()) <= {0, *classes}:
        found = f"{drawn.shape} voxels, {moved:.3g} mm off, labels up to {drawn.max()}"
        raise _refused("TotalSegmentator drew something else than this CT", TOTAL_SEGMENTATOR, found, "update it", "TOTAL_SEGMENTATOR")
    return drawn, classes


def _refused(what: str, where: str, found: str, remedy: str, code: str) -> DosimetryError:
    return DosimetryError(what, where=where, found=found, remedy=remedy, code=code)
