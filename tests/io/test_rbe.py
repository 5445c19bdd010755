"""Chains and relative biological effectiveness at the door: protocol keys in, results and report out."""

import json
import runpy
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pypdf import PdfReader

from mrtai.io.manifest import case_manifest
from mrtai.io.protocols import load_protocol
from mrtai.io.report_figures import report_figures
from mrtai.io.report_html import html_report
from mrtai.io.report_pdf import pdf_report
from mrtai.io.report_tables import header_rows, region_row
from mrtai.io.results import dumped, require_valid, results
from mrtai.physics.radiobiology import rbe_weighted_gy
from mrtai.values.chain import Progeny
from mrtai.values.refusal import DosimetryError

sample_report = runpy.run_path(str(Path(__file__).with_name("sample_report.py")))["sample_report"]

PROTOCOL = """
nuclide = "Ac-225"
agent = "PSMA-617"
expected_scans = 3
kinetics = "auto"
dose_engine = "local"
typical_administered_mbq = 8.0
activity_sd_relative = 0.1
"""


def protocol(folder, text):
    path = folder / "site.toml"
    path.write_text(PROTOCOL + text, encoding="utf-8")
    return load_protocol(str(path))


def with_alphas(report, rbe):
    """Return the report with 90 % of every dose from alphas, split between two nuclides."""
    regions = tuple(
        region
        if region.dose is None
        else replace(
            region,
            dose=replace(
                region.dose,
                by_radiation_gy={"electron": 0.1 * region.dose.mean_gy, "alpha": 0.9 * region.dose.mean_gy},
                by_nuclide_gy={"Bi-212": 0.3 * region.dose.mean_gy, "Po-212": 0.7 * region.dose.mean_gy},
            ),
        )
        for region in report.regions
    )
    electron = report.dose.parts["electron"]
    dose = replace(report.dose, by_nuclide={"Bi-212": electron, "Po-212": electron})
    return replace(report, regions=regions, dose=dose, protocol=replace(report.protocol, rbe=rbe))


def named(document, name):
    return next(region for region in document["regions"] if region["name"] == name)


def test_progeny_stay_and_no_rbe_is_set_where_the_protocol_says_nothing(tmp_path):
    found = protocol(tmp_path, "")
    assert found.progeny == Progeny("equilibrium", 0.0) and found.rbe == {}
    for shipped in ("lu177-psma", "ac225-psma"):
        assert load_protocol(shipped).progeny == Progeny() and load_protocol(shipped).rbe == {}


@pytest.mark.parametrize("never", ["nan", "inf", "1e999"])
def test_a_threshold_that_nothing_can_reach_is_refused(tmp_path, never):
    with pytest.raises(DosimetryError, match=f"not usable as TOML; found a number that is not finite: {never}"):
        protocol(tmp_path, f"dose_of_concern_gy = {never}\n")


def test_a_protocol_sets_progeny_and_rbe(tmp_path):
    found = protocol(tmp_path, '[progeny]\nstay = "none"\nfree_fraction = 0.25\n[rbe]\nalpha = 5.0\n')
    assert found.progeny == Progeny("none", 0.25)
    assert found.rbe == {"alpha": 5.0}


@pytest.mark.parametrize(
    "wrong",
    ['[progeny]\nstay = "away"', "[progeny]\nfree_fraction = 1.5", "[progeny]\nfree = 0.1", "[rbe]\nalpha = 0", "[rbe]\nneutron = 5"],
)
def test_settings_that_cannot_be_are_refused(tmp_path, wrong):
    with pytest.raises(DosimetryError, match=r"progeny|rbe"):
        protocol(tmp_path, wrong)


def test_only_radiations_with_a_factor_are_weighted():
    assert rbe_weighted_gy({"alpha": 2.0, "electron": 3.0}, {"alpha": 5.0}) == 13.0
    assert rbe_weighted_gy({"alpha": 2.0, "electron": 3.0}, {}) == 5.0


def test_rbe_adds_one_key_and_changes_no_physical_number():
    report = sample_report()
    physical, weighted = (results(with_alphas(report, rbe)) for rbe in ({}, {"alpha": 5.0}))
    require_valid(json.loads(dumped(weighted)))
    for before, after in zip(physical["regions"], weighted["regions"], strict=True):
        extra = after["absorbed_dose_gy"].pop("rbe_weighted")
        assert extra["rbe"] == {"alpha": 5.0}
        assert after == before
        mean = before["absorbed_dose_gy"]["mean"]
        # 0.1 of the dose counts once, 0.9 five times; seven digits are written
        assert extra["mean_gy_rbe"] == (None if mean is None else pytest.approx(4.6 * mean, rel=1e-6))
    assert {**weighted, "regions": []} == {**physical, "regions": []}


def test_every_nuclide_of_the_chain_has_its_dose_and_a_withheld_region_has_none():
    document = results(with_alphas(sample_report(), {}))
    kidney = named(document, "kidney_left")["absorbed_dose_gy"]
    assert list(kidney["by_nuclide"]) == ["Bi-212", "Po-212"]
    assert sum(kidney["by_nuclide"].values()) == pytest.approx(kidney["mean"], rel=1e-6)
    assert named(document, "lesion_2")["absorbed_dose_gy"]["by_nuclide"] == {"Bi-212": None, "Po-212": None}
    alone = named(results(sample_report()), "kidney_left")["absorbed_dose_gy"]
    assert alone["by_nuclide"] == {"Lu-177": alone["mean"]}


def test_the_report_names_the_factor_and_shows_the_weighted_dose_beside_the_physical():
    report = with_alphas(sample_report(), {"alpha": 5.0})
    document = results(report)
    kidney, bare = named(document, "kidney_left"), named(results(with_alphas(sample_report(), {})), "kidney_left")
    shown, physical = region_row(kidney)[6], region_row(bare)[6]
    assert shown.startswith(physical + " (RBE-weighted ") and "RBE" not in physical
    assert dict(header_rows(report, document))["RBE"] == "alpha 5, set by the protocol"
    assert "RBE" not in dict(header_rows(sample_report(), results(sample_report())))


def test_both_pages_carry_the_factor_and_the_weighted_dose():
    report = with_alphas(sample_report(), {"alpha": 5.0})
    document, manifest, pictures = results(report), case_manifest(report, {}), report_figures(report)
    page = html_report(report, document, pictures, manifest=manifest)
    content = pdf_report(report, document, pictures, manifest=manifest)
    pdf = " ".join(" ".join(part.extract_text() for part in PdfReader(BytesIO(content)).pages).split())
    kidney = region_row(named(document, "kidney_left"))[6]
    for text in (page, pdf):
        assert "alpha 5, set by the protocol" in text and kidney in text
