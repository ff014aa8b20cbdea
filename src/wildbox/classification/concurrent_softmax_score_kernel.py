# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# Triton takes no annotations but its own
"""Scores of concurrent softmax on a GPU, with Triton: every denominator from the few rates above 0 of its class.

A program takes two proposals at a time. It writes their exponentials to a space of its own, of each class those of
both side by side, so that what a class takes from the total is one load a rate. The space is small enough to stay in
the GPU's caches, and is used again for the next proposals. A thread has one class: instructions are what costs most,
so nothing is computed for columns that are not there, and little is done for a class with few rates.

Letters: P proposals, K columns, z logits (P, K), r rates (K, K). In units of the largest exponential of the row,
T = Σ exp(z_j), and D_i = T - Σ r_ij exp(z_j) is the denominator of class i. Both are float64: where classes that
concur with i dominate the row, T and the sum cancel, and only what rounding leaves at 1e-8 of T is computed anew.
"""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from wildbox.classification.concurrent_softmax_kernel import compiled
from wildbox.classification.rates import FIRST, RateTiles

with contextlib.suppress(ImportError):
    import triton
    import triton.language as tl

GROUP = 2
"""Proposals that a program takes at once: 16 bytes of two denominators are the widest load."""
PROGRAMS = 4224
"""More than a GPU runs at once; each has its space."""
SPACE = 2**23
"""Numbers that all spaces may hold together."""


def tile_width(columns: int) -> int:
    """Classes that a program takes at once: one a thread, of as many warps as pay for so many columns."""
    return min(max(int(triton.next_power_of_2(columns)) // 8, 32), 512)


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
        width, size, more = tile_width(columns), len(tiles.places), len(tiles.offsets) - 1
        programs = min(triton.cdiv(rows, GROUP), PROGRAMS, max(SPACE // (size * GROUP), 1))
        space = torch.empty(programs, size, GROUP, dtype=torch.float32, device=logits.device)
        sums = torch.empty(programs, more * width, GROUP, dtype=torch.float64, device=logits.device)
        with torch.cuda.device_of(logits):
            _score_kernel[(programs,)](
                logits.contiguous(),
                rates.contiguous(),
                tiles.offsets,
                tiles.others,
                tiles.places,
                found,
                finite.view(torch.uint8),
                space,
                sums,
                rows,
                more,
                COLUMNS=columns,
                FIRST=FIRST,
                WIDTH=width,
                GROUP=GROUP,
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
    places,
    scores,
    finite,
    space,
    sums,
    rows,
    more,
    COLUMNS: tl.constexpr,
    FIRST: tl.constexpr,
    WIDTH: tl.constexpr,
    GROUP: tl.constexpr,
):
    SIZE: tl.constexpr = (COLUMNS + WIDTH - 1) // WIDTH * WIDTH
    member, lane = tl.arange(0, GROUP), tl.arange(0, WIDTH)
    program = tl.program_id(0).to(tl.int64)
    space += program * (SIZE * GROUP) + member[None, :]
    sums += program * more * (WIDTH * GROUP) + member[None, :]
    own = space + lane[:, None] * GROUP
    for group in range(tl.program_id(0), tl.cdiv(rows, GROUP), tl.num_programs(0)):
        # where there are too few proposals, the last one several times
        p = tl.minimum(tl.zeros([GROUP], dtype=tl.int64) + group * GROUP + member, rows - 1)
        row = p[None, :] * COLUMNS + lane[:, None]
        total = _exponentials(logits + row, own, lane, COLUMNS, WIDTH, GROUP)
        tl.store(finite + p, total == total)
        tl.debug_barrier()
        for tile in range(more):
            taken = _taken(space, starts + tile, pairs + FIRST * SIZE, WIDTH, GROUP)
            tl.store(sums + (tile * WIDTH + lane)[:, None] * GROUP, taken)
        tl.debug_barrier()
        some = tl.zeros([WIDTH, GROUP], dtype=tl.int32)
        for tile in range(SIZE // WIDTH):
            i = tile * WIDTH + lane
            place = tl.load(places + i)
            left = total[None, :] - tl.load(
                sums + place[:, None] * GROUP, mask=(place >= 0)[:, None], other=0.0
            )
            for level in tl.static_range(FIRST):
                left -= _of_pair(tl.load(pairs + level * SIZE + i), space, GROUP)
            cancelled = left < 1e-8 * total[None, :]
            some |= cancelled.to(tl.int32)
            score = tl.minimum(tl.load(own + tile * WIDTH * GROUP) / left.to(tl.float32), 1.0)
            score = tl.where(cancelled, -1.0, score)
            tl.store(scores + row + tile * WIDTH, score, mask=(i < COLUMNS)[:, None])
        tl.debug_barrier()
        some = tl.max(some, axis=0)
        if tl.max(some, axis=0) > 0:
            for g in range(GROUP):
                if tl.max(tl.where(member == g, some, 0), axis=0) > 0:
                    first = tl.sum(tl.where(member == g, p, 0), axis=0) * COLUMNS
                    _replace_cancelled(scores + first, logits + first, rates, COLUMNS, WIDTH)
            tl.debug_barrier()


@compiled
def _exponentials(row, own, lane, COLUMNS: tl.constexpr, WIDTH: tl.constexpr, GROUP: tl.constexpr):
    """Write those of the rows to the space: (GROUP,) their sums, NaN where a logit is not finite."""
    peaks = tl.full([WIDTH, GROUP], float("-inf"), dtype=tl.float32)
    for start in tl.static_range(0, COLUMNS, WIDTH):
        inside = (start + lane < COLUMNS)[:, None]
        peaks = tl.maximum(peaks, tl.load(row + start, mask=inside, other=float("-inf")).to(tl.float32))
    peak = tl.max(peaks, axis=0)[None, :]
    totals = tl.zeros([WIDTH, GROUP], dtype=tl.float64)
    for start in tl.static_range(0, COLUMNS, WIDTH):
        inside = (start + lane < COLUMNS)[:, None]
        z = tl.load(row + start, mask=inside, other=0.0).to(tl.float32)
        exponentials = tl.where(inside, tl.exp(z - peak), 0.0)
        totals += (exponentials + 0.0 * z).to(tl.float64)
        tl.store(own + start * GROUP, exponentials)
    return tl.sum(totals, axis=0)


@compiled
def _taken(space, starts, pairs, WIDTH: tl.constexpr, GROUP: tl.constexpr):
    """(WIDTH, GROUP) what the rates of a tile take from the total; the next pairs are on their way meanwhile."""
    first = tl.load(starts)
    last = tl.load(starts + 1)
    pairs += tl.arange(0, WIDTH)
    one = tl.load(pairs + first * WIDTH)
    two = tl.load(pairs + (first + 1) * WIDTH)
    taken = tl.zeros([WIDTH, GROUP], dtype=tl.float64)
    for level in range(first, last, 2):
        taken += _of_pair(one, space, GROUP)
        one = tl.load(pairs + (level + 2) * WIDTH)
        taken += _of_pair(two, space, GROUP)
        two = tl.load(pairs + (level + 3) * WIDTH)
    return taken


@compiled
def _of_pair(pair, space, GROUP: tl.constexpr):
    rate = (pair >> 32).to(tl.int32).to(tl.float32, bitcast=True).to(tl.float64)
    return rate[:, None] * tl.load(space + pair.to(tl.int32)[:, None] * GROUP).to(tl.float64)


@compiled
def _replace_cancelled(scores, logits, rates, COLUMNS: tl.constexpr, WIDTH: tl.constexpr):
    """Compute anew the scores of -1 in a row."""
    for start in range(0, COLUMNS, WIDTH):
        i = start + tl.arange(0, WIDTH)
        cancelled = tl.where(tl.load(scores + i, mask=i < COLUMNS, other=0.0) < 0.0, i, COLUMNS)
        j = tl.min(cancelled, axis=0)
        while j < COLUMNS:
            tl.store(scores + j, _exact(j, logits, rates + j * COLUMNS, COLUMNS, WIDTH))
            j = tl.min(tl.where(cancelled > j, cancelled, COLUMNS), axis=0)


@compiled
def _exact(j, logits, rates, COLUMNS: tl.constexpr, WIDTH: tl.constexpr):
    """The score of class j in units of the largest exponential of those that compete with it."""
    peaks = tl.full([WIDTH], float("-inf"), dtype=tl.float32)
    for start in range(0, COLUMNS, WIDTH):
        peaks = tl.maximum(peaks, _competing(j, start, logits, rates, COLUMNS, WIDTH)[0])
    shift = tl.max(peaks, axis=0)
    shift = tl.where(shift == float("-inf"), 0.0, shift)
    rests = tl.zeros([WIDTH], dtype=tl.float32)
    for start in range(0, COLUMNS, WIDTH):
        z, weights = _competing(j, start, logits, rates, COLUMNS, WIDTH)
        rests += weights * tl.exp(z - shift)
    rest = tl.sum(rests, axis=0)
    ratio = tl.log(tl.where(rest == 0.0, 1.0, rest)) + (shift - tl.load(logits + j).to(tl.float32))
    return tl.where(rest == 0.0, 1.0, 1.0 / (1.0 + tl.exp(ratio)))


@compiled
def _competing(j, start, logits, rates, COLUMNS: tl.constexpr, WIDTH: tl.constexpr):
    """Logits of some classes, -inf where they do not compete with class j, and how far they do."""
    k = start + tl.arange(0, WIDTH)
    weights = 1.0 - tl.load(rates + k, mask=k < COLUMNS, other=1.0)
    competes = (weights > 0.0) & (k != j)
    return tl.load(logits + k, mask=competes, other=float("-inf")).to(tl.float32), weights
