"""Concurrent rates as the rules use them: checked, and as the list of those above 0. Letters: K columns, r rates."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wildbox.errors import ConfigError, InputError


class SparseRates(NamedTuple):
    """The rates above 0 as compressed rows (CSR): a few thousand of hundreds of thousands."""

    offsets: Tensor
    """(K + 1,) int64: those of class i are at offsets[i]:offsets[i + 1]."""
    others: Tensor
    """(M,) int64, their columns."""
    values: Tensor
    """(M,) the rates."""


def sparse_rates(rates: Tensor) -> SparseRates:
    """The rates (K, K) above 0.

    >>> sparse_rates(torch.tensor([[0.0, 0.5], [0.0, 0.0]]))
    SparseRates(offsets=tensor([0, 1, 1]), others=tensor([1]), values=tensor([0.5000]))
    """
    rows, others = rates.nonzero(as_tuple=True)
    counts = torch.bincount(rows, minlength=len(rates))
    return SparseRates(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), others, rates[rows, others])


class RateLevels(NamedTuple):
    """The rates above 0 as a GPU reads them: side by side the first of each class, the second of each, and so on.

    That takes as many levels as the class with the most rates has. So there are but a few, and what is left of
    the classes with more, heavy ones, lies in deeper levels of their own. All are padded with rates of 0.
    """

    shape: Tensor
    """(4,) int64, on the CPU: L levels, D deeper ones, H heavy classes padded, B classes padded."""
    others: Tensor
    """(L * B + D * H + B,) int32: the other class of each rate; last, of each class its place among the heavy or -1."""
    values: Tensor
    """(L * B + D * H,) float32, the rates."""


def rate_levels(sparse: SparseRates, *, least: int = 128) -> RateLevels:
    """The same rates in levels.

    Args:
        least: of B and of H, where it is not 0; B and H are powers of 2.

    >>> rate_levels(SparseRates(torch.tensor([0, 1, 3]), torch.tensor([1, 0, 1]), torch.ones(3)), least=2).others
    tensor([ 1,  0,  0,  1, -1, -1], dtype=torch.int32)
    """
    offsets, others, values = sparse
    counts, device = offsets.diff(), others.device
    block = _padded(len(counts), least)
    more = (len(counts) - counts.bincount().cumsum(0)).tolist()  # classes with more rates than 0, 1, ...
    deepest = len(more) - 1

    def size(level: int) -> int:
        heavy = more[level]
        return level * block + (heavy and (deepest - level) * _padded(heavy, least) + 2 * block)

    levels = min(range(deepest + 1), key=size)
    heavy = _padded(more[levels], least) if more[levels] else 0
    deep = deepest - levels if heavy else 0
    place = torch.full((block,), -1, dtype=torch.int64, device=device)
    place[: len(counts)][counts > levels] = torch.arange(more[levels], device=device)
    row = torch.arange(len(counts), device=device).repeat_interleave(counts)
    level = torch.arange(len(others), device=device) - offsets[row]
    beyond = levels * block + (level - levels) * heavy + place[row]
    at = torch.where(level < levels, level * block + row, beyond)
    total = levels * block + deep * heavy
    return RateLevels(
        torch.tensor([levels, deep, heavy, block]),
        torch.cat([others.new_zeros(total).index_put_((at,), others), place]).int(),
        torch.zeros(total, device=device).index_put_((at,), values.float()),
    )


def _padded(count: int, least: int) -> int:
    return max(1 << (count - 1).bit_length(), least)


def check_rates(rates: Tensor, *, background: int | None = None) -> None:
    """`InputError` names the entry at fault.

    Args:
        rates: (K, K) in [0, 1] with a diagonal of 0.
        background: column that concurs with nothing, negative from the end; None: there is none.

    >>> check_rates(torch.tensor([[0.0, 0.5], [0.0, 0.0]]), background=-1)
    Traceback (most recent call last):
    wildbox.errors.InputError: rates[0, 1] is 0.5, expected 0: column 1 is the background
    """
    if not isinstance(rates, Tensor):
        raise InputError(f"rates: expected a tensor (K, K), got {type(rates).__name__}")
    if rates.ndim != 2 or rates.shape[0] != rates.shape[1] or not rates.is_floating_point():
        raise InputError(f"rates: expected (K, K) of floats, got {tuple(rates.shape)} {rates.dtype}")
    columns = len(rates)
    if background is not None and not -columns <= background < columns:
        raise ConfigError(f"background = {background}: expected a column of the {columns}")
    if columns == 0:
        return
    low, high = (float(end) for end in torch.aminmax(rates))
    if not (low >= 0 and high <= 1):  # also where one is NaN
        i, j = (~((rates >= 0) & (rates <= 1))).nonzero()[0].tolist()
        raise InputError(f"rates[{i}, {j}] is {_shown(rates[i, j])}, expected 0 to 1")
    own = rates.diagonal()
    if own.any():
        i = int(own.nonzero()[0])
        raise InputError(f"rates[{i}, {i}] is {_shown(own[i])}, expected 0 on the diagonal")
    if background is not None and (rates[background].any() or rates[:, background].any()):
        column = background % columns
        concurring = torch.zeros_like(rates, dtype=torch.bool)
        concurring[column], concurring[:, column] = rates[column] != 0, rates[:, column] != 0
        i, j = concurring.nonzero()[0].tolist()
        raise InputError(
            f"rates[{i}, {j}] is {_shown(rates[i, j])}, expected 0: column {column} is the background"
        )


def _shown(value: Tensor) -> str:
    return f"{float(value):.6g}"
