"""``mrtai models``: list, show, verify, add."""

import json
import shutil

import pytest

from mrtai.cli import main
from tests.engines.tiny_model import write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("made") / "by-number")


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("MRTAI_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def told(capsys, *arguments):
    assert main(["models", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_a_model_is_added_listed_shown_and_verified(bundle, capsys):
    assert told(capsys, "add", bundle).startswith("added by-number@1.2.3: draws 3 regions")
    (line,) = [line for line in told(capsys, "list").splitlines() if line.startswith("by-number")]
    assert line.split()[1:4] == ["1.2.3", "organs", "own"]
    assert "body, liver, lung_left" in line
    shown = told(capsys, "show", "by-number")
    assert "Not a medical device" in shown
    assert "spacing mm: 3.0" in shown
    assert "## Where it fails" in shown
    assert "by-number@1.2.3" in told(capsys, "verify")


@pytest.mark.parametrize("before", [True, False])
def test_json_is_one_object_wherever_it_is_asked_for(bundle, capsys, before):
    told(capsys, "add", bundle)
    acts = ["--json", "show", "by-number"] if before else ["show", "by-number", "--json"]
    shown = json.loads(told(capsys, *acts))
    assert (shown["name"], shown["draws"], shown["window"]) == ("by-number", ["body", "liver", "lung_left"], [32, 32, 32])
    listed = json.loads(told(capsys, "list", "--json"))["models"]
    assert [row["from"] for row in listed if row["name"] == "by-number"] == ["own"]
    again = json.loads(told(capsys, "add", bundle, "--json", "--name", "other"))
    assert (again["name"], again["replaced"]) == ("other", None)


def test_a_spoiled_model_is_listed_as_such_and_verification_ends_with_2(bundle, models, capsys):
    for name in ("one", "two"):
        shutil.copytree(bundle, models / name)
    (models / "one" / "configs" / "metadata.json").write_text("{}")
    assert "spoiled" in told(capsys, "list")
    assert main(["models", "verify"]) == 2
    assert "model one: model is not what it says; found configs/metadata.json: no 'mrtai'" in capsys.readouterr().err
    (models / "two" / "models" / "model.onnx").write_bytes(b"")
    assert main(["models", "verify", "--json"]) == 2
    refusal = json.loads(capsys.readouterr().err)
    assert (refusal["code"], refusal["where"]) == ("SPOILED_MODEL", "model one, model two")


def test_refusals_end_with_2_and_one_line(tmp_path, capsys):
    for arguments in (["add", str(tmp_path / "nothing")], ["show", "nothing"], ["verify", "nothing"]):
        assert main(["models", *arguments]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_help_teaches(capsys):
    for arguments, words in (([], "mrtai models add wholeBody_ct_segmentation.zip"), (["add"], "exported to ONNX once")):
        with pytest.raises(SystemExit):
            main(["models", *arguments, "--help"])
        assert words in capsys.readouterr().out
