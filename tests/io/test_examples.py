"""The commented examples that document input files are valid input."""

import tomllib
from importlib.resources import files

from mrtai.io.calibrations import read_calibration
from mrtai.io.fits import read_curves
from mrtai.io.protocols import _SCHEMA, load_protocol, shipped_protocols
from mrtai.io.study_toml import read_study_toml
from mrtai.io.tables import nuclide

EXAMPLES = files("mrtai") / "data" / "examples"


def test_examples_read_as_they_are_explained():
    assert read_study_toml(EXAMPLES / "study.toml").administered_bq == 7.4e9
    assert read_calibration(EXAMPLES / "calibration.toml").sensitivity_cps_per_mbq == 9.3
    kidney, spleen = read_curves(EXAMPLES / "tacs.csv")
    assert kidney.t_h.tolist() == [24.1, 96.3, 168.0]
    assert spleen.region == "spleen"


def test_the_examples_protocol_has_every_key_and_the_values_that_hold_where_nothing_is_said(tmp_path):
    text = (EXAMPLES / "protocol.toml").read_text(encoding="utf-8")
    assert set(tomllib.loads(text)) == set(_SCHEMA["properties"])
    found = load_protocol(str(EXAMPLES / "protocol.toml"))
    needed, optional = text.split("# from here on all is optional")
    (tmp_path / "site.toml").write_text(needed, encoding="utf-8")
    bare = load_protocol(str(tmp_path / "site.toml"))
    for key in tomllib.loads(optional.partition("\n")[2].split("# tables")[0]):
        assert getattr(found, key) == getattr(bare, key), key
    assert found.equivalence.margin == bare.equivalence.margin and found.progeny == bare.progeny


def test_shipped_protocols_load_and_name_real_nuclides():
    assert shipped_protocols() == ("ac225-psma", "i131", "lu177-dotatate", "lu177-psma", "y90-sirt")
    for name in shipped_protocols():
        protocol = load_protocol(name)
        assert nuclide(protocol.nuclide).half_life_h > 0
        assert protocol.typical_administered_bq > 1e6
