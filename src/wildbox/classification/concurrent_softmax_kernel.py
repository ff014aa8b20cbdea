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

    A row without a label, with a label outside the columns or with a logit that is not finite has a loss of NaN or
    infinity.

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
    with torch.cuda.device_of(logits):  # Triton launches on the device that is current
        _loss_kernel[(rows,)](
            logits,
            labels.view(torch.uint8) if labels.ndim == 2 else labels,
            rates,
            absent.view(torch.uint8) if absent.dtype == torch.bool else absent,
            losses,
            slopes,
            scale,
            COLUMNS=columns,
            BLOCK=block,
            MULTI_HOT=labels.ndim == 2,
            SOME_ABSENT=negatives is not None,
            num_warps=max(block // 1024, 1),
            # with fewer registers they spill, with more there is room for fewer programs
            maxnreg=80 if labels.ndim == 1 else None,
        )
    return losses, slopes


def scale_rows(slopes: Tensor, factors: Tensor) -> Tensor:
    """Multiply slopes (P, K), in place, by factors () or (P,); by the one factor 1, they are not even read."""
    rows, columns = slopes.shape
    with torch.cuda.device_of(slopes):
        _scale_kernel[(min(rows, 2048),)](
            slopes, factors.contiguous(), rows, columns, PER_ROW=factors.ndim == 1, BLOCK=1024
        )
    return slopes


@compiled
def exponential(x):
    """exp(x), or 0 where that is below the smallest normal number, for which `tl.exp` has three more instructions."""
    return tl.exp2(x * 1.4426950408889634)  # log2(e)


@compiled
def shifted(values):
    """Maximum of a row, 0 where all are -inf, and the exponentials of what the row is below it."""
    largest = tl.max(values, axis=0)
    largest = tl.where(largest == float("-inf"), 0.0, largest)
    return largest, exponential(values - largest)


@compiled
def _log1p(x):
    """log(1 + x) of x in [0, 1] to the last digits: what rounding 1 + x takes away, the quotient gives back."""
    u = 1.0 + x
    rounded = u - 1.0
    return tl.where(rounded == 0.0, x, tl.log(u) * (x / tl.where(rounded == 0.0, 1.0, rounded)))


@compiled
def of_class(logits, rates, i, k, COLUMNS: tl.constexpr):
    """The logit of class i, and how far each class competes with it."""
    own = tl.load(logits + i).to(tl.float32)
    return own, 1.0 - tl.load(rates + i * COLUMNS + k, mask=k < COLUMNS, other=1.0)


@compiled
def _of_label(i, own, competitors, shift, exponentials, weights, scale, k):
    """Loss of label i, whose logit is `own`, and `scale` times its gradient.

    `competitors` is the row, -inf where a class does not compete; `shift` and `exponentials` are those of `shifted`.
    """
    weighed = weights * exponentials
    total = tl.sum(weighed, axis=0)
    if total < 1e-6:  # what was flushed to 0 could matter: a maximum of this label's own competitors
        shift, exponentials = shifted(tl.where(weights > 0.0, competitors, float("-inf")))
        weighed = weights * exponentials
        total = tl.sum(weighed, axis=0)
    alone = total == 0.0  # all competitors removed
    ratio = tl.log(tl.where(alone, 1.0, total)) + (shift - own)
    small = tl.exp(-tl.abs(ratio))
    share = tl.where(alone, 0.0, scale * tl.where(ratio > 0.0, 1.0, small) / (1.0 + small))
    loss = tl.where(alone, 0.0, tl.maximum(ratio, 0.0) + _log1p(small))
    return loss, tl.where(k == i, -share, share / tl.where(alone, 1.0, total) * weighed)


@compiled
def _loss_kernel(
    logits,
    labels,
    rates,
    absent,
    losses,
    slopes,
    scale,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
    MULTI_HOT: tl.constexpr,
    SOME_ABSENT: tl.constexpr,
):
    # COLUMNS is known when this is compiled: what lies beyond them costs nothing
    p = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, BLOCK)
    inside = k < COLUMNS
    logits += p * COLUMNS
    if MULTI_HOT:
        members = tl.where(tl.load(labels + p * COLUMNS + k, mask=inside, other=0) != 0, k, BLOCK)
        competes = inside & (members == BLOCK)
        i = tl.min(members, axis=0)
        wrong = i == BLOCK
    else:
        label = tl.load(labels + p)
        wrong = (label < 0) | (label >= COLUMNS)
        i = tl.where(wrong, 0, label.to(tl.int32))
        own, weights = of_class(logits, rates, i, k, COLUMNS)
        competes = inside & (k != i)
    if SOME_ABSENT:
        competes = competes & (tl.load(absent + p * COLUMNS + k, mask=inside, other=0) != 0)
    z = tl.load(logits + k, mask=inside, other=0.0).to(tl.float32)
    competitors = tl.where(competes, z, float("-inf"))
    shift, exponentials = shifted(competitors)
    exponentials += 0.0 * z  # NaN where a logit is not finite, and from there on in the loss
    if MULTI_HOT:
        loss = tl.where(wrong, float("nan"), 0.0)
        slope = tl.zeros([BLOCK], dtype=tl.float32)
        while i < BLOCK:
            own, weights = of_class(logits, rates, i, k, COLUMNS)
            more, steep = _of_label(i, own, competitors, shift, exponentials, weights, scale, k)
            loss += more
            slope += steep
            i = tl.min(tl.where(members > i, members, BLOCK), axis=0)
    else:
        loss, slope = _of_label(i, own, competitors, shift, exponentials, weights, scale, k)
        loss = tl.where(wrong, float("nan"), loss)
    tl.store(losses + p, loss)
    tl.store(slopes + p * COLUMNS + k, slope, mask=inside)


@compiled
def _scale_kernel(slopes, factors, rows, columns, PER_ROW: tl.constexpr, BLOCK: tl.constexpr):
    factor = tl.load(factors)
    if PER_ROW:
        for p in range(tl.program_id(0), rows, tl.num_programs(0)):
            _scale_row(slopes, tl.load(factors + p), p, columns, BLOCK)
    elif factor != 1.0:
        for p in range(tl.program_id(0), rows, tl.num_programs(0)):
            _scale_row(slopes, factor, p, columns, BLOCK)


@compiled
def _scale_row(slopes, factor, p, columns, BLOCK: tl.constexpr):
    for start in range(0, columns, BLOCK):
        k = start + tl.arange(0, BLOCK)
        at = slopes + (tl.zeros([BLOCK], dtype=tl.int64) + p) * columns + k
        tl.store(at, tl.load(at, mask=k < columns) * factor, mask=k < columns)
