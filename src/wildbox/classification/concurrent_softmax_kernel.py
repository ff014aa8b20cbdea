# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# Triton takes no annotations but its own
"""Loss and gradient of concurrent softmax on a GPU, in one pass over the logits, with Triton.

One program a proposal: its row of logits is read once and stays in registers, and for each of its labels the row
of rates is read. The gradient is the only (P, K) tensor that is written. By count, the number of instructions bounds
it: a choice costs two a class, so what depends on the label is one number, written by itself. The module is imported
where there is a GPU, and in Triton's interpreter by the tests.

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
        rates: (K, K) float32, with a diagonal of 1, as no class competes with itself.
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
            LANES=min(max(block // 32, 32), block),
            MULTI_HOT=labels.ndim == 2,
            SOME_ABSENT=negatives is not None,
            num_warps=max(block // 1024, 1),
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
def _of_label(
    i,
    shift,
    exponentials,
    row,
    scale,
    k,
    COLUMNS: tl.constexpr,
    MULTI_HOT: tl.constexpr,
    SOME_ABSENT: tl.constexpr,
):
    """Of label i the loss, and `scale` times its gradient: that of its own logit is less, those of all others are.

    `shift` and `exponentials` are those of `shifted`, of all classes that may compete.
    """
    logits, labels, rates, absent = row
    inside = k < COLUMNS
    rates += i * COLUMNS + k
    weighed = (1.0 - tl.load(rates, mask=inside, other=1.0)) * exponentials
    total = tl.sum(weighed, axis=0)
    if total < 1e-7:
        # what was flushed to 0 may be seen in the gradient: a maximum of this label's own competitors; all is read
        # again, so that no register keeps it for this rare case
        weights = 1.0 - tl.load(rates, mask=inside, other=1.0)
        z = tl.load(logits + k, mask=inside, other=0.0).to(tl.float32)
        competes = inside & (weights > 0.0)
        if MULTI_HOT:
            competes = competes & (tl.load(labels + k, mask=inside, other=1) == 0)
        if SOME_ABSENT:
            competes = competes & (tl.load(absent + k, mask=inside, other=0) != 0)
        shift, exponentials = shifted(tl.where(competes, z, float("-inf")))
        weighed = weights * exponentials
        total = tl.sum(weighed, axis=0)
    alone = total == 0.0  # all competitors removed
    total = tl.where(alone, 1.0, total)
    ratio = tl.log(total) + (shift - tl.load(logits + i).to(tl.float32))
    small = tl.exp(-tl.abs(ratio))
    less = tl.where(alone, 0.0, scale * tl.where(ratio > 0.0, 1.0, small) / (1.0 + small))
    loss = tl.where(alone, 0.0, tl.maximum(ratio, 0.0) + _log1p(small))
    return loss, less, less / total * weighed


@compiled
def _of_several(
    held,
    shift,
    exponentials,
    row,
    slopes,
    scale,
    k,
    COLUMNS: tl.constexpr,
    LANES: tl.constexpr,
    SOME_ABSENT: tl.constexpr,
):
    """The sum of the losses of a row's labels, NaN where it has none; its gradient is written.

    `held` is 1 for a label, else 0.
    """
    BLOCK: tl.constexpr = held.shape[0]
    # a bit a label: those of classes LANES apart are in one number, which is one register of one thread
    lane, place = tl.arange(0, LANES), tl.arange(0, BLOCK // LANES)[:, None]
    bits = tl.sum(tl.reshape(held.to(tl.int32), (BLOCK // LANES, LANES)) << place, axis=0)
    i = _first(bits, lane, LANES, BLOCK)
    loss = tl.where(i == BLOCK, float("nan"), 0.0)
    slope = tl.zeros([BLOCK], dtype=tl.float32)
    while i < BLOCK:
        more, less, steep = _of_label(i, shift, exponentials, row, scale, k, COLUMNS, True, SOME_ABSENT)
        loss += more
        slope += steep
        tl.store(slopes + i, -less)
        bits = tl.where(lane == i % LANES, bits & ~(1 << (i // LANES)), bits)
        i = _first(bits, lane, LANES, BLOCK)
    others = tl.load(row[1] + k, mask=k < COLUMNS, other=1) == 0
    tl.store(slopes + k, slope, mask=others)
    return loss


@compiled
def _first(bits, lane, LANES: tl.constexpr, BLOCK: tl.constexpr):
    """The first label of those that `bits` holds, BLOCK where there is none."""
    # a power of 2: its exponent is the place
    lowest = (bits & -bits).to(tl.uint32, bitcast=True).to(tl.float32)
    place = (lowest.to(tl.int32, bitcast=True) >> 23) - 127
    return tl.min(tl.where(bits == 0, BLOCK, place * LANES + lane), axis=0)


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
    LANES: tl.constexpr,
    MULTI_HOT: tl.constexpr,
    SOME_ABSENT: tl.constexpr,
):
    # COLUMNS is known when this is compiled: what lies beyond them costs nothing
    p = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, BLOCK)
    inside = k < COLUMNS
    logits += p * COLUMNS
    slopes += p * COLUMNS
    absent += p * COLUMNS
    competes = inside
    if MULTI_HOT:
        labels += p * COLUMNS
        held = tl.load(labels + k, mask=inside, other=0)
        competes = competes & (held == 0)
    else:
        label = tl.load(labels + p)
    if SOME_ABSENT:
        competes = competes & (tl.load(absent + k, mask=inside, other=0) != 0)
    z = tl.load(logits + k, mask=inside, other=0.0).to(tl.float32)
    shift, exponentials = shifted(tl.where(competes, z, float("-inf")))
    exponentials += 0.0 * z  # NaN where a logit is not finite, and from there on in the loss
    row = (logits, labels, rates, absent)
    if MULTI_HOT:
        loss = _of_several(held, shift, exponentials, row, slopes, scale, k, COLUMNS, LANES, SOME_ABSENT)
    else:
        wrong = (label < 0) | (label >= COLUMNS)
        i = tl.where(wrong, 0, label.to(tl.int32))
        loss, less, slope = _of_label(i, shift, exponentials, row, scale, k, COLUMNS, False, SOME_ABSENT)
        loss = tl.where(wrong, float("nan"), loss)
        tl.store(slopes + k, slope, mask=inside)
        tl.debug_barrier()  # no thread writes the label's own before all have written the row
        tl.store(slopes + i, -less)
    tl.store(losses + p, loss)


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
