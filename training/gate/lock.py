"""The locked set: which cases by digest, and how far the shipped model of each kind was from the truth in them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

LOCK: Final = Path(__file__).with_name("lock.json")

SLACK: Final = 0.002
"""Mean error, over all figures, that a model may be worse: two thousandths of the dose, what two trainings of one recipe may differ by."""

SLACK_OF_ONE: Final = 0.01
SLACK_OF_FEW: Final = 0.05
FEW: Final = 30
"""The same for a single figure, and for one of fewer than so many values, where one lesion missed instead of another moves the mean."""

SLACK_OF_BIAS: Final = 0.01
"""The same for the mean of the signed errors of all figures: a scale that is off by some per cent hides in few cases of large errors."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Errors of one kind over all cases: mean of their absolute values, mean, number."""

    error: float
    bias: float
    count: int

    @classmethod
    def of(cls, errors: Sequence[float]) -> "Figure":
        """Return the figure of signed relative errors."""
        values = np.asarray(errors, dtype=np.float64)
        return cls(round(float(np.abs(values).mean()), 5), round(float(values.mean()), 5), len(values))


@dataclass(frozen=True, slots=True)
class Locked:
    """What stands in the lock of one kind of model: whose figures they are, digests by case, figures by name."""

    model: str
    cases: Mapping[str, str]
    figures: Mapping[str, Figure]


def read_lock(kind: str, path: Path = LOCK) -> Locked | None:
    """Return the lock of a kind of model, None where there is none."""
    table = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if kind not in table:
        return None
    entry = table[kind]
    figures = {name: Figure(**values) for name, values in entry["figures"].items()}
    return Locked(entry["model"], entry["cases"], figures)


def write_lock(kind: str, locked: Locked, path: Path = LOCK) -> None:
    """Put the lock of one kind of model in place of the one before."""
    table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    figures = {name: {"error": one.error, "bias": one.bias, "count": one.count} for name, one in sorted(locked.figures.items())}
    table[kind] = {"model": locked.model, "cases": dict(locked.cases), "figures": figures}
    path.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n", encoding="utf-8")


def reasons(figures: Mapping[str, Figure], locked: Locked) -> list[str]:
    """Return why a model with these figures may not be shipped, nothing where it may; each names what is worse and by how much."""
    shared = [name for name in locked.figures if name in figures]
    told = [f"no figure for {name}" for name in locked.figures if name not in figures]
    own, theirs = ([of[name] for name in shared] for of in (figures, locked.figures))
    if not shared:
        return told or ["nothing was judged"]
    mean, before = (float(np.mean([one.error for one in of])) for of in (own, theirs))
    # said so that a figure that is not a number is refused too
    if not mean <= before + SLACK:
        told.append(f"the mean error is {mean:.1%}, of {locked.model} {before:.1%}")
    bias, before = (abs(float(np.mean([one.bias for one in of]))) for of in (own, theirs))
    if not bias <= before + SLACK_OF_BIAS:
        told.append(f"the mean of the signed errors is {bias:.1%} off zero, of {locked.model} {before:.1%}")
    for name in shared:
        slack = SLACK_OF_ONE if locked.figures[name].count >= FEW else SLACK_OF_FEW
        if not figures[name].error <= locked.figures[name].error + slack:
            told.append(f"{name}: error {figures[name].error:.1%}, of {locked.model} {locked.figures[name].error:.1%}")
    return told
