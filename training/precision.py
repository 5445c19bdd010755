"""The number format of a training: half as wide where the device multiplies in it."""

from typing import Final

import torch

NATIVE: Final = ("avx512_bf16", "amx_bf16")


def mixed(device: str) -> torch.autocast:
    """Return the context of a forward pass on ``device`` (``cpu``, ``cuda``, ``cuda:1``): bfloat16, or single on a CPU without it.

    Such a CPU only imitates bfloat16, many times slower than it multiplies in single precision.
    """
    kind = device.split(":")[0]
    able = torch.cpu.get_capabilities()
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=kind != "cpu" or any(able.get(name, False) for name in NATIVE))
