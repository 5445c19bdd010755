"""Weights of an exported ONNX file, by name."""

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper


def read_tensors(exported: Path) -> tuple[dict[str, torch.Tensor], list[onnx.NodeProto]]:
    """Return every stored tensor by each of its names, and the nodes in the order of the graph."""
    graph = onnx.load(exported).graph
    stored = {part.name: torch.from_numpy(numpy_helper.to_array(part).copy()) for part in graph.initializer}
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in stored:  # equal tensors are stored once
            stored[node.output[0]] = stored[node.input[0]]
    return stored, list(graph.node)
