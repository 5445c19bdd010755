"""``mrtai models``: which models are there, what they are, whether they are whole, and how another gets in."""

import argparse
from pathlib import Path
from typing import Any, Final

from mrtai.cli.progress import bar
from mrtai.values.bundle import Bundle, Network
from mrtai.values.refusal import DosimetryError

HEADING: Final = ("name", "version", "task", "intended_use")
EPILOG: Final = """A model is a MONAI bundle: configs/metadata.json, configs/inference.json, docs/README.md and models/model.onnx.
Shipped models come with mrtai; a site's own lie in the folder that MRTAI_MODELS names, else in ~/.local/share/mrtai/models,
and win over a shipped one of the same name. Every model is verified by its SHA-256 before it draws.

examples:
  mrtai models list
  mrtai models show organs-ct
  mrtai models verify
  mrtai models add wholeBody_ct_segmentation.zip
  mrtai segment --ct ct.nii.gz --model wholeBody_ct_segmentation --out labels.nii.gz
"""
ADD: Final = """Takes a bundle's folder, its zip, or an ONNX file in a bundle's folder; also those of MONAI's model zoo.

How to prepare an image is read from the block "mrtai" of configs/metadata.json, else from the transforms of
configs/inference.json (Orientationd, Spacingd, ScaleIntensityRanged or ScaleIntensityd), without running any code
of it. Lobes become lungs, vertebrae the spine; other names of TotalSegmentator are kept. Nothing is unpickled:
weights that are only .pt or .ts must be exported to ONNX once, and the refusal says how. A bundle whose digest or
channels differ from its metadata is refused by name, and nothing half-written stays.
"""


def add_models(commands: Any) -> argparse.ArgumentParser:
    """Add ``mrtai models`` to a parser and return its own."""
    models: argparse.ArgumentParser = commands.add_parser(
        "models",
        help="list, show, verify or add trained models",
        description="Trained models: those that draw organs or lesions, and those that read numbers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    acts = models.add_subparsers(metavar="ACT", required=True)
    _act(acts, "list", _list, "every model: name, version, task, where it came from, what it draws")
    show = _act(acts, "show", _show, "one model: input, regions, intended use, digest, and its card")
    show.add_argument("name", metavar="NAME", help="as in mrtai models list")
    verify = _act(acts, "verify", _verify, "compare digests and run each once; exit status 2 names what is spoiled")
    verify.add_argument("name", nargs="?", metavar="NAME", help="this one alone")
    add = _act(acts, "add", _add, "install a MONAI bundle", description=ADD)
    add.add_argument("path", type=Path, metavar="PATH", help="folder, .zip, or .onnx in its bundle's folder")
    add.add_argument("--name", metavar="NAME", help="call it so, instead of its folder's name")
    return models


def _act(acts: Any, name: str, command: Any, words: str, description: str | None = None) -> argparse.ArgumentParser:
    act: argparse.ArgumentParser = acts.add_parser(
        name, help=words, description=description or f"{words[0].upper()}{words[1:]}.", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    act.set_defaults(command=command)
    # given here too; what was given before the act stays
    act.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print the outcome as one JSON object")
    act.add_argument("--traceback", action="store_true", default=argparse.SUPPRESS, help="show where a fault of ours happened")
    return act


def _list(options: argparse.Namespace) -> dict[str, Any]:
    from mrtai.io.bundles import installed

    rows = [_row(name, folder) for name, folder in installed().items()]
    width = max((len(row["name"]) for row in rows), default=0)
    lines = [f"{row['name']:{width}}  {row['version']:8}  {row['task']:8}  {row['from']:7}  {row['draws']}" for row in rows]
    return {"models": rows, "text": "\n".join(lines) or "no models; add one with: mrtai models add PATH"}


def _row(name: str, folder: Path) -> dict[str, Any]:
    from mrtai.io.bundles import own_models, read_model

    origin = "own" if folder.parent == own_models() else "shipped"
    try:
        model = read_model(folder)
    except DosimetryError as refusal:
        return {"name": name, "version": "-", "task": "spoiled", "from": origin, "draws": refusal.found}
    regions = sorted(set(model.classes.values())) if isinstance(model, Bundle) else []
    draws = ", ".join(regions) if len(regions) <= 12 else f"{', '.join(regions[:10])} and {len(regions) - 10} more"
    return {"name": name, "version": model.version, "task": model.task, "from": origin, "draws": draws or "nothing"}


def _show(options: argparse.Namespace) -> dict[str, Any]:
    from mrtai.io.bundles import folder_of, verified_model

    model = verified_model(folder_of(options.name))
    done = _told(model)
    lines = [f"{model.label}: {model.task}", model.intended_use]
    lines += [f"{key.replace('_', ' ')}: {_plain(value)}" for key, value in done.items() if key not in HEADING]
    # the card says what it learned from, how well it does and where it fails
    card = Path(done["card"]).read_text(encoding="utf-8", errors="replace").strip() if done["card"] else "no card (docs/README.md)"
    return done | {"text": "\n".join(line for line in lines if line) + f"\n\n{card}"}


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _told(model: Bundle | Network) -> dict[str, Any]:
    folder = model.weights.parents[1]
    card = folder / "docs" / "README.md"
    return {
        "name": model.name,
        "version": model.version,
        "task": model.task,
        "intended_use": model.intended_use,
        **(_drawing(model) if isinstance(model, Bundle) else {}),
        "megabytes": round(model.weights.stat().st_size / 1e6, 2),
        "sha256": model.sha256,
        "folder": str(folder),
        "card": str(card) if card.is_file() else None,
    }


def _drawing(bundle: Bundle) -> dict[str, Any]:
    return {
        "input": [f"{one.quantity} from {one.low:g} to {one.high:g}" for one in bundle.contract.channels],
        "spacing_mm": bundle.contract.spacing_mm,
        "window": list(bundle.contract.patch),
        "axes": bundle.contract.axes,
        "draws": sorted(set(bundle.classes.values())),
    }


def _verify(options: argparse.Namespace) -> dict[str, Any]:
    from mrtai.io.bundles import folder_of, installed, verified_model

    names = list(installed()) if options.name is None else [options.name]
    good, refusals = [], []
    with bar("verifying") as tell:
        for number, name in enumerate(names):
            tell(name, number / len(names))
            try:
                good.append(_run(verified_model(folder_of(name))).label)
            except DosimetryError as refusal:
                refusals.append(refusal)
    if len(refusals) == 1:
        raise refusals[0]
    if refusals:
        where, found = (", ".join(getattr(one, part) for one in refusals) for part in ("where", "found"))
        raise DosimetryError(
            "models are not what they say", where=where, found=found, remedy="add them again from their source", code="SPOILED_MODEL"
        )
    return {"verified": good, "text": f"verified: {', '.join(good) or 'no models are installed'}"}


def _run(model: Bundle | Network) -> Bundle | Network:
    """Return the model after it was run once; of one that draws the channels are compared with the metadata."""
    from mrtai.engines.onnx_check import answer, require_numbers
    from mrtai.io.add_bundle import read_classes, require_same_channels

    if isinstance(model, Bundle):
        answered = answer(model.weights, model.contract, f"model {model.name}")
        require_same_channels(model, len(read_classes(model.weights.parents[1])), answered)
    else:
        require_numbers(model.weights, f"model {model.name}")
    return model


def _add(options: argparse.Namespace) -> dict[str, Any]:
    from mrtai.engines.onnx_check import answer
    from mrtai.io.add_bundle import add_bundle

    with bar("adding") as tell:
        tell("reading, hashing, running one window", 0.0)
        added = add_bundle(options.path, answer, options.name)
    instead = f", instead of {added.replaced}" if added.replaced else ""
    done = _told(added.bundle)
    text = f"added {added.bundle.label}{instead}: draws {len(done['draws'])} regions; use it with --segmenter {added.bundle.name}"
    return done | {"replaced": added.replaced, "text": text}
