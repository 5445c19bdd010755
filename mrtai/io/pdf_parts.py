"""What our PDFs are made of: A4 pages with a running head and foot, tables, tinted boxes, pictures and paragraphs."""

from collections.abc import Callable, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

import matplotlib
from reportlab import rl_config
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Image, Paragraph, SimpleDocTemplate, Table, TableStyle

from mrtai.io.report_figures import Picture
from mrtai.io.report_words import INTENDED_USE

Columns = Sequence[tuple[str, str]]

rl_config.useA85 = 0  # pictures as bytes, not spelled out as text: a fifth smaller, and seconds faster

MARGIN: Final = 15 * mm
FRAME_PADDING: Final = 6.0  # points that a platypus frame keeps free on each side
WIDTH: Final = A4[0] - 2 * MARGIN - 2 * FRAME_PADDING
FIGURE_HEIGHT_AT_MOST: Final = 150 * mm
PICTURE_SHARE: Final = 0.57  # of the width, for pictures beside a flag
INK, SOFT, LINE, WASH = HexColor("#1f2933"), HexColor("#5f6b7a"), HexColor("#dfe4ea"), HexColor("#f5f7f9")
TONES: Final = {
    "ok": (HexColor("#e1f3ed"), HexColor("#00664b")),
    "info": (WASH, LINE),
    "review": (HexColor("#fdf1dc"), HexColor("#9a5b00")),
    "withheld": (HexColor("#fbe9e2"), HexColor("#a3320b")),
}


def pdf(story: Callable[[], list[Flowable]], *, title: str, head: str, state: str) -> bytes:
    """Return the PDF of a story, made when fonts are there, with ``head`` and ``state`` above every page; equal input gives equal bytes."""
    _register_fonts()
    stream = BytesIO()
    template = SimpleDocTemplate(
        stream,
        pagesize=A4,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=22 * mm,
        bottomMargin=20 * mm,
        title=title,
        author="mrtai",
        subject=INTENDED_USE,
        invariant=1,
    )
    frame = _frame(head, state)
    template.build(story(), onFirstPage=frame, onLaterPages=frame, canvasmaker=_Numbered)
    return stream.getvalue()


class _Numbered(Canvas):  # type: ignore[misc]  # reportlab is not typed
    """Numbers its pages at the end, when their number is known: each waits with all that a canvas holds of it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: list[dict[str, Any]] = []

    def showPage(self) -> None:  # noqa: N802 — reportlab's name
        """Keep the page and begin the next."""
        self._waiting.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        """Number every page and write the file."""
        waiting = self._waiting
        for number, page in enumerate(waiting, start=1):
            self.__dict__.update(page)
            self.setFont("body", 7)
            self.setFillColor(SOFT)
            self.drawRightString(A4[0] - MARGIN - FRAME_PADDING, 11 * mm, f"page {number} of {len(waiting)}")
            super().showPage()
        super().save()


def _frame(head: str, state: str) -> Callable[[Any, Any], None]:
    def draw(canvas: Any, _: Any) -> None:
        canvas.saveState()
        canvas.setFont("body-bold", 8)
        canvas.setFillColor(INK)
        top = A4[1] - 13 * mm
        left, right = MARGIN + FRAME_PADDING, A4[0] - MARGIN - FRAME_PADDING
        canvas.drawString(left, top, head)
        canvas.drawRightString(right, top, state)
        canvas.setStrokeColor(LINE)
        canvas.line(left, top - 2 * mm, right, top - 2 * mm)
        canvas.setFont("body", 7)
        canvas.setFillColor(SOFT)
        canvas.drawString(left, 11 * mm, INTENDED_USE)
        canvas.restoreState()

    return draw


def fitted(picture: Picture, width_at_most: float) -> Image:
    """Return a picture no wider than that and no higher than fits."""
    width, height = ImageReader(BytesIO(picture.content)).getSize()
    scale = min(width_at_most / width, FIGURE_HEIGHT_AT_MOST / height)
    return Image(BytesIO(picture.content), width * scale, height * scale)


def grouped(
    columns: Columns, groups: Sequence[tuple[str, Sequence[Sequence[str]]]], widths_mm: Sequence[float], *, verdicts: bool = True
) -> Table:
    """Return a table of titled groups; with ``verdicts`` the last column has one, which tints its cell."""
    rows: list[Sequence[str]] = []
    style: list[Any] = []
    for title, members in groups:
        head = len(rows) + 1
        style += [("BACKGROUND", (0, head), (-1, head), WASH), ("SPAN", (0, head), (-1, head))]
        rows.append([title, *[""] * (len(columns) - 1)])
        for cells in members:
            rows.append(cells)
            if verdicts and cells[-1]:
                style.append(("BACKGROUND", (-1, len(rows)), (-1, len(rows)), TONES[cells[-1]][0]))
    found = table(columns, rows, widths_mm)
    found.setStyle(TableStyle(style))
    return found


def table(columns: Columns, rows: Sequence[Sequence[str]], widths_mm: Sequence[float], *, left: Sequence[int] = (0,)) -> Table:
    """Return a table with its heading on every page; columns named ``left`` stand on the left, the others on the right."""

    def cells(row: Sequence[str]) -> list[Paragraph]:
        return [paragraph(cell, "cell-left" if column in left else "cell") for column, cell in enumerate(row)]

    titles = [paragraph(f"{name}\n{unit}", "head-left" if n in left else "head") for n, (name, unit) in enumerate(columns)]
    share = WIDTH / sum(widths_mm)
    found = Table([titles, *(cells(row) for row in rows)], colWidths=[width * share for width in widths_mm], repeatRows=1)
    found.setStyle(
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
    return found


def box(lead: str, text: str, tone: str, pictures: Sequence[Picture] = ()) -> Table:
    """Return a tinted box of text, with pictures on its right where there are any."""
    wash, edge = TONES[tone]
    words = paragraph(text, "body", lead=lead)
    beside_it = [
        part for one in pictures for part in (fitted(one, PICTURE_SHARE * WIDTH), paragraph(f"{one.title}. {one.caption}", "tiny"))
    ]
    if beside_it:
        found = Table([[words, beside_it]], colWidths=[(0.97 - PICTURE_SHARE) * WIDTH, (PICTURE_SHARE + 0.03) * WIDTH])
    else:
        found = Table([[words]], colWidths=[WIDTH])
    found.setStyle(
        TableStyle(
            [("VALIGN", (0, 0), (-1, -1), "TOP"), ("BACKGROUND", (0, 0), (-1, -1), wash), ("LINEBEFORE", (0, 0), (0, -1), 2.5, edge)]
        )
    )
    return found


def heading(text: str) -> Paragraph:
    """Return a heading that stays with what follows it."""
    return paragraph(text, "heading")


def paragraph(text: str, style: str, *, lead: str = "") -> Paragraph:
    """Return text in a style of ours, after a bold ``lead``."""
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
