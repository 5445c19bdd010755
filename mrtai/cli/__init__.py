"""The ``mrtai`` command. Exit status: 0 done, 2 refused or held (one line says why), 1 a fault of ours."""

import argparse
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mrtai import __version__
from mrtai.cli.archive import add_export, add_send
from mrtai.cli.arguments import positive, seed, times
from mrtai.cli.calibrate import PATIENT_ONLY, add_calibrate, simulate_phantom
from mrtai.cli.cumulate import add_cumulate
from mrtai.cli.dose import add_dose
from mrtai.cli.fit import add_fit
from mrtai.cli.models import add_models
from mrtai.cli.outcome import DONE, OneLineParser, ended
from mrtai.cli.progress import bar, watched, working
from mrtai.cli.replay import add_replay
from mrtai.cli.segment import add_segment
from mrtai.cli.validate import add_validate
from mrtai.engines import CHECK_ENGINES, DOSE_ENGINES, METHODS
from mrtai.values.protocol import PARTIAL_VOLUME
from mrtai.values.refusal import DosimetryError

TIMES_H: Final = (24.0, 96.0, 168.0)
"""Scans of a virtual patient after the administration, where no others are asked for."""

TRANSFORMS: Final = (".tfm", ".txt", ".h5")
"""Endings of transforms that ITK writes."""

EPILOGUE: Final = """examples:
  mrtai simulate --out study --seed 1
  mrtai run study --protocol lu177-dotatate --out case
  mrtai export case --study study
  mrtai cumulate case1 case2 --out all
  mrtai replay case --study study
  mrtai validate cases manual.csv --out comparison
  mrtai segment --ct ct.nii.gz --model organs-ct --out organs.nii.gz
  mrtai calibrate scan --phantom phantom.toml --out camera.toml
  mrtai dose --tia tia.nii.gz --ct ct.nii.gz --nuclide Lu-177 --engine convolution --out dose.nii.gz

Research use only. Not a medical device. Decision support under a qualified person.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser(as_json="--json" in words).parse_args(words)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if arguments is None:
        # what is half-written is taken away, as after Ctrl-C
        signal.signal(signal.SIGTERM, signal.default_int_handler)

    def command() -> int:
        done: dict[str, Any] = options.command(options)
        sys.stdout.write(json.dumps(done) + "\n" if options.json else f"{done['text']}\n")
        return DONE

    return ended(command, as_json=options.json, with_traceback=options.traceback)


def _parser(*, as_json: bool = False) -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="mrtai",
        description="From the scans of a patient treated with a radiopharmaceutical to absorbed doses.",
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        as_json=as_json,
    )
    parser.add_argument("--version", action="version", version=f"mrtai {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in COMMANDS:
        command = add(commands)
        command.add_argument("--json", action="store_true", help="print the outcome, or the reason of a refusal, as one JSON object")
        command.add_argument("--traceback", action="store_true", help="show where a fault of ours happened")
    return parser


def _add_run(commands: Any) -> argparse.ArgumentParser:
    run: argparse.ArgumentParser = commands.add_parser(
        "run", help="from a study folder to a CASE folder", description="Work up one cycle of one patient to a draft: doses, maps, report."
    )
    run.set_defaults(command=_run)
    run.add_argument("study", type=Path, metavar="STUDY", help="folder of DICOM files in any nesting, or of NIfTI files with a study.toml")
    run.add_argument(
        "--protocol", required=True, metavar="P", help="lu177-dotatate, lu177-psma, i131, y90-sirt, ac225-psma, or the path of a TOML file"
    )
    run.add_argument("--out", required=True, type=Path, metavar="CASE", help="folder to write; an unsigned case of ours is replaced")
    run.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="contours: label map with a JSON of names beside it; else the study's SEG or RTSTRUCT, else a model draws",
    )
    run.add_argument("--patient", metavar="ID", help="which patient, where the folder holds several")
    run.add_argument("--cycle", metavar="N|DATE", help="which cycle, where the folder holds several; else the number to report")
    run.add_argument("--study", dest="study_toml", type=Path, metavar="study.toml", help="overrides of headers, instead of the study's own")
    run.add_argument(
        "--calibration",
        dest="calibrations",
        action="append",
        default=[],
        type=Path,
        metavar="C.toml",
        help="camera calibration; repeatable",
    )
    run.add_argument(
        "--prior",
        dest="priors",
        action="append",
        default=[],
        type=Path,
        metavar="CASE|FITS.json",
        help="an earlier cycle of the same patient, so that one scan may do; repeatable",
    )
    run.add_argument(
        "--pvc",
        choices=PARTIAL_VOLUME,
        help="partial-volume correction instead of the protocol's: off, or by the recovery curve of calibration or protocol",
    )
    run.add_argument("--kinetics", choices=METHODS, metavar="M", help=f"instead of the protocol's: {', '.join(METHODS)}")
    run.add_argument("--engine", choices=DOSE_ENGINES, metavar="E", help=f"instead of the protocol's: {', '.join(DOSE_ENGINES)}")
    run.add_argument(
        "--check-engine",
        choices=CHECK_ENGINES,
        metavar="E",
        help=f"a second opinion of every region's mean dose, instead of the protocol's: {', '.join(CHECK_ENGINES)}",
    )
    run.add_argument(
        "--segmenter", metavar="NAME", help="model that draws organs where nobody did, instead of the protocol's; see mrtai models list"
    )
    run.add_argument("--lesion-segmenter", metavar="NAME", help="what draws lesions then, instead of the protocol's; none for none")
    run.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where models and dose engines run (default cpu)")
    run.add_argument("--threads", type=positive, default=1, metavar="N", help="threads of models and dose engines (default 1)")
    run.add_argument("--seed", type=seed, default=7, metavar="N", help="seed of registration and Monte Carlo (default 7)")
    return run


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from mrtai.cycle import run_case
    from mrtai.engines_of_run import CaseRequest

    wanted = {name: getattr(options, name) for name in CaseRequest.__dataclass_fields__ if name not in ("calibrations", "priors", "whole")}
    request = CaseRequest(**wanted, calibrations=tuple(options.calibrations), priors=tuple(options.priors))
    case = run_case(request, watched("working up the cycle"))
    return {"case": str(case), "report": str(case / "report.html"), "text": f"draft written: {case / 'report.html'}"}


def _add_simulate(commands: Any) -> argparse.ArgumentParser:
    simulate: argparse.ArgumentParser = commands.add_parser(
        "simulate", help="a virtual patient whose truth is known", description="Write a virtual patient's scans, with truth/ beside them."
    )
    simulate.set_defaults(command=_simulate)
    simulate.add_argument("--out", required=True, type=Path, metavar="STUDY", help="new folder to write")
    simulate.add_argument("--patient", default="Virtual^Patient", metavar="NAME", help="name in the DICOM headers")
    simulate.add_argument("--protocol", default="lu177-dotatate", metavar="P", help="nuclide and agent (default lu177-dotatate)")
    simulate.add_argument(
        "--times-h",
        type=times,
        metavar="T,T,…",
        help="scans, hours after administration (default 24,96,168) or after the phantom's activity was measured (default 2)",
    )
    simulate.add_argument("--seed", type=seed, default=1, metavar="N", help="one seed, one patient (default 1)")
    simulate.add_argument(
        "--scanner",
        choices=("exact", "ideal", "clinical"),
        default="clinical",
        help="exact: SPECT on the CT grid; ideal: 4.8 mm, no blur, no noise; clinical: blur, scatter, noise, movement (default)",
    )
    simulate.add_argument("--format", choices=("dicom", "nifti"), default="dicom", help="(default dicom)")
    simulate.add_argument(
        "--kinetics", choices=("mono", "population"), default="population", help="one exponential, or with uptake (default)"
    )
    simulate.add_argument("--contours", action="store_true", help="also the true contours as a DICOM SEG of the first scan")
    simulate.add_argument(
        "--phantom",
        type=Path,
        metavar="PHANTOM.toml",
        help="instead of a patient: spheres in a cylinder of 20 cm, in counts, for mrtai calibrate",
    )
    simulate.set_defaults(patient_only={name: simulate.get_default(name) for name in PATIENT_ONLY})
    return simulate


def _simulate(options: argparse.Namespace) -> dict[str, Any]:
    if options.phantom is not None:
        return simulate_phantom(options, options.patient_only)
    from mrtai.io.atomic import require_places
    from mrtai.io.priors import agent_priors
    from mrtai.io.protocols import load_protocol
    from mrtai.io.simulated_study import write_study
    from mrtai.io.tables import nuclide, point_kernel
    from mrtai.simulate.patient import Settings, virtual_patient

    if options.contours and options.format != "dicom":
        raise DosimetryError(
            "contours are written as DICOM only",
            where="--contours",
            found="--format nifti",
            remedy="use truth/labels.nii.gz",
            code="UNUSED_OPTION",
        )
    protocol = load_protocol(options.protocol)
    settings = Settings(
        priors=agent_priors(protocol.agent),
        administered_bq=protocol.typical_administered_bq,
        times_h=options.times_h or TIMES_H,
        seed=options.seed,
        scanner=options.scanner,
        kinetics=options.kinetics,
        name=options.patient,
    )
    require_places(options.out / "study.toml")
    with bar("simulating") as tell:
        patient = virtual_patient(
            nuclide=nuclide(protocol.nuclide), kernel=point_kernel(protocol.nuclide), settings=settings, progress=tell
        )
    write_study(patient, options.out, as_format=options.format, contours=options.contours)
    return {"study": str(options.out), "text": f"virtual patient written: {options.out}"}


def _add_align(commands: Any) -> argparse.ArgumentParser:
    align: argparse.ArgumentParser = commands.add_parser(
        "align",
        help="carry a later scan onto the first",
        description="Register CT to CT rigidly and carry the SPECT with one interpolation.",
    )
    align.set_defaults(command=_align)
    align.add_argument("--fixed", required=True, type=Path, metavar="CT", help="NIfTI or a DICOM series' folder, HU: the CT to move onto")
    align.add_argument("--moving", required=True, type=Path, metavar="CT", help="the same: the CT of the scan to carry")
    align.add_argument("--image", required=True, type=Path, metavar="SPECT", help="the same, Bq/mL: what is carried with it")
    align.add_argument(
        "--out", required=True, type=Path, metavar="ALIGNED.nii.gz", help="the SPECT on its own lattice in the fixed CT's space"
    )
    align.add_argument("--transform", type=Path, metavar="T.tfm", help="also write the transform (ITK, fixed to moving)")
    align.add_argument("--seed", type=seed, default=7, metavar="N", help="seed of the registration's sampling (default 7)")
    return align


def _align(options: argparse.Namespace) -> dict[str, Any]:
    from mrtai.engines.align import RigidAligner, write_transform
    from mrtai.io.atomic import require_places
    from mrtai.io.images import read_image_or_series
    from mrtai.io.nifti import write_image
    from mrtai.physics.resample import resampled
    from mrtai.values.image import Quantity

    require_places(options.out, *([options.transform] if options.transform else []))
    if options.transform is not None and options.transform.suffix not in TRANSFORMS:
        raise DosimetryError(
            "unknown form of a transform",
            where=options.transform.name,
            found=options.transform.suffix or "no ending",
            remedy=f"end its name in {', '.join(TRANSFORMS)}",
            code="BAD_OUTPUT",
        )
    fixed, moving = (read_image_or_series(path, Quantity.HOUNSFIELD) for path in (options.fixed, options.moving))
    spect = read_image_or_series(options.image, Quantity.ACTIVITY_CONCENTRATION)
    with working("registering"):
        alignment = RigidAligner(seed=options.seed)(fixed, moving)
    carried = spect.on(spect.grid.moved(alignment.transform)) if alignment.moved else spect
    write_image(options.out, resampled(carried, spect.grid))
    if options.transform is not None:
        options.transform.parent.mkdir(parents=True, exist_ok=True)
        write_transform(alignment, options.transform)
    words = "moved" if alignment.moved else "left where it was: moving it did not help"
    residual = f"residual {alignment.residual_mm:.1f} mm, " if alignment.residual_mm is not None else ""
    return {
        "image": str(options.out),
        "moved": alignment.moved,
        "residual_mm": alignment.residual_mm,
        "similarity": [alignment.similarity_before, alignment.similarity_after],
        "overlap": [alignment.overlap_before, alignment.overlap_after],
        "flags": [flag.code for flag in alignment.flags],
        "text": "\n".join(
            [
                f"{words} ({residual}body overlap {alignment.overlap_after:.3f}): {options.out}",
                *[f"{flag.code}: {flag.text}" for flag in alignment.flags],
            ]
        ),
    }


def _add_measure(commands: Any) -> argparse.ArgumentParser:
    measure: argparse.ArgumentParser = commands.add_parser(
        "measure", help="dose statistics of regions", description="Mean, spread, D_x and DVH of a dose map in every region of a label map."
    )
    measure.set_defaults(command=_measure)
    measure.add_argument("--dose", required=True, type=Path, metavar="DOSE.nii.gz", help="Gy")
    measure.add_argument("--labels", required=True, type=Path, metavar="LABELS.nii.gz", help="with a JSON of names beside it, on any grid")
    measure.add_argument("--out", required=True, type=Path, metavar="STATS.json")
    return measure


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    from mrtai.io.atomic import require_places
    from mrtai.io.fits import write_stats
    from mrtai.io.nifti import read_image, read_labels
    from mrtai.values.image import Quantity

    require_places(options.out)
    dose = read_image(options.dose, Quantity.ABSORBED_DOSE)
    count = write_stats(dose, read_labels(options.labels), options.out)
    return {"stats": str(options.out), "text": f"{count} regions measured: {options.out}"}


COMMANDS: Final = (
    _add_run,
    _add_simulate,
    _add_align,
    add_segment,
    add_models,
    add_fit,
    add_dose,
    _add_measure,
    add_export,
    add_send,
    add_cumulate,
    add_validate,
    add_replay,
    add_calibrate,
)
