"""Bundles that were spoiled on purpose: a copy whose ONNX answers otherwise, with a digest that is right."""

import hashlib
import json
import shutil

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def spoiled(bundle, folder, change):
    """Return a copy of a bundle in ``folder`` after ``change`` altered its ONNX model in place."""
    copy = shutil.copytree(bundle, folder / bundle.name)
    weights, metadata = copy / "models" / "model.onnx", copy / "configs" / "metadata.json"
    model = onnx.load(weights)
    change(model)
    onnx.checker.check_model(model)
    onnx.save(model, weights)
    said = json.loads(metadata.read_text(encoding="utf-8"))
    said["mrtai"]["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    metadata.write_text(json.dumps(said), encoding="utf-8")
    return copy


def noise(share, seed=0):
    """Return what adds noise to every weight matrix and kernel, of ``share`` of its own spread."""

    def change(model):
        rng = np.random.default_rng(seed)
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype.kind == "f" and values.ndim >= 2:
                noisy = values + share * values.std() * rng.standard_normal(values.shape)
                tensor.CopyFrom(numpy_helper.from_array(noisy.astype(values.dtype), tensor.name))

    return change


def exchanged(one, other, classes):
    """Return what exchanges two channels of the answer."""

    def change(model):
        order = list(range(classes))
        order[one], order[other] = other, one
        _after(model, "Gather", np.array(order, dtype=np.int64), axis=1)

    return change


def first(channels):
    """Return what keeps the first channels of the answer alone."""
    return lambda model: _after(model, "Gather", np.arange(channels, dtype=np.int64), axis=1)


def scaled(factors):
    """Return what multiplies the answer by factors that broadcast to it."""
    return lambda model: _after(model, "Mul", np.asarray(factors, dtype=np.float32))


def _after(model, operator, values, **attributes):
    """Put one more node behind the answer, which keeps its name."""
    answer = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = [f"{answer}_before" if name == answer else name for name in node.output]
        node.input[:] = [f"{answer}_before" if name == answer else name for name in node.input]
    kind = TensorProto.INT64 if values.dtype.kind == "i" else TensorProto.FLOAT
    model.graph.initializer.append(helper.make_tensor("spoiled_by", kind, values.shape, values.ravel().tolist()))
    model.graph.node.append(helper.make_node(operator, [f"{answer}_before", "spoiled_by"], [answer], **attributes))
