"""A report's numbers and methods in words, shared by HTML and PDF; everything is read from the content of ``results.json``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mrtai.units import LN2, SECONDS_PER_MINUTE
from mrtai.values.report import Report

Json = Mapping[str, Any]

MISSING: Final = "–"
DIGEST_LENGTH: Final = 64
INTENDED_USE: Final = "Research use only. Not a medical device. Decision support under a qualified person."
UNCERTAINTY: Final = (
    "Every ± is one standard uncertainty (k = 1) of the curve fit alone, together with the camera's sensitivity where its calibration "
    "file states one. Contouring, partial volume, registration and the dose model are not in it, so the true uncertainty is larger."
)
VERDICT_WORDS: Final = {
    "ok": "No doubt was found automatically. A person still has to review and sign.",
    "review": "Some results need a person's eyes before they may be used.",
    "withheld": "Some results could not be given. Nothing may be concluded for those regions.",
}
SEVERITY_WORDS: Final = {"withheld": "Withheld: no number is given", "review": "To be reviewed by a person", "info": "For information"}
ENGINE_WORDS: Final = {
    "local": "Local deposition: all electron energy stays in the voxel of its decay; photons that leave it are not followed.",
    "convolution": "Convolution of the time-integrated activity with voxel kernels made from Monte Carlo point kernels in water. "
    "The electron part is divided by each voxel's own density; the photon part is dose to water, carried to the far corner of the image. "
    "Outside the body the dose is zero.",
    "monte-carlo": "Monte Carlo transport of electrons and photons in the density map of the CT.",
    "neural": "A trained network, as named in the provenance.",
}
CONTOUR_WORDS: Final = (
    "Brought to the SPECT grid by largest share; a region's activity is the sum over its voxels there, its volume comes from the "
    "contour on its own grid. Lesions win over the organ they lie in."
)
EXTRAPOLATION_WORDS: Final = (
    "The shares of Ã before the first and after the last scan are extrapolated, not measured; they are listed per region and shaded "
    "in the plots. No effective half-life exceeds the physical one."
)
MODEL_WORDS: Final = {
    "mono": "one exponential, also back to the time of administration and on to infinity",
    "bi": "the sum of two exponentials, from administration to infinity",
    "tri": "the sum of three exponentials, from administration to infinity",
    "uptake": "exponential uptake followed by exponential clearance, zero at administration",
    "trapezoid": "trapezoids between the scans, with the head and tail rules stated per region",
    "hanscheid": "one scan, Ã = A(t)·2t/ln 2 (Hänscheid 2018)",
}


@dataclass(frozen=True, slots=True)
class Note:
    """One flag as a reader meets it: whom it concerns, what is the matter, what to do."""

    severity: str
    where: str
    text: str
    remedy: str
    code: str


def significant(value: float | None, digits: int = 3) -> str:
    """Return ``value`` with ``digits`` significant digits and no exponent between 0.001 and a million; a dash for None."""
    if value is None:
        return MISSING
    if value == 0 or not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits}g}"
    decimals = digits - 1 - math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    return f"{round(value, decimals):.{max(decimals, 0)}f}"


def with_sd(value: float | None, sd: float | None) -> str:
    """Return ``4.72 ± 0.61``, both to the decimals of three significant digits of the value."""
    if value is None:
        return MISSING
    shown = significant(value)
    if sd is None:
        return shown
    decimals = len(shown.partition(".")[2])
    return f"{shown} ± {sd:.{decimals}f}"


def plain(name: str) -> str:
    """Return a region's name with spaces."""
    return name.replace("_", " ")


def notes(document: Json) -> dict[str, list[Note]]:
    """Return all flags of the case, its scans and regions by severity, gravest first; equal flags of several places are joined."""
    found = [("whole case", flag) for flag in document["flags"]]
    found += [(f"scan {scan['index']}", flag) for scan in document["scans"] for flag in scan["flags"]]
    found += [(plain(region["name"]), flag) for region in document["regions"] for flag in region["flags"]]
    places: dict[tuple[str, str, str, str], list[str]] = {}
    for where, flag in found:
        key = (flag["severity"], flag["text"], flag["remedy"], flag["code"])
        if where not in places.setdefault(key, []):
            places[key].append(where)
    every = [Note(severity, ", ".join(where), text, remedy, code) for (severity, text, remedy, code), where in places.items()]
    return {severity: [note for note in every if note.severity == severity] for severity in SEVERITY_WORDS}


REGION_COLUMNS: Final = (
    ("region", ""),
    ("volume", "mL"),
    ("mass", "g"),
    ("T½ eff", "h"),
    ("Ã", "MBq h"),
    ("TIAC", "h"),
    ("mean dose", "Gy"),
    ("D98", "Gy"),
    ("D50", "Gy"),
    ("D2", "Gy"),
    ("BED", "Gy"),
    ("EQD2", "Gy"),
    ("verdict", ""),
)


def region_groups(document: Json) -> list[tuple[str, list[Json]]]:
    """Return the regions as organs, lesions and unions, in this order, without empty groups."""
    kinds = (("Organs", ("organ", "other")), ("Lesions", ("lesion",)), ("Unions and the rest of the body", ("union", "body", "remainder")))
    groups = [(title, [region for region in document["regions"] if region["kind"] in wanted]) for title, wanted in kinds]
    return [(title, regions) for title, regions in groups if regions]


def region_row(region: Json) -> list[str]:
    """Return the cells of one region in the order of ``REGION_COLUMNS``."""
    dose, lq = region["absorbed_dose_gy"], region["radiobiology"]
    return [
        plain(region["name"]),
        significant(region["volume_ml"], 4),
        significant(region["mass_g"], 4),
        significant(region["kinetics"]["effective_half_life_h"]),
        significant(region["tia_mbq_h"], 4),
        significant(region["tiac_h"]),
        with_sd(dose["mean"], dose["mean_sd"]),
        significant(dose["d98"]),
        significant(dose["d50"]),
        significant(dose["d2"]),
        significant(lq["bed_gy"]),
        significant(lq["eqd2_gy"]),
        region["verdict"],
    ]


FIT_COLUMNS: Final = (
    ("region", ""),
    ("method → model", ""),
    ("Ã before first scan", "%"),
    ("Ã after last scan", "%"),
    ("reason and rules", ""),
)
SCAN_COLUMNS: Final = (
    ("scan", ""),
    ("time", "h"),
    ("duration", "min"),
    ("activity in view", "MBq"),
    ("of administered", "%"),
    ("of administered, decayed", "%"),
    ("calibration", ""),
    ("decay referred to", ""),
    ("dead time factor", ""),
    ("registration residual", "mm"),
)


def fit_rows(document: Json) -> list[list[str]]:
    """Return per fitted region: name, method and model, head and tail share of Ã in per cent, and the reason for the model."""
    rows = []
    for region in document["regions"]:
        kinetics = region["kinetics"]
        if kinetics["model"] is not None:
            head, tail = (_percent(kinetics[key]) for key in ("fraction_before_first_scan", "fraction_after_last_scan"))
            rules = [f"{key}: {value}" for key, value in kinetics["parameters"].items() if isinstance(value, str)]
            why = "; ".join([kinetics["reason"] or MISSING, *rules])
            rows.append([plain(region["name"]), f"{kinetics['method']} → {kinetics['model']}", head, tail, why])
    return rows


def methods(report: Report, document: Json) -> list[tuple[str, str]]:
    """Return headed paragraphs that say how the numbers came about."""
    engines = document["engines"]
    dose_words = f"Engine {engines['dose']}. {ENGINE_WORDS.get(engines['dose'], '')}"
    return [
        ("Contours", f"Drawn by: {report.contours.origin} (room filled by: {engines['segmenter']}). {CONTOUR_WORDS}"),
        ("Quantification", _quantification(document["scans"])),
        ("Alignment", _alignment(report)),
        ("Kinetics", _kinetics(document)),
        ("Absorbed dose", f"{dose_words} Dose means absorbed dose, without any weighting by radiation type."),
        ("Radiobiology", _radiobiology(report)),
        ("Uncertainty", UNCERTAINTY),
    ]


def header_rows(report: Report, document: Json) -> list[tuple[str, str]]:
    """Return what the top of a report says about patient, administration and protocol, as pairs of heading and text."""
    given = document["administrations"][0]
    scans = "1 scan" if len(document["scans"]) == 1 else f"{len(document['scans'])} scans"
    return [
        ("Patient", document["patient"]["pseudonym"]),
        ("Cycle", f"{document['cycle']}, {scans} of {report.protocol.expected_scans} expected"),
        ("Agent", f"{given['nuclide']} {given['agent']}"),
        ("Administered", f"{given['activity_mbq']:g} MBq"),
        ("At", given["time"].replace("T", " ")),
        ("Protocol", report.protocol.name),
        ("Contours by", report.contours.origin),
        ("Dose engine", document["engines"]["dose"]),
    ]


def scan_rows(document: Json, half_life_h: float) -> list[list[str]]:
    """Return the cells of every scan in the order of ``SCAN_COLUMNS``; ``half_life_h`` is the nuclide's physical one."""
    given_mbq = document["administrations"][0]["activity_mbq"]
    rows = []
    for scan in document["scans"]:
        share = None if scan["activity_in_view_mbq"] is None else scan["activity_in_view_mbq"] / given_mbq
        undecayed = None if share is None else share * math.exp(LN2 * scan["time_h"] / half_life_h)
        duration_min = None if scan["duration_s"] is None else scan["duration_s"] / SECONDS_PER_MINUTE
        rows.append(
            [
                str(scan["index"]),
                f"{scan['time_h']:.2f}",
                significant(duration_min),
                significant(scan["activity_in_view_mbq"], 4),
                _percent(share),
                _percent(undecayed),
                scan["calibration"] if len(scan["calibration"]) < DIGEST_LENGTH else f"file {scan['calibration'][:12]}…",
                scan["decay_referred_to"],
                significant(scan["dead_time_factor"], 4),
                significant(scan["registration_residual_mm"], 2),
            ]
        )
    return rows


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.0f}"


def _quantification(scans: Sequence[Json]) -> str:
    words = {"header": "taken in Bq/mL from the image header", "study.toml": "as stated in study.toml"}
    sources = dict.fromkeys(
        words.get(scan["calibration"], f"counts with the calibration file {scan['calibration'][:12]}…") for scan in scans
    )
    dead_time = max(scan["dead_time_factor"] or 1.0 for scan in scans)
    corrected = "no dead-time factor was applied" if dead_time == 1.0 else f"dead-time factors up to {dead_time:.3f} were applied"
    return (
        f"Activity concentration {'; '.join(sources)}; {corrected}. Values are referred to the start of each acquisition. "
        "No partial-volume (recovery) correction was made."
    )


def _alignment(report: Report) -> str:
    points = report.aligned.cycle.time_points
    moved = [str(point.index) for point, alignment in zip(points, report.aligned.alignments, strict=True) if alignment.moved]
    words = f"Moved by a rigid transform with one interpolation: scan {', '.join(moved)}." if moved else "No scan was moved."
    reference = points[report.aligned.reference].index
    return f"Engine {report.engines.get('aligner', 'none')}; all maps lie on the SPECT grid of scan {reference}. {words}"


def _kinetics(document: Json) -> str:
    models = dict.fromkeys(region["kinetics"]["model"] for region in document["regions"] if region["kinetics"]["model"])
    known = "; ".join(f"{model}: {MODEL_WORDS.get(model, 'as named')}" for model in models)
    return f"Method {document['engines']['kinetics']}. {known + '. ' if known else ''}{EXTRAPOLATION_WORDS}"


def _radiobiology(report: Report) -> str:
    used = {region.name: region.biological.parameters for region in report.regions if region.biological is not None}
    if not used:
        return "No region has linear–quadratic parameters in the protocol, so no BED or EQD2 is given."
    by_parameters: dict[Any, list[str]] = {}
    for name, parameters in used.items():
        by_parameters.setdefault(parameters, []).append(plain(name))
    words = [
        f"{', '.join(names)}: α/β {p.alpha_beta_gy:g} Gy, repair half-life {p.repair_half_life_h:g} h ({p.source})"
        for p, names in by_parameters.items()
    ]
    return (
        f"BED = D + G·D²/(α/β) of the mean dose, with the Lea–Catcheside factor G of the region's own kinetics; EQD2 = BED/(1 + 2/(α/β)). "
        f"{'; '.join(words)}."
    )
