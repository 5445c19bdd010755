"""Virtual patients of ``mrtai simulate`` under its clinical scanner: SPECT/CT that another code makes than the one trained on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrtai.engines.prepare import Map
from mrtai.io.priors import agent_priors
from mrtai.io.tables import nuclide
from mrtai.simulate import kinetics, scanner
from mrtai.simulate.anatomy import Anatomy, torso
from mrtai.simulate.lattice import Lattice, lattice
from mrtai.simulate.noise import noisy
from mrtai.simulate.patient import DURATION_S
from mrtai.simulate.voxelise import voxelised
from mrtai.units import BQ_PER_MBQ
from mrtai.values.labels import Labels

AGENTS = ("DOTATATE", "PSMA-617")
ADMINISTERED_BQ = 7.4e9


@dataclass(frozen=True, slots=True, eq=False)
class VirtualScan:
    """One SPECT/CT.

    Attributes:
        lesion: number of the lesion on the CT's grid, 0 elsewhere; ``lesions[number - 1]`` is its volume [mL] and its concentration over
            that of the tissue it lies in.
        organs: true contours without the lesions.
    """

    spect: Map
    ct: Map
    lesion: NDArray[np.uint8]
    lesions: tuple[tuple[float, float], ...]
    organs: Labels


def virtual_scan(seed: int) -> VirtualScan:
    """Return the scan of a seed: even ones DOTATATE, odd ones PSMA, 20 to 120 h after 7.4 GBq of Lu-177."""
    rng = np.random.default_rng(seed)
    anatomy = torso(rng)
    cells, priors, lutetium = lattice(anatomy), agent_priors(AGENTS[seed % 2]), nuclide("Lu-177")
    volume_ml = dict(zip(cells.regions, cells.volume_ml.tolist(), strict=True))
    curves = kinetics.drawn_curves(
        rng, priors, volume_ml=volume_ml, nuclide=lutetium, administered_bq=ADMINISTERED_BQ, kinetics=kinetics.POPULATION
    )
    t_h = float(rng.uniform(20, 120))
    activity_bq = {curve.region: float(kinetics.activity_bq(curve, t_h)) for curve in curves}
    camera = scanner.Camera()
    spect = scanner.seen(scanner.by_share(activity_bq, anatomy, voxelised(anatomy, scanner.SPECT_GRID)), scanner.SPECT_GRID, camera)
    counts = camera.counts(sum(activity_bq.values()) / BQ_PER_MBQ, DURATION_S)
    ct_voxels = voxelised(anatomy, scanner.CT_GRID)
    labels, _ = scanner.true_labels(anatomy, ct_voxels)
    lesion, organs = _parted(labels)
    return VirtualScan(
        (noisy(spect, counts, camera.views, rng), scanner.SPECT_GRID),
        (scanner.ct_image(anatomy, ct_voxels, rng).voxels, scanner.CT_GRID),
        lesion,
        _truth(anatomy, cells, activity_bq),
        organs,
    )


def _parted(labels: Labels) -> tuple[NDArray[np.uint8], Labels]:
    lesion = np.zeros(labels.voxels.shape, dtype=np.uint8)
    names = {value: name for value, name in labels.names.items() if not name.startswith("lesion_")}
    for value, name in labels.names.items():
        if value not in names:
            lesion[labels.voxels == value] = int(name.removeprefix("lesion_"))
    return lesion, Labels(np.where(lesion > 0, 0, labels.voxels), names, labels.grid)


def _truth(anatomy: Anatomy, cells: Lattice, activity_bq: dict[str, float]) -> tuple[tuple[float, float], ...]:
    volume_ml: dict[str, float] = dict(zip(cells.regions, cells.volume_ml.tolist(), strict=True))
    per_ml = {name: float(activity_bq.get(name, 0.0) / volume) for name, volume in volume_ml.items()}
    names = [name for name in anatomy.regions if name.startswith("lesion_")]
    hounsfield = {tissue.name: tissue.hounsfield for tissue in anatomy.tissues}

    def around(name: str) -> float:
        if name in anatomy.liver_lesions:
            return per_ml["liver"]
        # lesions in bone are the only dense ones
        return max(per_ml["red_marrow"], per_ml["spine"]) if hounsfield[name] > 100 else per_ml["remainder"]

    return tuple((volume_ml[name], per_ml[name] / around(name)) for name in names)
