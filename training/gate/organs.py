"""What a model's organ contours do to organs' mean doses: in noisy CTs of virtual patients, and on a real CT that nothing learned from.

The dose is that of the activity where it decays (177Lu's electrons), blurred as a SPECT shows it. Its map is the same for contours and
truth, so what differs is the contours alone.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.engines.onnx_segmenter import OnnxSegmenter
from mrtai.io.bundles import verified
from mrtai.io.nifti import read_image, read_labels
from mrtai.simulate.anatomy import torso
from mrtai.simulate.scanner import CT_GRID, ct_image, true_labels
from mrtai.simulate.voxelise import voxelised
from mrtai.units import FWHM_PER_SIGMA
from mrtai.values.image import Image, Quantity
from training.gate.cases import Case, Errors, digest
from training.organs.evaluate import our_name

SEEDS: Final = (930_001, 930_002)
"""Far from training's and from those of the card."""

REAL: Final = Path("ct") / "ts_torso_3mm"
UPTAKE: Final = {"liver": 3.0, "spleen": 5.0, "kidney_left": 9.0, "kidney_right": 6.5, "stomach": 1.6, "urinary_bladder": 4.0}
"""Over that of the rest of the body; the kidneys differ, so that one taken for the other is seen."""

JUDGED: Final = ("liver", "spleen", "kidney_left", "kidney_right")
RESOLUTION_MM: Final = 11.0
TISSUE_HU: Final = -300.0

Masks = Mapping[str, NDArray[np.bool_]]


def cases(data: Path | None) -> Iterator[Case]:
    """Give the virtual patients and, with ``data``, the real one."""
    for seed in SEEDS:
        ct, masks, body = _virtual(seed)
        yield _case(f"virtual patient (seed {seed})", "virtual", (ct, masks, body))
    if data is not None and (data / REAL).is_dir():
        ct, masks = _real(data / REAL)
        yield _case(f"real CT {REAL.name}", "real CT", (ct, masks, ct.voxels > TISSUE_HU), real=True)


def _virtual(seed: int) -> tuple[Image, Masks, NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    anatomy = torso(rng)
    voxels = voxelised(anatomy, CT_GRID)
    labels, body = true_labels(anatomy, voxels)
    masks = {name: labels.mask(name) for name in labels.names.values()}
    for lesion in anatomy.liver_lesions:
        masks["liver"] = masks["liver"] | masks[lesion]
    return ct_image(anatomy, voxels, rng), masks, body.voxels > 0


def _real(folder: Path) -> tuple[Image, Masks]:
    ct, labels = read_image(folder / "ct.nii.gz", Quantity.HOUNSFIELD), read_labels(folder / "labels.nii.gz")
    return ct, {our_name(name): labels.mask(name) for name in labels.names.values()}


def _case(name: str, kind: str, patient: tuple[Image, Masks, NDArray[np.bool_]], *, real: bool = False) -> Case:
    ct, masks, body = patient
    uptake = np.where(body, 1.0, 0.0)
    for organ, level in UPTAKE.items():
        uptake[masks.get(organ, np.zeros_like(body))] = level
    sigma = RESOLUTION_MM / FWHM_PER_SIGMA / ct.grid.spacing_mm[::-1]
    dose = ndimage.gaussian_filter(uptake, sigma)
    judged = {organ: masks[organ] for organ in JUDGED if masks.get(organ, body[:0]).any()}
    return Case(name, digest([ct.voxels.astype(np.float32), dose, *judged.values()]), partial(errors, kind, (ct, dose), judged), real)


def errors(kind: str, patient: tuple[Image, NDArray[np.float64]], truth: Masks, bundle: Path) -> Errors:
    """Return the mean dose inside the model's contour over that inside the true one, less one, by organ."""
    ct, dose = patient
    labels = OnnxSegmenter(verified(bundle)).drawn(ct)
    found = {name: labels.mask(name) for name in labels.names.values()}
    told = {}
    for name, mask in truth.items():
        own = found.get(name)
        told[f"{name}, {kind}"] = [float(dose[own].mean() / dose[mask].mean()) - 1.0 if own is not None and own.any() else -1.0]
    return told
