"""What an ONNX file does, found by running it once."""

from pathlib import Path
from typing import Any

import numpy as np

from mrtai.physics.axes import turned
from mrtai.values.bundle import Answer, InputContract
from mrtai.values.refusal import DosimetryError


def answer(weights: Path, contract: InputContract, where: str) -> Answer:
    """Return the channels that an ONNX file takes and gives for one window; gives 0 where it takes others than the contract says.

    Raises:
        DosimetryError: it cannot be loaded, is not one image in and one out, or cannot run the contract's window.
    """
    session = _session(weights, where)
    if len(session.get_inputs()) != 1 or len(session.get_outputs()) != 1 or len(session.get_inputs()[0].shape) != 5:
        shapes = [list(one.shape) for one in (*session.get_inputs(), *session.get_outputs())]
        raise _unusable("its ONNX is not one volume in and one out", where, f"tensors of shape {shapes}")
    takes = session.get_inputs()[0].shape[1]
    if isinstance(takes, int) and takes != len(contract.channels):
        return Answer(takes, 0)
    return Answer(len(contract.channels), _outputs(session, contract, where))


def require_numbers(weights: Path, where: str) -> None:
    """Refuse an ONNX file that cannot be loaded, or that does not answer finite numbers for a half in every place of its inputs."""
    session = _session(weights, where)
    given = {one.name: np.full([n if isinstance(n, int) else 1 for n in one.shape], 0.5, dtype=np.float32) for one in session.get_inputs()}
    try:
        answers = session.run(None, given)
    except Exception as cause:  # ONNX Runtime's errors share no public base class
        shapes = {name: values.shape for name, values in given.items()}
        raise _unusable("its ONNX cannot run its own input", where, f"{type(cause).__name__} on {shapes}") from cause
    if not all(np.isfinite(values).all() for values in answers):
        raise _unusable("its ONNX does not answer numbers", where, "values that are not finite")


def _outputs(session: Any, contract: InputContract, where: str) -> int:
    """Return how many channels come back from one window."""
    window = turned(np.zeros((len(contract.channels), *contract.patch), dtype=np.float32), contract.axes)[None]
    try:
        (scores,) = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(window)})
    except Exception as cause:  # ONNX Runtime's errors share no public base class
        found = f"{type(cause).__name__} on {window.shape[2:]} voxels, it takes {session.get_inputs()[0].shape}"
        raise _unusable("its ONNX cannot run its own window", where, found) from cause
    if scores.ndim != 5 or scores.shape[2:] != window.shape[2:] or not np.isfinite(scores).all():
        raise _unusable("its ONNX does not answer for every voxel", where, f"{scores.shape} for {window.shape}")
    return int(scores.shape[1])


def _session(weights: Path, where: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
    except Exception as cause:  # ONNX Runtime's errors share no public base class
        raise _unusable("its ONNX cannot be loaded", where, f"{weights.name}: {type(cause).__name__}") from cause


def _unusable(what: str, where: str, found: str) -> DosimetryError:
    return DosimetryError(what, where=where, found=found, remedy="export or transfer it again", code="BUNDLE_WEIGHTS")
