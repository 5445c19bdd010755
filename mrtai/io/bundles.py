"""Trained models as MONAI bundles: found, read and verified before anything of them is run.

A bundle is a folder with ``configs/metadata.json``, ``configs/inference.json``, ``docs/README.md`` and ``models/model.onnx``. Only
ONNX is ever run and nothing is ever unpickled. Shipped bundles lie in ``models/``; a site's own in the folder that ``MRTAI_MODELS``
names, else in ``~/.local/share/mrtai/models``, and win over a shipped one of the same name.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mrtai.io.hashes import file_sha256
from mrtai.io.region_names import require_writable_names
from mrtai.values.bundle import OUR_AXES, Bundle, Channel, InputContract, Network
from mrtai.values.refusal import DosimetryError

METADATA: Final = Path("configs") / "metadata.json"
WEIGHTS: Final = Path("models") / "model.onnx"


def own_models() -> Path:
    """Return the folder of a site's own bundles; it need not exist."""
    named = os.environ.get("MRTAI_MODELS")
    return Path(named) if named else Path.home() / ".local" / "share" / "mrtai" / "models"


def shipped_models() -> Path:
    """Return the folder of the bundles that come with mrtai: in an installed package, else in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def installed() -> dict[str, Path]:
    """Return every bundle's folder by name; a site's own wins over a shipped one."""
    found: dict[str, Path] = {}
    for folder in (shipped_models(), own_models()):
        if folder.is_dir():
            # a name with a dot in front is a bundle that is just being added
            found |= {path.name: path for path in sorted(folder.iterdir()) if path.name[:1] != "." and (path / METADATA).is_file()}
    return found


def load_bundle(name: str) -> Bundle:
    """Return the verified bundle of that name, which draws.

    Raises:
        DosimetryError: there is no such bundle, it is not what its metadata says, or it draws nothing.
    """
    return verified(folder_of(name))


def load_network(name: str, task: str) -> Network:
    """Return the verified bundle of that name, which does ``task`` and draws nothing.

    Raises:
        DosimetryError: there is no such bundle, it is not what its metadata says, or it does something else.
    """
    model = verified_model(folder_of(name))
    if not isinstance(model, Network) or model.task != task:
        raise _other_task(model, task)
    return model


def folder_of(name: str) -> Path:
    """Return where the bundle of that name lies; refuses a name that is not installed."""
    folders = installed()
    if name not in folders:
        raise DosimetryError(
            "unknown model",
            where=name,
            found=f"installed: {', '.join(folders) or 'none'}",
            remedy="choose one of them, or add a MONAI bundle with: mrtai models add PATH",
            code="UNKNOWN_MODEL",
        )
    return folders[name]


def verified(folder: Path) -> Bundle:
    """Return a folder's bundle after its weights' digest was compared with the metadata; refuses one that draws nothing."""
    model = verified_model(folder)
    if not isinstance(model, Bundle):
        raise _other_task(model, "organs or lesions")
    return model


def verified_model(folder: Path) -> Bundle | Network:
    """Return a folder's model, whatever it does, after its weights' digest was compared with the metadata."""
    model = read_model(folder)
    if not model.weights.is_file():
        raise _spoiled(model.name, f"no {WEIGHTS.as_posix()}")
    digest = file_sha256(model.weights)
    if digest != model.sha256:
        raise _spoiled(model.name, f"SHA-256 of its weights is {digest[:12]}…, its metadata say {model.sha256[:12]}…")
    return model


def read_bundle(folder: Path) -> Bundle:
    """Return what the metadata of a folder that draws say, unverified."""
    model = read_model(folder)
    if not isinstance(model, Bundle):
        raise _other_task(model, "organs or lesions")
    return model


def read_model(folder: Path) -> Bundle | Network:
    """Return what a folder's metadata say, unverified: with a contract for images it draws."""
    metadata = read_json(folder, METADATA)
    try:
        ours = metadata["mrtai"]
        return _bundle(folder, metadata) if "contract" in ours or "classes" in ours else _network(folder, metadata)
    except KeyError as cause:
        raise _spoiled(folder.name, f"{METADATA.as_posix()}: no {cause!s}") from cause
    except (AttributeError, TypeError, ValueError) as cause:
        raise _spoiled(folder.name, f"{METADATA.as_posix()}: {cause!s}") from cause


def read_json(folder: Path, name: Path) -> dict[str, Any]:
    """Return one of a bundle's configurations; refuses what is no JSON object."""
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        raise _spoiled(folder.name, f"{name.as_posix()} cannot be read: {type(cause).__name__}") from cause
    if not isinstance(content, dict):
        raise _spoiled(folder.name, f"{name.as_posix()} is no JSON object")
    return content


def contract_of(written: Mapping[str, Any]) -> InputContract:
    """Return the contract of an ``mrtai`` block; ``KeyError``, ``TypeError`` or ``ValueError`` where it is none."""
    return InputContract(
        tuple(Channel(**channel) for channel in written["channels"]),
        float(written["spacing_mm"]),
        tuple(int(n) for n in written["patch"]),  # type: ignore[arg-type]
        str(written.get("axes", OUR_AXES)),
    )


def _bundle(folder: Path, metadata: Mapping[str, Any]) -> Bundle:
    ours = metadata["mrtai"]
    classes = {int(channel): str(name) for channel, name in ours["classes"].items()}
    require_writable_names(sorted(set(classes.values())), f"model {folder.name}")
    return Bundle(
        name=folder.name,
        version=str(metadata["version"]),
        task=str(ours["task"]),
        weights=folder / WEIGHTS,
        sha256=str(ours["sha256"]),
        contract=contract_of(ours["contract"]),
        classes=classes,
        envelope=ours.get("envelope", {}),
        caution=str(ours.get("caution", "")),
        caution_regions=tuple(map(str, ours.get("caution_regions", ()))),
        intended_use=str(metadata.get("intended_use", "")),
    )


def _network(folder: Path, metadata: Mapping[str, Any]) -> Network:
    ours = metadata["mrtai"]
    return Network(
        name=folder.name,
        version=str(metadata["version"]),
        task=str(ours["task"]),
        weights=folder / WEIGHTS,
        sha256=str(ours["sha256"]),
        envelope=ours.get("envelope", {}),
        caution=str(ours.get("caution", "")),
        intended_use=str(metadata.get("intended_use", "")),
    )


def _other_task(model: Bundle | Network, task: str) -> DosimetryError:
    return DosimetryError(
        "model is for something else",
        where=f"model {model.name}",
        found=f"its task is {model.task}, {task} is needed",
        remedy="choose another; mrtai models list says what each does",
        code="UNKNOWN_MODEL",
    )


def _spoiled(name: str, found: str) -> DosimetryError:
    return DosimetryError(
        "model is not what it says", where=f"model {name}", found=found, remedy="add it again from its source", code="SPOILED_MODEL"
    )
