"""The pictures of a comparison, drawn once for page and PDF."""

from typing import Final

from mrtai.io.figures import png
from mrtai.io.report_figures import Picture
from mrtai.io.results import Json
from mrtai.io.validation_figure import agreement_figure, quantities, waterfall_figure
from mrtai.io.validation_words import QUANTITY_WORDS

DOTS_PER_INCH: Final = 120
WATERFALL: Final = "waterfall"
FROM_MANUAL_TO_AUTOMATIC: Final = "From the manual dose (0) step by step to the automatic one; mean of each class, every patient once."


def validation_pictures(document: Json) -> tuple[Picture, ...]:
    """Return the waterfall, where a dose is on both sides, and one picture a quantity."""
    waterfall = waterfall_figure(document)
    steps = () if waterfall is None else (Picture(WATERFALL, "Steps", FROM_MANUAL_TO_AUTOMATIC, png(waterfall, DOTS_PER_INCH)),)
    return steps + tuple(
        Picture(name, QUANTITY_WORDS[name], "", png(agreement_figure(document, name), DOTS_PER_INCH)) for name in quantities(document)
    )
