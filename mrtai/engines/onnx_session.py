"""A network in ONNX Runtime: loaded once for a model and device, and kept for the next case."""

from functools import lru_cache
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrtai.physics.axes import turned, turned_back
from mrtai.values.bundle import Bundle, Network
from mrtai.values.refusal import DosimetryError

_MAKING: Final = Lock()

KEPT: Final = 4


def session_of(bundle: Bundle, device: str, threads: int) -> Any:
    """Return the kept session of a model; one at a time is made, so that cases side by side share it."""
    session = kept_session(bundle, device, threads)
    taken = session.get_inputs()[0].shape[1]
    if isinstance(taken, int) and taken != len(bundle.contract.channels):
        raise unusable(bundle, f"the network takes {taken} channels, its metadata say {len(bundle.contract.channels)}")
    return session


def kept_session(model: Bundle | Network, device: str, threads: int) -> Any:
    """Return the kept session of a model, whatever it takes."""
    with _MAKING:
        return _session(str(model.weights), model.sha256, device, threads)


def answer_of(session: Any, window: NDArray[np.float32], bundle: Bundle) -> NDArray[np.float32]:
    """Return the scores ``(classes, z, y, x)`` of one window ``(channels, z, y, x)``."""
    try:
        given = np.ascontiguousarray(turned(window, bundle.contract.axes))
        (answers,) = session.run(None, {session.get_inputs()[0].name: given[None]})
    except Exception as cause:  # ONNX Runtime's errors share no public base class
        raise unusable(bundle, f"{type(cause).__name__} on a window of {' x '.join(map(str, window.shape))}") from cause
    answer: NDArray[np.float32] = turned_back(answers[0], bundle.contract.axes)
    if answer.shape[1:] != window.shape[1:] or len(answer) <= max(bundle.classes):
        told = f"its metadata name channel {max(bundle.classes)}"
        raise unusable(bundle, f"the network answers {' x '.join(map(str, answer.shape))}, {told}")
    return answer


@lru_cache(maxsize=KEPT)
def _session(weights: str, sha256: str, device: str, threads: int) -> Any:
    """Return a new session; ``sha256`` tells versions of one path apart."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    provider = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise _no_gpu(device, onnxruntime.get_available_providers())
    try:
        session = onnxruntime.InferenceSession(weights, options, providers=[provider])
    except Exception as cause:  # as above
        remedy = "verify it with: mrtai models verify"
        found = type(cause).__name__
        raise DosimetryError("model cannot be loaded", where="ONNX weights", found=found, remedy=remedy, code="SPOILED_MODEL") from cause
    if provider not in session.get_providers():  # without CUDA's libraries ONNX Runtime would go on, on the CPU
        raise _no_gpu(device, session.get_providers())
    return session


def _no_gpu(device: str, providers: list[str]) -> DosimetryError:
    return DosimetryError(
        "no GPU for segmentation",
        where=f"device {device}",
        found=f"ONNX Runtime with {', '.join(providers)}",
        remedy="install onnxruntime-gpu with CUDA, or choose --device cpu",
        code="NO_GPU",
    )


def unusable(model: Bundle | Network, found: str) -> DosimetryError:
    """Return the refusal of a model that is not what its metadata say."""
    remedy = "export or add it again from its source"
    return DosimetryError("model is not what it says", where=f"model {model.name}", found=found, remedy=remedy, code="SPOILED_MODEL")
