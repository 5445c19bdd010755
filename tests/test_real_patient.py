"""A real 177Lu-DOTATATE patient, two quantitative SPECT scans with contours and no CT; skipped where the data are absent."""

import json
import re
import zipfile

import numpy as np
import pytest

from mrtai.cli import main

# one worker makes the study that all of them share

SCANS = {"1": ("2018-11-15T13:06:28", 1351.0), "2": ("2018-11-16T13:05:32", 996.0)}


@pytest.fixture(scope="module")
def study(real_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    source = real_data("spect/umich_lu177_dotatate_nc")
    for scan in SCANS:
        with zipfile.ZipFile(source / f"SCAN_00{scan}.zip") as archive:
            archive.extractall(folder / "study" / scan)
    (folder / "key").write_bytes(b"k" * 32)
    patch = pytest.MonkeyPatch()
    patch.setenv("MRTAI_KEY_FILE", str(folder / "key"))
    yield folder / "study"
    patch.undo()


def worked_up(study, out, referred_to, capsys, *options):
    decision = out.parent / f"{referred_to}.toml"
    scans = "\n".join(f'[[scan]]\nstarted_at = "{at}"\ndecay_referred_to = "{referred_to}"' for at, _ in SCANS.values())
    decision.write_text(f'agent = "DOTATATE"\n{scans}\n')
    status = main(["run", str(study), "--protocol", "lu177-dotatate", "--study", str(decision), "--out", str(out), *options])
    assert status == 0, capsys.readouterr().err
    return json.loads((out / "results.json").read_text())


def polygon_volume_ml(study, name):
    import pydicom

    file = next(
        path
        for path in (study / "1").rglob("*")
        if path.is_file() and pydicom.dcmread(path, stop_before_pixels=True).Modality == "RTSTRUCT"
    )
    header = pydicom.dcmread(file)
    number = next(roi.ROINumber for roi in header.StructureSetROISequence if roi.ROIName == name)
    contours = next(item for item in header.ROIContourSequence if item.ReferencedROINumber == number).ContourSequence
    area = 0.0
    heights = []
    for contour in contours:
        points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
        x, y = points[:, 0], points[:, 1]
        area += abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
        heights.append(points[0, 2])
    return area * np.median(np.diff(np.unique(heights))) / 1e3


def test_a_header_that_contradicts_itself_holds_the_case(study, tmp_path, capsys):
    status = main(["run", str(study), "--protocol", "lu177-dotatate", "--out", str(tmp_path / "case"), "--json"])
    reason = json.loads(capsys.readouterr().err)
    assert status == 2
    assert reason["code"] == "DECAY_REFERENCE_CONFLICT"
    assert "decay_referred_to" in reason["remedy"]
    assert list(tmp_path.iterdir()) == []


FAST = ("--engine", "local", "--check-engine", "none")


@pytest.mark.parametrize(
    ("referred_to", "half_life_h", "options"),
    [("scan", 54.5, FAST), *(pytest.param(*one, (), marks=pytest.mark.slow) for one in (("scan", 54.5), ("administration", 40.7)))],
)
def test_both_readings_give_their_own_half_life(study, tmp_path, capsys, referred_to, half_life_h, options):
    results = worked_up(study, tmp_path / "case", referred_to, capsys, *options)
    body = next(region for region in results["regions"] if region["name"] == "body")
    # 24 h apart, 1.351 and 0.996 GBq: ln 2 · 23.985 / ln(1.351/0.996) = 54.5 h; with physical decay added 40.7 h
    assert body["kinetics"]["effective_half_life_h"] == pytest.approx(half_life_h, rel=0.01)
    decayed = [1.0, 1.0] if referred_to == "scan" else [2 ** (-h / 159.528) for h in (3.741, 27.726)]
    for scan, (_, stored_mbq), factor in zip(results["scans"], SCANS.values(), decayed, strict=True):
        # the stored sums are known to four digits
        assert scan["activity_in_view_mbq"] == pytest.approx(stored_mbq * factor, rel=0.002)
    for lesion, name in (("lesion_1", "lesion1 liver R lobe"), ("lesion_2", "lesion2 liver L lateral")):
        row = next(region for region in results["regions"] if region["name"] == lesion)
        assert row["source_name"] == name
        assert row["volume_ml"] == pytest.approx(polygon_volume_ml(study, name), rel=0.03)
        assert len(row["time_activity"]["activity_mbq"]) == 2
        assert row["tia_mbq_h"] > 0 and row["absorbed_dose_gy"]["mean"] > 0
    assert "NO_CT_DENSITY_ONE" in [flag["code"] for flag in results["flags"]]
    assert not re.search(r"lesion1|R lobe", (tmp_path / "case" / "manifest.json").read_text())
