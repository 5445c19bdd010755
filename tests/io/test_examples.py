"""The commented examples that document input files are valid input."""

from importlib.resources import files

from mrtai.io.calibrations import read_calibration
from mrtai.io.fits import read_curves
from mrtai.io.protocols import load_protocol, shipped_protocols
from mrtai.io.study_toml import read_study_toml
from mrtai.io.tables import nuclide

EXAMPLES = files("mrtai") / "data" / "examples"


def test_examples_read_as_they_are_explained():
    assert read_study_toml(EXAMPLES / "study.toml").administered_bq == 7.4e9
    assert read_calibration(EXAMPLES / "calibration.toml").sensitivity_cps_per_mbq == 9.3
    kidney, spleen = read_curves(EXAMPLES / "tacs.csv")
    assert kidney.t_h.tolist() == [24.1, 96.3, 168.0]
    assert spleen.region == "spleen"


def test_shipped_protocols_load_and_name_real_nuclides():
    assert shipped_protocols() == ("ac225-psma", "i131", "lu177-dotatate", "lu177-psma", "y90-sirt")
    for name in shipped_protocols():
        protocol = load_protocol(name)
        assert nuclide(protocol.nuclide).half_life_h > 0
        assert protocol.typical_administered_bq > 1e6
