# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# Triton takes no annotations but its own
"""Scores of concurrent softmax on a GPU, with Triton: every denominator from the few rates above 0 of its class.

One program a proposal. What it takes from the total of a row is gathered from shared memory, level by level: at
once the first rate above 0 of each class, then the second of each, and so on; those of classes that have many more
than others are added up beside them, in a row that has only these classes.

Letters: P proposals, K columns, z logits (P, K), r rates (K, K). In units of the largest exponential of the row,
T = Σ exp(z_j), and D_i = T - Σ r_ij exp(z_j) is the denominator of class i.
"""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from wildbox.classification.concurrent_softmax_kernel import compiled, of_class, shifted
from wildbox.classification.rates import RateLevels

with contextlib.suppress(ImportError):
    import triton.language as tl


def scores(logits: Tensor, rates: Tensor, levels: RateLevels) -> tuple[Tensor, Tensor]:
    """(P, K) float32 σ+ of every class, and (P,) bool, whether all logits of a row are finite.

    Args:
        logits: (P, K) float32, bfloat16 or float16.
        rates: (K, K) float32.
        levels: those of the rates above 0.
    """
    rows, columns = logits.shape
    found = torch.empty(rows, columns, dtype=torch.float32, device=logits.device)
    finite = torch.empty(rows, dtype=torch.bool, device=logits.device)
    if rows:
        count, deep, heavy, block = levels.shape.tolist()
        with torch.cuda.device_of(logits):
            _score_kernel[(rows,)](
                logits.contiguous(),
                rates.contiguous(),
                levels.others,
                levels.values,
                found,
                finite.view(torch.uint8),
                count,
                deep,
                COLUMNS=columns,
                BLOCK=block,
                HEAVY=heavy,
                num_warps=min(max(block // 512, 2), 16),  # of one warp, Triton would gather by shuffling
            )
    return found, finite


@compiled
def _score_kernel(
    logits,
    rates,
    others,
    values,
    scores,
    finite,
    levels,
    deep,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
    HEAVY: tl.constexpr,
):
    p = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, BLOCK)
    inside = k < COLUMNS
    logits += p * COLUMNS
    z = tl.load(logits + k, mask=inside, other=0.0).to(tl.float32)
    peak = tl.max(tl.where(inside, z, float("-inf")), axis=0)
    exponentials = tl.where(inside, tl.exp(z - peak), 0.0)
    total = tl.sum(exponentials + 0.0 * z, axis=0)
    tl.store(finite + p, total == total)
    left = tl.zeros([BLOCK], dtype=tl.float32) + total
    for level in range(levels):
        at = level * BLOCK + k
        spared = tl.load(values + at) * tl.gather(exponentials, tl.load(others + at), 0)
        left -= tl.where(inside, spared, 0.0)
    if HEAVY > 0:
        others += levels * BLOCK
        values += levels * BLOCK
        spared = tl.zeros([HEAVY], dtype=tl.float32)
        for level in range(deep):
            at = level * HEAVY + tl.arange(0, HEAVY)
            spared += tl.load(values + at) * tl.gather(exponentials, tl.load(others + at), 0)
        place = tl.load(others + deep * HEAVY + k)
        left -= tl.where(inside & (place >= 0), tl.gather(spared, tl.maximum(place, 0), 0), 0.0)
    score = tl.minimum(exponentials / left, 1.0)
    # where it cancels; and what rounding leaves of competitors that are all removed is not 0
    doubtful = (left < 0.0625 * total) | ((left < total) & (left - exponentials < 1e-5 * left))
    i = tl.min(tl.where(inside & doubtful, k, BLOCK), axis=0)
    while i < BLOCK:  # in units of the largest exponential of those that compete with i
        own, weights = of_class(logits, rates, i, k, COLUMNS)
        shift, others_of_i = shifted(tl.where((weights > 0.0) & (k != i), z, float("-inf")))
        rest = tl.sum(weights * others_of_i, axis=0)
        ratio = tl.log(tl.where(rest == 0.0, 1.0, rest)) + (shift - own)
        score = tl.where(k == i, tl.where(rest == 0.0, 1.0, 1.0 / (1.0 + tl.exp(ratio))), score)
        i = tl.min(tl.where(inside & doubtful & (k > i), k, BLOCK), axis=0)
    tl.store(scores + p * COLUMNS + k, score, mask=inside)
