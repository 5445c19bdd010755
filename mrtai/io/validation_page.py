"""``validation.html``: one file that opens offline."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from mrtai.io import validation_maps as maps
from mrtai.io import validation_tables as tables
from mrtai.io.figures import png
from mrtai.io.report_viewer import data_uri
from mrtai.io.report_words import INTENDED_USE
from mrtai.io.results import Json
from mrtai.io.validation_figure import agreement_figure, quantities, waterfall_figure
from mrtai.io.validation_words import MAPS_WORDS, METHOD_WORDS, QUANTITY_WORDS, attribution_words

DOTS_PER_INCH = 120


def validation_page(document: Json) -> str:
    """Return the page of a comparison; all text is escaped."""
    environment = Environment(
        loader=PackageLoader("mrtai.io", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    waterfall = waterfall_figure(document)
    return environment.get_template("validation.html.j2").render(
        document=document,
        tables=tables,
        maps=maps,
        patients=len({pair["patient"] for pair in document["pairs"]}),
        cycles=len({(pair["patient"], pair["cycle"]) for pair in document["pairs"]}),
        waterfall=None if waterfall is None else data_uri(png(waterfall, DOTS_PER_INCH), "image/png"),
        figures=[
            (QUANTITY_WORDS[name], data_uri(png(agreement_figure(document, name), DOTS_PER_INCH), "image/png"))
            for name in quantities(document)
        ],
        method_words=METHOD_WORDS,
        attribution_words=attribution_words(document),
        maps_words=MAPS_WORDS,
        intended_use=INTENDED_USE,
    )
