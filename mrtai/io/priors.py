"""Population kinetics shipped with the package, one TOML file an agent, each number with its source."""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np

from mrtai.io.tables import nuclide
from mrtai.units import LN2
from mrtai.values.half_life import HalfLifePrior
from mrtai.values.refusal import DosimetryError
from mrtai.values.virtual import AgentPriors, LesionPrior, RegionPrior


def agent_priors(agent: str) -> AgentPriors:
    """Return the population kinetics of an agent by one of its names, in any case.

    Raises:
        DosimetryError: nothing is shipped for this agent.
    """
    priors = known_agent(agent)
    if priors is not None:
        return priors
    raise DosimetryError(
        "no population kinetics for this agent",
        where="agent",
        found=repr(agent),
        remedy=f"choose one of {', '.join(table['agent'] for table in _tables())}",
        code="NO_PRIORS",
    )


def known_agent(agent: str) -> AgentPriors | None:
    """Return the population kinetics of an agent, None where nothing is shipped for it."""
    return next((_priors(table) for table in _tables() if _names(agent, table)), None)


def _names(agent: str, table: Mapping[str, Any]) -> bool:
    return agent.casefold() in {alias.casefold() for alias in table["aliases"]}


def _tables() -> list[dict[str, Any]]:
    folder = files("mrtai") / "data" / "priors"
    paths = sorted((path for path in folder.iterdir() if path.name.endswith(".toml")), key=lambda path: path.name)
    return [tomllib.loads(path.read_text(encoding="utf-8")) for path in paths]


def _priors(table: Mapping[str, Any]) -> AgentPriors:
    lesions = dict(table["lesions"])
    low, high = lesions.pop("liver_ratio_bounds")
    regions = {name: RegionPrior(**values) for name, values in table["regions"].items()}
    kinetics = dict(table.get("kinetics", {}))
    nuclide_name = kinetics.pop("nuclide", "")
    families = {family: _half_life_prior(values, nuclide(nuclide_name).half_life_h) for family, values in kinetics.items()}
    return AgentPriors(table["agent"], regions, LesionPrior(**lesions, liver_ratio_bounds=(low, high)), table["uptake"], families)


def _half_life_prior(values: Mapping[str, Any], physical_h: float) -> HalfLifePrior:
    """Return the biological prior behind an effective half-life measured with a nuclide of half-life ``physical_h``."""
    effective_h = values["effective_half_life_h"]
    rate_per_h = LN2 / effective_h - LN2 / physical_h
    # d ln k = -(λ_eff / k) d ln T_eff
    per_effective = LN2 / effective_h / rate_per_h
    spreads = [float(np.log(values[f"{name}_gsd"])) * per_effective for name in ("half_life", "median", "inter_cycle")]
    return HalfLifePrior(rate_per_h, spreads[0], spreads[1], spreads[2], values["from_h"], values["source"])
