"""What foreign models call regions, in our words."""

import re
from typing import Final

BACKGROUND: Final = frozenset({"", "background", "bg", "unknown"})
LESION: Final = re.compile(r"(^|_)(lesion|tumou?r|metastas[ei]s|gtv)")

_LOBE: Final = re.compile(r"lung_(upper|middle|lower)_lobe_(left|right)")
_SPINE: Final = re.compile(r"vertebrae?(_.*)?|sacrum|spine")
_HEART: Final = re.compile(r"heart_(myocardium|(atrium|ventricle)_(left|right))")
_SIDE_FIRST: Final = re.compile(r"^(left|right)_(.+)")
_KNOWN_AS: Final = {"bladder": "urinary_bladder", "oesophagus": "esophagus", "kidney_l": "kidney_left", "kidney_r": "kidney_right"}


def our_region(name: str) -> str | None:
    """Return what a foreign model's class is called here, None for the background; several classes may be one region.

    Lobes are their lung, vertebrae and sacrum the spine, chambers the heart; any other name of TotalSegmentator is ours too.
    """
    folded = re.sub(r"[\s-]+", "_", name.strip().lower())
    if folded in BACKGROUND:
        return None
    folded = _SIDE_FIRST.sub(r"\2_\1", folded)
    if lobe := _LOBE.fullmatch(folded):
        return f"lung_{lobe[2]}"
    if _SPINE.fullmatch(folded):
        return "spine"
    if _HEART.fullmatch(folded):
        return "heart"
    return _KNOWN_AS.get(folded, folded)
