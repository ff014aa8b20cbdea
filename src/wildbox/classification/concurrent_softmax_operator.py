"""Concurrent softmax as operators of torch, each in the fastest way that there is for its inputs.

What is `traced` is opaque to torch.compile, so the number of labels may depend on the data without a graph break.
Letters: P proposals, K columns, z logits (P, K), r rates (K, K).
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

import wildbox.classification.concurrent_softmax_cpu as cpu
import wildbox.classification.concurrent_softmax_formula as formula
from wildbox.classification.rates import RateTiles, SparseRates, rate_tiles, sparse_rates
from wildbox.classification.rule import as_multi_hot, check_finite, check_rows, computed

MOST_COLUMNS = 1 << 14
"""A row must fit into the registers of one program of the GPU's kernel."""
MOST_LEVELS = 64
"""Rates above 0 of a class, on average and padded, for which a GPU takes them one by one; for more, a product."""
HAS_TRITON = find_spec("triton") is not None


def arranged(rates: Tensor, device: torch.device) -> SparseRates | RateTiles:
    """The rates (K, K) above 0 as scoring logits of their dtype reads them on a device, and there."""
    sparse = sparse_rates(rates)
    if not _kernel_takes(device, rates.dtype, len(rates)):
        return SparseRates(*(part.to(device) for part in sparse))
    from wildbox.classification.concurrent_softmax_score_kernel import tile_width

    tiles = rate_tiles(sparse, width=tile_width(len(rates)))
    return RateTiles(*(part.to(device) for part in tiles))


def prepared(rates: Tensor, device: torch.device) -> tuple[Tensor, SparseRates | RateTiles]:
    """The rates (K, K) as loss and scores of logits of their dtype read them on a device, and there `arranged`."""
    there = rates.to(device)
    if _kernel_takes(device, rates.dtype, len(rates)):
        there = competing(there)
    return there, arranged(rates, device)


def competing(rates: Tensor) -> Tensor:
    """The same with a diagonal of 1, for the GPU's kernel of the loss; nothing else looks there."""
    return rates.clone().fill_diagonal_(1)


def losses_and_slopes(
    logits: Tensor, labels: Tensor, rates: Tensor, negatives: Tensor | None, scale: float, check: bool
) -> tuple[Tensor, Tensor]:
    """(P,) losses, and (P, K) `scale` times their gradient.

    Args:
        labels: (P, K) bool or (P,) int64.
        rates: (K, K); where there is a kernel for the logits, as `competing` gives them.
        negatives: (P, K) bool, or None: all classes but the labels are absent.
        check: as in `concurrent_softmax_autograd.loss`.
    """
    if has_kernel(logits):
        import wildbox.classification.concurrent_softmax_kernel as kernel

        found, slopes = kernel.losses_and_slopes(logits, labels, rates.float(), negatives, scale)
        if check and not math.isfinite(found.sum()):
            check_rows(logits, labels)
        return found, slopes
    z = computed(logits)
    rates = rates.to(z.dtype)
    if z.is_cpu:
        return cpu.losses_and_slopes(z, labels, rates, negatives, scale)
    if check:
        check_rows(z, labels)
    found, slopes = formula.losses_and_slopes(z, as_multi_hot(z, labels), rates, negatives)
    return found, slopes * scale


traced_loss = torch.library.custom_op("wildbox::concurrent_softmax_loss", losses_and_slopes, mutates_args=())


@traced_loss.register_fake
def _(logits: Tensor, labels: Any, rates: Any, negatives: Any, scale: Any, check: Any) -> Any:
    found = logits.new_empty(len(logits), dtype=computed(logits).dtype)
    return found, _like(logits, dtype=_slope_dtype(logits))


@torch.library.custom_op("wildbox::concurrent_softmax_curvature", mutates_args=())
def curvature(
    logits: Tensor, labels: Tensor, rates: Tensor, negatives: Tensor | None, direction: Tensor
) -> Tensor:
    """(P, K) the second derivative of the sum of losses, times a direction (P, K)."""
    z = computed(logits)
    return formula.curvature(z, as_multi_hot(z, labels), rates.to(z.dtype), negatives, direction.to(z.dtype))


@curvature.register_fake
def _(logits: Tensor, labels: Tensor, rates: Tensor, negatives: Tensor | None, direction: Tensor) -> Any:
    return _like(logits, dtype=computed(logits).dtype)


def scores(
    logits: Tensor,
    rates: Tensor,
    offsets: Tensor | None,
    others: Tensor | None,
    values: Tensor | None,
    check: bool,
) -> Tensor:
    """(P, K) σ+ of every class; `offsets`, `others`, `values`, where they are at hand, are what `arranged` gives."""
    if has_kernel(logits):
        import wildbox.classification.concurrent_softmax_score_kernel as kernel

        if offsets is None or others is None or values is None:
            offsets, others, values = arranged(rates.float(), rates.device)
        if len(others) <= MOST_LEVELS * max(len(rates), kernel.tile_width(len(rates))):
            found, finite = kernel.scores(logits, rates.float(), RateTiles(offsets, others, values))
            if check and not bool(finite.all()):
                check_finite(logits)
            return found
    z = computed(logits)
    if rates.dtype != z.dtype:
        rates, values = rates.to(z.dtype), None if values is None else values.to(z.dtype)
    if z.is_cpu:
        if offsets is None or others is None or values is None:
            offsets, others, values = sparse_rates(rates)
        return cpu.scores(z, rates, offsets, others, values)
    if check:
        check_finite(z)
    return formula.scores(z, rates).contiguous()


traced_scores = torch.library.custom_op("wildbox::concurrent_softmax_scores", scores, mutates_args=())


@traced_scores.register_fake
def _(z: Tensor, rates: Tensor, offsets: Any, others: Any, values: Any, check: bool) -> Any:
    return _like(z, dtype=z.dtype)


@torch.library.custom_op("wildbox::concurrent_softmax_scores_backward", mutates_args=())
def scores_backward(z: Tensor, rates: Tensor, direction: Tensor) -> Tensor:
    """(P, K) the gradient with respect to the logits of the sum of scores times a direction (P, K)."""
    return formula.scores_slopes(z, rates.to(z.dtype), direction).contiguous()


@scores_backward.register_fake
def _(z: Tensor, rates: Tensor, direction: Tensor) -> Any:
    return _like(z, dtype=z.dtype)


def _like(logits: Tensor, *, dtype: torch.dtype) -> Tensor:
    """What every operator returns, however the logits lie: compiled code relies on its strides."""
    return torch.empty_like(logits, dtype=dtype, memory_format=torch.contiguous_format)


def has_kernel(logits: Tensor) -> bool:
    """Whether a GPU's kernels take them."""
    return _kernel_takes(logits.device, logits.dtype, logits.shape[1])


def _kernel_takes(device: torch.device, dtype: torch.dtype, columns: int) -> bool:
    return device.type == "cuda" and dtype != torch.float64 and columns <= MOST_COLUMNS and HAS_TRITON


def _slope_dtype(logits: Tensor) -> torch.dtype:
    """Of the gradient as it is kept."""
    as_it_is = has_kernel(logits) and logits.dtype == torch.bfloat16
    return logits.dtype if as_it_is else computed(logits).dtype
