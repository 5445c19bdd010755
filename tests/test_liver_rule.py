"""One liver rule: with and without its lesions the liver is always reported, by name, whoever drew the lesions."""

from dataclasses import replace

import numpy as np
import pytest

from mrtai.cycle import dose_cycle
from mrtai.engines import known_beside, tac_model
from mrtai.engines.local import Local
from mrtai.engines_of_run import Engines
from mrtai.io.nuclear_data import NUCLEAR_DATA
from mrtai.io.results import require_valid, results
from mrtai.io.tables import nuclide
from mrtai.physics.align_scans import IDENTITY
from mrtai.physics.chain import chain
from mrtai.values.flag import Flag, Severity
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from tests.test_flags import BODY, GRID, PROTOCOL, TIMES_H, box, cycle

LIVER, LESION, FAR = box((4, 4, 4), (18, 18, 14)), box((8, 8, 6), (12, 12, 10)), box((8, 8, 17), (12, 12, 20))
ORGANS = Labels(LIVER * 1, {1: "liver"}, GRID)
NAMES = {"aligner": "none", "segmenter": "test", "kinetics": "auto", "dose": "local", "check": "none"}


def of_livers():
    """Three scans of a liver with a lesion five times as hot, and a lesion beside it."""
    points = []
    for point, t_h in zip(cycle((80.0, 30.0, 11.0)).time_points, TIMES_H, strict=True):
        bq_per_ml = BODY * 1e3 + LIVER * 1e5 * 0.5 ** (t_h / 60) + LESION * 4e5 * 0.5 ** (t_h / 80) + FAR * 5e5 * 0.5 ** (t_h / 80)
        points.append(replace(point, spect=Image(bq_per_ml.astype(np.float32), Quantity.ACTIVITY_CONCENTRATION, GRID)))
    return replace(cycle((80.0, 30.0, 11.0)), time_points=tuple(points))


def regions_by(segmenter):
    decay = nuclide("Lu-177")
    aligner = lambda fixed, moving: IDENTITY  # noqa: E731
    model = tac_model("auto", known_beside(decay, PROTOCOL))
    engines = Engines(decay, aligner, segmenter, model, Local(decay), None, chain("Lu-177", NUCLEAR_DATA), NAMES)
    document = require_valid(results(dose_cycle(of_livers(), PROTOCOL, engines)))
    return {region["name"]: region for region in document["regions"]}


def no_lesions(aligned):
    return ORGANS


def given_lesions(aligned):
    return Labels(np.where(LESION, 2, np.where(FAR, 3, LIVER * 1)), {1: "liver", 2: "lesion_1", 3: "lesion_2"}, GRID)


def lesion_found_in_the_scan(aligned):
    hot = aligned.spects[0].voxels > 0.4 * aligned.spects[0].voxels.max()
    return Labels(np.where(hot & LIVER, 2, LIVER * 1), {1: "liver", 2: "lesion_1"}, GRID)


def lesion_segmenters(aligned):
    lesions = pytest.importorskip("mrtai.engines.lesions", reason="lesion segmenters are not there yet")
    return lesions.draw_lesions("threshold", aligned, ORGANS, device="cpu", threads=1)


def mean_gy(region):
    return region["absorbed_dose_gy"]["mean"]


@pytest.mark.parametrize("segmenter", [no_lesions, given_lesions, lesion_found_in_the_scan, lesion_segmenters])
def test_the_liver_is_reported_with_and_without_lesions_by_name(segmenter):
    regions = regions_by(segmenter)
    for name in ("liver", "liver_without_lesions"):
        assert mean_gy(regions[name]) > 0 and regions[name]["volume_ml"] > 0, name
    assert regions["liver"]["code"] == "SCT:10200004"


def test_a_liver_without_lesions_is_one_and_the_same_by_both_names():
    regions = regions_by(no_lesions)
    own, other = regions["liver"], regions["liver_without_lesions"]
    assert own["members"] == other["members"] == []
    for key in ("volume_ml", "mass_g", "tia_mbq_h", "absorbed_dose_gy"):
        assert own[key] == other[key], key


@pytest.mark.parametrize("segmenter", [given_lesions, lesion_found_in_the_scan, lesion_segmenters])
def test_lesions_make_the_two_differ_by_just_what_lies_in_them(segmenter):
    regions = regions_by(segmenter)
    liver, parenchyma = regions["liver"], regions["liver_without_lesions"]
    lesions = [regions[name] for name in liver["members"] if name != "liver_without_lesions"]
    assert liver["members"][0] == "liver_without_lesions" and lesions
    for key in ("volume_ml", "mass_g", "tia_mbq_h"):
        assert liver[key] == pytest.approx(parenchyma[key] + sum(lesion[key] for lesion in lesions), rel=1e-6), key
    # on one lattice the mean over the union is the mean of its parts by volume
    total = sum(mean_gy(part) * part["volume_ml"] for part in (parenchyma, *lesions))
    assert mean_gy(liver) == pytest.approx(total / liver["volume_ml"], rel=1e-5)
    # the lesion is five times as hot in 5 % of the volume, and stays longer
    assert mean_gy(liver) > 1.15 * mean_gy(parenchyma)


def test_a_lesion_beside_the_liver_is_no_part_of_it():
    regions = regions_by(given_lesions)
    assert regions["liver"]["members"] == ["liver_without_lesions", "lesion_1"]
    assert regions["tumour_total"]["members"] == ["lesion_1", "lesion_2"]


def test_a_doubtful_liver_is_told_by_both_names_and_a_lesion_only_by_its_union():
    doubt = Flag("ORGAN_DOUBT", Severity.REVIEW, "Drawings disagree.", "Look.")
    note = Flag("ORGAN_FRAGMENTS", Severity.INFO, "Two pieces.", "Look.")
    strange = Flag("CT_UNFAMILIAR", Severity.REVIEW, "A strange CT.", "Look.")
    flags = {"liver": (doubt, note), "lesion_1": (replace(doubt, text="A lesion."),), "": (strange,)}
    regions = regions_by(lambda aligned: replace(given_lesions(aligned), flags=flags))

    def told(name):
        return [(flag["code"], flag["text"]) for flag in regions[name]["flags"] if flag["code"].startswith(("ORGAN_D", "ORGAN_F"))]

    own = [("ORGAN_DOUBT", "Drawings disagree."), ("ORGAN_FRAGMENTS", "Two pieces.")]
    assert told("liver_without_lesions") == own
    assert told("liver") == [*own, ("ORGAN_DOUBT", "lesion_1: A lesion.")]
    assert told("tumour_total") == [("ORGAN_DOUBT", "lesion_1: A lesion.")]
    assert told("lesion_1") == [("ORGAN_DOUBT", "A lesion.")] and told("lesion_2") == told("body") == told("remainder") == []


def test_what_concerns_all_contours_is_told_of_the_case_and_a_gate_speaks_of_a_cut_once():
    strange = Flag("CT_UNFAMILIAR", Severity.REVIEW, "A strange CT.", "Look.")
    cut = Flag("ORGAN_CUT", Severity.REVIEW, "The liver reaches the end.", "Look.")
    at_the_end = Labels(box((0, 4, 4), (14, 14, 14)) * 1, {1: "liver"}, GRID)
    decay, names = nuclide("Lu-177"), NAMES
    aligner = lambda fixed, moving: IDENTITY  # noqa: E731

    def codes(flags):
        labels = replace(at_the_end, flags=flags)
        model = tac_model("auto", known_beside(decay, PROTOCOL))
        engines = Engines(decay, aligner, lambda aligned: labels, model, Local(decay), None, chain("Lu-177", NUCLEAR_DATA), names)
        report = dose_cycle(of_livers(), PROTOCOL, engines)
        # the contour lies 16 mm beside the liver, and every scan says so
        assert [flag.code for flag in report.flags].count("ACTIVITY_DISPLACED") == len(TIMES_H)
        return {flag.code for flag in report.flags} - {"ACTIVITY_DISPLACED"}, [
            flag.code for flag in report.regions[1].flags if "CUT" in flag.code
        ]

    assert codes({"": (strange,), "liver": (cut,)}) == ({"CT_UNFAMILIAR"}, ["ORGAN_CUT"])
    assert codes({}) == (set(), ["ORGAN_CUT_BY_VIEW"])
