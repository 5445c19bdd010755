"""Whether doses of a locked set of cases are what they were; keeps docs/validation/regression.csv and .md.

python -m benchmarks.regression --check [--small]    fails on a change above 0.5 % that CHANGELOG.md does not announce
python -m benchmarks.regression                      the same, then writes the table anew: at each release, and with an announced change

A change is announced under "Unreleased" of CHANGELOG.md by a line such as

- Doses change: kidneys, lesion_1: up to 2 %: recovery by surface.

with names as in the table, or "all regions".
"""

import argparse
import csv
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Final

from rich.progress import track

import mrtai
from benchmarks.regression_cases import REAL_CASES, Doses, real_cases, small_cases, virtual_cases
from training.card import table

ROOT: Final = Path(__file__).resolve().parents[1]
TABLE: Final = ROOT / "docs" / "validation" / "regression.csv"
PAGE: Final = ROOT / "docs" / "validation" / "regression.md"
CHANGELOG: Final = ROOT / "CHANGELOG.md"
MOST_CHANGE: Final = 0.005
ALL: Final = "all regions"
SHOWN: Final = ("kidneys", "liver", "spleen", "stomach", "red_marrow", "lesion_1", "tumour_total", "body")
ANNOUNCED: Final = re.compile(r"^- Doses change: (?P<regions>[^:]+): up to (?P<percent>\d+(?:\.\d+)?) %", re.MULTILINE)

Reference = Mapping[tuple[str, str], float]
"""Mean dose [Gy] by case and region."""


@dataclass(frozen=True, slots=True)
class Change:
    """A dose that is not what it was; None where the case did not, or does not, have the region."""

    case: str
    region: str
    was_gy: float | None
    is_gy: float | None

    @property
    def share(self) -> float:
        """Change relative to what it was; infinite where the region came or went."""
        return abs(self.is_gy / self.was_gy - 1) if self.was_gy and self.is_gy is not None else float("inf")

    def __str__(self) -> str:
        """Return the change in words."""
        if self.was_gy is None or self.is_gy is None:
            return f"{self.case}: {self.region} {'is new' if self.was_gy is None else 'is gone'}"
        return f"{self.case}: {self.region} {self.was_gy:.6g} -> {self.is_gy:.6g} Gy ({self.is_gy / self.was_gy - 1:+.2%})"


def changes(reference: Reference, found: Mapping[str, Doses]) -> list[Change]:
    """Return what differs from the table by more than 0.5 % among the cases that were run; a new case is no change."""
    known = {case for case, _ in reference}
    compared: list[Change] = []
    for case, doses in found.items():
        if case in known:
            before = {region: gy for (name, region), gy in reference.items() if name == case}
            compared += [Change(case, region, before.get(region), doses.get(region)) for region in {**before, **doses}]
    return [change for change in compared if change.share > MOST_CHANGE]


def unannounced(found: Iterable[Change], changelog: str) -> list[Change]:
    """Return the changes that no line under "Unreleased" names with a percentage as large."""
    lines = [(match["regions"], float(match["percent"]) / 100) for match in ANNOUNCED.finditer(unreleased(changelog))]
    limits: dict[str, float] = {}
    for regions, limit in lines:
        for name in regions.split(","):
            limits[name.strip()] = max(limit, limits.get(name.strip(), 0.0))
    return [change for change in found if change.share > max(limits.get(change.region, 0.0), limits.get(ALL, 0.0))]


def unreleased(changelog: str) -> str:
    """Return the part of the changelog that no version has yet."""
    found = re.search(r"^## Unreleased$(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def read_reference() -> Reference:
    """Return the committed table."""
    if not TABLE.is_file():
        return {}
    with TABLE.open(encoding="utf-8", newline="") as stream:
        return {(row["case"], row["region"]): float(row["dose_gy"]) for row in csv.DictReader(stream)}


def run(*, small: bool) -> dict[str, Doses]:
    """Return the doses of the locked cases, of the small ones alone where asked."""
    cases = small_cases() if small else small_cases() | virtual_cases() | real_cases()
    return {name: case() for name, case in track(cases.items(), "cases", disable=not sys.stdout.isatty())}


def _with_absent(reference: Reference, found: Mapping[str, Doses]) -> dict[str, Doses]:
    """Return the doses with those of real cases whose data are not here, as they were."""
    kept: dict[str, dict[str, float]] = {}
    for (case, region), gy in reference.items():
        if case in REAL_CASES and case not in found:
            kept.setdefault(case, {})[region] = gy
    return {**found, **kept}


def _table(found: Mapping[str, Doses]) -> str:
    stream = StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(["case", "region", "dose_gy"])
    rows.writerows([case, region, f"{gy:.6g}"] for case, doses in found.items() for region, gy in doses.items())
    return stream.getvalue()


def _page(found: Mapping[str, Doses], changed: list[Change]) -> str:
    shown = [region for region in dict.fromkeys(region for doses in found.values() for region in doses) if region in SHOWN]
    rows = [
        {"case": case, **{region: f"{doses[region]:.4g}" if region in doses else "" for region in shown}} for case, doses in found.items()
    ]
    lines = [
        "# Doses of the locked cases",
        "",
        f"Written by `python -m benchmarks.regression` with mrtai {mrtai.__version__}; `docs/validation/regression.csv` has every region.",
        "`python -m benchmarks.regression --check` computes them again and fails where a dose moved by more than 0.5 % and no line",
        "`- Doses change: REGIONS: up to X %: why` under Unreleased in CHANGELOG.md announces it. The phantoms are computed in every",
        "test run, the virtual patients (clinical scanner, true contours, registration) by the command, and the real patient by the",
        "command where `MRTAI_TEST_DATA` has the data; elsewhere its doses stay as they were last computed. They are for",
        "non-commercial use and no part of this project: Dewaraja and Van,",
        "University of Michigan Deep Blue Data, doi 10.7302/0n8e-rz46 (CC BY-NC 4.0), two SPECT with lesions' contours and without CT.",
        "",
        "Mean absorbed dose [Gy]:",
        "",
        *table(rows),
        "",
        "Changed against the table before: " + ("; ".join(map(str, changed)) if changed else "nothing above 0.5 %") + ".",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Compute, compare, and write the table where that was asked and nothing changed unannounced."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare alone, write nothing")
    parser.add_argument("--small", action="store_true", help="with --check: the phantoms alone")
    asked = parser.parse_args()
    if asked.small and not asked.check:
        parser.error("--small goes with --check: the table holds all cases")
    found = run(small=asked.small)
    changed = changes(read_reference(), found)
    silent = unannounced(changed, CHANGELOG.read_text("utf-8"))
    for change in changed:
        print(f"{'NOT ANNOUNCED ' if change in silent else ''}{change}")
    if not changed:
        print(f"{len(found)} cases: no dose moved by more than {MOST_CHANGE:.1%}")
    for case in () if asked.small else sorted(REAL_CASES - set(found)):
        print(f"{case}: not computed, its data are not here (MRTAI_TEST_DATA)")
    if silent:
        return 1
    if not asked.check:
        found = _with_absent(read_reference(), found)
        TABLE.write_text(_table(found), encoding="utf-8")
        PAGE.write_text(_page(found, changed), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
