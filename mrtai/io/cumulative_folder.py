"""The folder that ``mrtai cumulate`` writes."""

from pathlib import Path
from typing import Final

from mrtai.io import own_folder
from mrtai.io.cumulative import SCHEMA, cumulative_document
from mrtai.io.cumulative_page import cumulative_page
from mrtai.io.cumulative_tables import cumulative_csv
from mrtai.io.results import dumped
from mrtai.values.cumulative import Cumulative

OURS: Final = ("cumulative.json", "cumulative.html", "cumulative.csv")


def write_cumulative(found: Cumulative, out: Path) -> Path:
    """Write ``cumulative.json``, ``.html`` and ``.csv`` into a folder of their own and return it; refuses as ``write_own_folder`` does."""
    document = cumulative_document(found)
    texts = (dumped(document), cumulative_page(document), cumulative_csv(document))
    return own_folder.write_own_folder(out, dict(zip(OURS, texts, strict=True)), SCHEMA)


def require_ours(out: Path) -> None:
    """Raise ``DosimetryError`` unless ``out`` is absent, empty, or holds earlier sums of ours alone."""
    own_folder.require_ours(out, OURS, SCHEMA)
