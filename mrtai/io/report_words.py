"""A report's flags and methods in words, shared by HTML and PDF; everything is read from the content of ``results.json``."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from mrtai.io.report_tables import Json, plain
from mrtai.physics.partial_volume import OFF
from mrtai.values.protocol import Protocol
from mrtai.values.report import Report

INTENDED_USE: Final = "Research use only. Not a medical device. Decision support under a qualified person."
UNCERTAINTY: Final = (
    "Every ± of Ã, dose and BED is one standard uncertainty (k = 1) of the whole chain after the EANM guidance (Gear 2018): the outline of "
    "the contour, which acts through counts, recovery and mass at once, the recovery curve and how far spheres lie off it, what blur moved "
    "and was not moved back, or a share of what was (partial volume), registration, calibration and dead time where files state them, the "
    "curve fit with its "
    "population, and the dose engine. Where an input is known to no better than 5 % the result was drawn, not linearised. Not in it: "
    "scatter and attenuation correction, motion, and contours that are wrong rather than inexact. D98 to D2 are as uncertain as the mean "
    "at least; noise and blur between voxels are not in that."
)
VERDICT_WORDS: Final = {
    "ok": "No doubt was found automatically. A person still has to review and sign.",
    "review": "Some results need a person's eyes before they may be used.",
    "withheld": "Some results could not be given. Nothing may be concluded for those regions.",
}
SEVERITY_WORDS: Final = {"withheld": "Withheld: no number is given", "review": "To be reviewed by a person", "info": "For information"}
_ENGINE_WORDS: Final = {
    "local": "Local deposition: all electron energy stays in the voxel of its decay; photons that leave it are not followed.",
    "convolution": "Electrons by superposition of point kernels scaled to the density between the voxels; photons by convolution with the "
    "kernel of water to the far corner of the image, times the ratio of the patient's own density and tissues to unbounded water, found "
    "by rays in 64 directions with scatter. Alphas stay where they are born. Outside the body the dose is zero.",
    "monte-carlo": "Monte Carlo transport of electrons and photons in the density map of the CT, tissues by density.",
    "neural": "The dose by convolution, from which a network took back blur and noise, or what recovery left of them (dose-net, see the "
    "models in the provenance), taught by virtual patients; the energy absorbed in the field is that of the convolution. Where the flag "
    "NEURAL_OUTSIDE stands, the convolution's own dose. The error map is of single voxels. Dose rates of single scans are the "
    "convolution's.",
}
_CHECK_WORDS: Final = (
    "Mean doses by {check} on the same maps, an engine that shares no step with {dose} but the decay data. ± is the check's "
    "statistical standard deviation alone. Above 5 % a person has to look; a difference within two standard deviations proves nothing."
)
MARROW_WORDS: Final = (
    "Image-based: mean of the dose map in the region named, bone included where it is not the marrow itself; Ã is that region's. "
    "Blood-based: Ã of blood per mL times RMBLR (red marrow to blood ratio of concentrations) times the marrow's mass, its electrons and "
    "alphas absorbed in the marrow wholly, which is an upper limit; ± holds the curve fit and 15 % for RMBLR, not the blood counter. "
    "Photons are those of the dose map, where a region shows them. The two methods differ by a factor of about four in published "
    "patients: compare a dose with limits of its own method alone."
)
_CONTOUR_WORDS: Final = (
    "Brought to the SPECT grid by largest share; a region's activity is the sum over its voxels there, its volume comes from the "
    "contour on its own grid. Lesions win over the organ they lie in."
)
_EXTRAPOLATION_WORDS: Final = (
    "The shares of Ã before the first and after the last scan are extrapolated, not measured; they are listed per region and shaded "
    "in the plots. No effective half-life exceeds the physical one."
)
_MODEL_WORDS: Final = {
    "mono": "one exponential, also back to the time of administration and on to infinity",
    "bi": "the sum of two exponentials, from administration to infinity",
    "tri": "the sum of three exponentials, from administration to infinity",
    "uptake": "exponential uptake followed by exponential clearance, zero at administration",
    "trapezoid": "trapezoids between the scans, with the head and tail rules stated per region",
    "hanscheid": "one scan, Ã = A(t)·2t/ln 2 (Hänscheid 2018)",
    "neural": "a network's reading of the scans and the population, as one or two exponentials from administration to infinity",
}


@dataclass(frozen=True, slots=True)
class Note:
    """One flag as a reader meets it: whom it concerns (also one by one in ``places``), what is the matter, what to do."""

    severity: str
    where: str
    text: str
    remedy: str
    code: str
    places: tuple[str, ...] = ()


def notes(document: Json) -> dict[str, list[Note]]:
    """Return all flags of the case, its scans and regions by severity, gravest first; equal flags of several places are joined.

    What a union only passes on from its members is told of the members alone.
    """
    singles = [region for region in document["regions"] if region["kind"] not in ("union", "body")]
    own = {(flag["code"], flag["text"]) for region in singles for flag in region["flags"]}
    found = [("whole case", flag) for flag in document["flags"]]
    found += [(f"scan {scan['index']}", flag) for scan in document["scans"] for flag in scan["flags"]]
    found += [
        (plain(region["name"]), flag)
        for region in document["regions"]
        for flag in region["flags"]
        if region in singles or (flag["code"], flag["text"].partition(": ")[2]) not in own
    ]
    found += [(f"red marrow by {marrow['method']}", flag) for marrow in document["red_marrow"] for flag in marrow["flags"]]
    places: dict[tuple[str, str, str, str], list[str]] = {}
    for where, flag in found:
        key = (flag["severity"], flag["text"], flag["remedy"], flag["code"])
        if where not in places.setdefault(key, []):
            places[key].append(where)
    every = [Note(severity, ", ".join(where), text, remedy, code, tuple(where)) for (severity, text, remedy, code), where in places.items()]
    return {severity: [note for note in every if note.severity == severity] for severity in SEVERITY_WORDS}


def methods(report: Report, document: Json) -> list[tuple[str, str]]:
    """Return headed paragraphs that say how the numbers came about."""
    engines = document["engines"]
    dose_words = f"Engine {engines['dose']}. {_ENGINE_WORDS.get(engines['dose'], '')}"
    return [
        ("Contours", f"{_drawers(report, document)} {_CONTOUR_WORDS}"),
        ("Quantification", _quantification(document, report.protocol)),
        ("Alignment", _alignment(report)),
        ("Kinetics", _kinetics(document)),
        ("Absorbed dose", f"{dose_words} Dose means absorbed dose, without any weighting by radiation type."),
        ("Radiobiology", _radiobiology(report)),
        ("Uncertainty", UNCERTAINTY),
    ]


def check_words(document: Json) -> str:
    """Return what the second opinion is, or that none was asked for."""
    engines = document["engines"]
    if engines["check"] == "none":
        return "No second dose engine was asked for."
    return _CHECK_WORDS.format(check=engines["check"], dose=engines["dose"])


def _drawers(report: Report, document: Json) -> str:
    """Return who or what drew which region."""
    engines = document["engines"]
    if engines["segmenter"] == "given-labels":
        return f"Drawn by: {report.contours.origin} (given, not drawn by a model of this run)."
    kinds = {row["name"]: row["kind"] for row in document["regions"]}
    drawn = [name for name in report.contours.names.values() if name in kinds]
    lesions = [plain(name) for name in drawn if kinds[name] == "lesion"]
    organs = [plain(name) for name in drawn if kinds[name] != "lesion"]
    own = engines.get("lesion_segmenter", "none")
    found = f"by {_drawer(own)}: {', '.join(lesions) or 'none found'}" if own != "none" else "not looked for"
    return f"Drawn automatically on the CT by {_drawer(engines['segmenter'])}: {', '.join(organs)}. Lesions {found}."


def _drawer(name: str) -> str:
    """Return a model with its version, or the name of a rule, in words."""
    model, _, version = name.partition("@")
    return f"the model {model}, version {version}" if version else f"the rule {name}"


def _quantification(document: Json, protocol: Protocol) -> str:
    scans: Sequence[Json] = document["scans"]
    words = {"header": "taken in Bq/mL from the image header", "study.toml": "as stated in study.toml"}
    sources = dict.fromkeys(
        words.get(scan["calibration"], f"counts with the calibration file {scan['calibration'][:12]}…") for scan in scans
    )
    dead_time = max(scan["dead_time_factor"] or 1.0 for scan in scans)
    corrected = "no dead-time factor was applied" if dead_time == 1.0 else f"dead-time factors up to {dead_time:.3f} were applied"
    return (
        f"Activity concentration {'; '.join(sources)}; {corrected}. Values are referred to the start of each acquisition. "
        f"{_partial_volume(document, protocol)}"
    )


def _partial_volume(document: Json, protocol: Protocol) -> str:
    """Return what was done about activity that blur moved out of regions."""
    if all(row["absorbed_dose_gy"]["with_recovery"] is None for row in document["regions"] if row["absorbed_dose_gy"]):
        if protocol.dose_engine == "neural":
            return "No recovery correction was made: the dose engine takes blur back itself, where NEURAL_OUTSIDE is not flagged."
        return "No partial-volume (recovery) correction was made."
    rows = [row for row in document["regions"] if row["recovery"] is not None]
    listed = ", ".join(f"{plain(row['name'])} {row['recovery']:.2f}" for row in rows)
    words = f"Recovery coefficients of the compact regions, by their shape: {listed or 'none is drawn'}."
    if protocol.partial_volume == OFF:
        return f"{words} No partial-volume correction was made; the doses with it are stated beside."
    return (
        f"{words} What blur had moved between regions was moved back, all regions solved for at once, and voxels within them by the same "
        "concentrations; the doses without that are stated beside"
        f"{', by the convolution alone' if protocol.dose_engine == 'neural' else ''}."
    )


def _alignment(report: Report) -> str:
    points = report.aligned.cycle.time_points
    moved = [str(point.index) for point, alignment in zip(points, report.aligned.alignments, strict=True) if alignment.moved]
    words = f"Moved by a rigid transform with one interpolation: scan {', '.join(moved)}." if moved else "No scan was moved."
    reference = points[report.aligned.reference].index
    return f"Engine {report.engines.get('aligner', 'none')}; all maps lie on the SPECT grid of scan {reference}. {words}"


def _kinetics(document: Json) -> str:
    models = dict.fromkeys(region["kinetics"]["model"] for region in document["regions"] if region["kinetics"]["model"])
    known = "; ".join(f"{model}: {_MODEL_WORDS.get(model, 'as named')}" for model in models)
    return f"Method {document['engines']['kinetics']}. {known + '. ' if known else ''}{_EXTRAPOLATION_WORDS}"


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


def next_scan_words(document: Json) -> str:
    """Return when one more scan would tell most, and how much; empty where none is proposed."""
    found = document["next_scan"]
    if found is None:
        return ""
    at = datetime.fromisoformat(document["administrations"][0]["time"]) + timedelta(hours=found["time_h"])
    of = found["regions"]
    gains = [f"{plain(row['name'])} from {row['relative_sd_now']:.0%} to {row['relative_sd_then']:.0%}" for row in of]
    return (
        f"Next scan: {found['time_h']:g} h after the administration ({at:%Y-%m-%d %H:%M}) would lower the uncertainty of the integrals "
        f"most, of {', of '.join(gains)}."
    )
