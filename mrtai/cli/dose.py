"""``mrtai dose``: a dose map of a TIA map."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mrtai.cli.arguments import positive, positive_number, seed
from mrtai.cli.progress import bar
from mrtai.engines import DOSE_ENGINES, NEURAL
from mrtai.values.protocol import SPECT_FWHM_MM
from mrtai.values.refusal import DosimetryError

if TYPE_CHECKING:
    from mrtai.values.flag import Flag
    from mrtai.values.grid import Grid
    from mrtai.values.image import Image

NEARLY_ALL: Final = 0.9
"""Share of the activity outside a CT above which the CT is of something else."""


def add_dose(commands: Any) -> argparse.ArgumentParser:
    """Add ``mrtai dose`` to a parser and return its own."""
    dose: argparse.ArgumentParser = commands.add_parser(
        "dose",
        help="dose map of a TIA map",
        description="Absorbed dose [Gy] of a map of time-integrated activity [Bq s/mL]; progeny decay with their parent.",
    )
    dose.set_defaults(command=_dose)
    dose.add_argument("--tia", required=True, type=Path, metavar="TIA.nii.gz", help="Bq s/mL")
    matter = dose.add_mutually_exclusive_group(required=True)
    matter.add_argument("--ct", type=Path, metavar="CT", help="NIfTI or a DICOM series' folder, HU, on any grid")
    matter.add_argument("--density", type=Path, metavar="RHO.nii.gz", help="g/mL, on the TIA's grid")
    dose.add_argument(
        "--material",
        type=Path,
        metavar="M.nii.gz",
        help="with --density and monte-carlo: what each voxel is made of, with a JSON of names beside it; else by density",
    )
    dose.add_argument("--nuclide", required=True, metavar="Lu-177", help="as in ICRP 107")
    dose.add_argument("--engine", required=True, choices=DOSE_ENGINES, metavar="E", help=", ".join(DOSE_ENGINES))
    dose.add_argument("--out", required=True, type=Path, metavar="DOSE.nii.gz")
    dose.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    dose.add_argument("--threads", type=positive, default=1, metavar="N", help="of the CPU (default 1)")
    dose.add_argument("--histories", type=positive, metavar="N", help="of monte-carlo (default 2 million, some seconds)")
    dose.add_argument("--seed", type=seed, metavar="N", help="of monte-carlo (default 7)")
    dose.add_argument(
        "--labels",
        type=Path,
        metavar="L.nii.gz",
        help="of neural, of a map as scanned: regions, with a JSON of names beside it, on any grid",
    )
    dose.add_argument(
        "--fwhm-mm", type=positive_number, metavar="MM", help=f"of neural: resolution of the scans (default {SPECT_FWHM_MM:g})"
    )
    return dose


def _dose(options: argparse.Namespace) -> dict[str, Any]:
    from mrtai.engines import dose_engine
    from mrtai.io.atomic import require_places
    from mrtai.io.images import read_image_or_series
    from mrtai.io.nifti import read_image, read_materials, stem, write_image
    from mrtai.io.nuclear_data import NUCLEAR_DATA
    from mrtai.io.tables import nuclide
    from mrtai.physics.resample import averaged
    from mrtai.physics.tissue import density
    from mrtai.values.chain import Progeny
    from mrtai.values.image import Quantity

    _require_used(options)
    beside = options.out.with_name(f"{stem(options.out)}.sd.nii.gz")
    require_places(options.out, beside)
    tia = read_image(options.tia, Quantity.TIME_INTEGRATED_ACTIVITY)
    flags: tuple[Flag, ...] = ()
    if options.ct is not None:
        ct = read_image_or_series(options.ct, Quantity.HOUNSFIELD)
        flags, matter = _covered(ct, tia), averaged(density(ct), tia.grid)
    else:
        matter = read_image(options.density, Quantity.DENSITY)
    settings: dict[str, Any] = {name: getattr(options, name) for name in ("histories", "seed") if getattr(options, name) is not None}
    if options.material is not None:
        settings["material"] = read_materials(options.material, tia.grid)
    with bar("dose") as tell:
        if options.engine == "monte-carlo":
            settings["progress"] = tell
        elif options.engine == NEURAL:
            settings = _neural(options, tia.grid)
        of = nuclide(options.nuclide)
        # a parent without its progeny would be a fraction of the dose
        where = {"progeny": Progeny(), "device": options.device, "threads": options.threads}
        engine = dose_engine(options.engine, of, NUCLEAR_DATA, **where, **settings)
        dose = engine(tia, matter)
    done = {"dose": str(options.out), "maximum_gy": float(dose.total.voxels.max()), "text": f"dose map written: {options.out}"}
    flags += dose.flags
    if flags:
        done["flags"] = [flag.code for flag in flags]
        done["text"] = "\n".join([str(done["text"]), *[f"{flag.code}: {flag.text}" for flag in flags]])
    if dose.sd is not None:
        write_image(beside, dose.sd)
        done["sd"] = str(beside)
    write_image(options.out, dose.total)
    if dose.sd is None:
        beside.unlink(missing_ok=True)  # of a dose that stood here before
    return done


def _covered(ct: "Image", tia: "Image") -> "tuple[Flag, ...]":
    """Return a flag where the CT misses some of the activity; refuses one that misses nearly all of it."""
    from mrtai.physics.align_scans import outside_ct, uncovered

    outside = outside_ct(ct, tia)
    if outside > NEARLY_ALL:
        raise DosimetryError(
            "the CT does not lie where the activity is",
            where="--ct",
            found=f"{outside:.0%} of the activity outside of it",
            remedy="give the CT of this patient in the space of the TIA map",
            code="FOREIGN_GRID",
        )
    return uncovered(outside)


def _neural(options: argparse.Namespace, grid: "Grid") -> dict[str, Any]:
    """Return what the neural engine needs beside the maps: its network, the scans' resolution, and regions where they are given."""
    from mrtai.engines.dose_net_input import DOSE_NET, DOSE_TASK
    from mrtai.io.bundles import load_network
    from mrtai.io.nifti import read_labels
    from mrtai.physics.resample import largest_share

    contours = None if options.labels is None else largest_share(read_labels(options.labels), grid)
    return {"model": load_network(DOSE_NET, DOSE_TASK), "fwhm_mm": options.fwhm_mm or SPECT_FWHM_MM, "contours": contours}


def _require_used(options: argparse.Namespace) -> None:
    """Refuse options that only one engine uses, with another engine; a material map needs densities beside it."""
    foreign = [name for name in ("labels", "fwhm_mm") if getattr(options, name) is not None and options.engine != NEURAL]
    if foreign:
        where = f"--{foreign[0].replace('_', '-')}"
        remedy = "add --engine neural, or leave it out"
        raise DosimetryError(
            "this option is not used here", where=where, found=f"--engine {options.engine}", remedy=remedy, code="UNUSED_OPTION"
        )
    given = [name for name in ("material", "histories", "seed") if getattr(options, name) is not None]
    if given and options.engine != "monte-carlo":
        found, remedy = f"--engine {options.engine}", "add --engine monte-carlo, or leave it out"
    elif options.material is not None and options.density is None:
        given, found, remedy = ["material"], "--ct", "give --density; a CT says itself what each voxel is made of"
    else:
        return
    raise DosimetryError("this option is not used here", where=f"--{given[0]}", found=found, remedy=remedy, code="UNUSED_OPTION")
