import csv
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from mrtai.io import case_folder
from mrtai.io.case_folder import require_replaceable, write_case
from mrtai.io.manifest import commit
from mrtai.io.results import dumped, require_valid, results
from mrtai.values.refusal import DosimetryError

sample_report = runpy.run_path(str(Path(__file__).with_name("sample_report.py")))["sample_report"]
MANIFEST = {"seeds": {"case": 7}, "parameters": {"kinetics": "auto"}, "timings_s": {"dose": 1.25}}


@pytest.fixture(scope="module")
def report():
    return sample_report()


@pytest.fixture(scope="module")
def case(report, tmp_path_factory):
    return write_case(report, tmp_path_factory.mktemp("cases") / "CASE", manifest=MANIFEST)


@pytest.fixture
def quick(monkeypatch):
    """Leave out the drawing, which other tests look at."""
    monkeypatch.setattr(case_folder, "report_figures", lambda report: SimpleNamespace(figures=(), organs={}))
    monkeypatch.setattr(case_folder, "html_report", lambda *args, **named: "<p>")
    monkeypatch.setattr(case_folder, "pdf_report", lambda *args, **named: b"%PDF")


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_case_holds_every_documented_file(case):
    images = {
        "ct.nii.gz",
        "spect_1.nii.gz",
        "spect_2.nii.gz",
        "spect_3.nii.gz",
        "tia.nii.gz",
        "dose.nii.gz",
        "labels.nii.gz",
        "labels.json",
        "contours.nii.gz",
        "contours.json",
    }
    assert {path.name for path in (case / "images").iterdir()} == images
    files = {"results.json", "report.html", "report.pdf", "manifest.json", "regions.csv"}
    assert {path.name for path in case.iterdir()} == files | {"images", "figures"}
    assert (case / "figures" / "planes_1.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in case.parent.iterdir()] == ["CASE"]


def test_the_written_results_are_the_reports_and_obey_the_schema(case, report):
    text = (case / "results.json").read_text("utf-8")
    assert text == dumped(results(report))
    require_valid(json.loads(text))


def test_every_map_but_the_ct_lies_on_the_grid_of_the_dose(case):
    affine = nibabel.load(case / "images/dose.nii.gz").affine
    for name in ("spect_1", "spect_3", "tia", "labels"):
        assert np.allclose(nibabel.load(case / f"images/{name}.nii.gz").affine, affine)
    assert nibabel.load(case / "images/ct.nii.gz").shape == (80, 80, 80)


def test_the_manifest_names_inputs_protocol_code_and_what_the_caller_knows(case):
    manifest = json.loads((case / "manifest.json").read_text("utf-8"))
    assert manifest["schema"] == "mrtai.manifest/1"
    assert [file["name"] for file in manifest["inputs"]] == [f"scan{n}/spect.nii.gz" for n in (1, 2, 3)]
    assert manifest["protocol"]["name"] == "lu177-dotatate" and len(manifest["protocol"]["sha256"]) == 64
    assert manifest["seeds"] == {"case": 7} and manifest["timings_s"] == {"dose": 1.25}
    assert "numpy" in manifest["libraries"]


def test_the_region_table_has_units_in_its_headings_and_empty_cells_for_what_is_withheld(case):
    rows = list(csv.DictReader((case / "regions.csv").open(encoding="utf-8")))
    by_name = {row["region"]: row for row in rows}
    assert float(by_name["kidney_left"]["absorbed_dose_gy"]) > 0
    assert by_name["lesion_2"]["absorbed_dose_gy"] == by_name["lesion_2"]["tia_mbq_h"] == ""


def test_a_draft_is_replaced_as_a_whole(case, report, tmp_path, quick):
    out = write_case(report, tmp_path / "CASE", manifest=MANIFEST)
    (out / "figures" / "left_over.png").write_text("of an older version")
    write_case(report, out, manifest=MANIFEST)
    assert not (out / "figures" / "left_over.png").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["CASE"]


@pytest.mark.parametrize("interruption", [OSError("disk full"), KeyboardInterrupt()])
def test_a_fault_in_the_middle_leaves_nothing_and_the_old_case_as_it_was(report, tmp_path, quick, monkeypatch, interruption):
    out = write_case(report, tmp_path / "CASE", manifest=MANIFEST)
    before = content(out)

    def fail(*args, **named):
        raise interruption

    monkeypatch.setattr(case_folder, "write_labels", fail)
    for target in (out, tmp_path / "NEW"):
        with pytest.raises(type(interruption)):
            write_case(report, target, manifest=MANIFEST)
    assert content(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["CASE"]


@pytest.mark.parametrize("state", ["signed", "released"])
def test_a_signed_case_is_never_replaced(report, tmp_path, quick, state):
    out = write_case(report, tmp_path / "CASE", manifest=MANIFEST)
    document = json.loads((out / "results.json").read_text("utf-8")) | {"state": state}
    (out / "results.json").write_text(json.dumps(document), "utf-8")
    before = content(out)
    with pytest.raises(DosimetryError, match=f"CASE: the case is kept as it is; found state {state}"):
        write_case(report, out, manifest=MANIFEST)
    assert content(out) == before


def test_a_case_whose_state_cannot_be_read_is_not_replaced(report, tmp_path, quick):
    out = write_case(report, tmp_path / "CASE", manifest=MANIFEST)
    (out / "results.json").write_text("{", "utf-8")
    with pytest.raises(DosimetryError, match="state unreadable"):
        require_replaceable(out)


def test_a_foreign_folder_or_file_is_left_alone(report, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_bytes(b"meow")
    (tmp_path / "note").write_text("hello")
    for name in ("photos", "note"):
        with pytest.raises(DosimetryError, match=f"{name}: the output is no case of ours"):
            write_case(report, tmp_path / name, manifest=MANIFEST)
    assert (tmp_path / "photos/cat.jpg").read_bytes() == b"meow"


@pytest.mark.parametrize("name", ["contours_by_hand.nii.gz", "notes/visit.txt", "images.txt"])
def test_a_case_with_a_file_of_somebody_else_is_not_replaced(report, tmp_path, quick, name):
    out = write_case(report, tmp_path / "CASE", manifest=MANIFEST)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("hours of work")
    before = content(out)
    with pytest.raises(DosimetryError, match=r"CASE: the case holds files that are not ours.*; found 1 beside manifest.json") as refusal:
        write_case(report, out, manifest=MANIFEST)
    assert refusal.value.code == "OUTPUT_NOT_OURS"
    assert content(out) == before


def test_a_rejected_case_may_be_replaced(report, tmp_path, quick):
    out = write_case(report, tmp_path / "CASE", manifest=MANIFEST)
    document = json.loads((out / "results.json").read_text("utf-8")) | {"state": "rejected"}
    (out / "results.json").write_text(json.dumps(document), "utf-8")
    write_case(report, out, manifest=MANIFEST)
    assert json.loads((out / "results.json").read_text("utf-8"))["state"] == "draft"


@pytest.mark.parametrize("below", ["CASE", "deeper/CASE"])
def test_a_case_below_a_file_is_refused(report, tmp_path, below):
    (tmp_path / "note").write_text("hello")
    with pytest.raises(DosimetryError, match=r"CASE: the output cannot lie below a file; .*; choose a folder for --out") as refusal:
        write_case(report, tmp_path / "note" / below, manifest=MANIFEST)
    assert refusal.value.code == "BAD_OUTPUT"
    assert (tmp_path / "note").read_text() == "hello"


def test_an_empty_folder_may_be_filled(report, tmp_path, quick):
    (tmp_path / "CASE").mkdir()
    assert (write_case(report, tmp_path / "CASE", manifest=MANIFEST) / "results.json").is_file()


def test_the_commit_is_read_from_loose_and_packed_references(tmp_path):
    git = tmp_path / ".git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text("# pack-refs\nabc123 refs/heads/main\n")
    assert commit(tmp_path) == "abc123"
    (git / "refs/heads/main").write_text("def456\n")
    assert commit(tmp_path) == "def456"
    assert commit(tmp_path / "elsewhere") is None
