"""``report.html``: one file that opens offline, with nothing fetched from anywhere."""

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

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
from mrtai.io.report_viewer import data_uri, viewer_data
from mrtai.io.report_words import (
    INTENDED_USE,
    MARROW_WORDS,
    SEVERITY_WORDS,
    UNCERTAINTY,
    VERDICT_WORDS,
    Note,
    check_words,
    methods,
    next_scan_words,
    notes,
)
from mrtai.io.results import Json
from mrtai.io.tables import nuclide
from mrtai.values.report import Report


def html_report(report: Report, document: Json, pictures: Pictures, *, manifest: Mapping[str, Any]) -> str:
    """Return the page for a report and the ``results.json`` content made from it; all text is escaped."""
    environment = Environment(
        loader=PackageLoader("mrtai.io", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    half_life_h = nuclide(document["administrations"][0]["nuclide"]).half_life_h
    return environment.get_template("report.html.j2").render(
        document=document,
        header=header_rows(report, document),
        verdict_words=VERDICT_WORDS[document["verdict"]],
        severity_words=SEVERITY_WORDS,
        notes=_illustrated(document, pictures),
        region_columns=REGION_COLUMNS,
        region_groups=[(title, [region_row(region) for region in regions]) for title, regions in region_groups(document)],
        uncertainty=UNCERTAINTY,
        marrow_columns=MARROW_COLUMNS,
        marrow_rows=marrow_rows(document),
        marrow_words=MARROW_WORDS,
        next_scan_words=next_scan_words(document),
        sum_columns=SUM_COLUMNS,
        sum_groups=sum_groups(document["cumulative"]) if document["cumulative"] else [],
        sum_words=cumulative_words(document),
        check_columns=CHECK_COLUMNS,
        check_rows=check_rows(document),
        check_words=check_words(document),
        scan_columns=SCAN_COLUMNS,
        scan_rows=scan_rows(document, half_life_h),
        overrides=report.aligned.cycle.overrides,
        fit_columns=FIT_COLUMNS,
        fit_rows=fit_rows(document),
        figures=[(picture, data_uri(picture.content, "image/png")) for picture in pictures.figures],
        viewer=viewer_data(pictures.shown),
        has_ct=pictures.shown.has_ct,
        methods=methods(report, document),
        manifest=manifest,
        manifest_text=json.dumps(manifest, indent=1, ensure_ascii=False),
        intended_use=INTENDED_USE,
    )


def _illustrated(document: Json, pictures: Pictures) -> dict[str, list[tuple[Note, list[tuple[Picture, str]]]]]:
    """Return the notes by severity, each with its pictures and their content for the page."""
    return {
        severity: [(note, [(one, data_uri(one.content, "image/png")) for one in shown]) for note, shown in beside(found, pictures.organs)]
        for severity, found in notes(document).items()
    }
