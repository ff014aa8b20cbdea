# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# Triton takes no annotations but its own
"""Scores of concurrent softmax on a GPU, with Triton: every denominator from the few rates above 0 of its class.

A program takes a few proposals at a time. It writes their exponentials to a space of its own, of each class those of
all its proposals side by side, so that what a class takes from the total is one wide load a rate. The space is small
enough to stay in the GPU's caches, and is used again for the next proposals.

Letters: P proposals, K columns, z logits (P, K), r rates (K, K). In units of the largest exponential of the row,
T = Σ exp(z_j), and D_i = T - Σ r_ij exp(z_j) is the denominator of class i. Both are float64: where classes that
concur with i dominate the row, T and the sum cancel, and only what rounding leaves at 1e-8 of T is computed anew.
"""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from wildbox.classification.concurrent_softmax_kernel import compiled
from wildbox.classification.rates import RateTiles

with contextlib.suppress(ImportError):
    import triton
    import triton.language as tl

PROGRAMS = 2048
"""More than a GPU runs at once; each has its space."""


def tile_width(columns: int) -> int:
    """Classes that a program takes at once: one a thread, of as many warps as pay for so many columns."""
    return min(max(_block(columns) // 8, 32), 512)


def _block(columns: int) -> int:
    return max(int(triton.next_power_of_2(columns)), 32)


def scores(logits: Tensor, rates: Tensor, tiles: RateTiles) -> tuple[Tensor, Tensor]:
    """(P, K) float32 σ+ of every class, and (P,) bool, whether all logits of a row are finite.

    Args:
        logits: (P, K) float32, bfloat16 or float16.
        rates: (K, K) float32.
        tiles: those of the rates above 0, `tile_width(K)` wide.
    """
    rows, columns = logits.shape
    found = torch.empty(rows, columns, dtype=torch.float32, device=logits.device)
    finite = torch.empty(rows, dtype=torch.bool, device=logits.device)
    if rows:
        block, width = _block(columns), tile_width(columns)
        group = 4 if block <= 4096 else 1
        programs = min(triton.cdiv(rows, group), PROGRAMS)
        space = torch.empty(programs, block, group, dtype=torch.float32, device=logits.device)
        with torch.cuda.device_of(logits):
            _score_kernel[(programs,)](
                logits.contiguous(),
                rates.contiguous(),
                tiles.offsets,
                tiles.others,
                found,
                finite.view(torch.uint8),
                space,
                rows,
                COLUMNS=columns,
                BLOCK=block,
                WIDTH=width,
                GROUP=group,
                num_warps=width // 32,
                maxnreg=64,  # as many programs at once as the GPU's threads allow
            )
    return found, finite


@compiled
def _score_kernel(
    logits,
    rates,
    starts,
    pairs,
    scores,
    finite,
    space,
    rows,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDTH: tl.constexpr,
    GROUP: tl.constexpr,
):
    member = tl.arange(0, GROUP)
    k = tl.arange(0, BLOCK)
    inside = (k < COLUMNS)[None, :]
    space += tl.program_id(0) * (BLOCK * GROUP) + member[None, :]
    for group in range(tl.program_id(0), tl.cdiv(rows, GROUP), tl.num_programs(0)):
        p = tl.zeros([GROUP], dtype=tl.int64) + group * GROUP + member
        here = p < rows
        row = logits + p[:, None] * COLUMNS + k[None, :]
        z = tl.load(row, mask=here[:, None] & inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
        peak = tl.max(tl.where(inside, z, float("-inf")), axis=1)
        exponentials = tl.where(inside, tl.exp(z - peak[:, None]), 0.0)
        total = tl.sum((exponentials + 0.0 * z).to(tl.float64), axis=1)
        tl.store(finite + p, total == total, mask=here)
        tl.store(space + k[:, None] * GROUP, tl.trans(exponentials), mask=(k < COLUMNS)[:, None])
        tl.debug_barrier()
        some = tl.zeros([WIDTH, GROUP], dtype=tl.int32)
        for tile in range((COLUMNS + WIDTH - 1) // WIDTH):
            i = tile * WIDTH + tl.arange(0, WIDTH)
            own = tl.load(space + i[:, None] * GROUP, mask=(i < COLUMNS)[:, None], other=0.0)
            left = _left(total, space, starts + tile, pairs, WIDTH, GROUP)
            cancelled = (left < 1e-8 * total[None, :]) & (i < COLUMNS)[:, None]
            some |= cancelled.to(tl.int32)
            score = tl.where(cancelled, -1.0, tl.minimum(own / left.to(tl.float32), 1.0))
            column = scores + p[None, :] * COLUMNS + i[:, None]
            tl.store(column, score, mask=here[None, :] & (i < COLUMNS)[:, None])
        tl.debug_barrier()
        if tl.max(tl.max(some, axis=1), axis=0) > 0:
            _replace_cancelled(scores, logits, rates, p, here, k, COLUMNS, BLOCK)


@compiled
def _left(total, space, starts, pairs, WIDTH: tl.constexpr, GROUP: tl.constexpr):
    """(WIDTH, GROUP) the denominators of the classes of a tile; the next pairs are on their way meanwhile."""
    first = tl.load(starts)
    last = tl.load(starts + 1)
    lane = tl.arange(0, WIDTH)
    one = tl.load(pairs + first * WIDTH + lane)
    two = tl.load(pairs + (first + 1) * WIDTH + lane)
    left = tl.zeros([WIDTH, GROUP], dtype=tl.float64) + total[None, :]
    for level in range(first, last, 2):
        left -= _taken(one, space, GROUP)
        one = tl.load(pairs + (level + 2) * WIDTH + lane)
        left -= _taken(two, space, GROUP)
        two = tl.load(pairs + (level + 3) * WIDTH + lane)
    return left


@compiled
def _taken(pair, space, GROUP: tl.constexpr):
    rate = (pair >> 32).to(tl.int32).to(tl.float32, bitcast=True).to(tl.float64)
    return rate[:, None] * tl.load(space + pair.to(tl.int32)[:, None] * GROUP).to(tl.float64)


@compiled
def _replace_cancelled(scores, logits, rates, p, here, k, COLUMNS: tl.constexpr, BLOCK: tl.constexpr):
    """Compute anew the scores of -1 in the rows p."""
    seen = here[:, None] & (k < COLUMNS)[None, :]
    cancelled = tl.load(scores + p[:, None] * COLUMNS + k[None, :], mask=seen, other=0.0) < 0.0
    j = tl.min(tl.min(tl.where(cancelled, k[None, :], BLOCK), axis=1), axis=0)
    while j < BLOCK:
        rows = tl.max((cancelled & (k == j)[None, :]).to(tl.int32), axis=1) > 0
        tl.store(scores + p * COLUMNS + j, _exact(j, logits, rates, p, here, k, COLUMNS), mask=rows)
        later = cancelled & (k > j)[None, :]
        j = tl.min(tl.min(tl.where(later, k[None, :], BLOCK), axis=1), axis=0)


@compiled
def _exact(j, logits, rates, p, here, k, COLUMNS: tl.constexpr):
    """(GROUP,) the score of class j in units of the largest exponential of those that compete with it."""
    weights = 1.0 - tl.load(rates + j * COLUMNS + k, mask=k < COLUMNS, other=1.0)
    competes = here[:, None] & ((weights > 0.0) & (k != j))[None, :]
    row = logits + p * COLUMNS
    own = tl.load(row + j, mask=here, other=0.0).to(tl.float32)
    z = tl.load(row[:, None] + k[None, :], mask=competes, other=float("-inf")).to(tl.float32)
    shift = tl.max(z, axis=1)
    shift = tl.where(shift == float("-inf"), 0.0, shift)
    rest = tl.sum(weights[None, :] * tl.exp(z - shift[:, None]), axis=1)
    ratio = tl.log(tl.where(rest == 0.0, 1.0, rest)) + (shift - own)
    return tl.where(rest == 0.0, 1.0, 1.0 / (1.0 + tl.exp(ratio)))
