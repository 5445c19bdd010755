"""``validation.pdf``: the content of the page for the record, A4."""

from collections.abc import Sequence
from typing import Final

from reportlab.lib.units import mm
from reportlab.platypus import Flowable, KeepTogether, Spacer

from mrtai.io import validation_maps as maps
from mrtai.io import validation_tables as tables
from mrtai.io.pdf_parts import WIDTH, box, fitted, grouped, heading, paragraph, pdf, table
from mrtai.io.report_figures import Picture
from mrtai.io.report_words import INTENDED_USE
from mrtai.io.results import Json
from mrtai.io.validation_pictures import WATERFALL
from mrtai.io.validation_words import MAPS_WORDS, METHOD_WORDS, attribution_words

STEP_WIDTHS: Final = (36, 16, 20, 20, 20, 20, 24, 40)
PAIR_WIDTHS: Final = (36, 10, 28, 16, 16, 18, 16, 16, 16, 20, 30)
AGREEMENT_WIDTHS: Final = (28, 12, 14, 30, 28, 30, 24, 16, 22)
CONCORDANCE_WIDTHS: Final = (40, 46, 46, 46)
REGRESSION_WIDTHS: Final = (34, 38, 40, 38, 40)
SIDE_WIDTHS: Final = (18, 36, 12, 14, 34, 14, 66)


def validation_pdf(document: Json, pictures: Sequence[Picture]) -> bytes:
    """Return the PDF of a comparison with its pictures; equal input gives equal bytes."""
    return pdf(
        lambda: _story(document, pictures),
        title="Comparison with manual dosimetry",
        head="Automatic against manual dosimetry",
        state=f"mrtai {document['version']}",
    )


def _story(document: Json, pictures: Sequence[Picture]) -> list[Flowable]:
    patients = len({pair["patient"] for pair in document["pairs"]})
    story: list[Flowable] = [paragraph("Automatic against manual dosimetry", "title"), paragraph(INTENDED_USE, "small"), heading("Summary")]
    story += [paragraph(f"{len(document['pairs'])} pairs of regions, {patients} {'patient' if patients == 1 else 'patients'}.", "body")]
    story += [paragraph(sentence, "body") for sentence in document["summary"]]
    story += [paragraph(document["sample_size"], "small"), paragraph(document["margin_source"], "small")]
    return [*story, *_steps(document, pictures), *_unmatched(document), *_agreement(document, pictures), *_maps(document), *_rest(document)]


def _steps(document: Json, pictures: Sequence[Picture]) -> list[Flowable]:
    if not document["attribution"]:
        return [heading("Which step makes the doses differ"), paragraph("No region has a dose on both sides.", "body")]
    story: list[Flowable] = [heading("Which step makes the doses differ")]
    story += [paragraph(one["text"], "body") for one in document["attribution"]]
    story.append(paragraph(attribution_words(document), "small"))
    for one in document["not_recomputed"]:
        story.append(box(f"{one['patient']} cycle {one['cycle']}:", f"not computed again from images: {one['why']}.", "review"))
    for picture in pictures:
        if picture.name == WATERFALL:
            story += [fitted(picture, WIDTH), paragraph(picture.caption, "small")]
    return [*story, Spacer(1, 2 * mm), table(tables.STEP_COLUMNS, tables.step_rows(document), STEP_WIDTHS)]


def _unmatched(document: Json) -> list[Flowable]:
    rows = tables.unmatched_rows(document)
    if not rows:
        return [heading("Without a partner"), paragraph("Every cycle, region and scan of one side has its partner on the other.", "body")]
    return [heading("Without a partner"), *(paragraph(why, "body", lead=f"{what}:") for what, why in rows)]


def _agreement(document: Json, pictures: Sequence[Picture]) -> list[Flowable]:
    shown = [[fitted(picture, WIDTH), Spacer(1, 3 * mm)] for picture in pictures if picture.name != WATERFALL]
    story: list[Flowable] = [KeepTogether([heading("Agreement"), *shown[0]]), *map(KeepTogether, shown[1:])]
    story.append(paragraph("Dashed: limits of agreement; shaded: their 95 % intervals; dotted: identity.", "small"))
    for title, columns, groups, widths in (
        ("Bias and limits", tables.AGREEMENT_COLUMNS, tables.agreement_groups(document), AGREEMENT_WIDTHS),
        ("Concordance", tables.CONCORDANCE_COLUMNS, tables.concordance_groups(document), CONCORDANCE_WIDTHS),
        (
            "Regression: automatic = intercept + slope · manual",
            tables.REGRESSION_COLUMNS,
            tables.regression_groups(document),
            REGRESSION_WIDTHS,
        ),
    ):
        story += [heading(title), grouped(columns, groups, widths, verdicts=False)]
    return [*story, paragraph(f"In brackets: 95 % intervals. {METHOD_WORDS}", "small")]


def _maps(document: Json) -> list[Flowable]:
    parts = (
        ("Contours", maps.CONTOUR_COLUMNS, maps.contour_rows(document)),
        ("Doses of volumes", maps.DVH_COLUMNS, maps.dvh_rows(document)),
        ("Points that pass the gamma criterion", maps.gamma_columns(document), maps.gamma_rows(document)),
    )
    story: list[Flowable] = []
    for title, columns, rows in parts:
        if rows:
            story += [heading(title), table(columns, rows, [40, *[28] * (len(columns) - 1)])]
    return [*story, paragraph(MAPS_WORDS, "small")] if story else []


def _rest(document: Json) -> list[Flowable]:
    story: list[Flowable] = []
    rows = tables.pair_rows(document)
    if rows:
        story += [heading("Region by region"), table(tables.PAIR_COLUMNS, rows, PAIR_WIDTHS, left=(0, 2))]
    sides = table(tables.SIDE_COLUMNS, tables.side_rows(document), SIDE_WIDTHS, left=range(len(tables.SIDE_COLUMNS)))
    return [*story, heading("What was compared"), sides]
