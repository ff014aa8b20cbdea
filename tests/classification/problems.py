"""Random logits, labels and rates to put to a rule."""

from __future__ import annotations

from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor


class Problem(NamedTuple):
    """Logits (P, K), multi-hot labels (P, K) with at least one a row, rates (K, K)."""

    logits: Tensor
    targets: Tensor
    rates: Tensor


def problem(
    seed: int, *, proposals: int = 6, columns: int = 5, scale: float = 2.0, dtype: torch.dtype = torch.float32
) -> Problem:
    """Rates take the values 0, 0.3, 0.9999 and 1; logits lie within -scale and scale."""
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.rand(proposals, columns, generator=generator, dtype=torch.float64) * 2 - 1) * scale
    targets = torch.rand(proposals, columns, generator=generator) < 0.3
    first = torch.randint(columns, (proposals, 1), generator=generator)
    targets = targets.scatter(1, first, True)
    values = torch.tensor([0.0, 0.3, 0.9999, 1.0], dtype=dtype)
    rates = values[torch.randint(4, (columns, columns), generator=generator)].fill_diagonal_(0)
    return Problem(logits.to(dtype), targets, rates)


def problems() -> st.SearchStrategy[Problem]:
    """Float32 problems of up to 4 proposals and 6 classes, with logits up to 1, 100 or 10,000."""
    return st.builds(
        problem,
        st.integers(0, 2**32),
        proposals=st.integers(0, 4),
        columns=st.integers(1, 6),
        scale=st.sampled_from([1.0, 30.0, 100.0, 1e4]),
    )
