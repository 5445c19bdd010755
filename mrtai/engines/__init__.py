"""Engines: what may be swapped, each filling one socket of `mrtai.ports`; a name becomes an engine by `match`."""

from typing import Any, Final

from mrtai.engines.curve_fit import METHODS
from mrtai.ports import DoseEngine, TacModel
from mrtai.values.nuclear_data import NuclearData
from mrtai.values.nuclide import Nuclide
from mrtai.values.protocol import Protocol

__all__ = ["DOSE_ENGINES", "METHODS", "dose_engine", "tac_model"]

DOSE_ENGINES: Final = ("local", "convolution", "monte-carlo")


def dose_engine(name: str, nuclide: Nuclide, data: NuclearData, *, device: str = "cpu", threads: int = 1, **monte_carlo: Any) -> DoseEngine:
    """Return the dose engine of that name for one nuclide, with its published data. ``ValueError`` for an unknown name.

    ``monte_carlo`` are further fields of the Monte Carlo engine (``histories``, ``seed``, ``material``, ``progress``), for it alone.
    """
    match name:
        case "local":
            from mrtai.engines.local import Local

            return Local(nuclide)
        case "convolution":
            from mrtai.engines.convolution import Convolution

            kernel, spectrum = data.point_kernel(nuclide.name), data.spectrum(nuclide.name)
            return Convolution(kernel, nuclide, spectrum, data.cross_sections(), device=device, threads=threads)
        case "monte-carlo":
            from mrtai.engines.monte_carlo import MonteCarlo

            spectrum, cross_sections = data.spectrum(nuclide.name), data.cross_sections()
            return MonteCarlo(nuclide, spectrum, cross_sections, device=device, threads=threads, **monte_carlo)
        case _:
            raise ValueError(f"dose engine must be one of {', '.join(DOSE_ENGINES)}, got {name!r}")


def tac_model(method: str, nuclide: Nuclide, protocol: Protocol) -> TacModel:
    """Return the time–activity model of that name with the protocol's half-lives. ``ValueError`` for an unknown name."""
    from mrtai.engines.curve_fit import CurveFit

    if method not in METHODS:
        raise ValueError(f"kinetics must be one of {', '.join(METHODS)}, got {method!r}")
    return CurveFit(method, nuclide.half_life_h, protocol.population_half_life_h, protocol.known_half_life_h)
