"""``mrtai validate`` where both sides have contours and dose maps."""

import csv
import json
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from scipy import ndimage

from mrtai.comparison import Comparison, comparison
from mrtai.io.case_folder import write_images
from mrtai.io.results import dumped, results
from mrtai.io.validation import validation_document
from mrtai.io.validation_csv import validation_csv
from mrtai.io.validation_page import validation_page
from mrtai.physics.maps_agreement import cycle_maps_compared
from mrtai.physics.resample import largest_share
from mrtai.physics.validation import attributed
from mrtai.values.compared_maps import CycleMaps, MapsCompared
from mrtai.values.image import Image, Quantity
from mrtai.values.validation import RegionNumbers, RegionPair
from tests.io.sample_report import sample_report


@pytest.fixture(scope="module")
def report():
    return sample_report()


def write_case(folder, report):
    images = folder / "images"
    images.mkdir(parents=True)
    (folder / "results.json").write_text(dumped(results(report)), "utf-8")
    (folder / "manifest.json").write_text(json.dumps({"code": {"version": "0.1.0", "commit": "abc"}}))
    write_images(report, images)
    return folder


def with_larger_kidney(report):
    """The left kidney larger by a voxel all around, where nothing else lies."""
    labels = report.contours
    value = {name: value for value, name in labels.names.items()}["kidney_left"]
    grown = ndimage.binary_dilation(labels.mask("kidney_left")) & ((labels.voxels == 0) | (labels.voxels == value))
    changed = replace(labels, voxels=np.where(grown, value, labels.voxels))
    return replace(report, contours=changed, labels=changed if labels.grid.same_as(report.labels.grid) else report.labels)


def compared(auto, manual):
    return validation_document(comparison(Comparison(auto, manual, auto.parent / "out")))


def of(found, name):
    return next(one for one in found["maps"]["regions"] if one["region"] == name)


def test_a_case_against_itself_has_the_same_contours_and_passes_everywhere(tmp_path, report):
    case = write_case(tmp_path / "case", report)
    found = compared(case, case)
    regions = found["maps"]["regions"]
    assert {"kidney_left", "kidneys", "liver", "lesion_1", "tumour_total"} <= {one["region"] for one in regions}
    for one in regions:
        assert one["contour"] == {"dice": 1.0, "mean_surface_mm": 0.0, "surface_95_mm": 0.0, "volume_ratio": 1.0}
        assert one["dvh"]["automatic"] == one["dvh"]["manual"]
        assert all(gamma["passed"] == gamma["points"] for gamma in one["gamma"])
    (whole,) = found["maps"]["cycles"]
    assert [(one["percent"], one["mm"], one["local"]) for one in whole["gamma"]] == [(3, 3, False), (2, 2, False), (3, 3, True)]
    assert all(one["passed"] == one["points"] > 100 for one in whole["gamma"])
    text = validation_page(found, ())
    assert "Contours and dose maps" in text and "1.000 (1.000)" in text and "100.0 % (100.0)" in text


def test_a_larger_contour_and_a_higher_dose_are_told_in_json_page_and_csv(tmp_path, report):
    higher = Image(report.dose.total.voxels * np.float32(1.1), Quantity.ABSORBED_DOSE, report.dose.grid)
    other = with_larger_kidney(replace(report, dose=replace(report.dose, parts={"electron": higher})))
    auto, manual = write_case(tmp_path / "auto", other), write_case(tmp_path / "manual", report)
    found = compared(auto, manual)
    kidney, spleen = of(found, "kidney_left"), of(found, "spleen")
    assert kidney["contour"]["dice"] < 0.99 and kidney["contour"]["volume_ratio"] > 1.02
    assert 0 < kidney["contour"]["surface_95_mm"] <= float(report.contours.grid.spacing_mm.max()) + 1e-6
    assert spleen["contour"]["dice"] == 1.0
    for key in ("d98", "d50", "d2"):
        assert spleen["dvh"]["automatic"][key] == pytest.approx(1.1 * spleen["dvh"]["manual"][key], rel=1e-5)
    assert spleen["dvh"]["receiving_manual_d50"] > 0.5
    # 10 % off everywhere passes where the dose changes steeply, and hardly anywhere else when per cent are of the point's own dose
    first, _, local = found["maps"]["cycles"][0]["gamma"]
    assert local["passed"] < first["passed"] <= first["points"] == local["points"]
    rows = {row["region"]: row for row in csv.DictReader(StringIO(validation_csv(found)))}
    assert float(rows["kidney_left"]["dice"]) == kidney["contour"]["dice"]
    assert float(rows["spleen"]["d50_manual_gy"]) == spleen["dvh"]["manual"]["d50"]
    assert 0 <= float(rows["spleen"]["gamma passed, 3 % / 3 mm"]) <= 1


def test_cases_kept_without_images_are_compared_by_numbers_alone(tmp_path, report):
    case, bare = write_case(tmp_path / "case", report), write_case(tmp_path / "bare", report)
    for file in (bare / "images").iterdir():
        file.unlink()
    found = compared(case, bare)
    assert found["maps"] == {"regions": [], "cycles": []} and found["statistics"]
    assert "Contours and dose maps" not in validation_page(found, ())


def test_a_dose_alone_is_told_apart_into_contour_and_rest_by_the_maps(report):
    # the manual side states doses, contours and maps, as a DICOM export does: no activity, no integral
    other = with_larger_kidney(report)
    grid = report.dose.grid
    ours, theirs = (CycleMaps(one.contours, largest_share(one.contours, grid), one.dose.total) for one in (other, report))
    higher = replace(theirs, dose=replace(theirs.dose, voxels=theirs.dose.voxels * np.float32(1.1)))
    (alone,), _ = cycle_maps_compared(("P", 1), ours, theirs, ["kidney_left"])
    assert alone.shares.rest == pytest.approx(0.0, abs=1e-7) and alone.shares.contour < -0.02
    (both,), _ = cycle_maps_compared(("P", 1), ours, higher, ["kidney_left"])
    assert both.shares.contour == pytest.approx(alone.shares.contour, abs=1e-6)
    assert both.shares.rest == pytest.approx(-np.log(1.1), abs=1e-6)
    numbers = [RegionNumbers("kidney_left", volume_ml=volume, absorbed_dose_gy=dose) for volume, dose in ((150.0, 3.0), (140.0, 3.1))]
    pair = RegionPair("P", 1, "kidneys", True, *numbers)
    (found,), _ = attributed([pair], MapsCompared((both,)))
    assert found.by == "maps" and [part.steps for part in found.contributions] == [("contour",), ("activity", "curve", "dose")]
    assert attributed([pair])[0][0].by == "numbers"
