"""Red marrow: what is measured for it and what its dose comes to, by each way of estimating it."""

from dataclasses import dataclass
from typing import Final, Literal

from mrtai.values.curve import Curve
from mrtai.values.flag import Flag

REFERENCE_MARROW_KG: Final = 1.170
"""Red marrow of the adult reference man (ICRP 89, table 2.8: woman 0.900 kg). It scales Ã alone: the dose does not depend on it."""


@dataclass(frozen=True, slots=True, eq=False)
class BloodSamples:
    """Activity concentration of blood after one administration.

    Attributes:
        curve: of the region ``blood``; its activities are those of one millilitre, at the time of sampling.
        haematocrit: share of the blood's volume that is cells, None where not measured.
        marrow_mass_kg: of the patient where known, else the reference.
    """

    curve: Curve
    haematocrit: float | None = None
    marrow_mass_kg: float = REFERENCE_MARROW_KG

    def __post_init__(self) -> None:
        if self.haematocrit is not None and not 0.0 < self.haematocrit < 1.0:
            raise ValueError(f"blood: the haematocrit must lie between 0 and 1, got {self.haematocrit}")
        if not 0.0 < self.marrow_mass_kg < float("inf"):
            raise ValueError(f"blood: the marrow's mass must be positive, got {self.marrow_mass_kg} kg")


@dataclass(frozen=True, slots=True)
class MarrowDose:
    """Absorbed dose of the red marrow by one method; numbers are None where it failed, and a flag says why.

    Attributes:
        method: ``image`` or ``blood``.
        region: what stands for the marrow in the image (``vertebrae`` for several of them), None for blood.
        tia_bq_s: time-integrated activity: of that region, or of the whole marrow as blood tells.
        absorbed_dose_sd_gy: standard uncertainty, None where none can be stated.
        rmblr: red marrow to blood ratio of activity concentrations; ``haematocrit`` as given; both None for the image.
        text: in words, what the number rests on.
        volume_ml: of the region, None for blood.
    """

    method: Literal["image", "blood"]
    region: str | None
    tia_bq_s: float | None
    absorbed_dose_gy: float | None
    absorbed_dose_sd_gy: float | None
    rmblr: float | None
    haematocrit: float | None
    text: str
    flags: tuple[Flag, ...] = ()
    volume_ml: float | None = None
