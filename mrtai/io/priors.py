"""Population kinetics shipped with the package, one TOML file an agent, each number with its source."""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from mrtai.values.refusal import DosimetryError
from mrtai.values.virtual import AgentPriors, LesionPrior, RegionPrior


def agent_priors(agent: str) -> AgentPriors:
    """Return the population kinetics of an agent by one of its names, in any case.

    Raises:
        DosimetryError: nothing is shipped for this agent.
    """
    tables = _tables()
    for table in tables:
        if agent.casefold() in {alias.casefold() for alias in table["aliases"]}:
            return _priors(table)
    raise DosimetryError(
        "no population kinetics for this agent",
        where="agent",
        found=repr(agent),
        remedy=f"choose one of {', '.join(table['agent'] for table in tables)}",
        code="NO_PRIORS",
    )


def _tables() -> list[dict[str, Any]]:
    folder = files("mrtai") / "data" / "priors"
    paths = sorted((path for path in folder.iterdir() if path.name.endswith(".toml")), key=lambda path: path.name)
    return [tomllib.loads(path.read_text(encoding="utf-8")) for path in paths]


def _priors(table: Mapping[str, Any]) -> AgentPriors:
    lesions = dict(table["lesions"])
    low, high = lesions.pop("liver_ratio_bounds")
    regions = {name: RegionPrior(**values) for name, values in table["regions"].items()}
    return AgentPriors(table["agent"], regions, LesionPrior(**lesions, liver_ratio_bounds=(low, high)), table["uptake"])
