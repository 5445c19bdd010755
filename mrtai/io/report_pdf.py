"""``report.pdf``: the content of the page for the record, A4, drawn with wheels only."""

import json
from collections.abc import Mapping
from typing import Any, Final

from reportlab.lib.units import mm
from reportlab.platypus import Flowable, KeepTogether, Spacer, Table, TableStyle

from mrtai.io.cumulative_tables import SUM_COLUMNS, cumulative_words, sum_groups
from mrtai.io.pdf_parts import WIDTH, box, fitted, grouped, heading, paragraph, pdf, table
from mrtai.io.report_figures import Picture, Pictures, beside
from mrtai.io.report_tables import (
    CHECK_COLUMNS,
    FIT_COLUMNS,
    MARROW_COLUMNS,
    REGION_COLUMNS,
    SCAN_COLUMNS,
    check_rows,
    fit_rows,
    header_rows,
    marrow_rows,
    region_groups,
    region_row,
    scan_rows,
)
from mrtai.io.report_words import (
    MARROW_WORDS,
    SEVERITY_WORDS,
    UNCERTAINTY,
    VERDICT_WORDS,
    check_words,
    methods,
    next_scan_words,
    notes,
)
from mrtai.io.results import Json
from mrtai.io.tables import nuclide
from mrtai.values.report import Report

INPUTS_AT_MOST: Final = 60
REGION_WIDTHS: Final = (30, 12, 12, 11, 15, 12, 22, 11, 11, 11, 11, 11, 13)
SCAN_WIDTHS: Final = (10, 14, 15, 18, 22, 22, 20, 22, 15, 22)
CHECK_WIDTHS: Final = (50, 30, 40, 35, 25)
MARROW_WIDTHS: Final = (22, 82, 20, 26, 14, 16)
SUM_WIDTHS: Final = (27, 38, 22, 28, 22, 28, 22, 13)
FIT_WIDTHS: Final = (28, 28, 14, 14, 26, 14, 56)


def pdf_report(report: Report, document: Json, pictures: Pictures, *, manifest: Mapping[str, Any]) -> bytes:
    """Return the PDF of a report and the ``results.json`` content made from it; equal input gives equal bytes."""
    name = f"{document['patient']['pseudonym']} cycle {document['cycle']}"
    return pdf(
        lambda: _story(report, document, pictures, manifest),
        title=f"Dosimetry {document['state']} {name}",
        head=name.replace(" cycle", " · cycle"),
        state=document["state"].upper() + (" · PROVISIONAL" if document["provisional"] else ""),
    )


def _story(report: Report, document: Json, pictures: Pictures, manifest: Mapping[str, Any]) -> list[Flowable]:
    half_life_h = nuclide(document["administrations"][0]["nuclide"]).half_life_h
    maps = [figure for figure in pictures.figures if figure.name.startswith(("planes", "projections"))]
    plots = [figure for figure in pictures.figures if figure not in maps]
    story: list[Flowable] = [*_title(report, document), *_flags(document, pictures), *_regions(document), *_marrow(document)]
    story += [*_cumulative(document), *_check(document)]
    for figure in (*plots, *maps):
        story.append(_figure(figure))
    story += [heading("Scans"), table(SCAN_COLUMNS, scan_rows(document, half_life_h), SCAN_WIDTHS), *_overrides(report)]
    rows = fit_rows(document)
    if rows:
        story += [heading("Curve fits"), table(FIT_COLUMNS, rows, FIT_WIDTHS, left=(0, 1, 6))]
    story.append(heading("Methods"))
    story += [paragraph(text, "body", lead=title) for title, text in methods(report, document)]
    return story + _provenance(manifest)


def _title(report: Report, document: Json) -> list[Flowable]:
    given = document["administrations"][0]
    cells = [[paragraph(name, "small"), paragraph(value, "bold")] for name, value in header_rows(report, document)]
    facts = Table([[*cells[row], *cells[row + 1]] for row in range(0, len(cells), 2)], colWidths=[WIDTH * 0.13, WIDTH * 0.37] * 2)
    facts.setStyle(
        TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0), ("TOPPADDING", (0, 0), (-1, -1), 1)])
    )
    words = f"{document['state'].upper()}{', PROVISIONAL' if document['provisional'] else ''}. Verdict: {document['verdict']}."
    return [
        paragraph(f"Absorbed dose after {given['nuclide']} {given['agent']}", "title"),
        box(words, VERDICT_WORDS[document["verdict"]], document["verdict"]),
        Spacer(1, 3 * mm),
        facts,
        *([paragraph(words, "body")] if (words := next_scan_words(document)) else []),
    ]


def _flags(document: Json, pictures: Pictures) -> list[Flowable]:
    story: list[Flowable] = [heading("What needs your eyes")]
    for severity, found in notes(document).items():
        if found:
            story.append(paragraph(SEVERITY_WORDS[severity], "bold"))
        for note, shown in beside(found, pictures.organs):
            story += [box(f"{note.where}:", f"{note.text} {note.remedy} [{note.code}]", severity, shown), Spacer(1, 1.2 * mm)]
    if len(story) == 1:
        story.append(paragraph("No flag was raised.", "body"))
    return story


def _regions(document: Json) -> list[Flowable]:
    groups = [(title, [region_row(region) for region in regions]) for title, regions in region_groups(document)]
    regions = grouped(REGION_COLUMNS, groups, REGION_WIDTHS)
    caption = f"{UNCERTAINTY} A dash: not computed, a flag says why. TIAC: Ã per administered activity. BED and EQD2: of the mean dose."
    return [heading("Regions"), regions, paragraph(caption, "small")]


def _marrow(document: Json) -> list[Flowable]:
    rows = marrow_rows(document)
    if not rows:
        return []
    return [heading("Red marrow"), table(MARROW_COLUMNS, rows, MARROW_WIDTHS, left=(0, 1)), paragraph(MARROW_WORDS, "small")]


def _cumulative(document: Json) -> list[Flowable]:
    if document["cumulative"] is None:
        return []
    groups = sum_groups(document["cumulative"])
    sums = grouped(SUM_COLUMNS, groups, SUM_WIDTHS)
    return [heading("With earlier cycles"), sums, paragraph(cumulative_words(document), "small")]


def _check(document: Json) -> list[Flowable]:
    rows, words = check_rows(document), paragraph(check_words(document), "small")
    return [heading("Second opinion"), *([table(CHECK_COLUMNS, rows, CHECK_WIDTHS)] if rows else []), words]


def _figure(picture: Picture) -> Flowable:
    return KeepTogether([heading(picture.title), fitted(picture, WIDTH), paragraph(picture.caption, "small")])


def _overrides(report: Report) -> list[Flowable]:
    rows = [[item.field, item.header, item.used] for item in report.aligned.cycle.overrides]
    if not rows:
        return []
    columns = (("field", ""), ("header", ""), ("used", ""))
    return [heading("Header values replaced by study.toml"), table(columns, rows, (60, 60, 60), left=(0, 1, 2))]


def _provenance(manifest: Mapping[str, Any]) -> list[Flowable]:
    rest = {name: value for name, value in manifest.items() if name not in ("inputs", "schema")}
    story: list[Flowable] = [heading("Provenance")]
    story += [paragraph(json.dumps(value, ensure_ascii=False), "small", lead=name.replace("_", " ")) for name, value in rest.items()]
    inputs = manifest["inputs"]
    more = f", the first {INPUTS_AT_MOST} here and all in manifest.json" if len(inputs) > INPUTS_AT_MOST else ""
    story.append(paragraph(f"{len(inputs)} files{more}", "small", lead="inputs"))
    return story + [paragraph(f"{file['name']} – SHA-256 {file['sha256'][:32]}…", "tiny") for file in inputs[:INPUTS_AT_MOST]]
