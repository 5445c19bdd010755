"""Nuclides as headers and people write them, and as ICRP 107 names them."""

import re

ELEMENTS = {
    "lutetium": "Lu", "yttrium": "Y", "iodine": "I", "terbium": "Tb", "copper": "Cu", "holmium": "Ho", "rhenium": "Re", "samarium": "Sm",
    "gallium": "Ga", "fluorine": "F", "fluorodeoxyglucose": "F", "zirconium": "Zr", "technetium": "Tc", "indium": "In", "astatine": "At",
    "lead": "Pb", "bismuth": "Bi", "radium": "Ra", "actinium": "Ac", "thorium": "Th", "carbon": "C", "scandium": "Sc", "strontium": "Sr",
}  # fmt: skip
SYMBOLS = frozenset(ELEMENTS.values())


def nuclide_name(text: str) -> str | None:
    """Return ``Lu-177`` for any of ``177Lu``, ``Lu177``, ``^177^Lutetium``, ``177 Lutetium``; None when none is named."""
    words = re.findall(r"[A-Za-z]+|\d+", text)
    element = next((found for word in words if (found := _element(word))), None)
    if element is None:
        return None
    mass = re.search(r"(?<!\d)(\d{1,3})\s*\^?\s*(m(?![a-z]))?", text)
    return f"{element}-{mass[1]}{mass[2] or ''}" if mass else None


def _element(word: str) -> str | None:
    if word.lower() in ELEMENTS:
        return ELEMENTS[word.lower()]
    # "mTc" in "99mTc" is one run of letters
    bare = word[1:] if word.startswith("m") and len(word) > 1 and word[1:].capitalize() in SYMBOLS else word
    return bare.capitalize() if bare.capitalize() in SYMBOLS and (len(bare) > 1 or bare.isupper()) else None
