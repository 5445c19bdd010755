"""What regions are called: kinds, unions and SNOMED codes of the names that reports speak of."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

KINDS: Final = ("organ", "lesion", "union", "body", "remainder", "other")

# SNOMED CT identifiers as in DICOM context groups 4031, 7140 and 7153
SNOMED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "aorta": "15825003",
        "brain": "12738006",
        "colon": "71854001",
        "gallbladder": "28231008",
        "heart": "80891009",
        "kidney_left": "18639004",
        "kidney_right": "9846003",
        "kidneys": "64033007",
        "liver": "10200004",
        "lung_left": "44029006",
        "lung_right": "3341006",
        "lungs": "39607008",
        "pancreas": "15776009",
        "parotid_left": "45289007",
        "parotid_right": "45289007",
        "prostate": "41216001",
        "red_marrow": "14016003",
        "small_bowel": "30315005",
        "spine": "421060004",
        "spleen": "78961009",
        "stomach": "69695003",
        "submandibular_left": "54019009",
        "submandibular_right": "54019009",
        "tumour_total": "108369006",
        "urinary_bladder": "89837001",
    }
)

ORGANS: Final = frozenset(SNOMED) - {"kidneys", "lungs", "tumour_total"} | {
    "adrenal_gland_left",
    "adrenal_gland_right",
    "duodenum",
    "esophagus",
    "lacrimal_left",
    "lacrimal_right",
    "thyroid_gland",
    "trachea",
    "spinal_cord",
}


def kind_of(name: str) -> str:
    """Return the kind of a single region by its name: lesion, organ or other."""
    if name.startswith("lesion_"):
        return "lesion"
    return "organ" if name in ORGANS or name.startswith(("vertebrae_", "rib_", "lung_", "hip_")) else "other"


def code_of(name: str) -> str | None:
    """Return the region's code as ``SCT:…``, None where there is none."""
    if name.startswith("lesion_"):
        return "SCT:52988006"
    return f"SCT:{SNOMED[name]}" if name in SNOMED else None


def unions(names: Iterable[str], lesions_in_liver: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the named unions that these regions make, each with its members; ``remainder`` counts as a member of ``body``.

    ``liver`` is the parenchyma with the lesions that lie in it, ``liver_without_lesions`` the parenchyma alone: both are
    always given where there is a liver, since lesions in or out alone move the liver's dose by up to 29 %.
    """
    present = list(names)
    found: dict[str, tuple[str, ...]] = {}
    for union, members in (("kidneys", ("kidney_left", "kidney_right")), ("lungs", ("lung_left", "lung_right"))):
        if set(members) <= set(present):
            found[union] = members
    if "liver" in present:
        found["liver"] = ("liver", *lesions_in_liver)
        found["liver_without_lesions"] = ("liver",)
    lesions = tuple(name for name in present if kind_of(name) == "lesion")
    if lesions:
        found["tumour_total"] = lesions
    return found
