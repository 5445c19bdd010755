"""Steps exchanged and computed again: planted faults are found in their step, and what cannot be computed is said."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.attribution import TOGETHER, brute_force, dropped, off_calibration, worked_up
from mrtai.agreement import exchange_of, from_images, recomputed
from mrtai.cli import main
from mrtai.comparison import Comparison, comparison
from mrtai.engines.local import Local
from mrtai.engines_of_run import CaseRequest, engines_for
from mrtai.io.compared_cases import read_cases
from mrtai.io.protocols import load_protocol
from mrtai.io.tables import nuclide
from mrtai.io.validation import validation_document
from mrtai.io.validation_page import validation_page
from mrtai.io.validation_pairs import paired
from mrtai.physics.align_scans import IDENTITY
from mrtai.physics.attribution import STEPS
from mrtai.values.dose import Dose
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from mrtai.values.study import Administration, Cycle, TimePoint

GRID = Grid.axial((14, 18, 20), (4.8, 4.8, 4.8))
GIVEN = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
TIMES_H = (24.0, 96.0, 168.0)
HALF_LIVES_H = {"kidney_left": 50.0, "spleen": 66.0, "rest": 40.0}
REGIONS = ("kidney_left", "spleen")


pytestmark = pytest.mark.usefixtures("key")


class HotSpot:
    """A dose engine that gives the middle of the patient more, as another code might."""

    def __call__(self, tia, density):
        dose = engine()(tia, density)
        ramp = 1 + 0.05 * np.linspace(0, 1, GRID.shape[2], dtype=np.float32)
        return Dose({kind: replace(part, voxels=part.voxels * ramp) for kind, part in dose.parts.items()})


def engine():
    return Local(nuclide("Lu-177"))


def clean():
    z, y, x = np.indices(GRID.shape)
    labels = np.zeros(GRID.shape, np.uint8)
    labels[(z - 6) ** 2 + (y - 8) ** 2 + (x - 6) ** 2 < 14] = 1
    labels[(z - 7) ** 2 + (y - 9) ** 2 + (x - 14) ** 2 < 18] = 2
    body = ((y - 8.5) / 8) ** 2 + ((x - 9.5) / 9) ** 2 < 1
    ct = Image(np.where(body, 40, -1000).astype(np.int16), Quantity.HOUNSFIELD, GRID)
    points = []
    for n, t_h in enumerate(TIMES_H, start=1):
        fall = {name: 0.5 ** (t_h / half) for name, half in HALF_LIVES_H.items()}
        bq_ml = np.where(body, 2e4 * fall["rest"], 0.0)
        bq_ml[labels == 1], bq_ml[labels == 2] = 9e5 * fall["kidney_left"], 6e5 * fall["spleen"]
        spect = Image(ndimage.gaussian_filter(bq_ml, 0.9).astype(np.float32), Quantity.ACTIVITY_CONCENTRATION, GRID)
        at = GIVEN + timedelta(hours=t_h)
        points.append(TimePoint(n, at, t_h, None, spect, ct if n == 1 else None, None, f"{n:064x}", "scan", "header"))
    cycle = Cycle("P-0000000000000001", 1, Administration("Lu-177", "DOTATATE", 7.4e9, GIVEN), tuple(points))
    engines = engines_for(protocol(), CaseRequest(Path(), "lu177-dotatate", Path()), cycle=cycle)
    return cycle, Labels(labels, {1: "kidney_left", 2: "spleen"}, GRID), replace(engines, aligner=lambda fixed, moving: IDENTITY)


def protocol():
    return replace(load_protocol("lu177-dotatate"), check_engine="none", dose_engine="local", segmenter="none")


def larger(case):
    cycle, labels, engines = case
    grown = ndimage.binary_dilation(labels.mask("kidney_left"))
    return cycle, replace(labels, voxels=np.where(grown & (labels.voxels == 0), 1, labels.voxels)), engines


def other_engine(case):
    cycle, labels, engines = case
    return cycle, labels, replace(engines, dose=HotSpot())


FAULTS = {"contour": larger, "activity": off_calibration, "curve": dropped, "dose": other_engine}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """CASE folders: without a fault, with one at a time, and with all."""
    root, case = tmp_path_factory.mktemp("cases"), clean()
    every = case
    for plant in FAULTS.values():
        every = plant(every)
    cases = {"clean": case, **{name: plant(case) for name, plant in FAULTS.items()}, TOGETHER: every}
    for name, one in cases.items():
        worked_up(one, protocol(), root / name)
    return root


def sides(folders, name):
    auto, manual = read_cases(folders / name, "automatic"), read_cases(folders / "clean", "manual")
    return auto, manual, [pair for pair in paired(auto, manual).pairs if pair.auto.name in REGIONS]


@pytest.mark.parametrize("step", STEPS)
def test_a_fault_planted_alone_is_carried_by_its_step(folders, step):
    auto, manual, pairs = sides(folders, step)
    found, refused = from_images(auto, manual, pairs)
    assert refused == ()
    for one in found[:1] if step == "contour" else found:
        assert abs(one.total_ln_ratio) > 1e-3 and one.by == "images"
        for part in one.contributions:
            # results.json keeps seven digits
            assert part.ln_ratio == pytest.approx(one.total_ln_ratio if part.steps == (step,) else 0.0, abs=1e-5), part.steps


def test_all_faults_together_are_shared_as_brute_force_over_all_orders_does(folders):
    auto, manual, pairs = sides(folders, TOGETHER)
    exchange = exchange_of(auto[0].images(()), manual[0].images(()), pairs)
    # the engines have one name: what the other one's dose differs by is not computed but stated
    assert exchange.same == {"dose"}
    for pair, one in zip(pairs, recomputed(auto[0].images(()), manual[0].images(()), pairs), strict=True):
        shares = {part.steps[0]: part.ln_ratio for part in one.contributions}
        assert shares == pytest.approx(brute_force(exchange, pair), abs=1e-6)
        assert sum(shares.values()) == pytest.approx(one.total_ln_ratio, abs=1e-9)
        assert np.exp(one.total_ln_ratio) == pytest.approx(pair.auto.absorbed_dose_gy / pair.manual.absorbed_dose_gy)


def test_a_case_against_itself_has_no_share_anywhere(folders):
    auto, manual, pairs = sides(folders, "clean")
    for one in recomputed(auto[0].images(()), manual[0].images(()), pairs):
        assert [part.ln_ratio for part in one.contributions] == [0.0] * 4


def compared(auto, manual, *, recompute=True):
    return validation_document(comparison(Comparison(auto, manual, auto.parent / "out", recompute=recompute)))


def ways(found):
    return {pair["attribution"]["by"] for pair in found["pairs"] if pair["attribution"]}


def test_doses_are_computed_again_only_where_asked_and_the_page_says_what_was_done(folders):
    found = compared(folders / "contour", folders / "clean")
    assert ways(found) == {"images"} and found["not_recomputed"] == []
    kidneys = next(one for one in found["attribution"] if one["group"] == "kidneys")
    assert "% contour, 0.0 %" in kidneys["text"] and kidneys["text"].endswith(", computed again from images")
    page = validation_page(found, ())
    assert "From images: contours" in page and "From numbers alone" not in page
    assert ways(compared(folders / "contour", folders / "clean", recompute=False)) == {"numbers"}


def test_steps_that_cannot_be_computed_again_are_said_and_not_guessed(folders, tmp_path):
    table = tmp_path / "m.csv"
    heading = "patient,cycle,region,volume_ml,time_h,activity_mbq,tia_mbq_h,effective_half_life_h,absorbed_dose_gy"
    table.write_text(f"{heading}\nP-0000000000000001,1,spleen,8,,,,,3.0\n")
    assert main(["validate", str(folders / "clean"), str(table), "--out", str(tmp_path / "csv"), "--recompute"]) == 0
    found = json.loads((tmp_path / "csv" / "validation.json").read_text("utf-8"))
    assert found["not_recomputed"][0]["why"].startswith("the images are not at hand: numbers alone")
    assert found["pairs"][0]["attribution"]["contributions"][-1]["steps"] == ["activity", "curve", "dose"]
    page = (tmp_path / "csv" / "validation.html").read_text("utf-8")
    assert "not computed again from images: the images are not at hand" in page


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "images" / "spect_2.nii.gz").unlink(), "the images of the case are not at hand"),
        (lambda folder: (folder / "manifest.json").unlink(), "the choices of the case"),
        (lambda folder: changed_protocol(folder), "the protocol of the case is not at hand: 'lu177-dotatate' of another content"),
    ],
)
def test_a_case_that_lacks_what_it_takes_is_told_apart(folders, tmp_path, change, says):
    bare = tmp_path / "bare"
    shutil.copytree(folders / "contour", bare)
    change(bare)
    auto, manual = read_cases(bare, "automatic"), read_cases(folders / "clean", "manual")
    found, refused = from_images(auto, manual, paired(auto, manual).pairs)
    assert says in refused[0].why and set(found) == {None}


def changed_protocol(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["protocol"]["sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
