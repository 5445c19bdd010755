"""The gate lets the shipped models pass and refuses spoiled ones of each kind; its set is locked."""

import json
import shutil

import numpy as np
import pytest

from mrtai.io.bundles import load_bundle, shipped_models
from tests.training.spoiled import exchanged, noise, scaled, spoiled
from training.gate import __main__ as gate
from training.gate.cases import digest
from training.gate.lock import LOCK, Figure, Locked, read_lock, reasons

SCALED_CURVE = [1.03, 1.0, 1.03, 1.0, *[1.0] * 6]
"""The two amplitudes of an answer of `curve-net`."""


@pytest.fixture
def shipped(tmp_path):
    """A copy of a shipped bundle, so that its card may be written."""
    return lambda name: shutil.copytree(shipped_models() / name, tmp_path / "shipped" / name)


def test_the_shipped_curve_net_passes_and_its_card_says_so(shipped, capsys):
    bundle = shipped("curve-net")
    card = bundle / "docs" / "README.md"
    assert gate.main([str(bundle), "--simulated-only"]) == 0
    # a second time, the section is replaced
    gate.write_card(bundle, [], gate.table([{"what": "one scan, as believed"}]))
    text = card.read_text(encoding="utf-8")
    assert text.count("## The gate") == 1
    assert "Passed: no dose error is worse" in text
    assert text.count("| one scan, as believed |") == 1
    assert all(words in text for words in ("## Learned from", "## Where it fails", "## File"))
    assert "curve-net@" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(noise(0.3), "the mean error is", id="noise", marks=pytest.mark.slow),
        pytest.param(scaled(SCALED_CURVE), "four scans, as believed: error", id="scaled"),
    ],
)
def test_a_spoiled_curve_net_is_refused_with_the_reason(tmp_path, capsys, change, words):
    bundle = spoiled(shipped_models() / "curve-net", tmp_path, change)
    assert gate.main([str(bundle), "--simulated-only"]) == 1
    assert words in capsys.readouterr().out
    assert "Refused: " in (bundle / "docs" / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["organs-ct", "lesions", "dose-net"])
def test_the_other_shipped_models_pass(shipped, name):
    assert gate.main([str(shipped(name)), "--simulated-only"]) == 0


@pytest.mark.slow
def test_exchanged_kidneys_are_refused(tmp_path, capsys):
    bundle = load_bundle("organs-ct")
    left, right = ({name: channel for channel, name in bundle.classes.items()}[f"kidney_{side}"] for side in ("left", "right"))
    change = exchanged(left, right, len(bundle.classes) + 1)
    assert gate.main([str(spoiled(shipped_models() / "organs-ct", tmp_path, change)), "--simulated-only"]) == 1
    assert "kidney_left, virtual: error" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["organs-ct", "lesions", "dose-net"])
def test_noise_on_the_weights_of_the_other_models_is_refused(tmp_path, name):
    assert gate.main([str(spoiled(shipped_models() / name, tmp_path, noise(0.5))), "--simulated-only"]) == 1


def test_other_inputs_than_the_locked_ones_decide_nothing(tmp_path):
    table = json.loads(LOCK.read_text(encoding="utf-8"))
    name = next(iter(table["kinetics"]["cases"]))
    table["kinetics"]["cases"][name] = "0" * 64
    (tmp_path / "lock.json").write_text(json.dumps(table))
    with pytest.raises(ValueError, match="its inputs are not those of the lock"):
        gate.decided(shipped_models() / "curve-net", None, simulated_only=True, lock=tmp_path / "lock.json")


def test_a_model_that_is_not_there_or_of_no_locked_kind_is_refused(tmp_path, capsys):
    assert gate.main([str(tmp_path / "nothing")]) == 1
    assert "unknown model" in capsys.readouterr().err
    (tmp_path / "empty.json").write_text("{}")
    told, lines = gate.decided(shipped_models() / "curve-net", None, lock=tmp_path / "empty.json")
    assert told == ["nothing is locked for models of the task kinetics"]
    assert lines == []


def test_without_the_real_cases_nothing_may_be_shipped(monkeypatch):
    locked = read_lock("organs")
    assert any("real" in name for name in locked.cases)
    monkeypatch.setattr(gate, "cases_of", lambda kind, data: iter(()))
    told, _ = gate.decided(shipped_models() / "organs-ct", None)
    assert told[0].startswith("not judged, no data: ")


def test_the_lock_never_loses_a_case_for_want_of_its_data(tmp_path, monkeypatch):
    lock = tmp_path / "lock.json"
    lock.write_bytes(LOCK.read_bytes())
    monkeypatch.setattr(gate, "cases_of", lambda kind, data: iter(()))
    with pytest.raises(ValueError, match=r"in the lock but not judged.*real"):
        gate.locked_anew(shipped_models() / "organs-ct", None, lock)
    assert lock.read_bytes() == LOCK.read_bytes()


def figures(**changes):
    return {"liver": Figure(0.05, -0.05, 40), "kidney": Figure(0.01, 0.0, 4)} | changes


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, ""),
        ({"liver": Figure(0.02, -0.02, 40), "kidney": Figure(0.04, 0.0, 4)}, ""),
        ({"liver": Figure(0.061, 0.0, 40), "kidney": Figure(0.0, 0.0, 4)}, "liver: error 6.1%, of it@1 5.0%"),
        ({"liver": Figure(0.0, 0.0, 40), "kidney": Figure(0.061, 0.0, 4)}, "kidney: error 6.1%, of it@1 1.0%"),
        ({"liver": Figure(0.058, -0.05, 40)}, "the mean error is 3.4%, of it@1 3.0%"),
        ({"liver": Figure(0.05, 0.05, 40), "kidney": Figure(0.03, 0.03, 4)}, "the mean of the signed errors is 4.0% off zero"),
        ({"liver": Figure(float("nan"), 0.0, 40)}, "liver: error nan%"),
    ],
)
def test_what_is_worse_is_named(changed, words):
    told = reasons(figures(**changed), Locked("it@1", {}, figures()))
    assert words in "; ".join(told)
    assert (told == []) is (words == "")
    assert reasons({"liver": Figure(0.05, -0.05, 40)}, Locked("it@1", {}, figures())) == ["no figure for kidney"]


def test_a_digest_tells_another_picture_and_not_another_rounding():
    rng = np.random.default_rng(2)
    picture = rng.normal(size=(20, 30, 40)).astype(np.float32)
    assert digest([picture]) == digest([picture * np.float32(1 + 1e-7)])
    assert digest([picture]) != digest([picture[:, ::-1]])
    assert digest([picture]) != digest([picture.reshape(30, 20, 40)])
    assert digest([picture]) != digest([1.01 * picture])
