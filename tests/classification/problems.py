"""Random logits, labels and rates to put to a rule."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from wildbox.classification import concurrent_softmax_autograd as autograd
from wildbox.classification import concurrent_softmax_operator as operator

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
SMALLEST = 1e-30
"""What float32 cannot tell from 0 with five digits left."""
EXTREMES = [
    [1e4, -1e4, 0.0, 1.0],
    [1e4, 1e4, 9999.0, 0.0],
    [-1e4, -1e4, 1e4, -1e4],
    [0.0, 1e4, 0.5, -0.5],
]
"""Rows of logits."""
EXTREME_RATES = torch.tensor([[0, 1, 0.5, 0.25], [1, 0, 1, 1], [0.75, 1, 0, 0], [0, 1, 0.9, 0]])


class Problem(NamedTuple):
    """Logits (P, K), multi-hot labels (P, K) with at least one a row, rates (K, K)."""

    logits: Tensor
    targets: Tensor
    rates: Tensor


def problem(
    seed: int,
    *,
    proposals: int = 6,
    columns: int = 5,
    scale: float = 2.0,
    dtype: torch.dtype = torch.float32,
    sparse: bool = False,
) -> Problem:
    """Rates take the values 0, 0.3, 0.9999 and 1; logits lie within -scale and scale.

    Args:
        sparse: about 5 % of the rates are above 0 and 5 % of the labels true, instead of 75 % and 30 %.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.rand(proposals, columns, generator=generator, dtype=torch.float64) * 2 - 1) * scale
    targets = torch.rand(proposals, columns, generator=generator) < (0.05 if sparse else 0.3)
    first = torch.randint(columns, (proposals, 1), generator=generator)
    targets = targets.scatter(1, first, True)
    values = torch.tensor([0.0, 0.3, 0.9999, 1.0], dtype=dtype)
    rates = values[torch.randint(4, (columns, columns), generator=generator)].fill_diagonal_(0)
    if sparse:
        rates = rates * (torch.rand(rates.shape, generator=generator) < 0.05)
    return Problem(logits.to(dtype), targets, rates)


def by_kernels(patch: pytest.MonkeyPatch) -> None:
    """Let CPU tensors take the way of a GPU's, where Triton interprets; float64 has none."""
    patch.setattr(operator, "_kernel_takes", lambda device, dtype, columns: dtype != torch.float64)
    patch.setattr(autograd, "MANY", 0)


def lists(case: Problem) -> tuple[Any, Any, Any]:
    """As nested lists, for an oracle."""
    return case.logits.tolist(), case.targets.tolist(), case.rates.tolist()


def problems() -> st.SearchStrategy[Problem]:
    """Float32 problems of up to 4 proposals and 6 classes, with logits up to 1, 100 or 10,000."""
    return st.builds(
        problem,
        st.integers(0, 2**32),
        proposals=st.integers(0, 4),
        columns=st.integers(1, 6),
        scale=st.sampled_from([1.0, 30.0, 100.0, 1e4]),
    )
