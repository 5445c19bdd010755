"""A walk in which a model draws: from a study without contours to a case that says who drew what."""

import json
import shutil

import numpy as np
import pytest

from mrtai.cli import main
from mrtai.cycle import plainly, read, segment, study_of
from mrtai.engines_of_run import CaseRequest, engines_for
from mrtai.io.bundles import load_bundle
from mrtai.io.nifti import read_labels, write_image, write_labels
from mrtai.io.protocols import load_protocol
from mrtai.physics.align_scans import IDENTITY, on_one_grid
from mrtai.reuse import reusing
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.labels import Labels
from tests.engines.tiny_model import ByNumber, write_bundle

CT_GRID = Grid.axial((40, 30, 32), np.array([4.0, 4.0, 4.0]))
GRID = Grid.axial((20, 15, 16), np.array([8.0, 8.0, 8.0]))
PROTOCOL = """nuclide = "Lu-177"
agent = "DOTATATE"
expected_scans = 2
kinetics = "auto"
dose_engine = "local"
activity_sd_relative = 0.05
typical_administered_mbq = 7400.0
segmenter = "by-number"
lesion_segmenter = "none"
"""


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory):
    """A site's folder with one model and the pseudonym's key."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "key").write_bytes(b"k" * 32)
    write_bundle(folder / "models" / "by-number")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRTAI_KEY_FILE", str(folder / "key"))
        patch.setenv("MRTAI_MODELS", str(folder / "models"))
        yield folder / "models"


def solid(grid, centre_mm, radii_mm):
    z, y, x = (n * s + o for n, s, o in zip(np.indices(grid.shape), grid.spacing_mm[::-1], grid.origin_mm[::-1], strict=True))
    return sum(((axis - middle) / radius) ** 2 for axis, middle, radius in zip((x, y, z), centre_mm, radii_mm, strict=True)) < 1


def centre_mm(dx=0.0, dy=0.0, dz=0.0):
    return CT_GRID.origin_mm + (np.array(CT_GRID.shape[::-1]) - 1) / 2 * CT_GRID.spacing_mm + (dx, dy, dz)


def anatomy(grid):
    """Body, liver and a lung of the tiny model's numbers."""
    body = solid(grid, centre_mm(), (55, 50, 400))
    return body, solid(grid, centre_mm(-22, 5, -30), (22, 25, 30)), solid(grid, centre_mm(20, 5, 30), (20, 22, 28))


def hounsfield():
    body, liver, lung = anatomy(CT_GRID)
    return np.select([liver, lung, body], [110.0, -150.0, -20.0], -1000.0).astype(np.float32)


def write_study(folder, *, agent="DOTATATE", ct=True):
    lines = ["administered_mbq = 7400.0", 'administered_at = "2026-03-02T09:30:00+00:00"', 'nuclide = "Lu-177"', f'agent = "{agent}"']
    body, liver, lung = anatomy(GRID)
    for number, day in enumerate((3, 6), start=1):
        fall = 0.5 ** (24 * (day - 2) / 50)
        concentration = (fall * np.select([liver, lung, body], [8e5, 1e5, 2e3], 0.0)).astype(np.float32)
        write_image(folder / f"scan{number}" / "spect.nii.gz", Image(concentration, Quantity.ACTIVITY_CONCENTRATION, GRID))
        lines += ["[[scan]]", f'spect = "scan{number}/spect.nii.gz"', f'started_at = "2026-03-{day:02d}T09:30:00+00:00"']
        if ct:
            write_image(folder / f"scan{number}" / "ct.nii.gz", Image(hounsfield(), Quantity.HOUNSFIELD, CT_GRID))
            lines.append(f'ct = "scan{number}/ct.nii.gz"')
    (folder / "study.toml").write_text("\n".join(lines) + "\n")
    (folder.parent / "site.toml").write_text(PROTOCOL)
    return folder


def run(study, *options):
    protocol = str(study.parent / "site.toml")
    return main(["run", str(study), "--protocol", protocol, "--out", str(study.parent / "case"), *options])


def refusal(capsys, study, *options):
    capsys.readouterr()
    assert run(study, "--json", *options) == 2
    return json.loads(capsys.readouterr().err)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    assert run(write_study(folder / "study"), "--lesion-segmenter", "adaptive") == 0
    return folder


def document(case, name):
    return json.loads((case / name).read_text("utf-8"))


def test_a_study_without_contours_is_drawn_by_the_protocols_model(made, models):
    results, manifest = document(made / "case", "results.json"), document(made / "case", "manifest.json")
    assert results["engines"]["segmenter"] == "by-number@1.2.3"
    assert results["engines"]["lesion_segmenter"] == manifest["parameters"]["lesion_segmenter"] == "adaptive"
    assert manifest["models"] == {"by-number@1.2.3": load_bundle("by-number").sha256}
    rows = {row["name"]: row for row in results["regions"]}
    _, liver, _ = anatomy(CT_GRID)
    assert rows["liver"]["volume_ml"] == pytest.approx(liver.sum() * CT_GRID.voxel_ml, rel=0.1)
    assert rows["liver"]["absorbed_dose_gy"]["mean"] > 5 * rows["lung_left"]["absorbed_dose_gy"]["mean"]
    contours = read_labels(made / "case" / "images" / "contours.nii.gz")
    assert contours.grid.same_as(CT_GRID) and "body" not in contours.names.values()


def test_the_report_says_which_model_drew_what(made):
    page = (made / "case" / "report.html").read_text("utf-8")
    assert "Drawn automatically on the CT by the model by-number, version 1.2.3: lung left, liver. Lesions by the rule adaptive: " in page


def test_a_drawn_case_is_made_again_by_what_the_run_was_asked_for(made):
    assert main(["replay", str(made / "case"), "--study", str(made / "study"), "--with", str(made / "site.toml")]) == 0


def test_given_contours_go_before_a_model(made, tmp_path):
    study = shutil.copytree(made / "study", tmp_path / "study")
    shutil.copy(made / "site.toml", tmp_path)
    write_labels(tmp_path / "mine.nii.gz", Labels(anatomy(CT_GRID)[1].astype(np.uint8), {1: "spleen"}, CT_GRID))
    assert run(study, "--labels", str(tmp_path / "mine.nii.gz")) == 0
    results = document(tmp_path / "case", "results.json")
    assert results["engines"]["segmenter"] == "given-labels"
    assert "lesion_segmenter" not in results["engines"]
    assert "spleen" in {row["name"] for row in results["regions"]}
    assert document(tmp_path / "case", "manifest.json")["models"] == {}


def test_without_any_segmenter_a_study_without_contours_is_refused(made, capsys):
    assert refusal(capsys, made / "study", "--segmenter", "none")["code"] == "NO_CONTOURS"


def test_an_unknown_model_is_refused_before_anything_is_read(made, capsys):
    said = refusal(capsys, made / "study", "--segmenter", "of-nobody")
    assert (said["code"], said["where"]) == ("UNKNOWN_MODEL", "of-nobody")
    assert "by-number" in said["found"]


def test_a_model_of_lesions_draws_no_organs(made, models, capsys):
    write_bundle(models / "tumours")
    metadata = models / "tumours" / "configs" / "metadata.json"
    told = json.loads(metadata.read_text())
    told["mrtai"]["task"] = "lesions"
    metadata.write_text(json.dumps(told))
    try:
        assert refusal(capsys, made / "study", "--segmenter", "tumours")["code"] == "WRONG_MODEL"
    finally:
        shutil.rmtree(models / "tumours")


def test_without_a_ct_organs_cannot_be_drawn(tmp_path, capsys):
    said = refusal(capsys, write_study(tmp_path / "study", ct=False))
    assert (said["code"], said["what"]) == ("NO_CT", "no CT to draw organs on")


def test_another_model_of_the_same_name_draws_again(made, models, tmp_path):
    request = CaseRequest(made / "study", str(made / "site.toml"), tmp_path / "case")
    protocol = load_protocol(request.protocol)
    cycle = read(study_of(request), protocol)
    aligned = on_one_grid(cycle, lambda fixed, moving: IDENTITY)

    def is_reused():
        step = reusing(tmp_path / "kept", plainly, code="1")
        step(segment, aligned, engines_for(protocol, request, cycle=cycle).segmenter)
        return step.reused == ["segment"]

    assert not is_reused() and is_reused()
    kept = shutil.copytree(models / "by-number", tmp_path / "by-number")
    try:
        network = ByNumber()
        network.widths.data *= 1.01
        write_bundle(models / "by-number", network)
        assert not is_reused()
    finally:
        shutil.rmtree(models / "by-number")
        shutil.copytree(kept, models / "by-number")


def test_the_command_draws_on_a_ct_alone(made, tmp_path, capsys):
    ct, out = made / "study" / "scan1" / "ct.nii.gz", tmp_path / "drawn" / "organs.nii.gz"
    capsys.readouterr()
    assert main(["segment", "--ct", str(ct), "--model", "by-number", "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["regions"] == ["body", "lung_left", "liver"] and "ORGAN_VOLUME" in said["flags"]["liver"]
    drawn = read_labels(out)
    assert json.loads((out.parent / "organs.json").read_text()) == {"1": "body", "2": "lung_left", "3": "liver"}
    true = anatomy(CT_GRID)[1]
    assert 2 * (drawn.mask("liver") & true).sum() > 0.9 * (drawn.mask("liver").sum() + true.sum())


def test_the_command_leaves_nothing_when_it_refuses(made, tmp_path, capsys):
    spect, out = made / "study" / "scan1" / "spect.nii.gz", tmp_path / "organs.nii.gz"
    assert main(["segment", "--ct", str(spect), "--model", "by-number", "--out", str(out)]) == 2
    assert "not a CT in Hounsfield units" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
