"""The table of truth: every exclusive region and the unions reports speak of."""

from collections.abc import Mapping, Sequence

import numpy as np

from mrtai.simulate.anatomy import Anatomy
from mrtai.simulate.kinetics import effective_half_life_h, tia_bq_s
from mrtai.simulate.lattice import Lattice
from mrtai.simulate.pairs import MeanDose
from mrtai.values.nuclide import Nuclide
from mrtai.values.virtual import TrueCurve, TrueRegion

LIVER_PARENCHYMA = "liver_without_lesions"


def members(anatomy: Anatomy) -> dict[str, tuple[str, ...]]:
    """Return the exclusive regions each row of the table is made of, by row name.

    ``liver`` is parenchyma with the lesions that lie in it; the exclusive region of that name is ``liver_without_lesions``.
    """
    lesions = tuple(name for name in anatomy.regions if name.startswith("lesion_"))
    rows = {LIVER_PARENCHYMA if name == "liver" else name: (name,) for name in anatomy.regions}
    return rows | {
        "kidneys": ("kidney_left", "kidney_right"),
        "lungs": ("lung_left", "lung_right"),
        "liver": ("liver", *anatomy.liver_lesions),
        "tumour_total": lesions,
        "remainder": ("remainder",),
        "body": ("remainder", *anatomy.regions),
    }


def true_regions(cells: Lattice, curves: Sequence[TrueCurve], doses: Mapping[str, MeanDose], nuclide: Nuclide) -> tuple[TrueRegion, ...]:
    """Return the table: volumes, masses and activities add up, doses of unions are means over their volume.

    Doses of the exclusive regions are drawn independently, so their standard errors add in quadrature.
    """
    volume_ml = dict(zip(cells.regions, cells.volume_ml.tolist(), strict=True))
    mass_kg = dict(zip(cells.regions, cells.mass_kg.tolist(), strict=True))
    curve = {c.region: c for c in curves}
    rows = []
    for name, parts in members(cells.anatomy).items():
        volumes = np.array([volume_ml[part] for part in parts])
        share = volumes / volumes.sum()
        rows.append(
            TrueRegion(
                region=name,
                volume_ml=float(volumes.sum()),
                mass_kg=sum(mass_kg[part] for part in parts),
                tia_bq_s=sum(tia_bq_s(curve[part]) for part in parts),
                effective_half_life_h=effective_half_life_h([curve[part] for part in parts], nuclide),
                absorbed_dose_gy=float(share @ [doses[part].dose_gy for part in parts]),
                absorbed_dose_sd_gy=float(np.linalg.norm(share * [doses[part].sd_gy for part in parts])),
            )
        )
    return tuple(rows)
