"""``mrtai validate``: pairs, refusals, zero against itself, and what its files say."""

import csv
import hashlib
import html
import json
import re
from copy import deepcopy
from importlib.resources import files

import numpy as np
import pytest
from pypdf import PdfReader

from mrtai.cli import main
from mrtai.comparison import Comparison, comparison
from mrtai.io.compared_cases import read_cases
from mrtai.io.manual_results import COLUMNS, contract_name
from mrtai.io.results import dumped, require_valid, results
from mrtai.io.validation_margin import equivalence_margin
from mrtai.values.protocol import EquivalenceMargin
from mrtai.values.refusal import DosimetryError
from tests.io.sample_report import sample_report

HEADING = ",".join(COLUMNS)
NAMES = ("kidney_left", "kidney_right", "spleen", "lesion_1", "liver")


@pytest.fixture(scope="module")
def document():
    return results(sample_report())


def pseudonym(number):
    return f"P-{number:016x}"


def write_case(folder, document, number=1, *, cycle=1, scale=1.0, state="draft"):
    """Write the case of a patient: the sample's numbers, doses and integrals times ``scale``."""
    made = deepcopy(document) | {"patient": {"pseudonym": pseudonym(number)}, "cycle": cycle, "state": state}
    for region in made["regions"]:
        dose = region["absorbed_dose_gy"]
        if dose["mean"] is not None:
            dose["mean"] *= scale
            region["tia_mbq_h"] = region["tia_mbq_h"] and region["tia_mbq_h"] * scale
    path = folder / f"case{number}-{cycle}"
    path.mkdir(parents=True)
    (path / "results.json").write_text(dumped(made), "utf-8")
    (path / "manifest.json").write_text(json.dumps({"code": {"version": "0.1.0", "commit": "abc"}}))
    return path


def rows_of(case, *, factor=None, names=NAMES, patient=None):
    """Return manual rows of a case, each number times ``factor()``; activities have rows of their own."""
    made = json.loads((case / "results.json").read_text())
    factor = factor or (lambda: 1.0)
    rows = []
    for region in made["regions"]:
        if region["name"] not in names:
            continue
        base = {"patient": patient or made["patient"]["pseudonym"], "cycle": made["cycle"], "region": region["name"]}
        numbers = {
            "volume_ml": region["volume_ml"],
            "tia_mbq_h": region["tia_mbq_h"],
            "effective_half_life_h": region["kinetics"]["effective_half_life_h"],
            "absorbed_dose_gy": region["absorbed_dose_gy"]["mean"],
        }
        rows.append(base | {name: value * factor() for name, value in numbers.items() if value is not None})
        points = zip(region["time_activity"]["time_h"], region["time_activity"]["activity_mbq"], strict=True)
        rows += [base | {"time_h": t_h, "activity_mbq": mbq * factor()} for t_h, mbq in points]
    return rows


def write_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def validate(auto, manual, out, *options):
    return main(["validate", str(auto), str(manual), "--out", str(out), *options])


def refused(auto, manual, out, capsys, *options):
    assert validate(auto, manual, out, "--json", *options) == 2
    assert not out.exists()
    return json.loads(capsys.readouterr().err)


def read(out):
    return require_valid(json.loads((out / "validation.json").read_text("utf-8")), "validation.schema.json")


def row(found, group, quantity="absorbed_dose"):
    return next(one for one in found["statistics"] if (one["group"], one["quantity"]) == (group, quantity))


def page_of(out):
    text = html.unescape((out / "validation.html").read_text("utf-8"))
    return text, re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, document):
    """Five patients, one of them with two cycles, against manual results that differ by a tenth and lack one patient."""
    folder = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(1)
    cases = [write_case(folder / "cases", document, n, scale=1 + 0.1 * n) for n in range(1, 6)]
    cases.append(write_case(folder / "cases", document, 1, cycle=2, scale=0.9))
    rows = [one for case in cases if "case5" not in case.name for one in rows_of(case, factor=lambda: np.exp(rng.normal(-0.05, 0.1)))]
    rows.append({"patient": "Muster^Erika", "cycle": 1, "region": "liver", "absorbed_dose_gy": 3.0})
    rows.append({"patient": pseudonym(2), "cycle": 1, "region": "pancreas", "absorbed_dose_gy": 1.0})
    manual = write_csv(folder / "manual.csv", rows)
    assert validate(folder / "cases", manual, folder / "out") == 0
    return folder / "out"


def test_every_class_and_quantity_is_compared_over_patients(cohort):
    found = read(cohort)
    dose = row(found, "overall")
    assert (dose["points"], dose["patients"]) == (25, 4)
    assert {one["group"] for one in found["statistics"]} == {"overall", "kidneys", "spleen", "lesion", "liver"}
    assert {one["quantity"] for one in found["statistics"]} == {"absorbed_dose", "tia", "effective_half_life", "volume", "activity"}
    assert row(found, "overall", "activity")["points"] == 75
    # the manual numbers lie 5 % below, known to about 10 % / √25
    assert dose["ratio"]["mean"] == pytest.approx(1.05, abs=0.06)
    assert dose["difference"]["within_sd"] is not None and row(found, "lesion")["points"] == 5


def test_what_has_no_partner_is_listed_and_never_dropped(cohort):
    found = read(cohort)["unmatched"]
    whole = {(one["side"], one["patient"]) for one in found if one["region"] is None}
    assert whole == {("automatic", pseudonym(5)), ("manual", "manual patient 1")}
    assert {"side": "manual", "patient": pseudonym(2), "cycle": 1, "region": "pancreas", "why": "only on the manual side"} in found
    assert any(one["region"] == "urinary_bladder" and one["side"] == "automatic" for one in found)


def test_a_name_in_the_manual_file_reaches_neither_page_nor_json(cohort):
    for name in ("validation.json", "validation.html"):
        text = (cohort / name).read_text("utf-8")
        assert "Muster" not in text and "Erika" not in text


def test_contributions_add_up_to_the_dose_difference_everywhere(cohort):
    found = read(cohort)
    told = [pair for pair in found["pairs"] if pair["attribution"]]
    assert len(told) == 25
    for one in [pair["attribution"] for pair in told] + found["attribution"]:
        assert sum(part["ln_ratio"] for part in one["contributions"]) == pytest.approx(one["total_ln_ratio"], abs=1e-9)
    for pair in told:
        ratio = pair["automatic"]["absorbed_dose"] / pair["manual"]["absorbed_dose"]
        assert np.exp(pair["attribution"]["total_ln_ratio"]) == pytest.approx(ratio, rel=1e-6)


def test_the_page_opens_offline_and_says_what_was_compared(cohort):
    found, (raw, text) = read(cohort), page_of(cohort)
    assert not re.search(r"https?:|//[a-z]|@import|<link|<script", re.sub(r"base64,[A-Za-z0-9+/=]+", "", raw))
    assert raw.count("data:image/png") == 6
    assert "Research use only. Not a medical device" in text and "4 patients: a limit of agreement is known to about ± 1.7" in text
    for one in found["attribution"]:
        assert one["text"] in text
    for side in ("automatic", "manual"):
        assert all(cycle["sha256"] in text for cycle in found[side])
    assert "Whole cycle only on the manual side; manual patient 1 cycle 1" in text
    assert "Pancreas only on the manual side" in text and found["version"] in text and "0.1.0 abc" in text


def test_a_case_against_itself_differs_nowhere(tmp_path, document):
    folder = tmp_path / "cases"
    for n in range(1, 5):
        write_case(folder, document, n, scale=1 + 0.2 * n)
    assert validate(folder, folder, tmp_path / "out") == 0
    found = read(tmp_path / "out")
    assert found["unmatched"] == []
    for one in found["statistics"]:
        assert [value for key, value in one["difference"].items() if value not in (0.0, None, [0.0, 0.0])] == []
        assert one["ratio"]["mean"] == 1.0 and one["ratio"]["lower"] == one["ratio"]["upper"] == 1.0
        assert one["equivalence"]["shown"] and one["equivalence"]["p"] == 0.0
        for name in ("concordance", "icc_2_1", "icc_3_1"):
            assert one[name] is None or one[name]["value"] == 1.0
        for name in ("deming", "passing_bablok"):
            assert one[name] is None or (one[name]["slope"], one[name]["intercept"]) == (1.0, pytest.approx(0.0, abs=1e-9))
    assert found["attribution"]
    for one in found["attribution"]:
        assert one["total_ln_ratio"] == 0.0 and [part["ln_ratio"] for part in one["contributions"]] == [0.0] * 4
        assert one["text"].endswith("differs by 0.0 %: 0.0 % contour, 0.0 % activity, 0.0 % curve, 0.0 % dose calculation")


def test_sums_of_regions_stand_apart_and_count_overall_only_without_their_parts(tmp_path, document):
    case = write_case(tmp_path, document)
    parts = ("kidneys", "kidney_left", "kidney_right", "liver")
    assert validate(case, write_csv(tmp_path / "m.csv", rows_of(case, names=parts)), tmp_path / "out") == 0
    alone = {pair["region"]: pair["stands_alone"] for pair in read(tmp_path / "out")["pairs"]}
    assert alone == {"kidneys": False, "kidney_left": True, "kidney_right": True, "liver": True}
    assert {one["group"] for one in read(tmp_path / "out")["statistics"]} == {"overall", "kidneys", "union_kidneys", "liver"}
    sums = write_csv(tmp_path / "s.csv", rows_of(case, names=("kidneys",)))
    assert validate(case, sums, tmp_path / "sums") == 0
    assert [pair["stands_alone"] for pair in read(tmp_path / "sums")["pairs"]] == [True]


def test_steps_that_a_dose_alone_does_not_tell_are_said(tmp_path, document):
    case = write_case(tmp_path, document)
    rows = [{"patient": pseudonym(1), "cycle": 1, "region": "spleen", "absorbed_dose_gy": 3.0}]
    assert validate(case, write_csv(tmp_path / "m.csv", rows), tmp_path / "out") == 0
    (one,) = read(tmp_path / "out")["attribution"]
    assert one["contributions"] == [{"steps": ["contour", "activity", "curve", "dose"], "ln_ratio": one["total_ln_ratio"]}]
    assert "contour + activity + curve + dose calculation (not separable)" in page_of(tmp_path / "out")[1]


def test_names_of_the_manual_side_are_mapped_by_a_file(tmp_path, document, capsys):
    case = write_case(tmp_path, document)
    rows = rows_of(case, names=("kidney_left", "lesion_1"))
    for one in rows:
        one["region"] = {"kidney_left": "Niere links", "lesion_1": "Metastase 7"}[one["region"]]
    manual, names = write_csv(tmp_path / "m.csv", rows), tmp_path / "names.toml"
    found = refused(case, manual, tmp_path / "out", capsys)
    assert found["code"] == "UNKNOWN_REGION" and "--regions" in found["remedy"]
    names.write_text('[regions]\n"Niere links" = "kidney_left"\n"Metastase 7" = "lesion_1"\n')
    assert validate(case, manual, tmp_path / "out", "--regions", str(names)) == 0
    assert {pair["region"] for pair in read(tmp_path / "out")["pairs"]} == {"kidney_left", "lesion_1"}


def test_free_names_of_organs_are_understood_and_lesions_need_their_number():
    assert [contract_name(name) for name in ("Left Kidney", "kidney_left", "Liver", "lesion_3")] == [
        "kidney_left",
        "kidney_left",
        "liver",
        "lesion_3",
    ]
    assert [contract_name(name) for name in ("Metastasis 2", "lesion", "Gruebel")] == [None, None, None]
    assert contract_name("tumour_total") == "tumour_total"


def test_a_region_that_another_case_alone_names_is_listed_and_not_refused(tmp_path, document):
    other = deepcopy(document)
    other["regions"][0] |= {"name": "tumour bed", "kind": "other"}
    assert validate(write_case(tmp_path / "a", document), write_case(tmp_path / "b", other), tmp_path / "out") == 0
    told = {(one["side"], one["region"]) for one in read(tmp_path / "out")["unmatched"]}
    assert told == {("manual", "tumour bed"), ("automatic", document["regions"][0]["name"])}


def test_a_calibration_off_by_four_percent_is_the_activity_step_alone(tmp_path, document):
    case = write_case(tmp_path, document)
    rows = rows_of(case)
    for one in rows:
        for name in ("activity_mbq", "tia_mbq_h", "absorbed_dose_gy"):
            if name in one:
                one[name] *= 1.04
    assert validate(case, write_csv(tmp_path / "m.csv", rows), tmp_path / "out") == 0
    for one in read(tmp_path / "out")["attribution"]:
        gains = {part["steps"][0]: part["ln_ratio"] for part in one["contributions"]}
        assert gains == pytest.approx({"contour": 0.0, "activity": -np.log(1.04), "curve": 0.0, "dose": 0.0}, abs=1e-6)


def test_the_pdf_says_what_the_page_says(cohort):
    found = read(cohort)
    text = re.sub(r"\s+", " ", " ".join(page.extract_text() for page in PdfReader(cohort / "validation.pdf").pages))
    assert "Research use only. Not a medical device" in text and found["sample_size"][:40] in text and found["version"] in text
    assert all(one["text"][:60] in text for one in found["attribution"])
    assert "Without a partner" in text and "Passing–Bablok" in text and "manual patient 1" in text


def test_a_cohorts_comparison_lists_bad_cases_and_goes_on(tmp_path, document):
    for n in (1, 2):
        write_case(tmp_path / "set", document, n)
        # a site keeps each CASE folder beside its inputs
        write_case(tmp_path / "drafts", document, n, state="rejected" if n == 2 else "draft").rename(tmp_path / f"moved{n}")
        (tmp_path / "cycles" / f"cycle{n}").mkdir(parents=True)
        (tmp_path / f"moved{n}").rename(tmp_path / "cycles" / f"cycle{n}" / "case")
    broken = tmp_path / "set" / "broken"
    broken.mkdir()
    (broken / "results.json").write_text("{")
    found = comparison(Comparison(tmp_path / "set", tmp_path / "cycles", tmp_path / "out", lenient=True))
    assert {pair.patient for pair in found.pairs} == {pseudonym(1)}
    told = {(one.side, one.patient, one.why) for one in found.unmatched if one.region is None}
    assert told == {
        ("automatic", "automatic, case 1", "left out: no readable case (another results.json)"),
        ("manual", "manual, case 2", "left out: the case may not be used (state rejected)"),
        ("automatic", pseudonym(2), "only on the automatic side"),
    }
    with pytest.raises(DosimetryError, match="no readable case"):
        comparison(Comparison(tmp_path / "set", tmp_path / "cycles", tmp_path / "strict"))


def with_protocol(case, name, content):
    manifest = json.loads((case / "manifest.json").read_text())
    manifest["protocol"] = {"name": name, "sha256": hashlib.sha256(content).hexdigest()}
    (case / "manifest.json").write_text(json.dumps(manifest))


def test_the_margin_is_the_protocols_unless_one_is_asked_for(tmp_path, document):
    shipped = (files("mrtai") / "data" / "protocols" / "lu177-dotatate.toml").read_bytes()
    own = shipped + b'\n[equivalence]\nmargin = 0.1\nsource = "our own study"\n'
    ours = tmp_path / "ours.toml"
    ours.write_bytes(own)
    cases = [write_case(tmp_path / "cases", document, n) for n in (1, 2)]
    for case in cases:
        with_protocol(case, "ours", own)
    sides = read_cases(tmp_path / "cases", "automatic")
    assert equivalence_margin(None, sides, [ours]) == EquivalenceMargin(0.1, "our own study")
    assert equivalence_margin(0.2, sides, [ours]).margin == 0.2
    # a protocol that is not at hand leaves the default, and says where that comes from
    assert equivalence_margin(None, sides, []) == EquivalenceMargin() and EquivalenceMargin().margin == 0.05
    with_protocol(cases[1], "lu177-dotatate", shipped)
    with pytest.raises(DosimetryError, match=r"different margins of equivalence; found 0.05, 0.1"):
        equivalence_margin(None, read_cases(tmp_path / "cases", "automatic"), [ours])


LINE = f"{pseudonym(1)},1,spleen,200,,,,,3.0"


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (f"{HEADING.replace(',tia_mbq_h', '')}\n", "MISSING_COLUMN", "no tia_mbq_h"),
        (f"{HEADING},name\n", "UNKNOWN_COLUMN", "10 columns"),
        (f"{HEADING}\n", "EMPTY_TABLE", "empty"),
        ("", "MISSING_COLUMN", "no patient, cycle"),
        (f"{HEADING}\n{pseudonym(1)},1,spleen,200,,,,,3,02\n", "DECIMAL_COMMA", "line 2"),
        (f'{HEADING}\n{pseudonym(1)},1,spleen,200,,,,,"3,02"\n', "DECIMAL_COMMA", "absorbed_dose_gy"),
        (f"{HEADING}\n{LINE}\n".replace(",", ";"), "DECIMAL_COMMA", "semicolons"),
        (f"{HEADING}\n{LINE}\n{LINE}\n", "DUPLICATE_ROW", "line 3"),
        (f"{HEADING}\n{pseudonym(1)},1,spleen,,24,50,,,\n{pseudonym(1)},1,spleen,,24.0,51,,,\n", "DUPLICATE_ROW", "line 3"),
        (f"{HEADING}\n{pseudonym(1)},1,spleen,200,24,50,,,\n{pseudonym(1)},1,spleen,210,96,20,,,\n", "CONTRADICTION", "volume_ml"),
        (f"{HEADING}\n{pseudonym(1)},1,spleen,200,,,,,3\n{pseudonym(1)},1,Spleen,200,,,,,3\n", "DUPLICATE_ROW", "'spleen' twice"),
        (f"{HEADING}\n{pseudonym(1)},1,Schilddruese,20,,,,,3\n", "UNKNOWN_REGION", "Schilddruese"),
        (f"{HEADING}\n{pseudonym(1)},1,spleen,200,24,,,,3\n", "BAD_ROW", "line 2"),
        (f"{HEADING}\n{pseudonym(1)},one,spleen,200,,,,,3\n", "BAD_ROW", "cycle"),
        (f"{HEADING}\n{pseudonym(1)},1,,200,,,,,3\n", "BAD_ROW", "no region"),
        (f"{HEADING}\n{pseudonym(1)},1,spleen,200\n", "BAD_ROW", "too few"),
        (f"{HEADING}\n{pseudonym(1)},1,spleen,-200,,,,,3\n", "NOT_A_NUMBER", "volume_ml"),
        (f"{HEADING}\n{pseudonym(1)},1,spleen,200,,,,,nan\n", "NOT_A_NUMBER", "not finite"),
        (f"{HEADING}\n{pseudonym(1)},1,spleen,n/a,,,,,3\n", "NOT_A_NUMBER", "volume_ml"),
        (f"{HEADING}\n{pseudonym(1)},1,spleen,200,,,,,SPLEEN_MGY\n", "MIXED_UNITS", "Gy and mGy"),
        (f"{HEADING}\nMuster^Erika,1,spleen,200,,,,,3\n", "OTHER_PATIENT", "pseudonym"),
        (f"{HEADING}\n{pseudonym(1)},2,spleen,200,,,,,3\n", "NOTHING_TO_COMPARE", "cycle"),
        (f"{HEADING}\n{pseudonym(1)},1,pancreas,20,,,,,3\n", "NOTHING_TO_COMPARE", "region"),
    ],
)
def test_a_manual_file_that_cannot_be_trusted_is_refused_in_one_line(tmp_path, document, capsys, text, code, says):
    case, manual = write_case(tmp_path, document), tmp_path / "Muster-Erika.csv"
    spleen = next(region for region in document["regions"] if region["name"] == "spleen")
    manual.write_text(text.replace("SPLEEN_MGY", str(1100 * spleen["absorbed_dose_gy"]["mean"])), "utf-8")
    found = refused(case, manual, tmp_path / "out", capsys)
    assert found["code"] == code and says in found["error"]
    assert "Muster" not in found["error"] and pseudonym(1) not in found["error"]


def test_a_table_of_a_spreadsheet_with_its_mark_in_front_is_read(tmp_path, document):
    case, manual = write_case(tmp_path, document), tmp_path / "m.csv"
    manual.write_text(f"{HEADING}\r\n{LINE}\r\n,,,,,,,,\r\n", "utf-8-sig")
    assert validate(case, manual, tmp_path / "out") == 0
    assert read(tmp_path / "out")["pairs"][0]["manual"]["volume"] == 200.0


@pytest.mark.parametrize(("state", "code"), [("rejected", "CASE_UNUSABLE"), ("held", "CASE_UNUSABLE")])
def test_a_case_that_may_not_be_used_is_refused(tmp_path, document, capsys, state, code):
    case = write_case(tmp_path, document, state=state)
    assert refused(case, case, tmp_path / "out", capsys)["code"] == code


def test_no_case_and_two_of_one_cycle_are_refused(tmp_path, document, capsys):
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty", tmp_path / "empty", tmp_path / "out", capsys)["code"] == "NOT_A_CASE"
    folder = tmp_path / "cases"
    write_case(folder, document).rename(folder / "again")
    write_case(folder, document)
    assert refused(folder, folder, tmp_path / "out", capsys)["code"] == "DUPLICATE_CASE"
    assert refused(folder / "again", tmp_path / "none.csv", tmp_path / "out", capsys)["code"] == "NO_FILE"


def test_a_folder_with_something_else_is_left_alone(tmp_path, document, capsys):
    case, out = write_case(tmp_path, document), tmp_path / "out"
    manual = write_csv(tmp_path / "m.csv", [{"patient": pseudonym(1), "cycle": 1, "region": "spleen", "absorbed_dose_gy": 3.0}])
    assert validate(case, manual, out) == 0
    assert validate(case, manual, out) == 0
    (out / "notes.txt").write_text("mine")
    assert validate(case, manual, out, "--json") == 2
    assert json.loads(capsys.readouterr().err)["code"] == "OUTPUT_NOT_OURS" and (out / "notes.txt").read_text() == "mine"


def test_a_scan_that_one_side_lacks_is_told(tmp_path, document):
    case = write_case(tmp_path, document)
    rows = [one for one in rows_of(case, names=("spleen",)) if one.get("time_h", 0.0) < 150]
    assert validate(case, write_csv(tmp_path / "m.csv", rows), tmp_path / "out") == 0
    told = [one["why"] for one in read(tmp_path / "out")["unmatched"] if one["region"] == "spleen"]
    assert told == ["1 of 3 activities have no scan of the other side within 1 h"]
