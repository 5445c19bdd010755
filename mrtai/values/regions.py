"""Named unions of regions that reports speak of."""

from collections.abc import Iterable
from typing import Final

FAMILIES: Final = {
    "kidneys": ("kidney",),
    "liver": ("liver",),
    "spleen": ("spleen",),
    "lesion": ("lesion", "tumour", "tumor"),
    "salivary_glands": ("parotid", "submandibular", "sublingual"),
    "red_marrow": ("red_marrow", "spine", "vertebrae"),
    "remainder": ("remainder", "lung"),
}
"""Families of regions that keep an agent alike, by the beginnings of their names or of words in them."""

PARENCHYMA: Final = "liver_without_lesions"
"""How the liver's exclusive region is reported, since ``liver`` holds the lesions in it."""


def is_lesion(name: str) -> bool:
    """Return True for ``lesion_1``, ``lesion_2`` and so on."""
    return name.startswith("lesion_")


def kinetic_family(name: str) -> str | None:
    """Return the family of regions whose kinetics a region shares (``kidney_left``, ``Left Kidney``: ``kidneys``), None for any other."""
    plain = name.casefold().replace(" ", "_")
    words = plain.split("_")
    if "without" not in words and any(word.startswith(FAMILIES["lesion"]) for word in words):
        return "lesion"
    whole = (family for family, beginnings in FAMILIES.items() if plain.startswith(beginnings))
    by_word = (family for family, beginnings in FAMILIES.items() if any(word.startswith(beginnings) for word in words))
    return next(whole, next(by_word, None))


def unions(names: Iterable[str], lesions_in_liver: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the named unions that these regions make, each with its members.

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
        found[PARENCHYMA] = ("liver",)
    lesions = tuple(name for name in present if is_lesion(name))
    if lesions:
        found["tumour_total"] = lesions
    return found
