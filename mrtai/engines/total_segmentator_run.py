"""The process in which TotalSegmentator runs: ``python total_segmentator_run.py FOLDER``.

Reads FOLDER/ct.nii.gz and asked.json, writes labels.nii.gz and classes.json there.
"""

import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any


def run(folder: Path) -> None:
    """Draw the CT of ``folder``."""
    asked = json.loads((folder / "asked.json").read_text(encoding="utf-8"))
    # the library gives PyTorch as many threads as there are cores, whoever else works there
    multiprocessing.cpu_count = lambda: int(asked["threads"])
    cuda = str(asked["device"]).startswith("cuda")
    if cuda:
        _require_gpu()
    import totalsegmentator.map_to_binary as classes  # type: ignore[import-not-found]
    from totalsegmentator.python_api import totalsegmentator  # type: ignore[import-not-found]

    settings: dict[str, Any] = {"fast": bool(asked["fast"]), "device": "gpu" if cuda else "cpu"}
    settings |= {"nr_thr_resamp": int(asked["threads"]), "nr_thr_saving": 1, "ml": True, "task": "total", "quiet": True}
    totalsegmentator(folder / "ct.nii.gz", folder / "labels.nii.gz", **settings)
    names = {str(value): name for value, name in classes.class_map["total"].items()}
    (folder / "classes.json").write_text(json.dumps(names), encoding="utf-8")


def _require_gpu() -> None:
    """End with one line where there is no GPU: the library would go on without, for hours."""
    import torch

    if not torch.cuda.is_available():
        sys.exit("no GPU for PyTorch; choose --device cpu")


if __name__ == "__main__":
    run(Path(sys.argv[1]))
