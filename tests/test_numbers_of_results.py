"""No number leaves without a unit and, where it has one, its uncertainty: a walk over ``results.json`` of a whole case."""

import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

made = runpy.run_path(str(Path(__file__).with_name("test_flags.py")))

UNIT = re.compile(r"_(mbq|mbq_h|gy|h|s|mm|ml|g|bq|per_h)$")
PURE = {
    *("cycle", "index", "found_in_scans", "probability_off_20_percent", "volume_fraction", "relative_sd", "share", "recovery", "g"),
    "percentiles_relative_sd",
    *("dead_time_factor", "fraction_before_first_scan", "fraction_after_last_scan", "difference", "rmblr", "haematocrit"),
    *("goodness", "weights", "covariance", "matrix", "terms"),
}
"""Ratios, probabilities and counts; and tables whose units the page of files states."""


@pytest.fixture(scope="module")
def document():
    protocol = replace(made["PROTOCOL"], partial_volume="recovery", recovery=made["CURVE"])
    return made["draft"](made["cycle"](made["FALLING"]), protocol=protocol)[0]


def numbers(value, path=()):
    """Yield the path of every number."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from numbers(part, (*path, key))
    elif isinstance(value, list):
        for part in value:
            yield from numbers(part, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path


def test_every_number_stands_below_a_key_with_a_unit_or_is_a_pure_one(document):
    paths = set(numbers(document))
    assert len(paths) > 40
    bare = [path for path in paths if not any(UNIT.search(key) or key in PURE for key in path)]
    assert bare == []


def test_every_dose_integral_and_activity_has_its_uncertainty(document):
    told = 0
    for row in document["regions"]:
        dose = row["absorbed_dose_gy"]
        if dose["mean"] is not None and "UNCERTAINTY_UNKNOWN" not in {flag["code"] for flag in row["flags"]}:
            told += 1
            assert dose["mean_sd"] > 0 and row["tia_sd_mbq_h"] > 0, row["name"]
            assert dose["mean_95"][0] < dose["mean_68"][0] < dose["mean"] < dose["mean_68"][1] < dose["mean_95"][1]
            assert sum(term["share"] for term in row["uncertainty_budget"]) == pytest.approx(1.0)
            squares = sum(term["relative_sd"] ** 2 for term in row["uncertainty_budget"])
            assert squares**0.5 * dose["mean"] == pytest.approx(dose["mean_sd"], rel=1e-5)
            effect = row["radiobiology"]
            assert (effect["bed_gy"] is None) == (effect["bed_sd_gy"] is None) == (effect["eqd2_sd_gy"] is None)
            assert effect["bed_gy"] is None or effect["eqd2_sd_gy"] / effect["eqd2_gy"] == pytest.approx(
                effect["bed_sd_gy"] / effect["bed_gy"]
            )
            assert dose["percentiles_relative_sd"] * dose["mean"] == pytest.approx(dose["mean_sd"], rel=1e-5)
            if row["kinetics"]["tia_68_mbq_h"]:
                # what is stated of the integral is of all that enters it, like its standard uncertainty
                low, high = row["kinetics"]["tia_68_mbq_h"]
                assert (high - low) / 2 > 0.9 * row["tia_sd_mbq_h"], row["name"]
        assert len(row["time_activity"]["activity_sd_mbq"]) == len(row["time_activity"]["activity_mbq"])
    assert told >= 3
