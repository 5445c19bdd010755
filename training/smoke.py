"""Every training from data to a verified bundle, on tiny data made on the spot, to see that the path still holds.

python -m training.smoke
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mrtai.io.bundles import verified_model
from training.curve_net import export as curve_export
from training.curve_net import train as curve_train
from training.dose_net import calibrate as dose_calibrate
from training.dose_net import data as dose_data
from training.dose_net import export as dose_export
from training.dose_net import scans as dose_scans
from training.dose_net import train as dose_train
from training.lesions import export as lesions_export
from training.lesions import train as lesions_train
from training.organs import data as organs_data
from training.organs import export as organs_export
from training.organs import train as organs_train
from training.organs.train import Stage

STAGES: Final = (
    Stage("coarse", (8, 16, 16), 4, batch=2, steps=4, learning_rate=1e-3),
    Stage("middle", (16, 32, 32), 2, batch=1, steps=3, learning_rate=1e-3),
    Stage("fine", (32, 32, 32), 1, batch=1, steps=2, learning_rate=1e-3),
)
TINY_LESION_NET: Final = (4, 8, 8)
TINY_DOSE_NET: Final = (4, 8, 8, 8)
TINY_BODY_MM: Final = 12.0


def organs(work: Path) -> Path:
    """Return the folder of an `organs-ct` that was trained for a few steps."""
    organs_data.make_anatomies(work, None, count=2, seed=1)
    organs_train.train(work, organs_data.read_anatomies(work), [], organs_train.Settings(STAGES))
    organs_export.write(work, work / "organs-ct", cases=0)
    return work / "organs-ct"


def lesions(work: Path) -> Path:
    """Return the folder of a `lesions` that was trained for a few steps."""
    lesions_export.write(lesions_train.smoke(work), work / "lesions", {}, TINY_LESION_NET)
    return work / "lesions"


def curves(work: Path) -> Path:
    """Return the folder of a `curve-net` that was trained for a few steps."""
    curve_export.write(curve_train.train(work, curve_train.SMOKE), work / "curve-net", hidden=curve_train.SMOKE.hidden, count=500)
    return work / "curve-net"


def doses(work: Path) -> Path:
    """Return the folder of a `dose-net` that was trained for a few steps, on voxels so large that a body has few."""
    of = dose_scans.world()
    for seed in (0, dose_data.HELD_OUT_SEED):
        body, how, case = dose_data.drawn_case(seed, of, TINY_BODY_MM)
        truth = dose_data.true_dose(case, of, truth="convolution", seed=seed)
        for recovered in (False, True):
            made = dose_data.pair(seed, body, how, case, truth, of, recovered=recovered)
            dose_data.write(made, dose_data.path_of(work, seed, recovered=recovered))
    weights = dose_train.train(work, dose_train.Settings(steps=3, batch=2, patch=(16, 16, 16), channels=TINY_DOSE_NET))
    found = dose_calibrate.calibrate(work, channels=TINY_DOSE_NET)
    ranges, factors = {"nuclides": [dose_scans.NUCLIDE]}, [found[base]["factor_68"] for base in ("as scanned", "recovered")]
    dose_export.write(weights, work / "dose-net", {}, ranges=ranges, factors=factors, channels=TINY_DOSE_NET)
    return work / "dose-net"


MODELS: Final[tuple[Callable[[Path], Path], ...]] = (organs, lesions, curves, doses)


def main() -> None:
    """Train, export and verify each in a temporary folder."""
    for model in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            bundle = verified_model(model(Path(folder)))
            print(f"{bundle.label}: trained, exported and verified, {bundle.weights.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
