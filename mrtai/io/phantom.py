"""``PHANTOM.toml``: what was filled into a phantom."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mrtai.io.nuclide_names import nuclide_name
from mrtai.io.toml_file import instant, number, read_toml, require_keys, text
from mrtai.units import BQ_PER_MBQ
from mrtai.values.phantom import STATED_SD, Phantom, Sphere
from mrtai.values.refusal import DosimetryError

CODE: Final = "PHANTOM_FILE"
_REQUIRED: Final = ("nuclide", "activity_mbq", "measured_at", "volume_ml")
_OPTIONAL: Final = ("background_bq_per_ml", "activity_sd", "sphere")
_SPHERE: Final = ("diameter_mm", "centre_mm", "concentration_bq_per_ml")


def read_phantom(path: Path) -> Phantom:
    """Return a phantom; refuses missing and unknown keys, wrong types and impossible values by name."""
    table, _ = read_toml(path, CODE)
    where = path.name
    _require(table, _REQUIRED, _OPTIONAL, where)
    measured_at = instant(table, "measured_at", where=where, code=CODE)
    name = text(table, "nuclide", where=where, code=CODE) or ""
    spheres = table.get("sphere", [])
    if not isinstance(spheres, list):
        raise _refusal("spheres are written as [[sphere]]", where, repr(spheres), "use double brackets")
    try:
        assert measured_at is not None  # required above
        return Phantom(
            nuclide=nuclide_name(name) or name,
            activity_bq=_float(table, "activity_mbq", where) * BQ_PER_MBQ,
            measured_at=measured_at,
            volume_ml=_float(table, "volume_ml", where),
            spheres=tuple(_sphere(one, f"{where} [[sphere]] {n}") for n, one in enumerate(spheres, start=1)),
            background_bq_per_ml=number(table, "background_bq_per_ml", where=where, code=CODE),
            activity_sd=_float(table, "activity_sd", where) if "activity_sd" in table else STATED_SD,
        )
    except ValueError as fault:
        raise _refusal("impossible values", where, str(fault), "correct them") from fault


def _sphere(table: Any, where: str) -> Sphere:
    if not isinstance(table, Mapping):
        raise _refusal("a sphere is a table", where, repr(table), "write it as [[sphere]]")
    _require(table, _SPHERE, (), where)
    centre = table["centre_mm"]
    if not isinstance(centre, list) or len(centre) != 3 or not all(type(x) in (int, float) for x in centre):
        raise _refusal("'centre_mm' must be three numbers x, y, z", where, repr(centre), "write it as [0.0, -57.2, 10.0]")
    x, y, z = (float(value) for value in centre)
    return Sphere(_float(table, "diameter_mm", where), (x, y, z), _float(table, "concentration_bq_per_ml", where))


def _require(table: Mapping[str, Any], required: tuple[str, ...], optional: tuple[str, ...], where: str) -> None:
    require_keys(table, {*required, *optional}, where=where, code=CODE)
    missing = [key for key in required if key not in table]
    if missing:
        raise _refusal("keys are missing", where, f"no {', '.join(missing)}", "add them")


def _float(table: Mapping[str, Any], key: str, where: str) -> float:
    value = number(table, key, where=where, code=CODE)
    return float("nan") if value is None else value


def _refusal(what: str, where: str, found: str, remedy: str) -> DosimetryError:
    return DosimetryError(what, where=where, found=found, remedy=remedy, code=CODE)
