import html
import json
import re
import runpy
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pypdf import PdfReader

from mrtai.io.manifest import case_manifest
from mrtai.io.report_figures import report_figures
from mrtai.io.report_html import html_report
from mrtai.io.report_pdf import pdf_report
from mrtai.io.report_tables import scan_rows, significant, with_sd
from mrtai.io.report_words import notes
from mrtai.io.results import results

sample_report = runpy.run_path(str(Path(__file__).with_name("sample_report.py")))["sample_report"]
HOSTILE = '<img src=x onerror="alert(1)">$\\frac{</script>&amp;'
LARGEST_BYTES = 8_000_000


def pages(report):
    document, manifest = results(report), case_manifest(report, {})
    pictures = report_figures(report)
    return html_report(report, document, pictures, manifest=manifest), pdf_report(report, document, pictures, manifest=manifest)


@pytest.fixture(scope="module")
def report():
    return sample_report()


@pytest.fixture(scope="module")
def drawn(report):
    return pages(report)


def text_of(pdf):
    return "\n".join(page.extract_text() for page in PdfReader(BytesIO(pdf)).pages)


def test_the_page_fetches_nothing(drawn):
    page = drawn[0]
    assert not re.search(r"https?:|//[a-z]|@import|<link|<iframe", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', page))
    assert len(page.encode()) < LARGEST_BYTES


def test_flags_stand_above_the_table_and_the_gravest_first(drawn):
    page = html.unescape(drawn[0])
    order = ["DRAFT", "no method can continue this curve", "7250 MBq by 7400 MBq", "<h2>Regions</h2>", 'id="methods"', 'id="provenance"']
    places = [page.index(words) for words in order]
    assert places == sorted(places)
    assert "Look at the contours in scan 3" in page


def test_the_page_says_what_a_reader_must_not_overlook(drawn, report):
    page = html.unescape(drawn[0])
    for words in (
        "Research use only. Not a medical device. Decision support under a qualified person.",
        "simulator (true contours of the virtual patient)",
        "one standard uncertainty (k = 1) of the whole chain",
        "P-3f9a5c1e22d0",
        "Barone 2005",
    ):
        assert words in page, words
    assert "PROVISIONAL" not in page


def test_a_header_value_that_was_replaced_is_shown_beside_the_one_used(drawn):
    assert "<td>administered_mbq</td><td>7250</td><td><strong>7400</strong></td>" in drawn[0]


def test_a_hostile_region_name_is_text_and_never_mark_up(report):
    named = replace(report.regions[0], name=HOSTILE)
    labels = replace(report.labels, names={**report.labels.names, 1: HOSTILE})
    page, pdf = pages(replace(report, regions=(named, *report.regions[1:]), labels=labels))
    assert "<img src=x" not in page and page.count("</script>") == drawn_scripts(page)
    assert html.escape("<img src=x") in page
    viewer = re.search(r'id="viewer-data">(.*?)</script>', page, re.S)[1]
    assert json.loads(viewer)["regions"][0]["name"] == HOSTILE
    assert "onerror" in text_of(pdf)


def drawn_scripts(page):
    return len(re.findall(r"<script[ >]", page))


def test_the_viewer_has_a_picture_and_outlines_for_every_slice_and_true_proportions(drawn):
    viewer = json.loads(re.search(r'id="viewer-data">(.*?)</script>', drawn[0], re.S)[1])
    for plane in viewer["planes"].values():
        assert len(plane["outlines"]) == plane["count"] > 10
        assert plane["pixels"][0] / plane["pixels"][1] == pytest.approx(plane["size_mm"][0] / plane["size_mm"][1])
    assert viewer["planes"]["axial"]["letters"] == ["R", "L", "A", "P"]


def test_the_pdf_has_the_pseudonym_the_state_and_the_table_on_paper(drawn, report):
    reader = PdfReader(BytesIO(drawn[1]))
    text = text_of(drawn[1])
    for number, page in enumerate(reader.pages, start=1):
        words = page.extract_text()
        assert "P-3f9a5c1e22d0" in words and "DRAFT" in words and f"page {number} of {len(reader.pages)}" in words
    kidney = next(region for region in report.regions if region.name == "kidney_left")
    assert "kidney left" in text and f"{kidney.dose.mean_gy:.2f} ± {kidney.dose.mean_sd_gy:.2f}" in text
    assert text.index("no method can continue this curve") < text.index("MBq h")
    assert abs(float(reader.pages[0].mediabox.width) - 595.28) < 0.1  # A4 in points


def test_equal_reports_give_equal_pages(drawn):
    assert pages(sample_report()) == drawn


def test_one_scan_without_ct_and_without_any_dose_still_makes_pages(report):
    bare = sample_report(with_ct=False)
    cycle = replace(bare.aligned.cycle, time_points=bare.aligned.cycle.time_points[:1], overrides=())
    aligned = replace(bare.aligned, cycle=cycle, spects=bare.aligned.spects[:1], alignments=bare.aligned.alignments[:1])
    regions = tuple(replace(region, fit=None, dose=None, biological=None) for region in bare.regions)
    page, pdf = pages(replace(bare, aligned=aligned, regions=regions, provisional=True))
    assert "PROVISIONAL" in page and "PROVISIONAL" in text_of(pdf)
    assert "density (there is no CT)" in page


def test_flags_that_say_the_same_of_several_regions_are_told_once(report):
    found = notes(results(report))["info"]
    assert [note.where for note in found if note.code == "NO_RADIOBIOLOGY"] == ["liver, spleen, urinary bladder, lesion 1"]


def test_what_a_union_passes_on_is_told_of_its_members_alone(report):
    document = results(report)
    flag = {"code": "FIT_POOR", "severity": "review", "text": "The points lie nowhere.", "remedy": "Look."}
    rows = [
        {"name": "kidney_left", "kind": "organ", "flags": [flag]},
        {
            "name": "kidneys",
            "kind": "union",
            "flags": [flag | {"text": "kidney_left: The points lie nowhere."}, flag | {"text": "Its own: doubt."}],
        },
    ]
    found = notes(document | {"regions": rows})["review"]
    assert [(note.where, note.text) for note in found if note.code == "FIT_POOR"] == [
        ("kidney left", "The points lie nowhere."),
        ("kidneys", "Its own: doubt."),
    ]


def test_the_share_of_the_administered_activity_is_given_with_and_without_decay(report):
    row = scan_rows(results(report), half_life_h=159.5)[1]
    in_view, decayed = float(row[4]), float(row[5])
    # printed to whole per cent
    assert decayed == pytest.approx(in_view * 2 ** (96.3 / 159.5), abs=0.5 * 2 ** (96.3 / 159.5) + 0.5)


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (None, 3, "–"),
        (0.0, 3, "0"),
        (4.7182, 3, "4.72"),
        (9.999, 3, "10.0"),
        (25563.4, 4, "25560"),
        (0.00123, 3, "0.00123"),
        (-0.5, 2, "-0.50"),
    ],
)
def test_numbers_have_the_digits_that_carry_meaning(value, digits, shown):
    assert significant(value, digits) == shown


def test_an_uncertainty_has_the_decimals_of_its_value():
    assert with_sd(4.7182, 0.6149) == "4.72 ± 0.61"
    assert with_sd(4.7182, None) == "4.72"
    assert with_sd(None, None) == "–"
