"""Decides whether a new or retrained model may be shipped: its dose errors on the locked cases must not be worse than the shipped one's.

    python -m training.gate MODEL [--data FOLDER]      # a bundle's folder, or the name of an installed one
    python -m training.gate MODEL --lock               # after it was shipped: its figures are what the next one must reach

Prints the table, writes it into the bundle's card, and ends with 1 where the model is refused. Real cases lie in the folder that
MRTAI_TEST_DATA names, or --data; without them --simulated-only must be said, and what it decides is no leave to ship.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from mrtai.io.bundles import folder_of, verified_model
from mrtai.values.refusal import DosimetryError
from training.card import table
from training.gate.cases import Case
from training.gate.lock import FEW, LOCK, SLACK, SLACK_OF_BIAS, SLACK_OF_FEW, SLACK_OF_ONE, Figure, Locked, read_lock, reasons, write_lock

KINDS: Final = ("dose", "kinetics", "lesions", "organs")
"""The tasks that a bundle's metadata name; each has its cases in the module of that name beside this one."""

HEADING: Final = "## The gate"
PASSED: Final = (
    "Passed: no dose error is worse than that of the model before by more than the gate allows "
    f"({100 * SLACK:g} points in the mean of all figures, {100 * SLACK_OF_ONE:g} in a single one, {100 * SLACK_OF_FEW:g} in one of fewer "
    f"than {FEW} values, {100 * SLACK_OF_BIAS:g} in the mean of the signed errors)."
)


def cases_of(kind: str, data: Path | None) -> Iterator[Case]:
    """Give the cases of one kind of model."""
    cases: Iterator[Case] = import_module(f"training.gate.{kind}").cases(data)
    return cases


def judged(bundle: Path, data: Path | None, locked: Locked | None) -> tuple[dict[str, str], dict[str, Figure]]:
    """Return digests by case and figures by name of a verified bundle; a case that the lock knows otherwise is refused before it is judged.

    Raises:
        ValueError: the inputs of a case are not those that were locked.
    """
    digests: dict[str, str] = {}
    errors: dict[str, list[float]] = {}
    for case in cases_of(verified_model(bundle).task, data):
        if locked is not None and locked.cases.get(case.name) != case.sha256:
            raise ValueError(f"{case.name}: its inputs are not those of the lock ({LOCK.name}): nothing was decided")
        digests[case.name] = case.sha256
        for name, found in case.judge(bundle).items():
            errors.setdefault(name, []).extend(found)
    return digests, {name: Figure.of(found) for name, found in errors.items() if found}


def decided(bundle: Path, data: Path | None, *, simulated_only: bool = False, lock: Path = LOCK) -> tuple[list[str], list[str]]:
    """Return why a bundle may not be shipped (nothing where it may) and the lines of its table."""
    model = verified_model(bundle)
    locked = read_lock(model.task, lock) if model.task in KINDS else None
    if locked is None:
        return [f"nothing is locked for models of the task {model.task}"], []
    digests, figures = judged(bundle, data, locked)
    left_out = [name for name in locked.cases if name not in digests]
    if simulated_only:
        # what real cases alone tell cannot be compared without them
        locked = Locked(locked.model, locked.cases, {name: one for name, one in locked.figures.items() if name in figures})
        told = reasons(figures, locked)
    else:
        told = [f"not judged, no data: {', '.join(left_out)}"] if left_out else reasons(figures, locked)
    return told, rows(figures, locked, left_out)


def locked_anew(bundle: Path, data: Path | None, lock: Path = LOCK) -> str:
    """Write a bundle's figures into the lock and return what was done; refuses one that the lock of the same cases refuses.

    Raises:
        ValueError: it is worse than the model whose figures stand there, or a case that is locked was not judged.
    """
    model, before = verified_model(bundle), read_lock(verified_model(bundle).task, lock)
    digests, figures = judged(bundle, data, None)
    left_out = [] if before is None else [name for name in before.cases if name not in digests]
    if left_out:
        words = "in the lock but not judged, for want of data or because it is gone from the gate"
        raise ValueError(f"{words}: {', '.join(left_out)}; give --data, or take it out of {lock.name} by hand if that is meant")
    told = reasons(figures, before) if before is not None and before.cases == digests else []
    if told:
        raise ValueError("; ".join(told))
    write_lock(model.task, Locked(model.label, digests, figures), lock)
    return f"locked: {model.label}, {len(digests)} cases"


def rows(figures: Mapping[str, Figure], locked: Locked, left_out: Sequence[str]) -> list[str]:
    """Return the table as Markdown: what was judged, how far off the model is, and how far the one that it must not fall behind."""
    lines = table(
        [
            {
                "what": name,
                "values": of.count,
                "mean error": f"{of.error:.1%}",
                "bias": f"{of.bias:+.1%}",
                f"mean error of {locked.model}": f"{locked.figures[name].error:.1%}" if name in locked.figures else "–",
                "its bias": f"{locked.figures[name].bias:+.1%}" if name in locked.figures else "–",
            }
            for name, of in sorted(figures.items())
        ]
    )
    return [*lines, "", f"Left out, no data: {', '.join(left_out)}."] if left_out else lines


def write_card(bundle: Path, told: Sequence[str], lines: Sequence[str]) -> None:
    """Write the gate's words and table into the card of a bundle, in place of earlier ones."""
    card = bundle / "docs" / "README.md"
    text = card.read_text(encoding="utf-8") if card.exists() else f"# {bundle.name}\n"
    before, _, rest = text.partition(f"{HEADING}\n")
    after = rest[rest.index("\n## ") + 1 :] if "\n## " in rest else ""
    verdict = f"Refused: {'; '.join(told)}." if told else PASSED
    head = "`python -m training.gate`: relative dose errors on locked cases (training/gate)."
    own = "\n".join([HEADING, "", head, "", verdict, "", *lines, ""])
    card.parent.mkdir(parents=True, exist_ok=True)
    card.write_text(before.rstrip() + "\n\n" + own + ("\n" + after if after else ""), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Decide from the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.gate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", help="a bundle's folder, or the name of an installed model")
    parser.add_argument("--data", type=Path, help="folder of the real cases (default: MRTAI_TEST_DATA)")
    parser.add_argument("--simulated-only", action="store_true", help="decide without the real cases; no leave to ship")
    parser.add_argument("--lock", action="store_true", help="write this model's figures into the lock instead of deciding")
    asked = parser.parse_args(arguments)
    named = os.environ.get("MRTAI_TEST_DATA")
    data = None if asked.simulated_only else asked.data or (Path(named) if named else None)
    try:
        bundle = Path(asked.model) if Path(asked.model).is_dir() else folder_of(asked.model)
        model = verified_model(bundle)
        if asked.lock:
            print(locked_anew(bundle, data))
            return 0
        told, lines = decided(bundle, data, simulated_only=asked.simulated_only)
    except (DosimetryError, ValueError) as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        return 1
    write_card(bundle, told, lines)
    print("\n".join([*lines, "", f"{model.label} {'refused: ' + '; '.join(told) if told else 'passed'}"]))
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
