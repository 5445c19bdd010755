"""Integrals of virtual patients by `curve-net`, as its engine reads them: one to four scans, priors that are right and wrong."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrtai.engines import tac_model
from mrtai.engines.curve_net import TASK
from mrtai.io.bundles import verified_model
from mrtai.io.priors import agent_priors
from mrtai.io.tables import nuclide
from mrtai.units import LN2, SECONDS_PER_HOUR
from mrtai.values.bundle import Network
from mrtai.values.curve import Curve
from mrtai.values.half_life import Known
from mrtai.values.refusal import DosimetryError
from training.gate.cases import Case, Errors, digest

PATIENTS: Final = 40
NOISE: Final = 0.05
AGENTS: Final = {"DOTATATE": "Lu-177", "PSMA-617": "Lu-177", "iodide": "I-131"}
FAMILIES: Final = {"kidneys": "kidney", "lesion": "lesion"}
SCHEDULES: Final = {"one scan": (72.0,), "two scans": (24.0, 96.0), "four scans": (20.0, 48.0, 96.0, 168.0)}
MISJUDGED: Final = {"as believed": 1.0, "half-lives 20 % shorter": 0.8}
FIRST_SEED: Final = 7_310_000

Floats = NDArray[np.float64]


def cases(data: Path | None) -> Iterator[Case]:
    """Give one cohort of every agent, family, schedule and population; real curves whose integral is known do not exist."""
    seed = FIRST_SEED
    for agent in AGENTS:
        for family in FAMILIES:
            for words, shorter in MISJUDGED.items():
                for schedule in SCHEDULES:
                    seed += 1
                    activity, truth = cohort(seed, agent, family, schedule, shorter)
                    judge = partial(errors, agent, family, schedule, f"{schedule}, {words}", (activity, truth))
                    yield Case(f"{agent} {family}, {schedule}, {words} (seed {seed})", digest([activity, truth]), judge)


def cohort(seed: int, agent: str, family: str, schedule: str, shorter: float) -> tuple[Floats, Floats]:
    """Return measured activities [Bq], ``(patients, scans)``, and true Ã [Bq h], ``(patients,)``, of one exponential a patient."""
    rng, decay = np.random.default_rng(seed), nuclide(AGENTS[agent])
    prior = agent_priors(agent).kinetics[family]
    typical_per_h = decay.decay_per_h + prior.rate_per_h
    # d ln T = -(k / λ_eff) d ln k
    spread = prior.population_log_sd * prior.rate_per_h / typical_per_h
    half_life_h = shorter * LN2 / typical_per_h * np.exp(spread * rng.standard_normal(PATIENTS))
    rate = LN2 / np.minimum(half_life_h, decay.half_life_h)
    amplitude = 1.5e8 * 1.4 ** rng.standard_normal(PATIENTS)
    activity = amplitude[:, None] * np.exp(-rate[:, None] * np.array(SCHEDULES[schedule]))
    return activity * (1.0 + NOISE * rng.standard_normal(activity.shape)), amplitude / rate


def errors(agent: str, family: str, schedule: str, figure: str, made: tuple[Floats, Floats], bundle: Path) -> Errors:
    """Return Ã over its truth less one of every patient; dose is proportional to it."""
    network = verified_model(bundle)
    if not isinstance(network, Network) or network.task != TASK:
        raise ValueError(f"{bundle.name}: a network for {TASK} is needed")
    model = tac_model("neural", Known(nuclide(AGENTS[agent]).half_life_h, agent_priors(agent).kinetics), network)
    found = []
    for number, (activity, truth) in enumerate(zip(*made, strict=True)):
        curve = Curve(f"{FAMILIES[family]}_{number}", np.array(SCHEDULES[schedule]), activity, NOISE * np.abs(activity))
        found.append(_tia_bq_h(model, curve) / float(truth) - 1.0)
    return {figure: found}


def _tia_bq_h(model: Any, curve: Curve) -> float:
    """Return the integral, 0 where it is refused: a dose that is not given."""
    try:
        return float(model(curve).tia_bq_s) / SECONDS_PER_HOUR
    except DosimetryError:
        return 0.0
