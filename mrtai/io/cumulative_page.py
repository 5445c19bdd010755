"""``cumulative.html``: one file that opens offline."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from mrtai.io.cumulative_figure import cumulative_figure
from mrtai.io.cumulative_tables import CYCLE_COLUMNS, SUM_COLUMNS, WORDS, cycle_rows, sum_groups
from mrtai.io.figures import png
from mrtai.io.report_tables import plain
from mrtai.io.report_viewer import data_uri
from mrtai.io.report_words import INTENDED_USE, SEVERITY_WORDS, Note
from mrtai.io.results import Json


def cumulative_page(document: Json) -> str:
    """Return the page of sums over cycles; all text is escaped."""
    environment = Environment(
        loader=PackageLoader("mrtai.io", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("cumulative.html.j2").render(
        document=document,
        severity_words=SEVERITY_WORDS,
        notes=sum_notes(document),
        cycle_columns=CYCLE_COLUMNS,
        cycle_rows=cycle_rows(document),
        sum_columns=SUM_COLUMNS,
        sum_groups=sum_groups(document),
        words=WORDS,
        sources=limit_sources(document),
        figure=data_uri(png(cumulative_figure(document)), "image/png"),
        intended_use=INTENDED_USE,
    )


def sum_notes(document: Json) -> dict[str, list[Note]]:
    """Return all flags by severity, gravest first; equal flags of several regions are joined."""
    places: dict[tuple[str, str, str, str], list[str]] = {}
    found = [("all cycles", flag) for flag in document["flags"]]
    found += [(plain(row["name"]), flag) for row in document["regions"] for flag in row["flags"]]
    for where, flag in found:
        places.setdefault((flag["severity"], flag["text"], flag["remedy"], flag["code"]), []).append(where)
    every = [Note(severity, ", ".join(where), text, remedy, code) for (severity, text, remedy, code), where in places.items()]
    return {severity: [note for note in every if note.severity == severity] for severity in SEVERITY_WORDS}


def limit_sources(document: Json) -> list[str]:
    """Return where each limit comes from, in words."""
    sources: dict[str, list[str]] = {}
    for row in document["regions"]:
        for limit in row["limits"]:
            names = sources.setdefault(limit["source"], [])
            if plain(row["name"]) not in names:
                names.append(plain(row["name"]))
    return [f"{', '.join(names)}: {source}" for source, names in sources.items()]
