"""A MONAI bundle from outside, checked and put where mrtai looks for models: whole or not at all.

Nothing of it is run but its ONNX, and nothing is ever unpickled.
"""

import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from mrtai.io.atomic import put_in_place
from mrtai.io.bundle_zip import unpacked
from mrtai.io.bundles import METADATA, WEIGHTS, contract_of, installed, own_models, read_json, verified
from mrtai.io.foreign_bundle import foreign_classes, foreign_contract, foreign_task
from mrtai.io.hashes import file_sha256
from mrtai.physics.lesions import CLASSICAL
from mrtai.units import SECONDS_PER_HOUR
from mrtai.values.bundle import Answer, Bundle, InputContract
from mrtai.values.protocol import NO_SEGMENTER, TOTAL_SEGMENTATOR
from mrtai.values.refusal import DosimetryError

INFERENCE: Final = Path("configs") / "inference.json"
PAPERS: Final = ("README.md", "docs/*.md", "LICENSE*", "docs/*license*")
"""What goes with the weights: card and licence."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
TAKEN: Final = frozenset({NO_SEGMENTER, TOTAL_SEGMENTATOR, *CLASSICAL})
"""Names that draw without a bundle."""

STALE_S: Final = 24 * SECONDS_PER_HOUR
EXPORT: Final = (
    "python -c \"from monai.bundle import onnx_export; onnx_export('network_def', 'models/model.onnx', 'models/model.pt', "
    "'configs/metadata.json', 'configs/inference.json')\""
)

Run = Callable[[Path, InputContract, str], Answer]
"""Runs one window of an ONNX file: ``mrtai.engines.onnx_check.answer``."""


@dataclass(frozen=True, slots=True, eq=False)
class Added:
    """A bundle that is now installed, and the version that it replaced, if any."""

    bundle: Bundle
    replaced: str | None


def add_bundle(path: Path, run: Run, name: str | None = None) -> Added:
    """Install the bundle of a folder, a zip or an ONNX file in a bundle's folder, under ``name`` or its own, and return it.

    Raises:
        DosimetryError: it is not whole, its digest or its channels differ from its metadata, or how to prepare an image is not told.
    """
    models = own_models()
    with _workplace(models) as work:
        folder, weights = _source(path, work / "source")
        called = _name(name or folder.name)
        staged = work / called
        _stage(folder, weights, staged)
        bundle = verified(staged)
        require_same_channels(bundle, len(read_classes(staged)), run(bundle.weights, bundle.contract, f"model {called}"))
        before = _version(called)
        put_in_place(staged, models / called, work / "before")
    return Added(verified(models / called), before)


def require_same_channels(bundle: Bundle, classes: int, answer: Answer) -> None:
    """Refuse weights that take or give other channels than the metadata say."""
    where, takes = f"model {bundle.name}", len(bundle.contract.channels)
    if answer.inputs != takes:
        found = f"its ONNX takes {answer.inputs} channels, its metadata say {takes}"
    elif answer.outputs != classes or max(bundle.classes) >= classes:
        found = f"its ONNX gives {answer.outputs} channels, its metadata say {max(classes, max(bundle.classes) + 1)}"
    else:
        return
    raise DosimetryError(
        "weights and metadata disagree", where=where, found=found, remedy="get both from one version", code="BUNDLE_WRONG_CHANNELS"
    )


def read_classes(folder: Path) -> list[str]:
    """Return what a bundle's metadata say of each output channel, the background first."""
    metadata = read_json(folder, METADATA)
    try:
        (output, *_) = metadata["network_data_format"]["outputs"].values()
        return [str(output["channel_def"][str(channel)]) for channel in range(int(output["num_channels"]))]
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        found = "metadata.json: network_data_format outputs channel_def is missing or wrong"
        raise _refused(folder.name, "not a MONAI bundle", found, "correct metadata.json") from cause


def _source(path: Path, scratch: Path) -> tuple[Path, Path | None]:
    """Return the folder of a bundle and the weights in it that were asked for, if any."""
    if path.is_dir():
        return _root(path, path.name), None
    if not path.is_file():
        raise _refused(path.name, "no bundle there", "no such file or folder", "check the path")
    if path.suffix.lower() == ".zip":
        plain = re.sub(r"[_-]v?\d+(\.\d+)*$", "", path.stem)
        return _root(unpacked(path, scratch / plain), path.name), None
    if path.suffix.lower() == ".onnx":
        # absolute, so that a bare file name has its folder above it
        own = path.absolute()
        above = (folder for folder in own.parents[:2] if (folder / METADATA).is_file())
        found = next(above, None)
        if found is None:
            raise _refused(
                path.name, "an ONNX alone does not say what it needs", "no configs/metadata.json beside or above it", "give the bundle"
            )
        return found, own
    if path.suffix.lower() in (".pt", ".pth", ".ts"):
        raise _not_onnx(path.name, path.name)
    raise _refused(
        path.name, "not a MONAI bundle", f"a {path.suffix or 'nameless'} file", "give a folder, a .zip or an .onnx in its bundle"
    )


def _root(folder: Path, where: str) -> Path:
    """Return the bundle's folder: the one given or the only one in it."""
    if (folder / METADATA).is_file():
        return folder.absolute()
    inside = [path.parents[1] for path in folder.glob(f"*/{METADATA.as_posix()}")] if folder.is_dir() else []
    if len(inside) != 1:
        raise _refused(where, "not one MONAI bundle", f"{len(inside)} folders with configs/metadata.json", "give the bundle's own folder")
    return inside[0].absolute()


def _weights(folder: Path, name: str) -> Path:
    onnx = sorted((folder / "models").glob("*.onnx"))
    if (folder / WEIGHTS) in onnx:
        return folder / WEIGHTS
    if len(onnx) == 1:
        return onnx[0]
    if onnx:
        raise _refused(
            name, "which weights?", ", ".join(path.name for path in onnx), "add the ONNX file itself: mrtai models add FILE.onnx"
        )
    pickled = sorted(path.name for path in (folder / "models").glob("*") if path.suffix in (".pt", ".pth", ".ts"))
    raise _not_onnx(name, ", ".join(pickled) or "nothing in models/")


def _stage(folder: Path, weights: Path | None, staged: Path) -> None:
    """Copy what belongs to the bundle and complete its metadata."""
    name = staged.name
    weights = weights or _weights(folder, name)
    (staged / "models").mkdir(parents=True)
    (staged / "configs").mkdir()
    shutil.copyfile(weights, staged / WEIGHTS)
    inference = None
    if (folder / INFERENCE).is_file():
        inference = read_json(folder, INFERENCE)
        shutil.copyfile(folder / INFERENCE, staged / INFERENCE)
    for paper in (path for pattern in PAPERS for path in folder.glob(pattern) if path.is_file()):
        copy = staged / paper.relative_to(folder)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(paper, copy)
    metadata = read_json(folder, METADATA)
    ours = _ours(name, metadata, inference, file_sha256(staged / WEIGHTS))
    metadata = {"version": "0", **metadata, "mrtai": ours}
    (staged / METADATA).write_text(json.dumps(metadata, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _ours(name: str, metadata: Mapping[str, Any], inference: Mapping[str, Any] | None, digest: str) -> dict[str, Any]:
    """Return the ``mrtai`` block: what the bundle says itself, completed from MONAI's configurations."""
    try:
        given = dict(metadata.get("mrtai") or {})
        _require_digest(name, str(given.get("sha256", digest)), digest)
        _require_drawing(name, given)
        contract = contract_of(given["contract"]) if "contract" in given else foreign_contract(name, metadata, inference)
        classes = dict(given.get("classes") or foreign_classes(name, metadata))
        task = given.get("task") or foreign_task(classes)
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        what, found = "what it says of its input and classes cannot be read", f'metadata.json, "mrtai": {cause}'
        raise _refused(name, what, found, "correct metadata.json", "BUNDLE_CONTRACT") from cause
    names = {str(channel): region for channel, region in classes.items()}
    return {**given, "task": task, "sha256": digest, "contract": asdict(contract), "classes": names}


def _require_drawing(name: str, given: Mapping[str, Any]) -> None:
    """Refuse a model of ours that draws nothing: what it answers cannot be tried on an image."""
    if "task" in given and not {"contract", "classes"} & set(given):
        remedy = "copy its folder into the one that MRTAI_MODELS names; mrtai models verify says whether it is whole"
        raise _refused(name, "only models that draw are added", f"its task is {given['task']}", remedy)


def _require_digest(name: str, said: str, digest: str) -> None:
    if said != digest:
        what, found = "its weights are not those of its metadata", f"SHA-256 {digest[:12]}…, metadata say {said[:12]}…"
        raise _refused(name, what, found, "get it again from where it was published", "BUNDLE_DIGEST")


def _name(name: str) -> str:
    if not NAME.fullmatch(name) or name in TAKEN:
        raise _refused(repr(name[:64]), "no name for a model", repr(name[:64]), "choose letters, digits, . _ - with: --name NAME")
    return name


def _version(name: str) -> str | None:
    """Return the version of the bundle that is installed by this name, ``unreadable`` if it is spoiled."""
    if name not in installed():
        return None
    try:
        return str(read_json(installed()[name], METADATA)["version"])
    except (DosimetryError, KeyError):
        return "unreadable"


@contextmanager
def _workplace(models: Path) -> Iterator[Path]:
    """Give a folder beside the installed bundles that ``installed`` does not see and that is gone afterwards."""
    try:
        models.mkdir(parents=True, exist_ok=True)
        # what was left where adding was killed
        for left in models.glob(".adding-*"):
            if time.time() - left.stat().st_mtime > STALE_S:
                shutil.rmtree(left, ignore_errors=True)
        work = tempfile.TemporaryDirectory(prefix=".adding-", dir=models)
    except OSError as cause:
        raise DosimetryError(
            "models cannot be written there",
            where=str(models),
            found=type(cause).__name__,
            remedy="set MRTAI_MODELS to a folder of yours",
            code="NO_MODELS_FOLDER",
        ) from cause
    with work as folder:
        yield Path(folder)


def _not_onnx(name: str, found: str) -> DosimetryError:
    what = "only ONNX is run, and nothing is unpickled"
    return _refused(name, what, found, f"in the bundle's folder, where you trust it, export it once: {EXPORT}", "BUNDLE_NOT_ONNX")


def _refused(name: str, what: str, found: str, remedy: str, code: str = "BUNDLE") -> DosimetryError:
    return DosimetryError(what, where=f"model {name}", found=found, remedy=remedy, code=code)
