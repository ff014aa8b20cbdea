# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# Triton takes no annotations but its own
"""Loss and gradient of concurrent softmax on a GPU, in one pass over the logits, with Triton.

One program a proposal: its row of logits is read once and stays in registers, and for each of its labels the row
of rates is read. The gradient is the only (P, K) tensor that is written. The module is imported where there is a
GPU, and in Triton's interpreter by the tests.

Letters: P proposals, K columns, z logits (P, K), r rates (K, K), w = 1 - r. In units of the largest exponential
of the row, S_i = Σ w_ij exp(z_j) over the competitors j of label i; the loss is log(1 + S_i / exp(z_i)).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl

    compiled: Any = triton.jit
except ImportError:  # no build of it for this platform: nobody calls what follows

    def compiled(function: Any) -> Any:
        return function


def losses_and_slopes(
    logits: Tensor, labels: Tensor, rates: Tensor, negatives: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """(P,) float32 losses, and (P, K) `scale` times their gradient: bfloat16 where the logits are, else float32.

    A row without a label, with a label outside the columns or with NaN has a loss of NaN.

    Args:
        logits: (P, K), a row of which fits into the registers of one program; float32, bfloat16 or float16.
        labels: (P, K) bool or (P,) int64.
        rates: (K, K) float32.
        negatives: (P, K) bool or None, as in the formula.
    """
    rows, columns = logits.shape
    losses = torch.empty(rows, dtype=torch.float32, device=logits.device)
    kept = torch.bfloat16 if logits.dtype == torch.bfloat16 else torch.float32
    slopes = torch.empty(rows, columns, dtype=kept, device=logits.device)
    if rows == 0:
        return losses, slopes
    logits, labels, rates = logits.contiguous(), labels.contiguous(), rates.contiguous()
    absent = labels if negatives is None else negatives.contiguous()
    block = triton.next_power_of_2(columns)
    _loss_kernel[(rows,)](
        logits,
        labels.view(torch.uint8) if labels.ndim == 2 else labels,
        rates,
        absent.view(torch.uint8) if absent.dtype == torch.bool else absent,
        losses,
        slopes,
        columns,
        scale,
        BLOCK=block,
        MULTI_HOT=labels.ndim == 2,
        SOME_ABSENT=negatives is not None,
        num_warps=min(max(block // 256, 1), 16),
    )
    return losses, slopes


@compiled
def _shifted(values):
    """Maximum of a row, 0 where all are -inf, and the exponentials of what the row is below it."""
    largest = tl.max(values, axis=0)
    largest = tl.where(largest == float("-inf"), 0.0, largest)
    return largest, tl.exp(values - largest)


@compiled
def _log1p(x):
    """log(1 + x) of x in [0, 1] to the last digits: what rounding 1 + x takes away, the quotient gives back."""
    u = 1.0 + x
    rounded = u - 1.0
    return tl.where(rounded == 0.0, x, tl.log(u) * (x / tl.where(rounded == 0.0, 1.0, rounded)))


@compiled
def _loss_kernel(
    logits,
    labels,
    rates,
    absent,
    losses,
    slopes,
    columns,
    scale,
    BLOCK: tl.constexpr,
    MULTI_HOT: tl.constexpr,
    SOME_ABSENT: tl.constexpr,
):
    p = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, BLOCK)
    inside = k < columns
    z = tl.load(logits + p * columns + k, mask=inside, other=0.0).to(tl.float32)
    if MULTI_HOT:
        remaining = tl.load(labels + p * columns + k, mask=inside, other=0) != 0
    else:
        remaining = inside & (k == tl.load(labels + p))
    competes = inside & (remaining == 0)
    if SOME_ABSENT:
        competes = competes & (tl.load(absent + p * columns + k, mask=inside, other=0) != 0)
    shared_shift, shared = _shifted(tl.where(competes, z, float("-inf")))
    count = tl.sum(remaining.to(tl.int32), axis=0)
    loss = tl.where(count == 0, float("nan"), 0.0)
    slope = tl.zeros([BLOCK], dtype=tl.float32)
    for _ in range(count):
        i = tl.min(tl.where(remaining, k, BLOCK), axis=0)
        remaining = remaining & (k != i)
        weights = 1.0 - tl.load(rates + i * columns + k, mask=inside, other=1.0)
        shift = shared_shift
        weighed = weights * shared
        total = tl.sum(weighed, axis=0)
        if total < 1e-6:  # what was flushed to 0 could matter: a maximum of this label's own competitors
            shift, own = _shifted(tl.where(competes & (weights > 0.0), z, float("-inf")))
            weighed = weights * own
            total = tl.sum(weighed, axis=0)
        alone = total == 0.0  # all competitors removed
        ratio = tl.log(tl.where(alone, 1.0, total)) + (shift - tl.sum(tl.where(k == i, z, 0.0), axis=0))
        small = tl.exp(-tl.abs(ratio))
        share = tl.where(alone, 0.0, tl.where(ratio > 0.0, 1.0, small) / (1.0 + small))
        loss += tl.where(alone, 0.0, tl.maximum(ratio, 0.0) + _log1p(small))
        slope += scale * share / tl.where(alone, 1.0, total) * weighed
        slope = tl.where(k == i, -scale * share, slope)
    tl.store(losses + p, loss)
    tl.store(slopes + p * columns + k, slope, mask=inside)
