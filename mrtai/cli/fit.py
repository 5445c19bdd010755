"""``mrtai fit``: curves from a table."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrtai.cli.arguments import positive_number, region_half_life
from mrtai.cli.progress import bar
from mrtai.engines import METHODS
from mrtai.values.refusal import DosimetryError

if TYPE_CHECKING:
    from mrtai.values.curve import Curve
    from mrtai.values.half_life import HalfLifePrior, Known
    from mrtai.values.next_scan import NextScan

EPILOGUE = """methods:
  auto             by number and times of scans, agent and region; says why in the result
  mono bi tri      sums of exponentials, biological rates not below zero
  uptake           two exponentials that begin at zero
  trapezoid        straight lines, constant head, tail of the last slope
  hanscheid        one scan: A(t) 2t/ln 2
  madsen           one scan and the population's half-life
  ratio            one scan and the population's mean of integral over activity
  known-half-life  any scans and --half-life-h REGION=T
  population       few scans and priors of the agent (--agent), or of earlier cycles (--prior)
  neural           the same, read by the network curve-net (docs/physics/neural.md)

examples:
  mrtai fit tacs.csv --nuclide Lu-177 --agent DOTATATE --out fits.json --next-scan kidney_left,kidney_right
  mrtai fit tacs.csv --nuclide Lu-177 --agent DOTATATE --prior cycle1/fits.json --out fits.json
"""


def add_fit(commands: Any) -> argparse.ArgumentParser:
    """Add the command to the parser's subcommands."""
    fit: argparse.ArgumentParser = commands.add_parser(
        "fit",
        help="time–activity curves from a table",
        description="Fit the curves of a TACS.csv (region,time_h,activity_mbq,activity_sd_mbq), with a picture of each.",
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fit.set_defaults(command=_fit)
    fit.add_argument("tacs", type=Path, metavar="TACS.csv")
    fit.add_argument("--nuclide", required=True, metavar="Lu-177", help="as in ICRP 107")
    fit.add_argument("--method", choices=METHODS, default="auto", metavar="M", help=f"{', '.join(METHODS)} (default auto)")
    fit.add_argument("--out", required=True, type=Path, metavar="FITS.json", help="pictures go to FITS_curves/ beside it")
    fit.add_argument("--agent", metavar="A", help="whose population kinetics to use: DOTATATE, PSMA-617, PSMA-I&T, iodide")
    fit.add_argument("--protocol", metavar="P", help="its agent, and typical and known half-lives")
    fit.add_argument("--administered-mbq", type=positive_number, metavar="X", help="for time-integrated activity coefficients")
    fit.add_argument(
        "--half-life-h",
        action="append",
        default=[],
        type=region_half_life,
        metavar="REGION=T",
        help="known effective half-life; repeatable",
    )
    fit.add_argument(
        "--prior",
        dest="priors",
        action="append",
        default=[],
        type=Path,
        metavar="CASE|FITS.json",
        help="an earlier cycle of the same patient; repeatable, oldest first",
    )
    fit.add_argument("--next-scan", metavar="REGION,…", help="when one more scan would make these regions most certain")
    return fit


def _fit(options: argparse.Namespace) -> dict[str, Any]:
    from mrtai.engines import known_beside, tac_model
    from mrtai.engines_of_run import curve_network
    from mrtai.io.atomic import require_places
    from mrtai.io.earlier_cycles import by_region, read_earlier
    from mrtai.io.fits import read_curves, write_fits
    from mrtai.io.protocols import load_protocol
    from mrtai.io.tables import nuclide

    if options.half_life_h and options.method != "known-half-life":
        raise DosimetryError(
            "a known half-life is not used by this method",
            where="--half-life-h",
            found=f"--method {options.method}",
            remedy="add --method known-half-life, or leave --half-life-h out",
            code="UNUSED_OPTION",
        )
    require_places(options.out, _pictures(options.out) / "picture.png")
    decay = nuclide(options.nuclide)
    protocol = load_protocol(options.protocol) if options.protocol else None
    if protocol is not None and protocol.nuclide != decay.name:
        raise DosimetryError(
            "the protocol is for another nuclide",
            where=f"--protocol {options.protocol}",
            found=f"{protocol.nuclide} beside --nuclide {decay.name}",
            remedy="make them agree",
            code="NUCLIDE_MISMATCH",
        )
    curves = read_curves(options.tacs)
    _require_regions("--half-life-h", [region for region, _ in options.half_life_h], curves)
    priors = _priors(options.agent or (protocol.agent if protocol else None), required=options.agent is not None)
    # whoever names regions in a table says which lesion is which
    earlier = by_region(read_earlier(options.priors, decay), lesions=True)
    fixed = dict(options.half_life_h)
    known = known_beside(decay, protocol, priors=priors, earlier=earlier, known_half_life_h=fixed)
    model = tac_model(options.method, known, curve_network(options.method))
    fits = [model(curve) for curve in curves]
    found = _next_scan(options.next_scan, curves, known)
    write_fits(fits, options.out, nuclide=decay, administered_mbq=options.administered_mbq, next_scan=found)
    folder = _draw(fits, options.out)
    text = f"{len(fits)} regions fitted: {options.out}, pictures in {folder}"
    if found is not None:
        text += f"; next scan at {found.time_h:g} h"
    return {"fits": str(options.out), "curves": str(folder), "text": text}


def _priors(agent: str | None, *, required: bool) -> "Mapping[str, HalfLifePrior]":
    from mrtai.io.priors import agent_priors, known_agent

    if agent is None:
        return {}
    population = agent_priors(agent) if required else known_agent(agent)
    return {} if population is None else population.kinetics


def _next_scan(asked: str | None, curves: "list[Curve]", known: "Known") -> "NextScan | None":
    from mrtai.physics.next_scan import next_scan

    if asked is None:
        return None
    of = {curve.region: curve for curve in curves}
    names = [name.strip() for name in asked.split(",") if name.strip()]
    _require_regions("--next-scan", names or [""], curves)
    return next_scan({name: of[name] for name in names}, known)


def _require_regions(option: str, names: "list[str]", curves: "list[Curve]") -> None:
    there = [curve.region for curve in curves]
    missing = [name for name in names if name not in there]
    if missing:
        raise DosimetryError(
            "no such region in the table",
            where=option,
            found=", ".join(missing) or "nothing",
            remedy=f"choose of {', '.join(there)}",
            code="NO_REGION",
        )


def _pictures(out: Path) -> Path:
    return out.with_name(f"{out.stem}_curves")


def _draw(fits: list[Any], out: Path) -> Path:
    """Write one picture a region and return their folder."""
    from mrtai.io.fits import write_pictures

    folder = _pictures(out)
    with bar("drawing") as tell:
        write_pictures(fits, folder, tell)
    return folder
