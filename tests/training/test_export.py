"""From a network to a bundle: ONNX that answers like it, metadata as MONAI wants them, and a card that hides nothing."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from jsonschema import Draft201909Validator
from monai.bundle import ConfigParser
from monai.networks.nets import UNet

import training.export
from mrtai.io.bundles import verified
from mrtai.values.bundle import Channel, InputContract
from training.export import Model, export

CONTRACT = InputContract((Channel("HU", -1000.0, 1000.0, 0.0, 500.0, -1000.0),), 3.0, (32, 32, 32))
CLASSES = ("background", "body", "liver")

TENSOR = {
    "type": "object",
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
    "properties": {
        "type": {"type": "string"},
        "format": {"type": "string"},
        "num_channels": {"type": "integer"},
        "spatial_shape": {"type": "array", "items": {"type": ["string", "integer"]}},
        "dtype": {"type": "string"},
        "value_range": {"type": "array", "items": {"type": "number"}},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object"},
    },
}
TEXTS = ["schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors", "copyright"]
OTHER_TEXTS = ["data_source", "data_type", "image_classes", "label_classes", "pred_classes", "intended_use"]
DOCUMENTED = {
    "type": "object",
    "required": [*TEXTS, "required_packages_version", "network_data_format"],
    "properties": {
        **{name: {"type": "string"} for name in (*TEXTS, *OTHER_TEXTS)},
        **{name: {"type": "object"} for name in ("changelog", "required_packages_version", "eval_metrics")},
        "references": {"type": "array", "items": {"type": "string"}},
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "properties": {name: {"type": "object", "additionalProperties": TENSOR} for name in ("inputs", "outputs")},
        },
    },
}
"""What MONAI's bundle specification and its metadata schema of 2024-07-25 ask for, in our words."""


def tiny(seed=0):
    torch.manual_seed(seed)
    return UNet(spatial_dims=3, in_channels=1, out_channels=3, channels=(4, 8), strides=(2,), num_res_units=1)


def model(**changes):
    said = {
        "name": "tiny",
        "version": "0.1.0",
        "task": "organs",
        "description": "A tiny network.",
        "contract": CONTRACT,
        "classes": CLASSES,
        "envelope": {"voxel_mm": (0.5, 5.0)},
        "caution": "",
        "data": {"generated torsos": "Apache-2.0"},
        "evaluation": {"Dice on unseen torsos": [{"organ": "liver", "median": "0.91", "10th percentile": "0.84"}]},
        "failures": ("Large tumours were never seen.",),
        "recipe": "Ten steps.",
    }
    return Model(**(said | changes))


def samples(*sizes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(1, *size)).astype(np.float32) for size in sizes]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    parity = export(tiny(), folder, model(), samples((32, 32, 32), (16, 24, 40)))
    return folder, parity


def test_the_onnx_answers_like_the_network_at_any_size(bundle):
    folder, parity = bundle
    assert parity.largest_difference < 1e-4
    assert parity.agreement == 1
    session = onnxruntime.InferenceSession(str(folder / "models" / "model.onnx"), providers=["CPUExecutionProvider"])
    assert ([one.name for one in session.get_inputs()], [one.name for one in session.get_outputs()]) == (["image"], ["scores"])
    (image,) = samples((48, 16, 64))
    with torch.inference_mode():
        expected = tiny().eval()(torch.from_numpy(image[None])).numpy()
    assert np.abs(session.run(None, {"image": image[None]})[0] - expected).max() < 1e-4


def test_a_bundle_that_was_exported_is_read_as_it_was_meant(bundle):
    read = verified(bundle[0])
    assert (read.label, read.task, read.contract) == ("tiny@0.1.0", "organs", CONTRACT)
    assert dict(read.classes) == {1: "body", 2: "liver"}
    assert read.envelope["voxel_mm"] == [0.5, 5.0]
    assert "Not a medical device" in read.intended_use


def test_metadata_have_what_monai_documents(bundle):
    metadata = json.loads((bundle[0] / "configs" / "metadata.json").read_text())
    assert not list(Draft201909Validator(DOCUMENTED).iter_errors(metadata))
    output = metadata["network_data_format"]["outputs"]["pred"]
    assert output["num_channels"] == len(output["channel_def"]) == 3
    assert len(metadata["mrtai"]["trained_from_commit"]) in (40, len("unknown"))


def test_monai_itself_runs_the_bundle_from_its_inference_configuration(bundle):
    parser = ConfigParser()
    parser.read_config(bundle[0] / "configs" / "inference.json")
    parser["bundle_root"] = str(bundle[0])
    (image,) = samples((32, 40, 32))
    inferer, network = parser.get_parsed_content("inferer"), parser.get_parsed_content("network")
    scores = inferer(torch.from_numpy(image[None]), network)
    assert tuple(scores.shape) == (1, 3, 32, 40, 32)
    steps = parser.get_parsed_content("preprocessing").transforms
    ranged = steps[-1]({"image": torch.tensor([-3000.0, 0.0, 1000.0])})["image"]
    assert ranged.tolist() == pytest.approx([-2.0, 0.0, 2.0])


def test_the_card_names_data_licences_figures_failures_and_use(bundle):
    card = (bundle[0] / "docs" / "README.md").read_text()
    digest = verified(bundle[0]).sha256
    for said in (
        "generated torsos: Apache-2.0",
        "0.91",
        "10th percentile",
        "Large tumours were never seen",
        "Not a medical device",
        digest,
    ):
        assert said in card


def test_a_card_without_an_evaluation_says_so(tmp_path):
    export(tiny(), tmp_path / "tiny", model(evaluation={}), samples((16, 16, 16)))
    assert "Not evaluated." in (tmp_path / "tiny" / "docs" / "README.md").read_text()


def spoiled(monkeypatch, change):
    """Let another network than the one compared with be written as ONNX."""
    honest = training.export.to_onnx
    monkeypatch.setattr(training.export, "to_onnx", lambda network, path, sample: honest(change(), path, sample))


def nudged(amount):
    network = tiny().eval()
    with torch.no_grad():
        next(parameter for parameter in reversed(list(network.parameters()))).add_(amount)
    return network


@pytest.mark.parametrize("amount", [2e-3, float("nan"), float("inf")])
def test_an_onnx_that_disagrees_is_not_written(tmp_path, monkeypatch, amount):
    spoiled(monkeypatch, lambda: nudged(amount))
    with pytest.raises(ValueError, match=r"ONNX and network differ by .*nothing was written"):
        export(tiny(), tmp_path / "tiny", model(), samples((16, 16, 16)))
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_was_there_stays_when_the_next_disagrees(tmp_path, monkeypatch):
    export(tiny(), tmp_path / "tiny", model(), samples((16, 16, 16)))
    before = verified(tmp_path / "tiny").sha256
    spoiled(monkeypatch, lambda: tiny(seed=1).eval())
    with pytest.raises(ValueError, match="nothing was written"):
        export(tiny(), tmp_path / "tiny", model(version="0.2.0"), samples((16, 16, 16)))
    assert (verified(tmp_path / "tiny").sha256, verified(tmp_path / "tiny").version) == (before, "0.1.0")


def test_a_network_of_other_channels_than_its_classes_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="3 channels for 2 classes; nothing was written"):
        export(tiny(), tmp_path / "tiny", model(classes=("background", "body")), samples((16, 16, 16)))
    assert list(tmp_path.iterdir()) == []
