"""How far each method's integral is from the truth in virtual populations: writes ``docs/validation/kinetics.md``.

    python -m benchmarks.kinetics                    # some twenty minutes on one core
    python -m benchmarks.kinetics --patients 200     # a quick look; prints, writes nothing

Truth is one exponential a patient, but for one table; what differs is the half-life (log-normal), the amplitude and the noise of the
scans.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from mrtai.engines import tac_model
from mrtai.engines_of_run import curve_network
from mrtai.io.earlier_cycles import by_region, read_earlier
from mrtai.io.fits import write_fits
from mrtai.io.priors import agent_priors
from mrtai.io.tables import nuclide
from mrtai.physics.next_scan import next_scan
from mrtai.physics.population import posterior
from mrtai.ports import TacModel
from mrtai.units import LN2, SECONDS_PER_HOUR
from mrtai.values.curve import LARGE_ERROR, Curve, Fit
from mrtai.values.flag import Severity
from mrtai.values.half_life import Known
from mrtai.values.refusal import DosimetryError

PAGE = Path(__file__).parents[1] / "docs" / "validation" / "kinetics.md"
AGENTS = {"DOTATATE": "Lu-177", "PSMA-617": "Lu-177", "PSMA-I&T": "Lu-177", "iodide": "I-131"}
TIMES_H = (24.0, 48.0, 72.0, 96.0, 168.0)
SINGLE = ("population", "hanscheid", "madsen", "ratio")
COHORTS = 10


@dataclass(frozen=True)
class Cohort:
    """Patients of one region: half-lives [h], amplitudes [Bq] and true Ã [Bq h], each of shape ``(patients,)``.

    ``second`` is the amplitude, over the first's, of a further exponential that falls faster by ``faster_per_h``: -1 where an organ fills.
    """

    region: str
    half_life_h: NDArray[Any]
    amplitude_bq: NDArray[Any]
    second: float = 0.0
    faster_per_h: float = 1.0

    @property
    def tia_bq_h(self) -> NDArray[Any]:
        """True integral [Bq h]."""
        return self.amplitude_bq * (self.half_life_h / LN2 + self.second / (LN2 / self.half_life_h + self.faster_per_h))

    def scan(self, t_h: Sequence[float], relative_sd: float, rng: np.random.Generator, *, by_activity: bool = False) -> Iterator[Curve]:
        """Give each patient's curve; ``by_activity``: ``relative_sd`` holds for the median activity at 24 h and grows as counts fall.

        Noise follows the true activity; the uncertainty stated is the same share of the measured one, since nobody knows the true.
        """
        t = np.asarray(t_h, dtype=float)
        activity = (
            self.amplitude_bq[:, None] * np.exp2(-t / self.half_life_h[:, None]) * (1.0 + self.second * np.exp(-self.faster_per_h * t))
        )
        reference = np.median(self.amplitude_bq * np.exp2(-24.0 / self.half_life_h))
        noise = relative_sd * (np.sqrt(reference * activity) if by_activity else activity)
        seen = activity + noise * rng.standard_normal(activity.shape)
        positive = np.maximum(seen, 1e-3 * reference)
        stated = relative_sd * (np.sqrt(reference * positive) if by_activity else positive)
        for number, (a, s) in enumerate(zip(seen, stated, strict=True)):
            yield Curve(f"{self.region}_{number}", t, a, s)


def cohort(region: str, median_h: float, gsd: float, patients: int, rng: np.random.Generator, physical_h: float) -> Cohort:
    """Draw log-normal effective half-lives, none above the physical one, and amplitudes of GSD 1.4."""
    half_life_h = np.minimum(median_h * gsd ** rng.standard_normal(patients), physical_h)
    return Cohort(region, half_life_h, 1.5e8 * 1.4 ** rng.standard_normal(patients))


def figures(answers: Sequence[Fit | None], truth_bq_h: NDArray[Any]) -> dict[str, float]:
    """Return the figures of one method in per cent; interval figures are NaN where the method states none."""
    fits = [fit for fit in answers if fit is not None]
    truth_bq_h = truth_bq_h[[fit is not None for fit in answers]]
    tia = np.array([fit.tia_bq_s for fit in fits]) / SECONDS_PER_HOUR
    error = tia / truth_bq_h - 1.0
    looked_at = np.array([any(flag.severity is not Severity.INFO for flag in fit.flags) for fit in fits])
    large = np.abs(error) > LARGE_ERROR
    intervals = {name: np.array([getattr(fit, name) or (np.nan, np.nan) for fit in fits]).T for name in ("tia_68_bq_s", "tia_95_bq_s")}
    truth = truth_bq_h * SECONDS_PER_HOUR
    inside = {name: np.mean((low <= truth) & (truth <= high)) for name, (low, high) in intervals.items()}
    low, high = intervals["tia_68_bq_s"]
    shares = {
        "mean abs": np.abs(error).mean(),
        "median abs": np.median(np.abs(error)),
        "bias": error.mean(),
        "> 10 %": np.mean(np.abs(error) > 0.1),
        "> 20 %": large.mean(),
        "in 68 %": inside["tia_68_bq_s"],
        "in 95 %": inside["tia_95_bq_s"],
        "width 68 %": np.mean((high - low) / truth),
        "flagged": looked_at.mean(),
        "refused": 1.0 - len(fits) / len(answers),
        "unflagged > 20 %": large[~looked_at].mean() if not looked_at.all() else np.nan,
    }
    return {name: 100.0 * float(value) for name, value in shares.items()}


def table(rows: Sequence[tuple[tuple[str, ...], dict[str, float]]], heads: tuple[str, ...]) -> str:
    """Return a Markdown table."""
    names = list(rows[0][1])
    lines = [f"| {' | '.join((*heads, *names))} |", f"|{' --- |' * len(heads)}{' ---: |' * len(names)}"]
    for labels, values in rows:
        numbers = ("–" if np.isnan(value) else f"{value:.1f}" for value in values.values())
        lines.append(f"| {' | '.join((*labels, *numbers))} |")
    return "\n".join(lines) + "\n"


def known(agent: str) -> Known:
    """Return what a run of this agent knows."""
    return Known(nuclide(AGENTS[agent]).half_life_h, agent_priors(agent).kinetics)


def measured(agent: str, method: str, curves: Iterator[Curve], truth: NDArray[Any]) -> dict[str, float]:
    """Return a method's figures on a cohort's curves."""
    model = tac_model(method, known(agent), curve_network(method))
    return figures([answer(model, curve) for curve in curves], truth)


def answer(model: TacModel, curve: Curve) -> Fit | None:
    """Return the fit, None where it is refused."""
    try:
        return model(curve)
    except DosimetryError:
        return None


def kidneys_at_72_h(patients: int) -> str:
    """177Lu-DOTATATE kidneys, one scan at 72 h: as believed, noisier, and with a population other than the prior's.

    ``COHORTS`` cohorts of so many patients each: figures of all of them, and the range of the intervals' coverage between cohorts.
    """
    physical_h = nuclide("Lu-177").half_life_h
    cases = [("as believed", 50.0, 1.28, noise) for noise in (0.03, 0.05, 0.08)]
    cases += [("median 20 % lower, GSD 1.35", 40.0, 1.35, 0.03), ("median 20 % higher, GSD 1.35", 60.0, 1.35, 0.03)]
    rows, ranges = [], []
    for words, median_h, gsd, noise in track(cases, "kidneys at 72 h"):
        of = cohort("kidney", median_h, gsd, COHORTS * patients, np.random.default_rng(72), physical_h)
        for method in SINGLE:
            model = tac_model(method, known("DOTATATE"))
            answers = [answer(model, curve) for curve in of.scan((72.0,), noise, np.random.default_rng(7))]
            rows.append(((words, f"{noise:.0%}", method), figures(answers, of.tia_bq_h)))
            if method == "population":
                ranges.append(f"- {words}, {noise:.0%}: {_between_cohorts(answers, of.tia_bq_h)}")
    return table(rows, ("population", "noise", "method")) + "\n" + "\n".join(ranges) + "\n"


def _between_cohorts(answers: Sequence[Fit | None], truth_bq_h: NDArray[Any]) -> str:
    size = len(answers) // COHORTS
    parts = [figures(answers[i * size : (i + 1) * size], truth_bq_h[i * size : (i + 1) * size]) for i in range(COHORTS)]
    names = ("mean abs", "> 10 %", "in 68 %", "in 95 %")
    return ", ".join(f"{name} {min(part[name] for part in parts):.1f} to {max(part[name] for part in parts):.1f}" for name in names)


def kidneys_by_time(patients: int) -> str:
    """The same kidneys with one scan at each time, 3 % noise: who is asked to look, and what is left unlooked at."""
    physical_h, rows = nuclide("Lu-177").half_life_h, []
    of = cohort("kidney", 50.0, 1.28, patients, np.random.default_rng(73), physical_h)
    for t_h in track(TIMES_H, "kidneys by time"):
        for method in SINGLE:
            curves = of.scan((t_h,), 0.03, np.random.default_rng(8))
            rows.append(((f"{t_h:.0f}", method), measured("DOTATATE", method, curves, of.tia_bq_h)))
    return table(rows, ("scan [h]", "method"))


def single_scans(patients: int, *, misjudged: bool) -> str:
    """One scan at each time, kidneys and lesions of every agent; ``misjudged``: medians 20 % lower, spread 10 % wider than believed."""
    rows = []
    for agent in track(list(AGENTS), "single scans" + (", misjudged" if misjudged else "")):
        decay, rng = nuclide(AGENTS[agent]), np.random.default_rng(1)
        for family, region in (("kidneys", "kidney"), ("lesion", "lesion")):
            prior = known(agent).priors[family]
            effective_h = LN2 / (decay.decay_per_h + prior.rate_per_h)
            gsd = float(np.exp(prior.population_log_sd * prior.rate_per_h * effective_h / LN2))
            of = cohort(
                region, effective_h * (0.8 if misjudged else 1.0), gsd * (1.1 if misjudged else 1.0), patients, rng, decay.half_life_h
            )
            for t_h in TIMES_H:
                for method in ("population",) if misjudged else SINGLE:
                    curves = of.scan((t_h,), 0.05, np.random.default_rng(int(t_h)), by_activity=True)
                    rows.append(((agent, family, f"{t_h:.0f}", method), measured(agent, method, curves, of.tia_bq_h)))
    return table(rows, ("agent", "region", "scan [h]", "method"))


def several_scans(patients: int) -> str:
    """What more scans bring: ``auto`` on one to four scans of 177Lu-DOTATATE kidneys and lesions, 5 % noise."""
    rows, physical_h = [], nuclide("Lu-177").half_life_h
    schedules = ((72.0,), (24.0, 96.0), (24.0, 72.0, 168.0), (4.0, 24.0, 72.0, 168.0), (24.0, 48.0, 72.0), (4.0, 24.0, 28.0))
    for family, median_h, gsd in track([("kidney", 50.0, 1.28), ("lesion", 80.0, 1.35)], "several scans"):
        of = cohort(family, median_h, gsd, patients, np.random.default_rng(5), physical_h)
        for schedule in schedules:
            for method in ("auto", "population", "mono"):
                if method == "mono" and len(schedule) == 1:
                    continue
                curves = of.scan(schedule, 0.05, np.random.default_rng(6))
                words = ", ".join(f"{t:.0f}" for t in schedule)
                rows.append(((family, words, method), measured("DOTATATE", method, curves, of.tia_bq_h)))
    return table(rows, ("region", "scans [h]", "method"))


def earlier_cycles(patients: int) -> str:
    """One scan at 24 h in cycle 2 after three scans in cycle 1, with the half-life differing between cycles."""
    decay, rows = nuclide("Lu-177"), []
    rng = np.random.default_rng(24)
    first = cohort("kidney", 50.0, 1.28, patients, rng, decay.half_life_h)
    three = tac_model("mono", Known(decay.half_life_h))
    fits = [three(curve) for curve in first.scan((24.0, 96.0, 168.0), 0.03, rng)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cycle1.json"
        write_fits(fits, path, nuclide=decay, administered_mbq=None)
        earlier = by_region(read_earlier([path], decay), lesions=True)
    priors = agent_priors("DOTATATE").kinetics
    for between in track((0.08, 0.15), "earlier cycles"):
        half_life_h = np.minimum(
            first.half_life_h * np.exp(between * np.random.default_rng(8).standard_normal(patients)), decay.half_life_h
        )
        second = replace(first, half_life_h=half_life_h)
        for words, prior in (("cycle 1", earlier), ("none", {})):
            model = tac_model("population", Known(decay.half_life_h, priors, prior))
            curves = second.scan((24.0,), 0.03, np.random.default_rng(9))
            rows.append(((f"{between:.0%}", words), figures([answer(model, curve) for curve in curves], second.tia_bq_h)))
    return table(rows, ("between cycles", "prior"))


def next_scans(patients: int) -> str:
    """A third scan at the time proposed for each patient, against the best time that is the same for all of them."""
    lines = ["| region | scans so far [h] | best fixed [h] | sd left, fixed | sd left, proposed | gain | error fixed | error proposed |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for family, before in track([("kidneys", (24.0, 72.0)), ("kidneys", (4.0, 24.0)), ("lesion", (24.0, 48.0))], "next scans"):
        fixed_h, left, error = _third_scans(family, before, patients)
        best = min(fixed_h, key=lambda t: np.mean(left[t]))
        gain = 1.0 - np.mean(left["proposed"]) / np.mean(left[best])
        cells = [np.mean(left[best]), np.mean(left["proposed"]), gain, np.mean(error[best]), np.mean(error["proposed"])]
        words = ", ".join(f"{t:.0f}" for t in before)
        lines.append(f"| {family} | {words} | {best:.0f} | {' | '.join(f'{cell:.2%}' for cell in cells)} |")
    return "\n".join(lines) + "\n"


def of_prior(agent: str, family: str, region: str, patients: int, rng: np.random.Generator, *, misjudged: bool) -> Cohort:
    """Return patients of an agent's own population; ``misjudged``: the median 20 % lower, the spread 10 % wider than believed."""
    decay, prior = nuclide(AGENTS[agent]), known(agent).priors[family]
    effective_h = LN2 / (decay.decay_per_h + prior.rate_per_h)
    gsd = float(np.exp(prior.population_log_sd * prior.rate_per_h * effective_h / LN2))
    return cohort(region, effective_h * (0.8 if misjudged else 1.0), gsd * (1.1 if misjudged else 1.0), patients, rng, decay.half_life_h)


def of_doubted_prior(agent: str, family: str, region: str, patients: int, rng: np.random.Generator) -> Cohort:
    """Return patients of populations whose medians are off as much as the prior says that its own may be, one population a patient."""
    prior, physical_per_h = known(agent).priors[family], nuclide(AGENTS[agent]).decay_per_h
    rate_per_h = physical_per_h + prior.rate_per_h * np.exp(prior.log_sd * rng.standard_normal(patients))
    return Cohort(region, LN2 / rate_per_h, 1.5e8 * 1.4 ** rng.standard_normal(patients))


def _third_scans(
    family: str, before: tuple[float, ...], patients: int
) -> tuple[list[float], dict[Any, list[float]], dict[Any, list[float]]]:
    know = known("DOTATATE")
    prior, rng, noise = know.priors[family], np.random.default_rng(3), 0.05
    region = {"kidneys": "kidney"}.get(family, family)
    fixed_h = [before[-1] + 6.0 + 12.0 * step for step in range(14)]
    left: dict[Any, list[float]] = {t: [] for t in (*fixed_h, "proposed")}
    error: dict[Any, list[float]] = {t: [] for t in (*fixed_h, "proposed")}
    for number in range(patients):
        rate = know.physical_per_h + prior.rate_per_h * np.exp(prior.log_sd * rng.standard_normal())

        def scanned(t: Sequence[float], rate: float = rate) -> tuple[NDArray[Any], NDArray[Any]]:
            activity = 1e8 * np.exp(-rate * np.asarray(t))
            sd = np.hypot(noise * activity, 0.01 * 1e8 * np.exp(-rate * before[0]))
            return activity + sd * rng.standard_normal(activity.shape), sd

        a, s = scanned(before)
        curve = Curve(f"{region}_{number}", np.array(before), a, s)
        proposed_h = next_scan({curve.region: curve}, know).time_h
        for key in (*fixed_h, "proposed"):
            t = proposed_h if key == "proposed" else key
            b, sb = scanned((t,))
            after = posterior(Curve(curve.region, [*before, t], [*a, *b], [*s, *sb]), prior, know.physical_per_h)
            ln = np.log(after.tia_bq_h)
            left[key].append(float(np.sqrt(after.weight @ np.square(ln - after.weight @ ln))))
            error[key].append(abs(after.quantile(after.tia_bq_h, 0.5) * rate / 1e8 - 1.0))
    return fixed_h, left, error


def page(patients: int) -> str:
    """Return the whole page."""
    many = 2 * patients
    return TEMPLATE.format(
        patients=patients,
        many=many,
        kidneys=kidneys_at_72_h(many),
        by_time=kidneys_by_time(many),
        single=single_scans(patients, misjudged=False),
        misjudged=single_scans(patients, misjudged=True),
        several=several_scans(patients),
        earlier=earlier_cycles(many),
        next_scan=next_scans(patients),
    )


TEMPLATE = """# Kinetics: what few scans are worth

Written by `python -m benchmarks.kinetics`. Virtual populations of {patients} patients ({many} in the fifth table); truth is one
exponential a patient, all figures in per cent of the true time-integrated activity. "in 68 %", "in 95 %": how often the stated
interval holds the truth; "width 68 %": its mean width; "flagged": estimates that a person is asked to look at; "refused":
no answer, since the activity does not exceed its own noise; "unflagged > 20 %": how many of the others are more than 20 % off.
Real curves have an uptake phase and more than one exponential: these figures are the best case of each method, not its clinical
accuracy.

## 177Lu-DOTATATE kidneys, one scan at 72 h

Effective half-life log-normal with median 50 h and GSD 1.28, amplitude GSD 1.4. The prior believes 50 h, a GSD of 1.285 between
patients and a median good to 20 %.

The table is of ten cohorts of {many} patients together; below it, what `population` gave in the best and the worst of them.

{kidneys}
One scan at other times, 3 % noise:

{by_time}
The amplitude is not used to guess the half-life: published shares of the administered activity differ too much between sites.

## One scan, each time and method

Half-lives drawn from the prior's own population (its spread between patients, not its doubt about the median); noise 5 % at the
median activity at 24 h, growing as counts fall. Noise follows the true activity, the uncertainty stated the measured one. Where
the stated probability lies close to the 5 % at which a person is asked to look, those not asked are the ones with the highest
counts, hence the longest half-lives, and err more than the rest.

{single}
## One scan, population misjudged

Medians 20 % below what the prior believes, GSD 10 % wider; the method does not know.

{misjudged}
## More scans

177Lu-DOTATATE, 5 % noise.

{several}
## With an earlier cycle

Kidneys, one scan at 24 h with 3 % noise; cycle 1 had scans at 24, 96 and 168 h with 3 % noise, and effective half-lives of a
patient differ between cycles by what the first column says. The method believes 10 %.

{earlier}
## When to scan next

The patient has the scans of the second column; one more is added, at the time that `next_scan` proposes for this patient or at the
one fixed time that is best for the whole population. "sd left": mean standard deviation of ln Ã afterwards; error: mean absolute.
After a single scan the proposal is the same for every patient, and as good as the best fixed time, no better.

{next_scan}
`neural` beside `population`, cohort by cohort: [kinetics-neural.md](kinetics-neural.md).
"""


def main() -> None:
    """Write the page, or print it for fewer patients than it needs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=1000, help="of each population (default 1000, which writes the page)")
    asked = parser.parse_args()
    patients = asked.patients
    text = page(patients)
    if patients >= 1000:
        PAGE.write_text(text, encoding="utf-8")
        print(f"written: {PAGE.relative_to(PAGE.parents[2])}")
    else:
        print(text)


if __name__ == "__main__":
    main()
