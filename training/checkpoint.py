"""What a training leaves on its way: files that are whole or not there, and one line of JSON a moment."""

import json
import time
from pathlib import Path
from typing import Any

import torch


def keep(path: Path, what: Any) -> None:
    """Write ``what`` with torch; a kill in between leaves the file of before."""
    part = path.with_suffix(".part")
    torch.save(what, part)
    part.replace(path)


def tell(folder: Path, **entry: Any) -> None:
    """Add one line to ``log.jsonl`` of a training's folder, with the time."""
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps({"time": round(time.time(), 1)} | entry) + "\n")
