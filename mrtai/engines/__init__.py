"""Engines: what may be swapped, each filling one socket of `mrtai.ports`; a name becomes an engine by `match`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from mrtai.engines.chain import chain_engine
from mrtai.engines.curve_fit import METHODS, CurveFit
from mrtai.ports import DoseEngine, TacModel
from mrtai.values.bundle import Network
from mrtai.values.chain import Progeny
from mrtai.values.half_life import EarlierCycle, HalfLifePrior, Known
from mrtai.values.nuclear_data import NuclearData
from mrtai.values.nuclide import Nuclide
from mrtai.values.protocol import Protocol

__all__ = ["CHECK_ENGINES", "DOSE_ENGINES", "METHODS", "dose_engine", "known_beside", "tac_model"]

NEURAL: Final = "neural"
DOSE_ENGINES: Final = ("local", "convolution", "monte-carlo", NEURAL)
CHECK_ENGINES: Final = ("local", "convolution", "monte-carlo", "none")

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

ALONE: Final = Progeny(stay="none")


def dose_engine(
    name: str,
    nuclide: Nuclide,
    data: NuclearData,
    *,
    progeny: Progeny = ALONE,
    device: str = "cpu",
    threads: int = 1,
    **settings: Any,
) -> DoseEngine:
    """Return the dose engine of that name, with the nuclide's published data. ``ValueError`` for an unknown name.

    ``progeny`` says where the nuclide's progeny decay; without it they are left out. ``settings`` are further fields of the Monte
    Carlo engine (``histories`` of each nuclide, ``seed``, ``material``, ``progress``), or of the neural one (``model``, ``fwhm_mm``,
    ``contours``), for it alone.
    """
    if name == NEURAL:
        from mrtai.engines.dose_net import NeuralDose

        plain = dose_engine("convolution", nuclide, data, progeny=progeny, device=device, threads=threads)
        return NeuralDose(plain, nuclide=nuclide.name, device=device, threads=threads, **settings)

    def make(member: Nuclide) -> DoseEngine:
        own = dict(settings)
        if "seed" in own and member.name != nuclide.name:
            # histories of their own, so that the members' statistics are independent
            own["seed"] += sum(map(ord, member.name))
        return _of_one(name, member, data, device, threads, own)

    return chain_engine(nuclide, data, make, progeny)


def _of_one(name: str, nuclide: Nuclide, data: NuclearData, device: str, threads: int, monte_carlo: Mapping[str, Any]) -> DoseEngine:
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


def tac_model(method: str, known: Known, network: Network | None = None) -> TacModel:
    """Return the time–activity model of that name with what is known beside the scans. ``ValueError`` for an unknown name.

    ``network`` is the verified `curve-net`, which ``neural`` refuses to do without.
    """
    if method not in METHODS:
        raise ValueError(f"kinetics must be one of {', '.join(METHODS)}, got {method!r}")
    return CurveFit(method, known, network)


def known_beside(
    nuclide: Nuclide,
    protocol: Protocol | None = None,
    *,
    priors: Mapping[str, HalfLifePrior] = NOTHING,
    earlier: Mapping[str, tuple[EarlierCycle, ...]] = NOTHING,
    known_half_life_h: Mapping[str, float] = NOTHING,
) -> Known:
    """Return what kinetics know beside the scans.

    ``priors`` are the agent's population kinetics by family of regions, ``earlier`` the patient's own cycles by region; half-lives
    of the protocol and those given as known complete them.
    """
    typical = protocol.population_half_life_h if protocol else NOTHING
    fixed = {**(protocol.known_half_life_h if protocol else NOTHING), **known_half_life_h}
    return Known(nuclide.half_life_h, priors, earlier, typical, fixed)
