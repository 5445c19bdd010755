"""What a model's drawing of lesions does to their doses: simulated PET and SPECT of seeds that nothing learned from, and real sarcomas.

A lesion's dose is taken as the mean of the image inside it, so a missed lesion errs by -100 %; what is drawn where no lesion is counts as
dose given to a lesion that is not there. The real patients were learned from: there an error says that something was forgotten.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrtai.engines.onnx_segmenter import scores
from mrtai.engines.prepare import Map, on_lattice
from mrtai.io.bundles import verified
from mrtai.values.labels import Labels
from training.gate.cases import Case, Errors, digest
from training.lesions import simulated
from training.lesions.data import sts_scans
from training.lesions.evaluate import ANYWHERE, drawn

FIRST_SEED: Final = 3_400_000
BODIES: Final = 3
KINDS: Final = ("pet", "spect")
REAL: Final = Path("petct") / "sts"
PATIENTS: Final = ("STS_002", "STS_013")
LEAST_ML: Final = 2.0

Image = tuple[Map, Map | None, Labels | None]


def cases(data: Path | None) -> Iterator[Case]:
    """Give the simulated bodies and, with ``data``, the real patients."""
    for kind in KINDS:
        for seed in range(FIRST_SEED, FIRST_SEED + BODIES):
            made = simulated.scan(seed, kind)
            image = ((made.uptake, made.grid), (made.hounsfield, made.grid), made.organs)
            yield _case(f"simulated {kind} (seed {seed})", kind, image, made.lesion)
    if data is not None and (data / REAL).is_dir():
        for scan in sts_scans(data / REAL):
            if scan.patient in PATIENTS:
                yield _case(f"real PET {scan.patient}", "real PET", (scan.uptake, scan.ct, None), scan.lesion[0] > 0.5, real=True)


def _case(name: str, figure: str, image: Image, lesions: NDArray[Any], *, real: bool = False) -> Case:
    numbers = lesions.astype(np.uint8)
    return Case(name, digest([image[0][0], numbers]), partial(errors, figure, image, numbers), real)


def errors(figure: str, image: Image, numbers: NDArray[np.uint8], bundle: Path) -> Errors:
    """Return the error of every lesion's mean, and what is drawn elsewhere as a share of all that lesions hold."""
    model, ((uptake, grid), ct, organs) = verified(bundle), image
    mask, lattice = drawn(partial(scores, model), (uptake, grid), ct, organs)
    own = on_lattice(mask.astype(np.float32), lattice, grid, 0.0) >= 0.5
    pieces, _ = ndimage.label(own, ANYWHERE)
    found = []
    for number in range(1, int(numbers.max()) + 1):
        truth = numbers == number
        if truth.sum() * grid.voxel_ml < LEAST_ML:
            continue
        touching = np.setdiff1d(np.unique(pieces[truth]), [0])
        held = np.isin(pieces, touching) & ((numbers == 0) | truth)
        found.append(float(uptake[held].mean() / uptake[truth].mean()) - 1.0 if held.any() else -1.0)
    nowhere = own & ~np.isin(pieces, np.unique(pieces[numbers > 0]))
    total = float(uptake[numbers > 0].sum())
    return {f"lesions, {figure}": found, f"no lesion, {figure}": [float(uptake[nowhere].sum()) / total] if total > 0 else []}
