"""The folder that ``mrtai validate`` writes."""

from pathlib import Path
from typing import Final

from mrtai.io import own_folder
from mrtai.io.results import dumped
from mrtai.io.validation import SCHEMA, validation_document
from mrtai.io.validation_csv import validation_csv
from mrtai.io.validation_page import validation_page
from mrtai.io.validation_pdf import validation_pdf
from mrtai.io.validation_pictures import validation_pictures
from mrtai.values.validation import Validation

OURS: Final = ("validation.json", "validation.html", "validation.csv", "validation.pdf")


def write_validation(found: Validation, out: Path) -> Path:
    """Write the files of a comparison into a folder of their own and return it; refuses as ``write_own_folder`` does."""
    document = validation_document(found)
    pictures = validation_pictures(document)
    contents = (dumped(document), validation_page(document, pictures), validation_csv(document), validation_pdf(document, pictures))
    return own_folder.write_own_folder(out, dict(zip(OURS, contents, strict=True)), SCHEMA)


def require_ours(out: Path) -> None:
    """Raise ``DosimetryError`` unless ``out`` is absent, empty, or holds an earlier comparison of ours alone."""
    own_folder.require_ours(out, OURS, SCHEMA)
