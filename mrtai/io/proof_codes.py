"""Which codes a region is meant to have, from the table of regions alone."""

from collections.abc import Sequence
from typing import Any

from mrtai.io.proof_values import Proof, code
from mrtai.io.read_case import Json
from mrtai.io.region_names import own_code, region_concept

SIDES = {"left": "SCT:7771000", "right": "SCT:24028007", "": ""}
LESION, STRUCTURE, ABNORMAL = "SCT:52988006", "SCT:91723000", "SCT:49755003"


def meant_codes(row: Json) -> tuple[str, str, str]:
    """Return category, type and side of a region as ``scheme:value``; the side empty where there is none."""
    if row["kind"] == "lesion":
        return ABNORMAL, LESION, ""
    name = "liver" if row["name"] == "liver_without_lesions" else str(row["name"])
    value, _, side = region_concept(name)
    return (STRUCTURE, f"99MRTAI:{own_code(name)}", "") if value is None else (STRUCTURE, f"SCT:{value}", SIDES[side])


def check_type(proof: Proof, file: str, row: Json, sequence: Sequence[Any]) -> None:
    """Compare type and side of a region; the meaning of what has no standard code is its name."""
    _, kind, side = meant_codes(row)
    said = [(code([item]), code(item.get("SegmentedPropertyTypeModifierCodeSequence"))) for item in sequence]
    proof.same(file, f"type or side of {row['name']}", said, [(kind, side)])
