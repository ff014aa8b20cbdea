# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# Triton takes no annotations but its own
"""Scores of concurrent softmax on a GPU, with Triton: every denominator from the few rates above 0 of its class.

A program takes two proposals at a time. It writes their exponentials to a space of its own, of each class those of
both side by side, so that what a class takes from the total is one load a rate. The space is small enough to stay in
the GPU's caches, and is used again for the next proposals. A thread has one class: what passes through the caches is
what costs, so nothing is loaded for columns that are not there, and little for a class with few rates.

Letters: P proposals, K columns, z logits (P, K), r rates (K, K). In units of the largest exponential of the row,
T = Σ exp(z_j), and D_i = (T - Σ exp(z_j)) + Σ (1 - r_ij) exp(z_j), over the j that concur with i, is the denominator of
class i. Where these dominate the row, the difference cancels: it is two float32, of which the second holds what
rounding takes from the first (Dekker's fast two-sum), since many GPUs are slow in float64. Only what rounding leaves at
1e-8 of T is computed anew.
"""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from wildbox.classification.concurrent_softmax_kernel import compiled, exponential
from wildbox.classification.rates import FIRST, RateTiles

with contextlib.suppress(ImportError):
    import triton
    import triton.language as tl

GROUP = 2
"""Proposals that a program takes at once."""
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
        width, more = tile_width(columns), len(tiles.offsets) - 1
        size = len(tiles.places)
        programs = min(triton.cdiv(rows, GROUP), PROGRAMS, max(SPACE // (size * GROUP), 1))
        space = torch.empty(programs, size, GROUP, dtype=torch.float32, device=logits.device)
        rests = torch.empty(programs, 2, 1 + more * width, GROUP, dtype=torch.float32, device=logits.device)
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
                rests,
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
    rests,
    rows,
    more,
    COLUMNS: tl.constexpr,
    FIRST: tl.constexpr,
    WIDTH: tl.constexpr,
    GROUP: tl.constexpr,
):
    SIZE: tl.constexpr = (COLUMNS + WIDTH) // WIDTH * WIDTH
    member, lane = tl.arange(0, GROUP), tl.arange(0, WIDTH)
    program = tl.program_id(0).to(tl.int64)
    space += program * (SIZE * GROUP) + member[None, :]
    own = space + lane[:, None] * GROUP
    plane = (1 + more * WIDTH) * GROUP
    rests += program * 2 * plane + member[None, :]  # the total's, then those of classes with more rates
    for group in range(tl.program_id(0), tl.cdiv(rows, GROUP), tl.num_programs(0)):
        # where there are too few proposals, the last one several times
        p = tl.minimum(tl.zeros([GROUP], dtype=tl.int64) + group * GROUP + member, rows - 1)
        row = p[None, :] * COLUMNS + lane[:, None]
        high, low = _exponentials(logits + row, own, lane, COLUMNS, SIZE, WIDTH, GROUP)
        tl.store(finite + p, high == high)
        tl.store(rests, high[None, :])
        tl.store(rests + plane, low[None, :])
        tl.debug_barrier()
        for tile in range(more):
            a, b = _without_levels(high, low, starts + tile, pairs + FIRST * SIZE + lane, space, WIDTH, GROUP)
            place = rests + (1 + tile * WIDTH + lane)[:, None] * GROUP
            tl.store(place, a)
            tl.store(place + plane, b)
        tl.debug_barrier()
        least = tl.full([WIDTH, GROUP], 1.0, dtype=tl.float32)
        for tile in tl.static_range(0, COLUMNS, WIDTH):
            i = tile + lane
            place = rests + tl.load(places + i)[:, None] * GROUP
            a, b = tl.load(place), tl.load(place + plane)
            for level in tl.static_range(FIRST):
                a, b = _without(a, b, tl.load(pairs + level * SIZE + i), space, GROUP)
            rest = a + b
            score = tl.minimum(tl.load(own + tile * GROUP) / rest, 1.0)
            score = tl.where(rest < 1e-8 * high[None, :], -1.0, score)
            least = tl.minimum(least, score)
            tl.store(scores + row + tile, score, mask=(i < COLUMNS)[:, None])
        some = ((tl.min(least, axis=0) < 0.0) & (group * GROUP + member < rows)).to(tl.int32)
        tl.debug_barrier()
        if tl.max(some, axis=0) > 0:
            for g in range(GROUP):
                if tl.max(tl.where(member == g, some, 0), axis=0) > 0:
                    first = tl.sum(tl.where(member == g, p, 0), axis=0) * COLUMNS
                    _replace_cancelled(scores + first, logits + first, rates, COLUMNS, WIDTH)
            tl.debug_barrier()


@compiled
def _exponentials(
    row, own, lane, COLUMNS: tl.constexpr, SIZE: tl.constexpr, WIDTH: tl.constexpr, GROUP: tl.constexpr
):
    """Write those of the rows to the space, and 0 behind them: (GROUP,) their sums, as two numbers; NaN where a logit
    is not finite."""
    peaks = tl.full([WIDTH, GROUP], float("-inf"), dtype=tl.float32)
    for start in tl.static_range(0, COLUMNS, WIDTH):
        inside = (start + lane < COLUMNS)[:, None]
        peaks = tl.maximum(peaks, tl.load(row + start, mask=inside, other=float("-inf")).to(tl.float32))
    peak = tl.max(peaks, axis=0)[None, :]
    # no less than any exponential, as the two-sum needs it
    high = tl.full([WIDTH, GROUP], 1.0, dtype=tl.float32)
    low = tl.zeros([WIDTH, GROUP], dtype=tl.float32)
    for start in tl.static_range(0, SIZE, WIDTH):
        inside = (start + lane < COLUMNS)[:, None]
        z = tl.load(row + start, mask=inside, other=0.0).to(tl.float32)
        e = tl.where(inside, exponential(z - peak), 0.0)
        before = high
        high += e
        low += e - (high - before) + 0.0 * z
        tl.store(own + start * GROUP, e)
    total = tl.sum((high - 1.0).to(tl.float64) + low.to(tl.float64), axis=0)
    high = total.to(tl.float32)
    return high, (total - high.to(tl.float64)).to(tl.float32)


@compiled
def _without_levels(high, low, starts, pairs, space, WIDTH: tl.constexpr, GROUP: tl.constexpr):
    """`_without` for all levels of a tile; the next pairs are on their way meanwhile."""
    high = tl.zeros([WIDTH, GROUP], dtype=tl.float32) + high[None, :]
    low = tl.zeros([WIDTH, GROUP], dtype=tl.float32) + low[None, :]
    first, last = tl.load(starts), tl.load(starts + 1)
    pair = tl.load(pairs + first * WIDTH)
    for level in range(first, last):
        ahead = tl.load(pairs + (level + 1) * WIDTH)
        high, low = _without(high, low, pair, space, GROUP)
        pair = ahead
    return high, low


@compiled
def _without(high, low, pair, space, GROUP: tl.constexpr):
    """The two numbers without what concurs: without the exponential of the other class, with what of it competes."""
    competes = (pair >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    e = tl.load(space + pair.to(tl.int32)[:, None] * GROUP)
    less = high - e
    return less, low + ((high - less) - e) + competes[:, None] * e


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
        rests += weights * exponential(z - shift)
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
