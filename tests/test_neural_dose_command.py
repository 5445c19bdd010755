"""The neural dose engine from the command line and in a protocol."""

import json

import numpy as np
import pytest

from mrtai.cli import main
from mrtai.engines_of_run import CaseRequest, chosen
from mrtai.io.nifti import write_image
from mrtai.io.protocols import load_protocol
from mrtai.values.grid import Grid
from mrtai.values.image import Image, Quantity

GRID = Grid.axial((8, 9, 10), (4.8, 4.8, 4.8))


@pytest.fixture
def maps(tmp_path):
    for name, value, quantity in (("tia", 1e9, Quantity.TIME_INTEGRATED_ACTIVITY), ("rho", 1e-3, Quantity.DENSITY)):
        write_image(tmp_path / f"{name}.nii.gz", Image(np.full(GRID.shape, value, np.float32), quantity, GRID))
    return ["--tia", str(tmp_path / "tia.nii.gz"), "--density", str(tmp_path / "rho.nii.gz"), "--nuclide", "Lu-177"]


def test_a_case_that_it_has_not_learned_gets_the_convolutions_dose_and_says_so(tmp_path, maps, capsys):
    told = {}
    for engine in ("neural", "convolution"):
        out = tmp_path / f"{engine}.nii.gz"
        assert main(["dose", *maps, "--engine", engine, "--out", str(out), "--json"]) == 0
        told[engine] = json.loads(capsys.readouterr().out)
    assert told["neural"]["flags"] == ["NEURAL_OUTSIDE"]
    assert "field of view" in told["neural"]["text"]
    assert told["neural"]["maximum_gy"] == told["convolution"]["maximum_gy"]
    assert not (tmp_path / "neural.sd.nii.gz").exists()


def test_what_only_the_neural_engine_uses_is_refused_elsewhere(tmp_path, maps, capsys):
    asked = ["dose", *maps, "--engine", "local", "--fwhm-mm", "9", "--out", str(tmp_path / "dose.nii.gz")]
    assert main(asked) == 2
    assert "--fwhm-mm" in capsys.readouterr().err


def test_recovery_and_the_neural_engine_may_be_taken_together(tmp_path):
    request = CaseRequest(tmp_path, "lu177-dotatate", tmp_path / "case", engine="neural", pvc="recovery")
    protocol = chosen(load_protocol("lu177-dotatate"), request)
    assert (protocol.dose_engine, protocol.partial_volume) == ("neural", "recovery")
