"""TotalSegmentator as an extra: clear where it is missing, and what it draws under our names.

The library cannot be had here: a module of its name stands for it, with the signature and files of version 2, in a process of its own.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from mrtai.engines.total_segmentator import COARSE, FINE, TotalSegmentator
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity
from mrtai.values.refusal import DosimetryError

LIBRARY = """
import json, os, urllib.request
from pathlib import Path
import nibabel, numpy as np

def totalsegmentator(input, output=None, ml=False, nr_thr_resamp=1, nr_thr_saving=6, fast=False, task="total", quiet=False, device="gpu"):
    import multiprocessing
    image = nibabel.load(input)
    hu = np.asarray(image.dataobj)
    labels = np.zeros(hu.shape, np.uint8)
    labels[hu > 90] = 5
    half = np.arange(hu.shape[2]) < hu.shape[2] // 2
    labels[(hu < -100) & (hu > -900) & half] = 10
    labels[(hu < -100) & (hu > -900) & ~half] = 11
    config = json.loads((Path(os.environ["TOTALSEG_HOME_DIR"]) / "config.json").read_text())
    try:
        urllib.request.urlopen("http://example.org", timeout=5)
        sent = True
    except OSError:
        sent = False
    seen = {"fast": fast, "device": device, "ml": ml, "task": task, "cores": multiprocessing.cpu_count(), "sent": sent}
    seen |= {"weights": os.environ["TOTALSEG_WEIGHTS_PATH"], "statistics": config["send_usage_stats"], "home": os.environ["HOME"]}
    Path(os.environ["SEEN"]).write_text(json.dumps(seen))
    if os.environ.get("FAULT"):
        raise RuntimeError(os.environ["FAULT"])
    shift = np.diag([1.0, 1.0, 1.0, 1.0])
    shift[0, 3] = float(os.environ.get("SHIFT", 0))
    nibabel.save(nibabel.Nifti1Image(labels, shift @ image.affine), output)
"""
CLASSES = (
    'class_map = {"total": {5: "liver", 10: "lung_upper_lobe_left", 11: "lung_lower_lobe_left", 26: "vertebrae_S1", 27: "vertebrae_L5"}}'
)


@pytest.fixture
def library(tmp_path, monkeypatch):
    package = tmp_path / "site" / "totalsegmentator"
    package.mkdir(parents=True)
    for name, content in (("__init__", ""), ("python_api", LIBRARY), ("map_to_binary", CLASSES)):
        (package / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen.json"))
    return tmp_path / "seen.json"


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "weights"))

    def put(*numbers):
        for number in numbers:
            fold = tmp_path / "weights" / f"Dataset{number}_TotalSegmentator" / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_0"
            fold.mkdir(parents=True)
            (fold / "checkpoint_final.pth").write_bytes(b"")
        return tmp_path / "weights"

    return put


@pytest.fixture
def ct():
    grid = Grid((40, 30, 36), (3.0, 3.0, 3.0), (-50.0, -40.0, 100.0), np.diag([1.0, -1.0, 1.0]))
    hu = np.full(grid.shape, -1000.0, np.float32)
    hu[:, 4:26, 4:32] = 0
    hu[5:15, 8:14, 8:16] = 100
    hu[20:36, 8:20, 20:30] = -700
    return Image(hu, Quantity.HOUNSFIELD, grid)


def test_lobes_are_one_lung_on_the_cts_own_grid(library, weights, ct):
    folder = weights(*FINE)
    labels = TotalSegmentator(threads=2).drawn(ct)
    assert dict(labels.names) == {1: "liver", 2: "lung_left", 3: "spine"}
    np.testing.assert_array_equal(labels.mask("liver"), ct.voxels == 100)
    np.testing.assert_array_equal(labels.mask("lung_left"), ct.voxels == -700)
    assert labels.grid.same_as(ct.grid)
    assert labels.origin == "total-segmentator@unknown, 1.5 mm"
    seen = json.loads(library.read_text())
    assert (seen["fast"], seen["ml"], seen["task"], seen["device"], seen["cores"]) == (False, True, "total", "cpu", 2)
    assert seen["weights"] == str(folder)


def test_nothing_is_sent_and_no_settings_of_the_user_are_touched(library, weights, ct):
    weights(*COARSE)
    TotalSegmentator().drawn(ct)
    seen = json.loads(library.read_text())
    assert (seen["sent"], seen["statistics"], seen["fast"]) == (False, False, True)
    assert seen["home"] != str(Path.home())
    assert not Path(seen["home"]).exists()


def test_without_the_package_one_line_says_what_to_install(ct, weights):
    weights(*FINE)
    with pytest.raises(DosimetryError, match=r"TotalSegmentator is not installed.*pip install 'mrtai\[totalsegmentator\]'") as caught:
        TotalSegmentator().drawn(ct)
    assert caught.value.code == "NO_TOTAL_SEGMENTATOR"


def test_without_weights_one_line_says_where_they_belong(library, weights, ct, tmp_path, monkeypatch):
    # four of five networks are not enough
    weights(*FINE[:4])
    with pytest.raises(DosimetryError, match=r"weights are missing; found of its data sets: 291, 292, 293, 294; .*TOTALSEG_WEIGHTS_PATH"):
        TotalSegmentator().drawn(ct)
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH")
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "home"))
    with pytest.raises(DosimetryError, match="home/nnunet/results: TotalSegmentator's weights are missing; found of its data sets: none"):
        TotalSegmentator().drawn(ct)
    assert not library.exists()


def test_a_fault_of_the_library_is_one_line(library, weights, ct, monkeypatch):
    weights(*FINE)
    monkeypatch.setenv("FAULT", "weights are of another version")
    with pytest.raises(DosimetryError, match="TotalSegmentator failed; found RuntimeError: weights are of another version"):
        TotalSegmentator().drawn(ct)


def test_a_gpu_that_is_not_there_is_told_before_hours_pass(library, weights, ct, monkeypatch):
    weights(*FINE)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(DosimetryError, match="no GPU for PyTorch"):
        TotalSegmentator(device="cuda").drawn(ct)


def test_labels_of_another_place_are_refused(library, weights, ct, monkeypatch):
    weights(*FINE)
    monkeypatch.setenv("SHIFT", "1.5")
    with pytest.raises(DosimetryError, match=r"drew something else than this CT; found .* 1.5 mm off"):
        TotalSegmentator().drawn(ct)
