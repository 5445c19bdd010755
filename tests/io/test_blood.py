"""From a table of blood samples at the door to both estimates of the red marrow's dose in the results and on paper."""

import hashlib
import html
import runpy
from dataclasses import replace
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from dicom_maker import KEY, PROTOCOL, pt_series, save, start_of
from pypdf import PdfReader

from mrtai.engines import known_beside, tac_model
from mrtai.io.blood import read_blood
from mrtai.io.manifest import case_manifest
from mrtai.io.report_figures import report_figures
from mrtai.io.report_html import html_report
from mrtai.io.report_pdf import pdf_report
from mrtai.io.report_words import notes
from mrtai.io.results import dumped, require_valid, results
from mrtai.io.study import read_study
from mrtai.io.study_toml import read_study_toml
from mrtai.io.tables import nuclide
from mrtai.physics.marrow import marrow_doses
from mrtai.values.refusal import DosimetryError

sample_report = runpy.run_path(str(Path(__file__).with_name("sample_report.py")))["sample_report"]
HEAD = "time_h,activity_kbq_per_ml,activity_sd_kbq_per_ml\n"
TABLE = HEAD + "0.5,215,6.5\n6,41.0,\n24,9.6,0.3\n"
EXAMPLES = files("mrtai") / "data" / "examples"
LU177 = nuclide("Lu-177")


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_samples_are_becquerel_per_millilitre_at_their_own_times(tmp_path):
    blood = read_blood(write(tmp_path / "blood.csv", "\ufeff" + TABLE), haematocrit=0.4)
    assert blood.curve.region == "blood" and blood.haematocrit == 0.4
    assert blood.curve.t_h.tolist() == [0.5, 6.0, 24.0]
    assert blood.curve.activity_bq.tolist() == [215e3, 41e3, 9.6e3]
    assert np.isnan(blood.curve.activity_sd_bq[1]) and blood.curve.activity_sd_bq[0] == 6.5e3


def test_the_uncertainty_column_may_be_missing(tmp_path):
    blood = read_blood(write(tmp_path / "blood.csv", "time_h,activity_kbq_per_ml\n1,2\n"))
    assert np.isnan(blood.curve.activity_sd_bq).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time_h,activity_mbq\n1,2\n", "columns activity_kbq_per_ml are missing"),
        ("", "columns activity_kbq_per_ml, time_h are missing"),
        (HEAD, "the table is empty"),
        (HEAD + "1,many,\n", "line 2, activity_kbq_per_ml is no number; found 'many'"),
        (HEAD + "1\n", "line 2, activity_kbq_per_ml is no number"),
        (HEAD + "1,inf,\n", "line 2, activity_kbq_per_ml is not finite"),
        (HEAD + "1,2,\n3,-2,\n", "line 3, the activity is negative"),
        (HEAD + "1,2,0\n", "line 2, the uncertainty is not positive"),
        (HEAD + "6,2,\n1,3,\n", "times must increase"),
        (HEAD + "6,2,\n6,3,\n", "times must increase"),
        (HEAD + "0,2,\n1,3,\n", "times must lie after the administration"),
        (b"time_h,activity_kbq_per_ml\n1,2\xff\n", "not UTF-8"),
    ],
)
def test_a_bad_table_is_refused_in_one_line_that_says_where(tmp_path, text, message):
    with pytest.raises(DosimetryError) as refusal:
        read_blood(write(tmp_path / "blood.csv", text))
    assert refusal.value.code == "BAD_BLOOD_TABLE"
    assert message in str(refusal.value) and str(refusal.value).startswith("blood.csv: ") and "\n" not in str(refusal.value)


def test_a_table_that_is_not_there_or_a_folder_is_refused(tmp_path):
    with pytest.raises(DosimetryError, match=r"none.csv: the table is missing"):
        read_blood(tmp_path / "none.csv")
    with pytest.raises(DosimetryError, match="found a folder"):
        read_blood(tmp_path)


def test_the_example_is_read_as_it_is_explained():
    stated = read_study_toml(EXAMPLES / "study.toml").blood
    assert (stated.samples, stated.haematocrit, stated.marrow_mass_kg) == ("blood.csv", 0.42, 1.17)
    assert read_blood(EXAMPLES / stated.samples).curve.t_h.size == 7


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[blood]\nhaematocrit = 0.4\n", "blood without samples"),
        ('[blood]\nsamples = "b.csv"\nhaematocrit = 42.0\n', "0.42, not 42"),
        ('[blood]\nsamples = "b.csv"\nhaematocrit = nan\n', "not usable as TOML; found a number that is not finite: nan"),
        ('[blood]\nsamples = "b.csv"\nmarrow_mass_g = -3\n', "'marrow_mass_g' must be positive"),
        ('[blood]\nsamples = "b.csv"\nhematocrit = 0.4\n', "unknown key; found 'hematocrit'"),
        ('blood = "b.csv"\n', "blood must be a table"),
    ],
)
def test_a_bad_blood_table_of_the_study_is_refused_by_name(tmp_path, table, message):
    with pytest.raises(DosimetryError) as refusal:
        read_study_toml(write(tmp_path / "study.toml", table))
    assert message in str(refusal.value)


def study(folder, blood='samples = "blood.csv"', agent=""):
    save(folder, pt_series(start_of(24)))
    write(folder / "blood.csv", TABLE)
    write(folder / "study.toml", f"{agent}[blood]\n{blood}\n")
    return read_study(folder, protocol=PROTOCOL, pseudonym_key=KEY)


def test_a_study_carries_its_blood_and_the_digest_of_the_table(tmp_path):
    cycle = study(tmp_path, 'samples = "blood.csv"\nhaematocrit = 0.38\nmarrow_mass_g = 900.0')
    assert cycle.blood.curve.t_h.size == 3 and cycle.blood.haematocrit == 0.38
    assert cycle.blood.marrow_mass_kg == pytest.approx(0.9)
    assert [one.sha256 for one in cycle.inputs if one.name == "blood samples"] == [hashlib.sha256(TABLE.encode()).hexdigest()]


def test_a_path_that_leads_out_of_the_study_is_refused(tmp_path):
    write(tmp_path / "blood.csv", TABLE)
    (tmp_path / "study").mkdir()
    with pytest.raises(DosimetryError, match="leads outside"):
        study(tmp_path / "study", 'samples = "../blood.csv"')


def test_an_agent_that_needs_a_haematocrit_is_refused_at_the_door(tmp_path):
    with pytest.raises(DosimetryError, match="needs a haematocrit"):
        study(tmp_path, agent='agent = "PSMA-617"\n')


@pytest.fixture(scope="module")
def report():
    """A report in which the spleen's contour is called the spine, with blood samples."""
    bare = sample_report()
    spine = next(replace(region, name="spine") for region in bare.regions if region.name == "spleen")
    blood = read_blood(Path(str(EXAMPLES / "blood.csv")), haematocrit=0.42)
    found = marrow_doses([spine], blood, "DOTATATE", LU177, tac_model("bi", known_beside(LU177)), 2.0)
    return replace(bare, marrow=found)


def test_results_hold_both_methods_in_the_units_of_the_outside_world(report):
    document = results(report)
    assert require_valid(document) == document and '"red_marrow"' in dumped(document)
    by_blood, by_image = document["red_marrow"]
    assert [by_blood["method"], by_image["method"]] == ["blood", "image"]
    dose = report.marrow[0]
    # seven significant digits are kept
    assert by_blood["tia_mbq_h"] == pytest.approx(dose.tia_bq_s / 3.6e9, rel=1e-6)
    assert by_blood["absorbed_dose_gy"] == pytest.approx(dose.absorbed_dose_gy, rel=1e-6)
    assert by_blood["rmblr"] == 1 and by_blood["haematocrit"] == 0.42
    assert by_blood["from"].startswith("blood samples (7)")
    assert by_image["region"] == "spine" and by_image["rmblr"] is None


def test_a_report_without_marrow_has_an_empty_list_and_no_table():
    bare = sample_report()
    document = results(bare)
    assert document["red_marrow"] == []
    page = html_report(bare, document, report_figures(bare), manifest=case_manifest(bare, {}))
    assert "<h2>Red marrow</h2>" not in page


def test_an_invalid_method_is_refused_by_the_schema(report):
    document = results(report)
    document["red_marrow"][0]["method"] = "guess"
    with pytest.raises(ValueError, match="red_marrow"):
        require_valid(document)


def test_flags_of_the_marrow_count_for_the_verdict_and_are_told(report):
    clean = replace(report, regions=(), flags=(), aligned=replace(report.aligned, cycle=replace(report.aligned.cycle, flags=())))
    assert {flag.code for flag in clean.marrow[1].flags} == {"DOSE_ABOVE_LIMIT", "MARROW_METHODS_DIFFER"}
    assert results(clean)["verdict"] == "review"
    assert results(replace(clean, marrow=()))["verdict"] == "ok"
    told = [note.where for note in notes(results(clean))["review"] if note.code == "MARROW_METHODS_DIFFER"]
    assert told == ["red marrow by blood, red marrow by image"]


def test_page_and_paper_show_both_methods_side_by_side(report):
    document, manifest, pictures = results(report), case_manifest(report, {}), report_figures(report)
    page = html.unescape(html_report(report, document, pictures, manifest=manifest))
    paper = "\n".join(p.extract_text() for p in PdfReader(BytesIO(pdf_report(report, document, pictures, manifest=manifest))).pages)
    assert "<h2>Red marrow</h2>" in page and "Red marrow\n" in paper
    for words in ("blood-based", "image-based", "blood samples (7)", "image, spine", "RMBLR"):
        assert words in page and words in paper, words
    blood, image = report.marrow
    for dose in (blood.absorbed_dose_gy, image.absorbed_dose_gy):
        assert f"{dose:.3g}" in page and f"{dose:.3g}" in paper
