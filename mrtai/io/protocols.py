"""Protocols: the shipped TOML files and those of a site, checked key by key."""

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from mrtai.io.toml_file import parsed
from mrtai.units import BQ_PER_MBQ
from mrtai.values.calibration import FORMULA_SCATTER, Covariance, GaussianRecovery, Recovery
from mrtai.values.chain import STAYS, Progeny
from mrtai.values.dose import RADIATIONS
from mrtai.values.flag import Severity
from mrtai.values.protocol import (
    CHECK_HISTORIES,
    NO_SEGMENTER,
    PARTIAL_VOLUME,
    TIA_MAPS,
    CumulativeLimit,
    EquivalenceMargin,
    Protocol,
    Radiobiology,
)
from mrtai.values.refusal import DosimetryError

_POSITIVE = {"type": "number", "exclusiveMinimum": 0}
_NOT_NEGATIVE = {"type": "number", "minimum": 0}
_PAIR = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_TWO_BY_TWO = {"type": "array", "items": _PAIR, "minItems": 2, "maxItems": 2}
_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["nuclide", "agent", "expected_scans", "kinetics", "dose_engine", "activity_sd_relative", "typical_administered_mbq"],
    "properties": {
        "nuclide": {"type": "string"},
        "agent": {"type": "string", "minLength": 1},
        "expected_scans": {"type": "integer", "minimum": 1},
        "kinetics": {"type": "string"},
        "dose_engine": {"type": "string"},
        "check_engine": {"type": "string"},
        "segmenter": {"type": "string"},
        "lesion_segmenter": {"type": "string"},
        "check_histories": {"type": "integer", "minimum": 1000},
        "typical_administered_mbq": _POSITIVE,
        "activity_sd_relative": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "radiobiology": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["alpha_beta_gy", "repair_half_life_h", "source"],
                "properties": {"alpha_beta_gy": _POSITIVE, "repair_half_life_h": _POSITIVE, "source": {"type": "string"}},
            },
        },
        "dose_limits_gy": {"type": "object", "additionalProperties": _POSITIVE},
        "cumulative_limits": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["source"],
                "minProperties": 2,  # a source and at least one limit
                "properties": {"dose_gy": _POSITIVE, "bed_gy": _POSITIVE, "source": {"type": "string"}},
            },
        },
        "plausible_gy_per_gbq": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 2, "maxItems": 2},
        },
        "population_half_life_h": {"type": "object", "additionalProperties": _POSITIVE},
        "known_half_life_h": {"type": "object", "additionalProperties": _POSITIVE},
        "tia_map": {"enum": list(TIA_MAPS)},
        "spect_fwhm_mm": _POSITIVE,
        "most_dose_relative_sd": _POSITIVE,
        "dose_of_concern_gy": _POSITIVE,
        "gates": {"type": "object", "additionalProperties": {"enum": [severity.value for severity in Severity]}},
        "partial_volume": {"enum": list(PARTIAL_VOLUME)},
        "recovery": {
            "type": "object",
            "additionalProperties": False,
            "required": ["beta_ml", "gamma", "covariance", "source"],
            "properties": {
                "beta_ml": _POSITIVE,
                "gamma": _POSITIVE,
                "covariance": _TWO_BY_TWO,
                "scatter": _NOT_NEGATIVE,
                "source": {"type": "string"},
                "gaussian": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["fwhm_mm", "plateau", "covariance"],
                    "properties": {"fwhm_mm": _POSITIVE, "plateau": _POSITIVE, "covariance": _TWO_BY_TWO, "scatter": _NOT_NEGATIVE},
                },
            },
        },
        "progeny": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"stay": {"enum": list(STAYS)}, "free_fraction": {"type": "number", "minimum": 0, "maximum": 1}},
        },
        "equivalence": {
            "type": "object",
            "additionalProperties": False,
            "required": ["margin", "source"],
            "properties": {"margin": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "source": {"type": "string"}},
        },
        "rbe": {"type": "object", "additionalProperties": False, "properties": dict.fromkeys(RADIATIONS, _POSITIVE)},
    },
}


def shipped_protocols() -> tuple[str, ...]:
    """Return the names of the protocols that come with mrtai."""
    folder = files("mrtai") / "data" / "protocols"
    return tuple(sorted(path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml")))


def load_protocol(name: str) -> Protocol:
    """Return a shipped protocol by name, or that of a TOML file by path.

    Raises:
        DosimetryError: no such protocol, or a key that is unknown, missing or of the wrong kind.
    """
    shipped = files("mrtai") / "data" / "protocols" / f"{name}.toml"
    path = Path(name)
    if name in shipped_protocols():
        content = shipped.read_bytes()
    elif path.suffix == ".toml" and path.is_file():
        content = path.read_bytes()
    else:
        raise DosimetryError(
            "no such protocol",
            where="--protocol",
            found=repr(name),
            remedy=f"choose {', '.join(shipped_protocols())} or the path of a TOML file",
            code="NO_PROTOCOL",
        )
    return _checked(path.stem if path.suffix == ".toml" else name, content)


def _checked(name: str, content: bytes) -> Protocol:
    try:
        table = parsed(content)
    except ValueError as error:
        raise _bad(name, "not usable as TOML", str(error)) from error
    problem = next(iter(sorted(Draft202012Validator(_SCHEMA).iter_errors(table), key=lambda e: list(map(str, e.path)))), None)
    if problem is not None:
        raise _bad(name, f"wrong entry at {'.'.join(map(str, problem.path)) or 'top level'}", problem.message)
    for region, (low, high) in table.get("plausible_gy_per_gbq", {}).items():
        if low >= high:
            raise _bad(name, f"impossible entry at plausible_gy_per_gbq.{region}", f"from {low:g} to {high:g}")
    return Protocol(
        name=name,
        sha256=hashlib.sha256(content).hexdigest(),
        nuclide=table["nuclide"],
        agent=table["agent"],
        expected_scans=table["expected_scans"],
        kinetics=table["kinetics"],
        dose_engine=table["dose_engine"],
        activity_sd_relative=table["activity_sd_relative"],
        radiobiology={region: Radiobiology(**values) for region, values in table.get("radiobiology", {}).items()},
        dose_limits_gy=table.get("dose_limits_gy", {}),
        plausible_gy_per_gbq={region: (low, high) for region, (low, high) in table.get("plausible_gy_per_gbq", {}).items()},
        population_half_life_h=table.get("population_half_life_h", {}),
        typical_administered_bq=table["typical_administered_mbq"] * BQ_PER_MBQ,
        known_half_life_h=table.get("known_half_life_h", {}),
        check_engine=table.get("check_engine", "none"),
        check_histories=table.get("check_histories", CHECK_HISTORIES),
        progeny=Progeny(**table.get("progeny", {})),
        rbe=table.get("rbe", {}),
        tia_map=table.get("tia_map", "shares"),
        segmenter=table.get("segmenter", NO_SEGMENTER),
        lesion_segmenter=table.get("lesion_segmenter", NO_SEGMENTER),
        **{key: table[key] for key in ("spect_fwhm_mm", "most_dose_relative_sd", "dose_of_concern_gy") if key in table},
        gates={code: Severity(value) for code, value in table.get("gates", {}).items()},
        partial_volume=table.get("partial_volume", PARTIAL_VOLUME[0]),
        recovery=_recovery(name, table.get("recovery")),
        equivalence=EquivalenceMargin(**table.get("equivalence", {})),
        cumulative_limits={
            region: CumulativeLimit(values.get("dose_gy"), values.get("bed_gy"), values["source"])
            for region, values in table.get("cumulative_limits", {}).items()
        },
    )


def _recovery(name: str, table: Mapping[str, Any] | None) -> Recovery | None:
    if table is None:
        return None
    gaussian = table.get("gaussian")
    try:
        return Recovery(
            table["beta_ml"],
            table["gamma"],
            *_certainty(table),
            GaussianRecovery(gaussian["fwhm_mm"], gaussian["plateau"], *_certainty(gaussian)) if gaussian else None,
        )
    except ValueError as fault:
        raise _bad(name, "impossible entry at recovery", str(fault)) from fault


def _certainty(table: Mapping[str, Any]) -> tuple[Covariance, float]:
    (a, b), (c, d) = table["covariance"]
    return ((a, b), (c, d)), table.get("scatter", FORMULA_SCATTER)


def _bad(name: str, what: str, found: str) -> DosimetryError:
    return DosimetryError(
        what,
        where=f"protocol {name}",
        found=found,
        remedy="compare with mrtai/data/examples/protocol.toml, which has every key",
        code="BAD_PROTOCOL",
    )
