"""Concurrent softmax as compiled loops over the rows of float32 or float64 logits.

Loss and gradient come from one pass: exponentials are computed once a row, however many labels it has, and
nothing is allocated but the results. Scores need the rates above 0 alone, a few of K: LANES rows stand side by
side, and each rate is taken from all of them at once.

Letters: P proposals, K columns, M pairs (proposal, label), z logits (P, K), r rates (K, K). In units of the
largest exponential of the row, S_i = Σ (1 - r_ij) exp(z_j) over the competitors j of class i,
T = Σ exp(z_j) and D_i = S_i + exp(z_i) = T - Σ r_ij exp(z_j).
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

RELIABLE = 1e-6
"""S_i from here on: below it, exponentials that were flushed to 0 could matter, and i gets a maximum of its own."""
SINGLE = 0.25
"""D_i / T from here on: below it, T - Σ r_ij exp(z_j) is computed anew in float64, since it cancels."""
DOUBLE = 1e-4
"""D_i / T from here on: below it, i gets a maximum of its own."""
LANES = 64
"""Rows whose scores are computed side by side; as many as an integer has bits."""

# the sums may be reordered, so that they run in vector registers; the exponential must not be
SUMS = {"nsz", "contract", "reassoc", "arcp"}
STRICT = {"nsz", "contract"}


def _bits_of(typing_context: Any, value: Any) -> Any:
    """The bits of a float32 as int32, of a float64 as int64."""
    wide = value == types.float64

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64 if wide else 32))

    return (types.int64 if wide else types.int32)(value), generate


def _float_of(typing_context: Any, bits: Any) -> Any:
    """The inverse."""
    wide = bits == types.int64

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType() if wide else ir.FloatType())

    return (types.float64 if wide else types.float32)(bits), generate


_bits: Any = intrinsic(_bits_of)
_float: Any = intrinsic(_float_of)


def _exp(x: Any) -> Any:
    """exp(x) of x <= 0; 0 where float32 has no normal number for it."""


@overload(_exp, jit_options={"fastmath": STRICT}, strict=False)
def _exp_of(x: Any) -> Any:
    if x == types.float64:
        return lambda x: math.exp(x)

    def single(x: Any) -> Any:
        # x = n log 2 + f with |f| <= log(2) / 2, exp(x) = 2^n exp(f); adding 1.5 * 2^23 rounds to an integer, which
        # then stands in the lowest bits. The polynomial is Taylor's to the seventh power: 4e-9 at the ends.
        y = max(x, np.float32(-87.0))
        shifted = y * np.float32(1.4426950408889634) + np.float32(12582912.0)
        n = shifted - np.float32(12582912.0)
        f = y - n * np.float32(0.693359375)  # log 2 in two parts, the first with few bits
        f = f + n * np.float32(2.1219444005469057e-4)
        s = np.float32(1 / 5040)
        s = s * f + np.float32(1 / 720)
        s = s * f + np.float32(1 / 120)
        s = s * f + np.float32(1 / 24)
        s = s * f + np.float32(1 / 6)
        s = s * f + np.float32(0.5)
        s = s * f * f + f + np.float32(1)
        power = _float(np.int32((_bits(shifted) + 127) << 23))
        return s * power if x > np.float32(-87.0) else np.float32(0)

    return single


def _rank(x: Any) -> Any:
    """Integers in the order of the numbers: their maximum runs in vector registers, that of floats does not."""


@overload(_rank, strict=False)
def _rank_of(x: Any) -> Any:
    if x == types.float64:
        return lambda x: _bits(x) ^ ((_bits(x) >> 63) & 0x7FFFFFFFFFFFFFFF)
    return lambda x: np.int32(_bits(x) ^ ((_bits(x) >> 31) & 0x7FFFFFFF))


def _number(rank: Any) -> Any:
    """The inverse of `_rank`."""


@overload(_number, strict=False)
def _number_of(rank: Any) -> Any:
    if rank == types.int64:
        return lambda rank: _float(rank ^ ((rank >> 63) & 0x7FFFFFFFFFFFFFFF))
    return lambda rank: _float(np.int32(rank ^ ((rank >> 31) & 0x7FFFFFFF)))


@numba.njit(cache=True, fastmath=STRICT)
def _extent(row: Any) -> Any:
    """Minimum and maximum of a row (K,) of at least one number; one of them is NaN where a number is."""
    low, high = _rank(row[0]), _rank(row[0])
    for k in range(len(row)):
        rank = _rank(row[k])
        low = rank if rank < low else low
        high = rank if rank > high else high
    return _number(low), _number(high)


@numba.njit(cache=True, fastmath=STRICT)
def _exponentials(row: Any, shift: Any, result: Any) -> None:
    """exp(z_j - shift) into `result` (K,), which must be other memory: else it would not run in vector registers."""
    for k in range(len(row)):
        result[k] = _exp(row[k] - shift)


@numba.njit(cache=True, fastmath=STRICT)
def _competing(row: Any, competes: Any, masked: Any, result: Any) -> Any:
    """exp(z_j - m) of those that compete, 0 for the others, into `result` (K,); returns m, their maximum."""
    absent = row.dtype.type(-np.inf)
    for k in range(len(row)):
        masked[k] = row[k] if competes[k] else absent
    _, shift = _extent(masked)
    if shift == absent:
        result[:] = 0
    else:
        _exponentials(masked, shift, result)
    return shift


@numba.njit(cache=True, fastmath=SUMS)
def _weighed(rates: Any, exponentials: Any) -> Any:
    """S_i, from the rates (K,) of class i and the exponentials (K,) of its competitors."""
    one, total = rates.dtype.type(1), rates.dtype.type(0)  # numba would take 1 - rate to float64
    for k in range(len(rates)):
        total += (one - rates[k]) * exponentials[k]
    return total


@numba.njit(cache=True, fastmath=STRICT)
def _add_slopes(factor: Any, rates: Any, exponentials: Any, slopes: Any) -> None:
    one = rates.dtype.type(1)
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
    loss = 0.0
    slopes[:] = 0
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
        _add_slopes(row.dtype.type(share / total), rates[i], exponentials, slopes)
        slopes[i] = -share
    return loss


@numba.njit(cache=True, nogil=True)
def loss_rows(
    z: Any,
    pairs: Any,
    rates: Any,
    negatives: Any,
    scale: float,
    losses: Any,
    slopes: Any,
    first: int,
    last: int,
) -> int:
    """Losses (P,) of rows `first` to `last`, and `scale` times their gradients; returns a row at fault, or -1.

    A row is at fault where it has no label or where a logit is not finite.

    Args:
        pairs: (M,) int64, p K + i for each label i of row p, in order.
        negatives: (P, K) bool, or (0, K): all classes but the labels are absent.
    """
    columns = z.shape[1]
    spaces, competes = np.empty((3, columns), z.dtype), np.ones(columns, np.bool_)
    at = np.searchsorted(pairs, first * columns)
    for p in range(first, last):
        start = at
        while at < len(pairs) and pairs[at] < (p + 1) * columns:
            at += 1
        low, high = _extent(z[p])
        if at == start or not (-np.inf < low and high < np.inf):
            return p
        labels = pairs[start:at] - p * columns
        if len(negatives):
            competes[:] = negatives[p]
        for i in labels:
            competes[i] = False
        losses[p] = _row(z[p], labels, rates, competes, spaces, scale, slopes[p])
        for i in labels:
            competes[i] = True
    return -1


def _division(
    typing_context: Any,
    i: Any,
    side: Any,
    others: Any,
    values: Any,
    begin: Any,
    end: Any,
    totals: Any,
    least: Any,
    result: Any,
) -> Any:
    """exp(z_i) / (T - Σ r_ij exp(z_j)) of one class and LANES rows; returns the lanes whose D_i is below `least`.

    In LLVM's own terms, since numba does not keep the LANES sums in registers: five times as fast.

    Args:
        side: (K, LANES) exponentials.
        others, values: the columns and values of the rates; those from `begin` to `end` are the class's.
        totals, least, result: (LANES,).
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        i, _, _, _, begin, end, *_ = arguments
        side, others, values, totals, least, result = (
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args, arguments, strict=True)
            if isinstance(kind, types.Array)
        )
        integer, size = ir.IntType(64), signature.args[1].dtype.bitwidth // 8
        vector = ir.VectorType(context.get_value_type(signature.args[1].dtype), LANES)

        def lanes(pointer: Any, row: Any) -> Any:
            place = builder.gep(pointer, [builder.mul(row, integer(LANES))])
            return builder.bitcast(place, vector.as_pointer())

        def everywhere(value: Any) -> Any:
            nothing, first = ir.Constant(vector, ir.Undefined), ir.IntType(32)(0)
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            return builder.shuffle_vector(builder.insert_element(nothing, value, first), nothing, zeros)

        start = lanes(totals, integer(0))
        left = cgutils.alloca_once_value(  # type: ignore[no-untyped-call]
            builder, builder.load(start, align=size)
        )
        with cgutils.for_range_slice(builder, begin, end, integer(1)) as (at, _):
            rate = everywhere(builder.load(builder.gep(values, [at])))
            column = builder.load(lanes(side, builder.load(builder.gep(others, [at]))), align=size)
            removed = builder.fmul(rate, column, flags=("contract",))
            builder.store(builder.fsub(builder.load(left), removed, flags=("contract",)), left)
        denominator = builder.load(left)
        score = builder.fdiv(builder.load(lanes(side, i), align=size), denominator)
        one = ir.Constant(vector, [1.0] * LANES)  # rounding may lead beyond it
        score = builder.select(builder.fcmp_ordered("<", score, one), score, one)
        builder.store(score, lanes(result, integer(0)), align=size)
        unsure = builder.fcmp_ordered("<", denominator, builder.load(lanes(least, integer(0)), align=size))
        return builder.bitcast(unsure, ir.IntType(LANES))

    return types.uint64(i, side, others, values, begin, end, totals, least, result), generate


_divide: Any = intrinsic(_division)


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


@numba.njit(cache=True, fastmath=SUMS)
def _sum(values: Any) -> Any:
    total = 0.0
    for k in range(len(values)):
        total += values[k]
    return total


@numba.njit(cache=True)
def _doubtful_score(row: Any, i: int, column: Any, rates: Any, others: Any, values: Any, space: Any) -> Any:
    """σ+_i where the fast sum cancels.

    Args:
        column: (K,) exponentials of the row.
        others, values: (m,) columns and values of the rates of class i, `rates` (K,) all of them.
    """
    total = _sum(column)
    left = total
    for at in range(len(others)):
        left -= np.float64(values[at]) * column[others[at]]
    if left < DOUBLE * total:
        return _own_score(row, i, rates, space)
    return min(column[i] / left, 1.0)


@numba.njit(cache=True, nogil=True)
def score_rows(
    z: Any, rates: Any, offsets: Any, others: Any, values: Any, scores: Any, first: int, last: int
) -> int:
    """Scores (P, K) of rows `first` to `last`; returns a row with a logit that is not finite, or -1.

    Args:
        offsets, others, values: the rates above 0 as CSR, (K + 1,) and int64 columns and values.
    """
    columns = z.shape[1]
    side, found = np.zeros((columns, LANES), z.dtype), np.empty((columns, LANES), z.dtype)
    totals, least = np.ones(LANES, z.dtype), np.zeros(LANES, z.dtype)
    space = np.empty(columns, z.dtype)
    for start in range(first, last, LANES):
        block = scores[start : min(start + LANES, last)]
        for lane in range(len(block)):
            low, high = _extent(z[start + lane])
            if not (-np.inf < low and high < np.inf):
                return start + lane
            _exponentials(z[start + lane], high, block[lane])
            totals[lane] = _sum(block[lane])
            least[lane] = SINGLE * totals[lane]
        for k in range(columns):
            for lane in range(len(block)):
                side[k, lane] = block[lane, k]
        for i in range(columns):
            begin, end = offsets[i], offsets[i + 1]
            unsure = _divide(i, side, others, values, begin, end, totals, least, found[i])
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
        for eight in range(0, len(block), 8):
            few = block[eight : eight + 8]
            for k in range(columns):
                for lane in range(len(few)):
                    few[lane, k] = found[k, eight + lane]
    return -1
