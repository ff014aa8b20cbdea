"""Concurrent softmax as compiled loops over the rows of float32 or float64 logits.

Loss and gradient come from one pass: exponentials are computed once a row, however many labels it has, and
nothing is allocated but the results. Scores need the rates above 0 alone, a few of K: LANES rows stand side by
side, and each rate is taken from all of them at once. Threads that call the same loop share its rows by a queue.

Letters: P proposals, K columns, z logits (P, K), r rates (K, K). In units of the largest exponential of the row,
S_i = Σ (1 - r_ij) exp(z_j) over the competitors j of class i, T = Σ exp(z_j) and D_i = S_i + exp(z_i) =
T - Σ r_ij exp(z_j).
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from wildbox.classification.row_queue import finish_rows, take_rows
from wildbox.classification.vectors import (
    LANES,
    STRICT,
    SUMS,
    divide,
    exponentials_below,
    extent,
    sum_of,
    transpose,
)

RELIABLE = 1e-6
"""S_i from here on: below it, exponentials that were flushed to 0 could matter, and i gets a maximum of its own."""
SINGLE = 0.25
"""D_i / T from here on: below it, T - Σ r_ij exp(z_j) is computed anew in float64, since it cancels."""
DOUBLE = 1e-4
"""D_i / T from here on: below it, i gets a maximum of its own."""


@numba.njit(cache=True, fastmath=STRICT)
def _competing(row: Any, competes: Any, masked: Any, result: Any) -> Any:
    """exp(z_j - m) of those that compete, 0 for the others, into `result` (K,); returns m, their maximum."""
    absent = row.dtype.type(-np.inf)
    for k in range(len(row)):
        masked[k] = row[k] if competes[k] else absent
    _, shift = extent(masked)
    if shift == absent:
        result[:] = 0
    else:
        exponentials_below(masked, shift, result)
    return shift


@numba.njit(cache=True, fastmath=SUMS)
def _weighed(rates: Any, exponentials: Any) -> Any:
    """S_i, from the rates (K,) of class i and the exponentials (K,) of its competitors."""
    one, total = rates.dtype.type(1), rates.dtype.type(0)  # numba would take 1 - rate to float64
    for k in range(len(rates)):
        total += (one - rates[k]) * exponentials[k]
    return total


@numba.njit(cache=True, fastmath=STRICT)
def _add_slopes(factor: Any, rates: Any, exponentials: Any, first: bool, slopes: Any) -> None:
    """Those of one label to the sum over labels, or in its place where it is the first."""
    one = rates.dtype.type(1)
    if first:
        for k in range(len(rates)):
            slopes[k] = factor * (one - rates[k]) * exponentials[k]
    else:
        for k in range(len(rates)):
            slopes[k] += factor * (one - rates[k]) * exponentials[k]


@numba.njit(cache=True)
def _row(row: Any, labels: Any, rates: Any, competes: Any, spaces: Any, scale: float, slopes: Any) -> float:
    """Loss of one row (K,), a sum over its labels, and `scale` times its gradient into `slopes` (K,).

    Args:
        competes: (K,) bool; false for the labels.
        spaces: (3, K) to write into.
    """
    shared, own, masked = spaces[0], spaces[1], spaces[2]
    shared_shift = _competing(row, competes, masked, shared)
    loss, first = 0.0, True
    for i in labels:
        exponentials, shift = shared, shared_shift
        total = _weighed(rates[i], exponentials)
        if total < RELIABLE:
            exponentials, shift = own, _competing(row, competes & (rates[i] < 1), masked, own)
            total = _weighed(rates[i], exponentials)
        if total == 0:  # all competitors removed
            continue
        ratio = math.log(total) + (np.float64(shift) - row[i])
        small = math.exp(-abs(ratio))
        share = scale * (1 if ratio > 0 else small) / (1 + small)  # 1 - σ*_i, the share of the competitors
        loss += max(ratio, 0.0) + math.log1p(small)
        _add_slopes(row.dtype.type(share / total), rates[i], exponentials, first, slopes)
        slopes[i] = -share
        first = False
    if first:
        slopes[:] = 0
    return loss


@numba.njit(cache=True)
def _labels_of(targets: Any, p: int, found: Any) -> int:
    """How many labels row p has; they are written into `found` (K,). 0 also where its one label is no column."""
    if targets.ndim == 1:
        found[0] = targets[p]
        return 1 if 0 <= found[0] < len(found) else 0
    members, count = targets[p], 0
    for start in range(0, len(members), 64):
        part = members[start : start + 64]
        some = False
        for k in range(len(part)):  # in vector registers
            some |= part[k]
        if some:
            for k in range(len(part)):
                if part[k]:
                    found[count] = start + k
                    count += 1
    return count


@numba.njit(cache=True)
def loss_rows(
    queue: Any, z: Any, targets: Any, rates: Any, negatives: Any, scale: float, losses: Any, slopes: Any
) -> None:
    """Losses (P,) of the rows of a queue, and `scale` times their gradients; a row at fault is left unfinished.

    A row is at fault where it has no label or one outside the columns, or where a logit is not finite.

    Args:
        targets: (P, K) bool or (P,) int64.
        negatives: (P, K) bool, or (0, K): all classes but the labels are absent.
    """
    rows, columns = z.shape
    spaces, competes = np.empty((3, columns), z.dtype), np.ones(columns, np.bool_)
    space = np.empty(columns, np.int64)
    start = take_rows(queue, LANES)
    while start < rows:
        for p in range(start, min(start + LANES, rows)):
            labels = space[: _labels_of(targets, p, space)]
            low, high = extent(z[p])
            if not len(labels) or not (-np.inf < low and high < np.inf):
                return
            if len(negatives):
                competes[:] = negatives[p]
            for i in labels:
                competes[i] = False
            losses[p] = _row(z[p], labels, rates, competes, spaces, scale, slopes[p])
            for i in labels:
                competes[i] = True
        finish_rows(queue, min(LANES, rows - start))
        start = take_rows(queue, LANES)


@numba.njit(cache=True)
def _own_score(row: Any, i: int, rates: Any, space: Any) -> float:
    """σ+_i of one class by itself; rates (K,) of this class, `space` (K,) to write into."""
    competes = rates < 1
    competes[i] = False
    shift = _competing(row, competes, np.empty_like(space), space)
    total = _weighed(rates, space)
    if total == 0:
        return 1.0
    return 1 / (1 + math.exp(math.log(total) + (np.float64(shift) - row[i])))


@numba.njit(cache=True)
def _doubtful_score(row: Any, i: int, column: Any, rates: Any, others: Any, values: Any, space: Any) -> Any:
    """σ+_i where the fast sum cancels.

    Args:
        column: (K,) exponentials of the row.
        others, values: (m,) columns and values of the rates of class i, `rates` (K,) all of them.
    """
    total = sum_of(column)
    left = total
    for at in range(len(others)):
        left -= np.float64(values[at]) * column[others[at]]
    if left < DOUBLE * total:
        return _own_score(row, i, rates, space)
    return min(column[i] / left, 1.0)


@numba.njit(cache=True)
def score_rows(queue: Any, z: Any, rates: Any, offsets: Any, others: Any, values: Any, scores: Any) -> None:
    """Scores (P, K) of the rows of a queue; a row with a logit that is not finite is left unfinished.

    Args:
        offsets, others, values: the rates above 0 as CSR, (K + 1,) and int64 columns and values.
    """
    rows, columns = z.shape
    side, found = np.zeros((columns, LANES), z.dtype), np.empty((columns, LANES), z.dtype)
    totals, least = np.ones(LANES, z.dtype), np.zeros(LANES, z.dtype)
    space = np.empty(columns, z.dtype)
    start = take_rows(queue, LANES)
    while start < rows:
        block = scores[start : min(start + LANES, rows)]
        for lane in range(len(block)):
            low, high = extent(z[start + lane])
            if not (-np.inf < low and high < np.inf):
                return
            exponentials_below(z[start + lane], high, block[lane])
            totals[lane] = sum_of(block[lane])
            least[lane] = SINGLE * totals[lane]
        transpose(block, side[:, : len(block)])
        for i in range(columns):
            begin, end = offsets[i], offsets[i + 1]
            unsure = divide(i, side, others, values, begin, end, totals, least, found[i])
            if end - begin == columns - 1:  # perhaps nothing is left but rounding
                unsure = np.uint64(0xFFFFFFFFFFFFFFFF)
            if unsure:
                for lane in range(len(block)):
                    if (unsure >> np.uint64(lane)) & np.uint64(1):
                        found[i, lane] = _doubtful_score(
                            z[start + lane],
                            i,
                            side[:, lane],
                            rates[i],
                            others[begin:end],
                            values[begin:end],
                            space,
                        )
        transpose(found[:, : len(block)], block)
        finish_rows(queue, len(block))
        start = take_rows(queue, LANES)
