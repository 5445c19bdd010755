"""``mrtai cumulate`` on CASE folders: what counts, what is refused, and what the files say."""

import csv
import html
import json
import re
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from pypdf import PdfReader

from mrtai.cli import main
from mrtai.io.case_folder import write_case
from mrtai.io.counted_cycles import counted_cycle
from mrtai.io.cumulative import with_earlier
from mrtai.io.protocols import load_protocol
from mrtai.io.results import dumped, require_valid, results
from mrtai.values.cumulative import BED, DOSE
from mrtai.values.refusal import DosimetryError
from tests.io.sample_report import sample_report


@pytest.fixture(scope="module")
def document():
    return results(sample_report())


def case(folder, document, number, *, state="signed", protocol="lu177-dotatate", scale=1.0, days=None):
    """Write the case of a cycle: the sample's doses times ``scale``, eight weeks after the one before."""
    made = deepcopy(document) | {"cycle": number, "state": state}
    given = made["administrations"][0]
    later = timedelta(days=56 * (number - 1) if days is None else days)
    given["time"] = (datetime.fromisoformat(given["time"]) + later).isoformat()
    for scan in made["scans"]:
        scan["series_uid_sha256"] = f"{number}{scan['index']}".rjust(64, "0")
    for region in made["regions"]:
        dose = region["absorbed_dose_gy"]
        if dose["mean"] is not None:
            dose |= {"mean": dose["mean"] * scale, "mean_sd": dose["mean_sd"] * scale}
            region["uncertainty_budget"] = [
                {"term": "kinetics", "relative_sd": 0.04, "share": 0.5},
                {"term": "calibration", "relative_sd": 0.03, "share": 0.5},
            ]
    path = folder / f"cycle{number}"
    path.mkdir(parents=True, exist_ok=True)
    (path / "results.json").write_text(dumped(made), "utf-8")
    (path / "manifest.json").write_text(json.dumps({"parameters": {"protocol": protocol}}))
    return path


def cumulate(*cases, out, options=()):
    return main(["cumulate", *map(str, cases), "--out", str(out), *options])


def read(out):
    return require_valid(json.loads((out / "cumulative.json").read_text("utf-8")), "cumulative.schema.json")


def row(found, name):
    return next(region for region in found["regions"] if region["name"] == name)


@pytest.fixture
def two(tmp_path, document):
    return case(tmp_path, document, 1), case(tmp_path, document, 2, state="released", scale=0.8)


def test_two_signed_cycles_add_up_with_what_remains_to_the_shipped_limits(two, tmp_path, document):
    assert cumulate(*reversed(two), out=tmp_path / "all") == 0
    found = read(tmp_path / "all")
    kidneys, single = row(found, "kidneys"), next(region for region in document["regions"] if region["name"] == "kidneys")
    dose_gy = single["absorbed_dose_gy"]["mean"]
    assert kidneys["absorbed_dose_gy"] == pytest.approx(1.8 * dose_gy, rel=1e-6)
    # 3 % of calibration adds up; the rest of 5.5 % is independent
    own = (0.055**2 - 0.03**2) ** 0.5
    assert kidneys["absorbed_dose_sd_gy"] == pytest.approx(dose_gy * ((0.03 * 1.8) ** 2 + own**2 * (1 + 0.64)) ** 0.5, rel=1e-5)
    assert kidneys["bed_gy"] == pytest.approx(2 * single["radiobiology"]["bed_gy"], rel=1e-6)
    limits = {limit["quantity"]: limit for limit in kidneys["limits"]}
    assert limits["absorbed_dose"]["remaining_gy"] == pytest.approx(23.0 - 1.8 * dose_gy, rel=1e-5)
    assert limits["bed"]["limit_gy"] == 40.0
    assert [c["cycle"] for c in found["cycles"]] == [1, 2] and found["provisional"] is False and found["protocol"] == "lu177-dotatate"


def test_a_withheld_lesion_has_no_sum_and_the_page_says_in_which_cycle(two, tmp_path):
    assert cumulate(*two, out=tmp_path / "all") == 0
    lesion = row(read(tmp_path / "all"), "lesion_2")
    assert lesion["absorbed_dose_gy"] is None and lesion["verdict"] == "withheld"
    assert [flag["code"] for flag in lesion["flags"]] == ["DOSE_WITHHELD", "LESION_IDENTITY_BY_NAME"]
    page = html.unescape((tmp_path / "all" / "cumulative.html").read_text("utf-8"))
    assert "the dose was withheld in cycle 1 (2026-03-02), cycle 2 (2026-04-27)" in page


def test_the_page_opens_offline_and_shows_sums_and_limits(two, tmp_path):
    assert cumulate(*two, out=tmp_path / "all") == 0
    page = (tmp_path / "all" / "cumulative.html").read_text("utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|<link|<script", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    kidneys = row(read(tmp_path / "all"), "kidneys")
    assert f"{kidneys['absorbed_dose_gy']:.2f} ± {kidneys['absorbed_dose_sd_gy']:.2f}" in page and "of 23" in page
    assert "PROVISIONAL" not in page and "Research use only" in page


def test_the_table_has_a_row_a_cycle_and_one_for_the_sum(two, tmp_path):
    assert cumulate(*two, out=tmp_path / "all") == 0
    with (tmp_path / "all" / "cumulative.csv").open(encoding="utf-8") as stream:
        rows = [line for line in csv.DictReader(stream) if line["region"] == "kidneys"]
    assert [line["cycle"] for line in rows] == ["1", "2", "sum"]
    doses = [float(line["absorbed_dose_gy"]) for line in rows]
    assert doses[2] == pytest.approx(doses[0] + doses[1]) and float(rows[2]["dose_limit_gy"]) == 23.0
    assert float(rows[2]["dose_remaining_gy"]) == pytest.approx(23.0 - doses[2], rel=1e-5)


def test_a_draft_counts_only_when_asked_for_and_marks_everything_provisional(tmp_path, document, capsys):
    cases = case(tmp_path, document, 1), case(tmp_path, document, 2, state="draft")
    assert cumulate(*cases, out=tmp_path / "all", options=["--json"]) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "NOT_SIGNED"
    assert not (tmp_path / "all").exists()
    assert cumulate(*cases, out=tmp_path / "all", options=["--drafts"]) == 0
    found = read(tmp_path / "all")
    assert found["provisional"] and [flag["code"] for flag in found["flags"]] == ["DRAFTS_COUNTED"]
    assert "PROVISIONAL" in (tmp_path / "all" / "cumulative.html").read_text("utf-8")


@pytest.mark.parametrize("state", ["rejected", "failed", "held"])
def test_a_case_that_may_not_be_used_is_refused_even_with_drafts(tmp_path, document, capsys, state):
    cases = case(tmp_path, document, 1), case(tmp_path, document, 2, state=state)
    assert cumulate(*cases, out=tmp_path / "all", options=["--drafts", "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "CASE_UNUSABLE"


def test_the_same_case_twice_and_another_patients_case_are_refused(two, tmp_path, document, capsys):
    assert cumulate(two[0], two[1], two[0], out=tmp_path / "all", options=["--json"]) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "SAME_ADMINISTRATION"
    other = case(tmp_path / "other", document | {"patient": {"pseudonym": "P-somebody"}}, 3)
    assert cumulate(*two, other, out=tmp_path / "all", options=["--json"]) == 2
    error = capsys.readouterr().err
    assert json.loads(error)["code"] == "PATIENT_MIXED" and "somebody" not in error
    assert not (tmp_path / "all").exists()


def test_what_is_no_case_is_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert cumulate(tmp_path / "empty", out=tmp_path / "all", options=["--json"]) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "NOT_A_CASE"


def test_cases_of_a_sites_own_protocol_have_no_limits_until_one_is_named(tmp_path, document):
    # a site's file may have the stem of a shipped one
    cases = [case(tmp_path, document, n, protocol="lu177-dotatate.toml") for n in (1, 2)]
    assert cumulate(*cases, out=tmp_path / "all") == 0
    found = read(tmp_path / "all")
    assert found["protocol"] is None and [flag["code"] for flag in found["flags"]] == ["NO_LIMITS"]
    assert row(found, "kidneys")["limits"] == []
    site = tmp_path / "site.toml"
    text = 'nuclide = "Lu-177"\nagent = "X"\nexpected_scans = 3\nkinetics = "auto"\ndose_engine = "local"\n'
    text += "activity_sd_relative = 0.05\ntypical_administered_mbq = 7400.0\n"
    site.write_text(text + '[cumulative_limits.spleen]\ndose_gy = 1.0\nsource = "a test"\n')
    assert cumulate(*cases, out=tmp_path / "all", options=["--protocol", str(site)]) == 0
    found = read(tmp_path / "all")
    spleen = row(found, "spleen")
    assert found["protocol"] == "site" and spleen["limits"][0]["exceeded"] is True and spleen["limits"][0]["remaining_gy"] < 0
    assert "CUMULATIVE_LIMIT_EXCEEDED" in [flag["code"] for flag in spleen["flags"]]


@pytest.mark.parametrize("entry", ['source = "no limit"', "dose_gy = 23.0", 'dose_gy = -1.0\nsource = "x"', 'mgy = 1.0\nsource = "x"'])
def test_a_limit_without_number_or_source_is_refused(tmp_path, entry):
    text = 'nuclide = "Lu-177"\nagent = "X"\nexpected_scans = 3\nkinetics = "auto"\ndose_engine = "local"\n'
    text += f"activity_sd_relative = 0.05\ntypical_administered_mbq = 7400.0\n[cumulative_limits.kidneys]\n{entry}\n"
    (tmp_path / "site.toml").write_text(text)
    with pytest.raises(DosimetryError, match="cumulative_limits"):
        load_protocol(str(tmp_path / "site.toml"))


def test_a_folder_with_other_content_is_left_alone(two, tmp_path, capsys):
    assert cumulate(*two, out=two[0], options=["--json"]) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "OUTPUT_NOT_OURS"
    assert cumulate(*two, out=tmp_path / "all") == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "all").iterdir()}
    assert cumulate(*two, out=tmp_path / "all") == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "all").iterdir()} == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_results_without_a_budget_count_their_uncertainty_as_common(document):
    made = deepcopy(document)
    for region in made["regions"]:
        region["uncertainty_budget"] = []
    found = next(region for region in counted_cycle(made).regions if region.name == "kidneys")
    assert found.correlation_assumed and found.values[DOSE].common_sd_gy == found.values[DOSE].sd_gy
    assert found.values[BED].common_sd_gy == pytest.approx(found.values[BED].sd_gy)


def test_a_drafts_results_hold_the_sums_with_its_signed_earlier_cycles(document, tmp_path):
    protocol = load_protocol("lu177-dotatate")
    earlier = [counted_cycle(json.loads((case(tmp_path, document, n, state=state) / "results.json").read_text()))
               for n, state in ((1, "signed"), (2, "draft"))]  # fmt: skip
    draft = json.loads((case(tmp_path, document, 3, state="draft") / "results.json").read_text())
    assert with_earlier(draft, earlier[1:], protocol) == draft
    made = require_valid(with_earlier(draft, earlier, protocol))
    sums = made["cumulative"]
    assert [(c["cycle"], c["state"]) for c in sums["cycles"]] == [(1, "signed"), (3, "draft")] and sums["provisional"]
    assert "EARLIER_NOT_COUNTED" in [flag["code"] for flag in made["flags"]] and "cycle 2" in made["flags"][-1]["text"]
    kidneys = next(region for region in draft["regions"] if region["name"] == "kidneys")
    assert row(sums, "kidneys")["absorbed_dose_gy"] == pytest.approx(2 * kidneys["absorbed_dose_gy"]["mean"], rel=1e-6)


def test_a_limit_reached_with_the_draft_is_told_among_the_flags_of_its_case(document, tmp_path):
    earlier = counted_cycle(json.loads((case(tmp_path, document, 1, scale=10.0) / "results.json").read_text()))
    draft = json.loads((case(tmp_path, document, 2, state="draft") / "results.json").read_text()) | {"verdict": "ok"}
    made = with_earlier(draft, [earlier], load_protocol("lu177-dotatate"))
    raised = [flag for flag in made["flags"] if flag["code"] == "CUMULATIVE_LIMIT_EXCEEDED"]
    assert any(flag["text"].startswith("kidneys, all cycles: ") for flag in raised) and made["verdict"] == "review"


def test_the_report_of_a_new_cycle_shows_it_with_the_signed_earlier_ones(document, tmp_path):
    earlier = counted_cycle(json.loads((case(tmp_path, document, 1, days=-56) / "results.json").read_text()))
    report = replace(sample_report(), earlier=(earlier,), protocol=load_protocol("lu177-dotatate"))
    folder = write_case(report, tmp_path / "case", manifest={})
    sums = json.loads((folder / "results.json").read_text("utf-8"))["cumulative"]
    kidneys = row(sums, "kidneys")
    shown = f"{kidneys['absorbed_dose_gy']:.2f} ± {kidneys['absorbed_dose_sd_gy']:.2f}"
    page = html.unescape((folder / "report.html").read_text("utf-8"))
    paper = " ".join(words.extract_text() for words in PdfReader(folder / "report.pdf").pages)
    for text in (page, paper):
        assert "With earlier cycles" in text and shown in text and "of 40" in text.replace("\n", " ")
        assert "1: cycle 1 (2026-01-05), signed; 2: cycle 1 (2026-03-02), draft" in text.replace("\n", " ")


def test_a_report_without_earlier_cycles_has_no_such_section(tmp_path):
    folder = write_case(sample_report(), tmp_path / "case", manifest={})
    assert json.loads((folder / "results.json").read_text("utf-8"))["cumulative"] is None
    assert "With earlier cycles" not in (folder / "report.html").read_text("utf-8")


@pytest.mark.parametrize(("model", "common"), [("mono", 0.03), ("hanscheid", 0.05)])
def test_a_patients_distance_from_a_population_is_the_same_in_every_cycle(document, model, common):
    terms = {"calibration": 0.03, "kinetics": 0.04, "volume": 0.12}
    for region in document["regions"][:1]:
        region["kinetics"]["model"] = model
        region["absorbed_dose_gy"]["mean_sd"] = 0.13 * region["absorbed_dose_gy"]["mean"]
        region["uncertainty_budget"] = [{"term": term, "relative_sd": sd, "share": sd**2 / 0.0169} for term, sd in terms.items()]
    dose = counted_cycle(document).regions[0].values[DOSE]
    assert dose.common_sd_gy == pytest.approx(common * dose.value_gy)
