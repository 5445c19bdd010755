"""The model card: what a bundle learned from, how well it does, where it fails."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.export import Model, Parity


def card(model: "Model", parity: "Parity", metadata: Mapping[str, Any]) -> str:
    """Return the card as Markdown."""
    ours = metadata["mrtai"]
    lines = [
        f"# {model.name} {model.version}",
        "",
        model.description,
        "",
        f"**Intended use.** {metadata['intended_use']}",
        "",
        "## Input and output",
        "",
        f"Cubic voxels of {model.contract.spacing_mm:g} mm along the patient axes, windows of {model.contract.patch} voxels (z, y, x).",
        "",
        *table([_channel(channel) for channel in model.contract.channels]),
        "",
        f"Classes: {', '.join(model.classes[1:])}.",
        "",
        "## Learned from",
        "",
        *[f"- {name}: {licence}" for name, licence in model.data.items()],
        "",
        model.recipe,
        "",
        "## How well it does",
        "",
    ]
    if not model.evaluation:
        lines += ["Not evaluated.", ""]
    for name, rows in model.evaluation.items():
        lines += [f"### {name}", "", *table(rows), ""]
    lines += ["## Where it fails", "", *[f"- {sentence}" for sentence in model.failures], ""]
    lines += [
        "## File",
        "",
        f"ONNX and network differ by {parity.largest_difference:.1e} at most; {parity.agreement:.3%} of the labels agree.",
        f"SHA-256 of the weights `{ours['sha256']}`, trained from commit `{ours['trained_from_commit']}`.",
        "",
    ]
    return "\n".join(lines)


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return rows of one set of columns as a Markdown table."""
    if not rows:
        return ["none"]
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    return lines + ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows]


def _channel(channel: Any) -> dict[str, Any]:
    return {
        "quantity": channel.quantity,
        "clipped to": f"{channel.low:g} … {channel.high:g}",
        "then": f"(value - {channel.shift:g}) / {channel.scale:g}",
        "outside the image": f"{channel.outside:g}",
    }
