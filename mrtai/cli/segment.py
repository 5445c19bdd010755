"""``mrtai segment``: organs on a CT, or lesions on a SPECT or PET, as a label map."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mrtai.cli.arguments import positive
from mrtai.cli.progress import bar
from mrtai.values.refusal import DosimetryError

if TYPE_CHECKING:
    from mrtai.values.image import Image
    from mrtai.values.labels import Labels

ORGANS: Final = "organs-ct"

DESCRIPTION: Final = f"""Draw regions with a model. A model of organs draws on the CT. A model of lesions, or one of the rules threshold,
adaptive and gradient, draws on the SPECT, else on the PET, after {ORGANS} drew the organs whose uptake is no lesion on the CT."""


def add_segment(commands: Any) -> argparse.ArgumentParser:
    """Add the command."""
    segment: argparse.ArgumentParser = commands.add_parser("segment", help="organs or lesions by a model", description=DESCRIPTION)
    segment.set_defaults(command=_segment)
    segment.add_argument("--ct", required=True, type=Path, metavar="CT", help="NIfTI or a DICOM series' folder, HU")
    segment.add_argument("--spect", type=Path, metavar="SPECT", help="the same, Bq/mL: where lesions are drawn")
    segment.add_argument(
        "--pet", type=Path, metavar="PET", help="the same, Bq/mL: where lesions are drawn without a SPECT; with one, it shows where to look"
    )
    segment.add_argument("--model", required=True, metavar="NAME", help="see mrtai models list; or threshold, adaptive, gradient")
    segment.add_argument("--out", required=True, type=Path, metavar="LABELS.nii.gz", help="names go to LABELS.json beside it")
    segment.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default cpu)")
    segment.add_argument("--threads", type=positive, default=1, metavar="N", help="of the CPU (default 1)")
    return segment


def _segment(options: argparse.Namespace) -> dict[str, Any]:
    from mrtai.engines.onnx_segmenter import OnnxSegmenter
    from mrtai.engines.segmenters import LESION_METHODS
    from mrtai.engines.total_segmentator import TotalSegmentator
    from mrtai.io.atomic import require_places
    from mrtai.io.bundles import load_bundle
    from mrtai.io.images import read_image_or_series
    from mrtai.io.nifti import names_beside
    from mrtai.values.image import Quantity
    from mrtai.values.protocol import TOTAL_SEGMENTATOR

    bundle = None if options.model in (*LESION_METHODS, TOTAL_SEGMENTATOR) else load_bundle(options.model)
    on_ct = options.model == TOTAL_SEGMENTATOR or (bundle is not None and bundle.task != "lesions")
    require_places(options.out, names_beside(options.out))
    unused = [f"--{name}" for name in ("spect", "pet") if on_ct and getattr(options, name) is not None]
    ct = read_image_or_series(options.ct, Quantity.HOUNSFIELD)
    if options.model == TOTAL_SEGMENTATOR:
        return _written(TotalSegmentator(options.device, options.threads).drawn(ct), options.out, unused)
    organs = bundle if on_ct and bundle is not None else load_bundle(ORGANS)
    with bar("segmenting") as tell:
        labels = OnnxSegmenter(organs, options.device, options.threads).drawn(ct, tell)
        if not on_ct:
            labels = _with_lesions(options, labels, ct)
    return _written(labels, options.out, unused)


def _written(labels: "Labels", out: Path, unused: list[str]) -> dict[str, Any]:
    from mrtai.io.nifti import write_labels

    write_labels(out, labels)
    flags = {name or "all": [flag.code for flag in told] for name, told in labels.flags.items() if told}
    told = "".join(f"\n  {name}: {', '.join(codes)}" for name, codes in flags.items())
    told += f"\n  {', '.join(unused)} not used: this model draws on the CT" if unused else ""
    return {
        "labels": str(out),
        "regions": list(labels.names.values()),
        "flags": flags,
        "text": f"{len(labels.names)} regions by {labels.origin}: {out}{told}",
    }


def _with_lesions(options: argparse.Namespace, organs: "Labels", ct: "Image") -> "Labels":
    from mrtai.engines.lesions import Look, draw_lesions_on
    from mrtai.engines.segmenters import LESION_METHODS
    from mrtai.io.bundles import load_bundle
    from mrtai.io.images import read_image_or_series
    from mrtai.physics.lesions import PET_FWHM_MM
    from mrtai.values.image import Quantity
    from mrtai.values.protocol import SPECT_FWHM_MM
    from mrtai.values.study import PriorPet

    path = options.spect or options.pet
    if path is None:
        raise DosimetryError(
            "nothing to draw lesions on",
            where="--model",
            found=f"{options.model}, with a CT alone",
            remedy="give --spect or --pet",
            code="NO_UPTAKE",
        )
    uptake = read_image_or_series(path, Quantity.ACTIVITY_CONCENTRATION)
    look = Look(uptake, ct, fwhm_mm=SPECT_FWHM_MM if options.spect else PET_FWHM_MM)
    bundle = None if options.model in LESION_METHODS else load_bundle(options.model)
    both = options.spect is not None and options.pet is not None
    prior = PriorPet(read_image_or_series(options.pet, Quantity.ACTIVITY_CONCENTRATION)) if both else None
    return draw_lesions_on(options.model, look, organs, prior=prior, bundle=bundle, device=options.device, threads=options.threads)
