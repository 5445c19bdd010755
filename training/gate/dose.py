"""Doses of virtual patients by `dose-net`: regions' means in the convolution's dose of a blurred scan, over those of the true activity.

The patients are of the training's kind, of seeds that it never sees; the truth is the convolution of the true activity, so that no
Monte Carlo is needed. A network whose doses are all off by one factor is not told here: its energy is set to the convolution's anyway.
"""

from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrtai.engines.dose_net import NeuralDose
from mrtai.engines.dose_net_input import body_box
from mrtai.io.bundles import verified_model
from mrtai.values.bundle import Network
from mrtai.values.labels import Labels
from training.dose_net.data import convolved, drawn_case, on, shown_tia
from training.dose_net.evaluate import Known
from training.dose_net.scans import NUCLIDE, world
from training.gate.cases import Case, Errors, digest

FIRST_SEED: Final = 7_320_000
CASES: Final = 3
LESION_ML: Final = 20.0
RECOVERED: Final = ", with recovery"


def cases(data: Path | None) -> Iterator[Case]:
    """Give the virtual patients; a real one whose true dose is known does not exist."""
    for seed, recovered in product(range(FIRST_SEED, FIRST_SEED + CASES), (False, True)):
        made = patient(seed, recovered=recovered)
        arrays = [made["tia"].voxels, made["density"].voxels, made["truth"].voxels, made["contours"].voxels]
        yield Case(f"virtual patient{RECOVERED if recovered else ''} (seed {seed})", digest(arrays), partial(errors, made))


def patient(seed: int, *, recovered: bool) -> dict[str, Any]:
    """Return what the engine is given of a patient and its true dose, on the body's box."""
    of = world()
    body, how, case = drawn_case(seed, of)
    density, tia = case.aligned.density, shown_tia(body, how, case, of, recovered=recovered)
    box = body_box(density)
    contours = Labels(body.regions.voxels[box], body.regions.names, on(tia, box).grid)
    dose, truth = (convolved(activity, density, of).total for activity in (tia, case.true_tia))
    given = {"tia": on(tia, box), "density": on(density, box), "contours": contours, "fwhm_mm": how.stated_fwhm_mm, "recovered": recovered}
    return given | {"dose": on(dose, box), "truth": on(truth, box)}


def errors(made: dict[str, Any], bundle: Path) -> Errors:
    """Return mean dose over its truth, less one, of every region by kind, with contours."""
    network = verified_model(bundle)
    if not isinstance(network, Network):
        raise ValueError(f"{bundle.name}: a network of dose is needed")
    engine = NeuralDose(Known(made["dose"]), network, NUCLIDE, made["fwhm_mm"], made["contours"], recovered=made["recovered"])
    dose, _ = engine.answered(made["tia"], made["density"], made["dose"].voxels)
    found: dict[str, list[float]] = {}
    for value, name in made["contours"].names.items():
        inside: NDArray[np.bool_] = made["contours"].voxels == value
        kind = _kind(name, float(inside.sum()) * made["tia"].grid.voxel_ml)
        if kind and inside.any():
            kind += RECOVERED if made["recovered"] else ""
            found.setdefault(kind, []).append(float(dose[inside].mean() / made["truth"].voxels[inside].mean()) - 1.0)
    return found


def _kind(name: str, volume_ml: float) -> str | None:
    if name.startswith("lesion_"):
        return "lesions up to 20 mL" if volume_ml <= LESION_ML else "larger lesions"
    return {"kidney_left": "kidneys", "kidney_right": "kidneys", "liver": "liver and spleen", "spleen": "liver and spleen"}.get(name)
