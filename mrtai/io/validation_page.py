"""``validation.html``: one file that opens offline."""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from mrtai.io import validation_maps as maps
from mrtai.io import validation_tables as tables
from mrtai.io.report_figures import Picture
from mrtai.io.report_viewer import data_uri
from mrtai.io.report_words import INTENDED_USE
from mrtai.io.results import Json
from mrtai.io.validation_pictures import WATERFALL
from mrtai.io.validation_words import MAPS_WORDS, METHOD_WORDS, attribution_words


def validation_page(document: Json, pictures: Sequence[Picture]) -> str:
    """Return the page of a comparison with its pictures; all text is escaped."""
    environment = Environment(
        loader=PackageLoader("mrtai.io", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shown = {picture.name: data_uri(picture.content, "image/png") for picture in pictures}
    return environment.get_template("validation.html.j2").render(
        document=document,
        tables=tables,
        maps=maps,
        patients=len({pair["patient"] for pair in document["pairs"]}),
        cycles=len({(pair["patient"], pair["cycle"]) for pair in document["pairs"]}),
        waterfall=shown.get(WATERFALL),
        figures=[(picture.title, shown[picture.name]) for picture in pictures if picture.name != WATERFALL],
        method_words=METHOD_WORDS,
        attribution_words=attribution_words(document),
        maps_words=MAPS_WORDS,
        intended_use=INTENDED_USE,
    )
