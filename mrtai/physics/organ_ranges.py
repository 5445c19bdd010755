"""What an adult's organs are like in a CT: wide ranges, beyond which a contour is looked at by a person.

Volumes stand around the reference adults of ICRP 89 (2002), table 2.8, male and female: liver 1800 and 1400 g, both kidneys 310
and 275 g, spleen 150 and 130 g, bladder contents 200 and 160 mL, stomach wall and contents 400 and 370 g, lungs (section 7.4) 3.3
and 2.7 L at the end of a breath, 7.0 and 5.0 L full. Central 95 % of 2989 healthy livers and spleens: 825 to 1700 and 81 to 322 mL
(Kim 2021, Radiology 301:339). Patients' organs differ more, so the bounds lie far outside these: shrunken, hypertrophic
and enlarged ones that still give a usable dose pass, polycystic kidneys or a bulky liver are told.

CT numbers hold unenhanced soft tissue of any scanner and voltage (Lamba 2014, AJR 203:1013), steatosis of the liver, every
phase of contrast, and excreted contrast in the bladder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Range = tuple[float, float]

SOLID_DOUBT: Final = 0.10
THIN_DOUBT: Final = 0.20
"""Disagreement (1 - Dice) that a person looks at, of solid organs and of thin, hollow or fretted ones.

Dice between repeated outlines foretells Dice with the truth (Roy 2019, NeuroImage 195:11; Wang 2019, Neurocomputing 338:34). A
surface that wavers by half a voxel of 3 mm costs a kidney 0.07 and a liver 0.03 (area times 1.5 mm, over twice the volume): above
0.10 it is more than the lattice does, and the organ's mass, so its dose, is uncertain by as much.
"""


@dataclass(frozen=True, slots=True)
class Expected:
    """What an adult's organ may be like.

    Attributes:
        volume_ml: of the whole organ; None where a CT hardly ever holds all of it.
        median_hu: median CT number; None where it may be anything.
        most_doubt: disagreement above which a person looks.
        runs_out: True for what a CT of the trunk usually shows in part, so that a cut is only a note.
        one_piece: True where parts of its own are a fault.
    """

    volume_ml: Range | None
    median_hu: Range | None
    most_doubt: float = SOLID_DOUBT
    runs_out: bool = False
    one_piece: bool = True


_KIDNEY: Final = Expected((60.0, 400.0), (0.0, 350.0))
_LUNG: Final = Expected((500.0, 4500.0), (-980.0, -350.0), runs_out=True)

EXPECTED: Final[Mapping[str, Expected]] = {
    "kidney_left": _KIDNEY,
    "kidney_right": _KIDNEY,
    "liver": Expected((600.0, 3500.0), (-40.0, 250.0)),
    "spleen": Expected((40.0, 800.0), (10.0, 300.0)),
    "urinary_bladder": Expected((15.0, 1000.0), (-30.0, 3000.0), THIN_DOUBT),
    "lung_left": _LUNG,
    "lung_right": _LUNG,
    "stomach": Expected((40.0, 2000.0), None, THIN_DOUBT, runs_out=True),
    "aorta": Expected(None, (0.0, 700.0), THIN_DOUBT, runs_out=True, one_piece=False),
    "spine": Expected(None, (0.0, 1000.0), THIN_DOUBT, runs_out=True, one_piece=False),
    "red_marrow": Expected(None, (-100.0, 800.0), THIN_DOUBT, runs_out=True, one_piece=False),
}

ELSE: Final = Expected(None, None, THIN_DOUBT, runs_out=True, one_piece=False)
"""Of a structure without ranges of its own: muscles, vessels, bowel."""

WHOLE: Final = Expected(None, None, THIN_DOUBT, one_piece=False)
"""Of lesions and small glands, which a useful scan shows whole."""

_WHOLE_BEGINNINGS: Final = ("lesion_", "parotid", "submandibular", "lacrimal", "thyroid", "pancreas", "prostate", "adrenal", "heart")


def expected(name: str) -> Expected:
    """Return what region ``name`` may be like."""
    return EXPECTED.get(name, WHOLE if name.startswith(_WHOLE_BEGINNINGS) else ELSE)
