"""Concurrent rates as the rules use them: checked, and as the list of those above 0. Letters: K columns, r rates."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
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


class RateTiles(NamedTuple):
    """The rates above 0 as a GPU reads them, those of many classes side by side; K' > K is a multiple of W.

    Of every class the first `FIRST`. Then, of the classes that have more, a tile of W at a time: of each the next one,
    and the next one, as many as its classes need. These classes stand by how many they have, so that those of a tile
    need about as many. Where a class has no more, it concurs with class K, which is none.
    """

    offsets: Tensor
    """(T + 1,) int32: tile t has the levels offsets[t]:offsets[t + 1] of those after the first."""
    others: Tensor
    """(FIRST * K' + (L + 1) * W,) int64: the other class j of each rate r; the bits of 1 - r, float32, are above its
    32."""
    places: Tensor
    """(K',) int32: the place of a class among those that have more, from 1; 0: it has not."""


FIRST = 3
"""Rates that are read of every class: the fastest of 1 to 4 on an H200, where the average class has 2.3."""


def rate_tiles(sparse: SparseRates, *, width: int) -> RateTiles:
    """The same rates in tiles.

    Args:
        width: W.

    >>> rates = SparseRates(torch.tensor([0, 0, 4]), torch.tensor([5, 6, 7, 8]), torch.ones(4))
    >>> offsets, others, places = rate_tiles(rates, width=2)
    >>> offsets.tolist(), others.tolist(), places.tolist()
    ([0, 1], [2, 5, 2, 2, 2, 6, 2, 2, 2, 7, 2, 2, 8, 2, 2, 2], [0, 1, 0, 0])
    """
    offsets, others, values = sparse
    counts, device = offsets.diff(), others.device
    row = torch.arange(len(counts), device=device).repeat_interleave(counts)
    level = torch.arange(len(others), device=device) - offsets[row]
    more = (counts - FIRST).clamp(min=0).sort(descending=True, stable=True)
    place = torch.empty_like(counts).index_put_((more.indices,), torch.arange(len(counts), device=device))
    levels = F.pad(more.values, (0, -len(counts) % width)).view(-1, width).amax(dim=1)
    levels = levels[levels > 0]
    starts = torch.cat([levels.new_zeros(1), levels.cumsum(0)])
    size = (len(counts) // width + 1) * width
    is_first = level < FIRST
    tile = (place // width)[row].clamp(max=len(levels))
    after = FIRST * size + (starts[tile] + level - FIRST) * width + place[row] % width
    at = torch.where(is_first, level * size + row, after)
    pairs = others | (1 - values.float()).view(torch.int32).long() << 32
    entries = FIRST * size + (int(starts[-1]) + 1) * width  # a level more, which is read in advance
    found = pairs.new_full((entries,), len(counts))
    places = F.pad((place + 1).where(counts > FIRST, 0), (0, size - len(counts)))
    return RateTiles(starts.int(), found.index_put_((at,), pairs), places.int())


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
    if columns == 0 or rates.is_meta:
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
