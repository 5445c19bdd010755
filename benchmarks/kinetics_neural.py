"""The network that reads curves beside the population's reading, cohort by cohort: writes ``docs/validation/kinetics-neural.md``.

python -m benchmarks.kinetics_neural [--patients 400]
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.kinetics import AGENTS, TIMES_H, Cohort, cohort, measured, of_doubted_prior, of_prior
from mrtai.io.tables import nuclide
from mrtai.units import LN2

PAGE = Path(__file__).parents[1] / "docs" / "validation" / "kinetics-neural.md"
AS_BELIEVED, DOUBTED, OTHERWISE, OTHER_SHAPE = "as believed", "as believed, median too", "other half-lives", "another shape"
UPTAKE = {"second": -1.0, "faster_per_h": LN2 / 3.0}
WASHOUT = {"second": 0.3, "faster_per_h": 0.1}

TEMPLATE = """# Kinetics read by a network

`neural` (docs/physics/neural.md) beside `population`, {patients} patients a cohort, by `python -m benchmarks.kinetics_neural`: in
the cohorts of [kinetics.md](kinetics.md), in the same with more scans, and where the truth is not one exponential (organs that fill with a
half-time of 3 h, or that lose a quarter of what they hold at first with an additional 0.1 per hour). The network's training saw none of
these cohorts. Half-lives "as believed" spread as the prior says of patients of one population; with "median too" as it says of a
patient whose population is known no better than that, which is what the intervals of one scan state. "Difference": mean absolute
error of `neural` less that of `population`, in per cent of the true integral, so negative where the network is better; "in 68 %" and
"in 95 %" of `neural` first.

{neural}"""


def cohorts(patients: int) -> Iterator[tuple[str, str, str, str, Cohort, tuple[float, ...], dict[str, Any]]]:
    """Give what the network is held against: kind of cohort, agent, family, words, cohort, scans, and how they are made."""
    physical_h = nuclide("Lu-177").half_life_h
    for kind, median_h, gsd, noise in (
        (AS_BELIEVED, 50.0, 1.28, 0.03), (AS_BELIEVED, 50.0, 1.28, 0.05), (AS_BELIEVED, 50.0, 1.28, 0.08),
        (OTHERWISE, 40.0, 1.35, 0.03), (OTHERWISE, 60.0, 1.35, 0.03),
    ):  # fmt: skip
        of = cohort("kidney", median_h, gsd, patients, np.random.default_rng(72), physical_h)
        yield kind, "DOTATATE", "kidneys", f"median {median_h:.0f} h, noise {noise:.0%}", of, (72.0,), {"relative_sd": noise, "seed": 7}
    for misjudged, kind in ((False, AS_BELIEVED), (True, OTHERWISE)):
        for agent in AGENTS:
            rng = np.random.default_rng(1)
            for family, region in (("kidneys", "kidney"), ("lesion", "lesion")):
                of = of_prior(agent, family, region, patients, rng, misjudged=misjudged)
                for t_h in TIMES_H:
                    yield kind, agent, family, "", of, (t_h,), {"relative_sd": 0.05, "by_activity": True, "seed": int(t_h)}
    for agent in AGENTS:
        rng = np.random.default_rng(2)
        for family, region in (("kidneys", "kidney"), ("lesion", "lesion")):
            of = of_doubted_prior(agent, family, region, patients, rng)
            for t_h in TIMES_H:
                yield DOUBTED, agent, family, "", of, (t_h,), {"relative_sd": 0.05, "by_activity": True, "seed": int(t_h)}
    shapes = ((AS_BELIEVED, 1.0, 1.0, {}), (OTHERWISE, 0.8, 1.1, {}), (OTHER_SHAPE, 1.0, 1.0, UPTAKE), (OTHER_SHAPE, 1.0, 1.0, WASHOUT))
    for kind, shorter, wider, shape in shapes:
        for family, region, median_h, gsd in (("kidneys", "kidney", 50.0, 1.28), ("lesion", "lesion", 80.0, 1.35)):
            of = cohort(region, shorter * median_h, wider * gsd, patients, np.random.default_rng(5), physical_h)
            of, words = replace(of, **shape), {-1.0: "fills with 3 h", 0.3: "a fast phase"}.get(shape.get("second", 0.0), "")
            for schedule in ((24.0, 96.0), (24.0, 72.0, 168.0), (4.0, 24.0, 72.0, 168.0), (24.0, 48.0, 72.0), (4.0, 24.0, 28.0)):
                yield kind, "DOTATATE", family, words, of, schedule, {"relative_sd": 0.05, "seed": 6}


def neural(patients: int) -> str:
    """The network beside the population's reading, in every kind of cohort: a summary, then cohort by cohort."""
    found = []
    for kind, agent, family, words, of, schedule, made in track(list(cohorts(patients)), "neural"):
        seed, scanned = made["seed"], {name: value for name, value in made.items() if name != "seed"}
        both = [
            measured(agent, method, of.scan(schedule, rng=np.random.default_rng(seed), **scanned), of.tia_bq_h)
            for method in ("population", "neural")
        ]
        found.append((kind, f"{agent} {family}{', ' if words else ''}{words}", schedule, *both))
    return _summary(found) + "\n" + _beside(found)


def _summary(found: Sequence[Any]) -> str:
    heads = ("cohorts", "scans", "number", "median difference", "mean difference", "worst", "neural better", "at most 0.5 worse")
    lines = [f"| {' | '.join((*heads, 'in 68 %', 'in 95 %', 'population in 68 %', 'in 95 %'))} |", "|" + " --- |" * 2 + " ---: |" * 10]
    for kind in (AS_BELIEVED, DOUBTED, OTHERWISE, OTHER_SHAPE):
        for words, least, most in (("one", 1, 1), ("two to four", 2, 4)):
            rows = [row for row in found if row[0] == kind and least <= len(row[2]) <= most]
            if not rows:
                continue
            gain = np.array([own["mean abs"] - theirs["mean abs"] for *_, theirs, own in rows])
            held = [np.mean([row[of][name] for row in rows]) for of in (4, 3) for name in ("in 68 %", "in 95 %")]
            cells = [
                f"{np.median(gain):+.2f}",
                f"{gain.mean():+.2f}",
                f"{gain.max():+.2f}",
                f"{(gain < 0).sum()}",
                f"{(gain <= 0.5).sum()}",
            ]
            lines.append(f"| {kind} | {words} | {len(rows)} | {' | '.join((*cells, *(f'{one:.1f}' for one in held)))} |")
    return "\n".join(lines) + "\n"


def _beside(found: Sequence[Any]) -> str:
    names = ("mean abs", "bias", "in 68 %", "in 95 %", "width 68 %")
    heads = ("cohorts", "of", "scans [h]", *(f"{name}, {method}" for name in names for method in ("population", "neural")))
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * 3 + " ---: |" * (2 * len(names))]
    for kind, words, schedule, theirs, own in found:
        cells = [f"{of[name]:.1f}" for name in names for of in (theirs, own)]
        lines.append(f"| {kind} | {words} | {', '.join(f'{t:.0f}' for t in schedule)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=400, help="of each cohort (default 400)")
    patients = parser.parse_args().patients
    PAGE.write_text(TEMPLATE.format(patients=patients, neural=neural(patients)), encoding="utf-8")
    print(f"written: {PAGE.relative_to(PAGE.parents[2])}")


if __name__ == "__main__":
    main()
