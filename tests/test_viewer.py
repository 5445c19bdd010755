"""A browser viewer opens our dose object over the source's CT: what it paints lies where the dose is, on the right side."""

import io
from pathlib import Path

import matplotlib.image
import numpy as np
import pydicom
import pytest
import SimpleITK

from mrtai.cli import main
from tests.io.orthanc import program
from tests.io.viewer.browser import installed, seen_in_browser

# a share of the body's width: half a dose voxel of 4.8 mm is 0.7 % of it, the canvas' own pixels 0.3 %
TOLERANCE = 0.015


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    home = tmp_path_factory.mktemp("viewer")
    (home / "key").write_bytes(b"k" * 32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRTAI_KEY_FILE", str(home / "key"))
        study, case = home / "study", home / "case"
        assert main(["simulate", "--out", str(study), "--scanner", "ideal", "--times-h", "24", "--seed", "5"]) == 0
        words = [
            "--protocol",
            "lu177-dotatate",
            "--labels",
            str(study / "truth" / "labels.nii.gz"),
            "--engine",
            "local",
            "--check-engine",
            "none",
        ]
        assert main(["run", str(study), *words, "--out", str(case)]) == 0
        assert main(["export", str(case), "--study", str(study)]) == 0
    return study, case


def centres(plane_dose, plane_body):
    """Return where the dose lies across the body and along it, as shares of the body's box."""
    places = []
    for axis in (0, 1):
        body = np.flatnonzero(plane_body.any(axis=axis))
        weight = plane_dose.any(axis=axis) * plane_dose.sum(axis=axis)
        places.append((np.average(np.arange(weight.size), weights=weight) - body[0]) / (body[-1] - body[0]))
    return np.array(places)


def painted(png):
    picture = matplotlib.image.imread(io.BytesIO(png))[..., :3]
    coloured = picture[..., 0] - picture[..., 2] > 0.2
    body = picture.max(axis=-1) > 0.1
    # the letters of the directions stand outside the body: keep what is wide
    body[:, body.sum(axis=0) < 30] = False
    body[body.sum(axis=1) < 60] = False
    return centres(coloured & body, body)


@pytest.mark.slow
def test_the_dose_lies_on_the_right_side(exported, tmp_path):
    chromium, npm = program("chromium", "/usr/bin/chromium"), program("npm")
    study, case = exported
    dose = SimpleITK.ReadImage(str(case / "images" / "dose.nii.gz"))
    ct = SimpleITK.ReadImage(str(case / "images" / "ct.nii.gz"))
    ct = SimpleITK.Resample(ct, dose, SimpleITK.Transform(), SimpleITK.sitkLinear, -1000.0)
    values, body = SimpleITK.GetArrayFromImage(dose), SimpleITK.GetArrayFromImage(ct) > -500
    k, j, i = (int(n) for n in np.unravel_index(values.argmax(), values.shape))
    lps = dose.TransformIndexToPhysicalPoint((i, j, k))
    # arrays run to the patient's left and back, as a radiological axial picture does
    expected = centres(values[k] > 0.1 * values.max(), body[k])

    object_file = case / "dicom" / "pmap_dose.dcm"
    mirrored = pydicom.dcmread(object_file)
    floats = np.frombuffer(mirrored.FloatPixelData, np.float32).reshape(values.shape)
    mirrored.FloatPixelData = np.ascontiguousarray(floats[..., ::-1]).tobytes()
    mirrored.save_as(tmp_path / "mirrored.dcm")

    slices = sorted(Path(study / "scan1" / "CT").glob("*.dcm"))
    asked = {"chromium": chromium, "folder": installed(npm), "axial_only": True}
    seen = seen_in_browser(slices, object_file, (-lps[0], -lps[1], lps[2]), **asked)
    assert seen.highest == pytest.approx(float(values.max()), rel=1e-5)
    np.testing.assert_allclose(painted(seen.png), expected, atol=TOLERANCE)
    wrong = seen_in_browser(slices, tmp_path / "mirrored.dcm", (-lps[0], -lps[1], lps[2]), **asked)
    assert abs(painted(wrong.png)[0] - expected[0]) > 5 * TOLERANCE
