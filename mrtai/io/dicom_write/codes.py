"""Coded concepts of our objects: DICOM and SNOMED CT where the standard has them, our own scheme where it has none."""

from typing import Final

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset

from mrtai.io.region_names import own_code, region_concept

PRIVATE_SCHEME: Final = "99MRTAI"


def dcm(value: str, meaning: str) -> CodedConcept:
    """Return a concept of DICOM's own scheme."""
    return CodedConcept(value, "DCM", meaning)


def _sct(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value, "SCT", meaning)


def _own(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value, PRIVATE_SCHEME, meaning)


def _ucum(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value, "UCUM", meaning)


GRAY: Final = _ucum("Gy", "Gray")
GRAY_PER_HOUR: Final = _ucum("Gy/h", "Gray per hour")
MEGABECQUEREL: Final = _ucum("MBq", "Megabecquerel")
MEGABECQUEREL_HOUR: Final = _ucum("MBq.h", "Megabecquerel hour")
BECQUEREL_SECOND_PER_ML: Final = _ucum("Bq.s/mL", "Becquerel second per milliliter")
HOUR: Final = _ucum("h", "hour")
MILLILITRE: Final = _ucum("mL", "milliliter")
GRAM: Final = _ucum("g", "gram")

ABSORBED_DOSE: Final = dcm("128513", "Absorbed Dose")
MEAN_ABSORBED_DOSE: Final = dcm("128533", "Mean Absorbed Radiation Dose")
MINIMUM_ABSORBED_DOSE: Final = dcm("128532", "Minimum Absorbed Radiation Dose")
MAXIMUM_ABSORBED_DOSE: Final = dcm("128531", "Maximum Absorbed Radiation Dose")
MEDIAN_ABSORBED_DOSE: Final = dcm("128539", "Median Absorbed Radiation Dose")
VOLUME: Final = _sct("118565006", "Volume")
DOSE_RATE: Final = _own("DOSERATE", "Absorbed dose rate")
MASS: Final = _own("MASS", "Mass of tissue")
ACTIVITY: Final = _own("ACTIVITY", "Activity in region")
EFFECTIVE_HALF_LIFE: Final = _own("TEFF", "Effective half-life")
TIA: Final = _own("TIA", "Time-integrated activity")
TIAC: Final = _own("TIAC", "Time-integrated activity coefficient")
BED: Final = _own("BED", "Biologically effective dose of the mean dose")
EQD2: Final = _own("EQD2", "Equivalent dose in 2 Gy fractions of the mean dose")
D90: Final = _own("D90", "Dose at least received by 90 % of the volume")
MODEL: Final = _own("KINETICS", "Curve fitted to activities")
ADMINISTRATION: Final = _own("ADMINISTRATION", "Start of administration")
VERDICT: Final = _own("VERDICT", "Verdict of automatic checks")

ARTIFICIAL_INTELLIGENCE: Final = dcm("123110", "Artificial Intelligence")
NEIGHBORHOOD_ANALYSIS: Final = dcm("123101", "Neighborhood Analysis")
ANATOMICAL_STRUCTURE: Final = _sct("91723000", "Anatomical Structure")
MORPHOLOGICALLY_ABNORMAL: Final = _sct("49755003", "Morphologically Abnormal Structure")
LESION: Final = _sct("52988006", "Lesion")
LEFT: Final = _sct("7771000", "Left")
RIGHT: Final = _sct("24028007", "Right")


def category_and_type(name: str, kind: str) -> tuple[CodedConcept, CodedConcept, CodedConcept | None]:
    """Return category, type and side of a region; a lesion is a lesion, what has no code is an anatomical structure of our scheme."""
    if kind == "lesion":
        return MORPHOLOGICALLY_ABNORMAL, LESION, None
    code, meaning, side = region_concept("liver" if name == "liver_without_lesions" else name)
    if code is None:
        return ANATOMICAL_STRUCTURE, _own(own_code(name), name[:64]), None
    return ANATOMICAL_STRUCTURE, _sct(code, meaning), {"left": LEFT, "right": RIGHT}.get(side)


def verdict(word: str) -> CodedConcept:
    """Return the verdict of the automatic checks as a concept."""
    return _own(f"VERDICT_{word.upper()}", f"Verdict: {word}")


def model(name: str) -> CodedConcept:
    """Return the curve's model as a concept."""
    return _own(own_code(f"MODEL_{name}"), f"Curve: {name}"[:64])


def coding_scheme() -> Dataset:
    """Return the item of the Coding Scheme Identification Sequence that says whose scheme ours is."""
    item = Dataset()
    item.CodingSchemeDesignator, item.CodingSchemeName = PRIVATE_SCHEME, "Concepts of mrtai without a standard code"
    item.CodingSchemeResponsibleOrganization = "mrtai"
    return item
