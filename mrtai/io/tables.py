"""Decay data and point kernels: numbers of published libraries, read at the door.

Half-lives, emissions and spectra are those of ICRP Publication 107 in the package ``icrp107-database``, chains those of
``radioactivedecay``. Both rest on ICRP 107 data, free for educational, research and not-for-profit use (see NOTICE).
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

import numpy as np

from mrtai.units import HOURS_PER_DAY, SECONDS_PER_HOUR, SECONDS_PER_MINUTE
from mrtai.values.grid import Array
from mrtai.values.kernel import PointKernel
from mrtai.values.nuclide import Nuclide
from mrtai.values.refusal import DosimetryError
from mrtai.values.spectrum import Spectrum

_HOURS: Final = {
    "s": 1 / SECONDS_PER_HOUR,
    "m": SECONDS_PER_MINUTE / SECONDS_PER_HOUR,
    "h": 1.0,
    "d": HOURS_PER_DAY,
    "y": 365.2422 * HOURS_PER_DAY,  # the tropical year that ICRP 107 counts in
}
_ELECTRONS: Final = ("beta-", "beta+", "auger", "IE")
_PHOTONS: Final = ("gamma", "X", "annihilation")
_ALPHAS: Final = ("alpha", "alpha recoil")
BETA_POINTS: Final = 4001
NUCLIDE: Final = re.compile(r"[A-Z][a-z]?-[0-9]{1,3}[a-z]?")
_SOURCE: Final = "ICRP 107 (icrp107-database 0.0.3)"


def nuclide(name: str) -> Nuclide:
    """Return half-life and energies per decay of a nuclide named as in ICRP 107 (``Lu-177``, ``Tc-99m``).

    Raises:
        DosimetryError: no such nuclide in the library.
    """
    record = _record(name)
    emissions = record["emissions"]
    return Nuclide(
        name=name,
        half_life_h=float(record["half_life"]) * _HOURS[record["time_unit"]],
        electron_mev_per_decay=_energy(emissions, _ELECTRONS),
        photon_mev_per_decay=_energy(emissions, _PHOTONS),
        alpha_mev_per_decay=_energy(emissions, _ALPHAS),
        source=_SOURCE,
    )


def emissions(name: str, kind: str) -> Array:
    """Return the lines of one kind (``gamma``, ``X``, ``IE``, ``auger``, ``alpha``, …): shape ``(lines, 2)``, MeV and yield per decay."""
    return np.array(_record(name)["emissions"].get(kind, []), dtype=np.float64).reshape(-1, 2)


def beta_spectrum(name: str) -> Array:
    """Return the spectrum of all betas: shape ``(points, 2)``, MeV and electrons per MeV and decay."""
    return emissions(name, "b-spectra")


def spectrum(name: str) -> Spectrum:
    """Return what one nuclide emits, without its progeny."""
    record = _record(name)["emissions"]
    betas = {kind: sum(share for _, share in record.get(kind, [])) for kind in ("beta-", "beta+")}
    return Spectrum(
        nuclide=name,
        photons=np.vstack([emissions(name, kind) for kind in ("gamma", "X")]),
        electrons=np.vstack([emissions(name, kind) for kind in ("IE", "auger")]),
        betas=_betas(name, sum(mean * share for kind in betas for mean, share in record.get(kind, []))),
        positrons=betas["beta+"] / (sum(betas.values()) or 1.0),
    )


def _betas(name: str, mev_per_decay: float) -> Array:
    """Return the betas' spectrum on even steps: the library's points joined by a spline, with the branches' mean energy exactly."""
    from scipy.interpolate import CubicSpline

    points = beta_spectrum(name)
    if not points.size:
        return points.reshape(0, 2)
    energy = np.linspace(points[0, 0], points[-1, 0], BETA_POINTS)
    number = np.maximum(CubicSpline(points[:, 0], points[:, 1])(energy), 0.0)
    return np.stack([energy, number * (mev_per_decay / np.trapezoid(energy * number, energy))], axis=1)


def progeny(name: str) -> Mapping[str, float]:
    """Return the direct progeny with their branching fractions; stable ones included."""
    import radioactivedecay  # 1.4 s of import that only chains need

    parent = radioactivedecay.Nuclide(name)
    return {str(child): float(share) for child, share in zip(parent.progeny(), parent.branching_fractions(), strict=True)}


@cache
def point_kernel(name: str) -> PointKernel:
    """Return the energy around a point source of ``name`` in water.

    The photons' column holds bremsstrahlung and annihilation quanta too.

    Raises:
        DosimetryError: no kernel of this nuclide is shipped.
    """
    path = files("mrtai") / "data" / "kernels" / f"{name}.npz"
    if not path.is_file():
        shipped = sorted(p.name.removesuffix(".npz") for p in (files("mrtai") / "data" / "kernels").iterdir() if p.name.endswith(".npz"))
        raise DosimetryError(
            "no dose kernel for this nuclide",
            where=name,
            found=f"kernels of {', '.join(shipped)}",
            remedy="use --engine local, or one of these nuclides",
            code="NO_KERNEL",
        )
    with path.open("rb") as stream, np.load(stream) as table:
        return PointKernel(
            nuclide=name,
            r_edges_mm=table["r_edges_mm"],
            electron_mev=table["electron_mev"].astype(np.float64),
            photon_mev=table["photon_mev"].astype(np.float64),
            electron_range_mm=float(table["electron_range_mm"]),
            source=str(table["source"]),
        )


@cache
def _record(name: str) -> dict[str, Any]:
    path = files("icrp107_database") / "icrp107" / f"{name}.json"
    if not NUCLIDE.fullmatch(name) or not path.is_file():
        raise DosimetryError(
            "unknown nuclide",
            where="nuclide",
            found=repr(name),
            remedy="write it as in ICRP 107, for example Lu-177, Y-90, I-131",
            code="UNKNOWN_NUCLIDE",
        )
    record: dict[str, Any] = json.loads(json.loads(path.read_text(encoding="utf-8")))  # the package stores JSON inside JSON
    return record


def _energy(lines: Mapping[str, list[list[float]]], kinds: tuple[str, ...]) -> float:
    return float(sum(energy * share for kind in kinds for energy, share in lines.get(kind, [])))
