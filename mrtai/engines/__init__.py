"""Engines: what may be swapped, each filling one socket of `mrtai.ports`; a name becomes an engine by `match`."""

from typing import Final

from mrtai.engines.curve_fit import METHODS
from mrtai.ports import DoseEngine, TacModel
from mrtai.values.nuclear_data import NuclearData
from mrtai.values.nuclide import Nuclide
from mrtai.values.protocol import Protocol

__all__ = ["DOSE_ENGINES", "METHODS", "dose_engine", "tac_model"]

DOSE_ENGINES: Final = ("local", "convolution")


def dose_engine(name: str, nuclide: Nuclide, data: NuclearData, *, device: str = "cpu", threads: int = 1) -> DoseEngine:
    """Return the dose engine of that name for one nuclide, with its published data. ``ValueError`` for an unknown name."""
    match name:
        case "local":
            from mrtai.engines.local import Local

            return Local(nuclide)
        case "convolution":
            from mrtai.engines.convolution import Convolution

            return Convolution(data.point_kernel(nuclide.name), device=device, threads=threads)
        case _:
            raise ValueError(f"dose engine must be one of {', '.join(DOSE_ENGINES)}, got {name!r}")


def tac_model(method: str, nuclide: Nuclide, protocol: Protocol) -> TacModel:
    """Return the time–activity model of that name with the protocol's half-lives. ``ValueError`` for an unknown name."""
    from mrtai.engines.curve_fit import CurveFit

    if method not in METHODS:
        raise ValueError(f"kinetics must be one of {', '.join(METHODS)}, got {method!r}")
    return CurveFit(method, nuclide.half_life_h, protocol.population_half_life_h, protocol.known_half_life_h)
