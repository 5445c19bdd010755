"""``report.pdf``: the content of the page for the record, A4, drawn with wheels only."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

import matplotlib
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, Image, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from mrtai.io.cumulative_tables import SUM_COLUMNS, cumulative_words, sum_groups
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
    INTENDED_USE,
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

Columns = Sequence[tuple[str, str]]

MARGIN: Final = 15 * mm
FRAME_PADDING: Final = 6.0  # points that a platypus frame keeps free on each side
WIDTH: Final = A4[0] - 2 * MARGIN - 2 * FRAME_PADDING
FIGURE_HEIGHT_AT_MOST: Final = 150 * mm
PICTURE_SHARE: Final = 0.57  # of the width, for pictures beside a flag
INPUTS_AT_MOST: Final = 60
INK, SOFT, LINE, WASH = HexColor("#1f2933"), HexColor("#5f6b7a"), HexColor("#dfe4ea"), HexColor("#f5f7f9")
TONES: Final = {
    "ok": (HexColor("#e1f3ed"), HexColor("#00664b")),
    "info": (WASH, LINE),
    "review": (HexColor("#fdf1dc"), HexColor("#9a5b00")),
    "withheld": (HexColor("#fbe9e2"), HexColor("#a3320b")),
}
REGION_WIDTHS: Final = (30, 12, 12, 11, 15, 12, 22, 11, 11, 11, 11, 11, 13)
SCAN_WIDTHS: Final = (10, 14, 15, 18, 22, 22, 20, 22, 15, 22)
CHECK_WIDTHS: Final = (50, 30, 40, 35, 25)
MARROW_WIDTHS: Final = (22, 82, 20, 26, 14, 16)
SUM_WIDTHS: Final = (27, 38, 22, 28, 22, 28, 22, 13)
FIT_WIDTHS: Final = (28, 28, 14, 14, 26, 14, 56)


def pdf_report(report: Report, document: Json, pictures: Pictures, *, manifest: Mapping[str, Any]) -> bytes:
    """Return the PDF of a report and the ``results.json`` content made from it; equal input gives equal bytes."""
    _register_fonts()
    pages = _built(_story(report, document, pictures, manifest), document, pages=None)[1]
    return _built(_story(report, document, pictures, manifest), document, pages=pages)[0]


def _built(story: list[Flowable], document: Json, *, pages: int | None) -> tuple[bytes, int]:
    stream = BytesIO()
    template = SimpleDocTemplate(
        stream,
        pagesize=A4,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=22 * mm,
        bottomMargin=20 * mm,
        title=f"Dosimetry {document['state']} {document['patient']['pseudonym']} cycle {document['cycle']}",
        author="mrtai",
        subject=INTENDED_USE,
        invariant=1,
    )
    frame = _frame(document, pages)
    template.build(story, onFirstPage=frame, onLaterPages=frame)
    return stream.getvalue(), int(template.page)


def _frame(document: Json, pages: int | None) -> Callable[[Any, Any], None]:
    def draw(canvas: Any, template: Any) -> None:
        canvas.saveState()
        canvas.setFont("body-bold", 8)
        canvas.setFillColor(INK)
        top = A4[1] - 13 * mm
        left, right = MARGIN + FRAME_PADDING, A4[0] - MARGIN - FRAME_PADDING
        canvas.drawString(left, top, f"{document['patient']['pseudonym']} · cycle {document['cycle']}")
        state = document["state"].upper() + (" · PROVISIONAL" if document["provisional"] else "")
        canvas.drawRightString(right, top, state)
        canvas.setStrokeColor(LINE)
        canvas.line(left, top - 2 * mm, right, top - 2 * mm)
        canvas.setFont("body", 7)
        canvas.setFillColor(SOFT)
        canvas.drawString(left, 11 * mm, INTENDED_USE)
        canvas.drawRightString(right, 11 * mm, f"page {template.page} of {pages or template.page}")
        canvas.restoreState()

    return draw


def _story(report: Report, document: Json, pictures: Pictures, manifest: Mapping[str, Any]) -> list[Flowable]:
    half_life_h = nuclide(document["administrations"][0]["nuclide"]).half_life_h
    maps = [figure for figure in pictures.figures if figure.name.startswith(("planes", "projections"))]
    plots = [figure for figure in pictures.figures if figure not in maps]
    story: list[Flowable] = [*_title(report, document), *_flags(document, pictures), *_regions(document), *_marrow(document)]
    story += [*_cumulative(document), *_check(document)]
    for figure in (*plots, *maps):
        story.append(_figure(figure))
    story += [_heading("Scans"), _table(SCAN_COLUMNS, scan_rows(document, half_life_h), SCAN_WIDTHS), *_overrides(report)]
    rows = fit_rows(document)
    if rows:
        story += [_heading("Curve fits"), _table(FIT_COLUMNS, rows, FIT_WIDTHS, left=(0, 1, 6))]
    story.append(_heading("Methods"))
    story += [_paragraph(text, "body", lead=title) for title, text in methods(report, document)]
    return story + _provenance(manifest)


def _title(report: Report, document: Json) -> list[Flowable]:
    given = document["administrations"][0]
    cells = [[_paragraph(name, "small"), _paragraph(value, "bold")] for name, value in header_rows(report, document)]
    facts = Table([[*cells[row], *cells[row + 1]] for row in range(0, len(cells), 2)], colWidths=[WIDTH * 0.13, WIDTH * 0.37] * 2)
    facts.setStyle(
        TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0), ("TOPPADDING", (0, 0), (-1, -1), 1)])
    )
    words = f"{document['state'].upper()}{', PROVISIONAL' if document['provisional'] else ''}. Verdict: {document['verdict']}."
    return [
        _paragraph(f"Absorbed dose after {given['nuclide']} {given['agent']}", "title"),
        _box(words, VERDICT_WORDS[document["verdict"]], document["verdict"]),
        Spacer(1, 3 * mm),
        facts,
        *([_paragraph(words, "body")] if (words := next_scan_words(document)) else []),
    ]


def _flags(document: Json, pictures: Pictures) -> list[Flowable]:
    story: list[Flowable] = [_heading("What needs your eyes")]
    for severity, found in notes(document).items():
        if found:
            story.append(_paragraph(SEVERITY_WORDS[severity], "bold"))
        for note, shown in beside(found, pictures.organs):
            story += [_box(f"{note.where}:", f"{note.text} {note.remedy} [{note.code}]", severity, shown), Spacer(1, 1.2 * mm)]
    if len(story) == 1:
        story.append(_paragraph("No flag was raised.", "body"))
    return story


def _regions(document: Json) -> list[Flowable]:
    groups = [(title, [region_row(region) for region in regions]) for title, regions in region_groups(document)]
    table = _grouped(REGION_COLUMNS, groups, REGION_WIDTHS)
    caption = f"{UNCERTAINTY} A dash: not computed, a flag says why. TIAC: Ã per administered activity. BED and EQD2: of the mean dose."
    return [_heading("Regions"), table, _paragraph(caption, "small")]


def _grouped(columns: Columns, groups: Sequence[tuple[str, Sequence[Sequence[str]]]], widths_mm: Sequence[float]) -> Table:
    """Return a table of titled groups whose last column is a verdict."""
    rows: list[Sequence[str]] = []
    style: list[Any] = []
    for title, members in groups:
        head = len(rows) + 1
        style += [("BACKGROUND", (0, head), (-1, head), WASH), ("SPAN", (0, head), (-1, head))]
        rows.append([title, *[""] * (len(columns) - 1)])
        for cells in members:
            rows.append(cells)
            if cells[-1]:
                style.append(("BACKGROUND", (-1, len(rows)), (-1, len(rows)), TONES[cells[-1]][0]))
    table = _table(columns, rows, widths_mm)
    table.setStyle(TableStyle(style))
    return table


def _marrow(document: Json) -> list[Flowable]:
    rows = marrow_rows(document)
    if not rows:
        return []
    return [_heading("Red marrow"), _table(MARROW_COLUMNS, rows, MARROW_WIDTHS, left=(0, 1)), _paragraph(MARROW_WORDS, "small")]


def _cumulative(document: Json) -> list[Flowable]:
    if document["cumulative"] is None:
        return []
    groups = sum_groups(document["cumulative"])
    table = _grouped(SUM_COLUMNS, groups, SUM_WIDTHS)
    return [_heading("With earlier cycles"), table, _paragraph(cumulative_words(document), "small")]


def _check(document: Json) -> list[Flowable]:
    rows, words = check_rows(document), _paragraph(check_words(document), "small")
    return [_heading("Second opinion"), *([_table(CHECK_COLUMNS, rows, CHECK_WIDTHS)] if rows else []), words]


def _figure(picture: Picture) -> Flowable:
    return KeepTogether([_heading(picture.title), _fitted(picture, WIDTH), _paragraph(picture.caption, "small")])


def _fitted(picture: Picture, width_at_most: float) -> Image:
    width, height = ImageReader(BytesIO(picture.content)).getSize()
    scale = min(width_at_most / width, FIGURE_HEIGHT_AT_MOST / height)
    return Image(BytesIO(picture.content), width * scale, height * scale)


def _overrides(report: Report) -> list[Flowable]:
    rows = [[item.field, item.header, item.used] for item in report.aligned.cycle.overrides]
    if not rows:
        return []
    columns = (("field", ""), ("header", ""), ("used", ""))
    return [_heading("Header values replaced by study.toml"), _table(columns, rows, (60, 60, 60), left=(0, 1, 2))]


def _provenance(manifest: Mapping[str, Any]) -> list[Flowable]:
    rest = {name: value for name, value in manifest.items() if name not in ("inputs", "schema")}
    story: list[Flowable] = [_heading("Provenance")]
    story += [_paragraph(json.dumps(value, ensure_ascii=False), "small", lead=name.replace("_", " ")) for name, value in rest.items()]
    inputs = manifest["inputs"]
    more = f", the first {INPUTS_AT_MOST} here and all in manifest.json" if len(inputs) > INPUTS_AT_MOST else ""
    story.append(_paragraph(f"{len(inputs)} files{more}", "small", lead="inputs"))
    return story + [_paragraph(f"{file['name']} – SHA-256 {file['sha256'][:32]}…", "tiny") for file in inputs[:INPUTS_AT_MOST]]


def _table(columns: Columns, rows: Sequence[Sequence[str]], widths_mm: Sequence[float], *, left: Sequence[int] = (0,)) -> Table:
    def cells(row: Sequence[str]) -> list[Paragraph]:
        return [_paragraph(cell, "cell-left" if column in left else "cell") for column, cell in enumerate(row)]

    titles = [_paragraph(f"{name}\n{unit}", "head-left" if n in left else "head") for n, (name, unit) in enumerate(columns)]
    share = WIDTH / sum(widths_mm)
    table = Table([titles, *(cells(row) for row in rows)], colWidths=[width * share for width in widths_mm], repeatRows=1)
    table.setStyle(
        TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("VALIGN", (0, 0), (-1, 0), "BOTTOM"),
                ("LINEBELOW", (0, 0), (-1, 0), 0.8, INK),
                ("LINEBELOW", (0, 1), (-1, -1), 0.4, LINE),
                ("LEFTPADDING", (0, 0), (-1, -1), 2),
                ("RIGHTPADDING", (0, 0), (-1, -1), 2),
                ("TOPPADDING", (0, 0), (-1, -1), 1.5),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
            ]
        )
    )
    return table


def _box(lead: str, text: str, tone: str, pictures: Sequence[Picture] = ()) -> Table:
    """Return a tinted box of text, with pictures on its right where there are any."""
    wash, edge = TONES[tone]
    words = _paragraph(text, "body", lead=lead)
    beside_it = [
        part for one in pictures for part in (_fitted(one, PICTURE_SHARE * WIDTH), _paragraph(f"{one.title}. {one.caption}", "tiny"))
    ]
    if beside_it:
        box = Table([[words, beside_it]], colWidths=[(0.97 - PICTURE_SHARE) * WIDTH, (PICTURE_SHARE + 0.03) * WIDTH])
    else:
        box = Table([[words]], colWidths=[WIDTH])
    box.setStyle(
        TableStyle(
            [("VALIGN", (0, 0), (-1, -1), "TOP"), ("BACKGROUND", (0, 0), (-1, -1), wash), ("LINEBEFORE", (0, 0), (0, -1), 2.5, edge)]
        )
    )
    return box


def _heading(text: str) -> Paragraph:
    return _paragraph(text, "heading")


def _paragraph(text: str, style: str, *, lead: str = "") -> Paragraph:
    # text may hold any character, also those of mark-up; only the bold lead is mark-up of ours
    start = f'<font name="body-bold">{escape(lead)}</font> ' if lead else ""
    return Paragraph(start + escape(text).replace("\n", "<br/>"), _styles()[style])


@cache
def _styles() -> dict[str, ParagraphStyle]:
    def style(name: str, size: float, **settings: Any) -> ParagraphStyle:
        return ParagraphStyle(name, **{"fontName": "body", "fontSize": size, "leading": 1.36 * size, "textColor": INK} | settings)

    return {
        "title": style("title", 17, fontName="body-bold", spaceAfter=4 * mm),
        "heading": style("heading", 11.5, fontName="body-bold", spaceBefore=6 * mm, spaceAfter=2 * mm, keepWithNext=1),
        "body": style("body", 8.2, spaceAfter=1.5 * mm),
        "bold": style("bold", 8.2, fontName="body-bold", spaceAfter=1 * mm),
        "small": style("small", 7, textColor=SOFT, spaceBefore=1.2 * mm),
        "tiny": style("tiny", 5.8, textColor=SOFT),
        "cell": style("cell", 6.6, alignment=2),
        "cell-left": style("cell-left", 6.6),
        "head": style("head", 6.4, alignment=2),
        "head-left": style("head-left", 6.4),
    }


@cache
def _register_fonts() -> None:
    # matplotlib brings DejaVu, which knows Greek letters and signs that the PDF standard fonts lack
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    pdfmetrics.registerFont(TTFont("body", str(folder / "DejaVuSans.ttf")))
    pdfmetrics.registerFont(TTFont("body-bold", str(folder / "DejaVuSans-Bold.ttf")))
