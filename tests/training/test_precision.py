"""A training multiplies in the number format that its device has."""

import pytest
import torch

from training.precision import mixed


@pytest.mark.parametrize(
    ("able", "expected"),
    [({"avx2": True, "avx512_bf16": False}, torch.float32), ({"avx512_bf16": True}, torch.bfloat16), ({"amx_bf16": True}, torch.bfloat16)],
)
def test_a_processor_without_bfloat16_computes_in_single_precision(monkeypatch, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    with mixed("cpu"):
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == expected
