"""Numeric loops that run in a CPU's vector registers, which numba does not bring there by itself.

Letters: K columns of a row, r rates, T the sum of the row's exponentials, D_i = T - Σ r_ij exp(z_j).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

import wildbox.loop_cache  # noqa: F401  # before the first loop

LANES = 32
"""Rows that stand side by side in a division: with all that is made of them they stay in a core's own cache."""
TILE = 16
"""Rows and columns that are transposed at once."""

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


def _some_exponentials(typing_context: Any, row: Any, k: Any, shift: Any, result: Any) -> Any:
    """result[k + n] = exp(row[k + n] - shift) of TILE n, float32; 0 where there is no normal number for it.

    In LLVM's own terms: numba's loops use vectors half as wide as some processors have. x = n log 2 + f with
    |f| <= log(2) / 2, exp(x) = 2^n exp(f); adding 1.5 * 2^23 rounds to an integer, which then stands in the lowest
    bits. The polynomial is Taylor's to the seventh power, 4e-9 at the ends; in parts, since a processor would wait for
    each term in turn.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        row, k, shift, result = arguments
        vector, whole = (ir.VectorType(kind, TILE) for kind in (ir.FloatType(), ir.IntType(32)))

        def place(kind: Any, value: Any) -> Any:
            start = context.make_array(kind)(context, builder, value).data
            return builder.bitcast(builder.gep(start, [k]), vector.as_pointer())

        def number(value: float) -> Any:
            return ir.Constant(vector, [float(np.float32(value))] * TILE)

        def plus_product(c: Any, a: Any, b: Any) -> Any:
            return builder.fadd(c, builder.fmul(a, b, flags=("contract",)), flags=("contract",))

        x = builder.load(place(signature.args[0], row), align=4)
        x = builder.fsub(x, _everywhere(builder, shift, TILE))
        integer = number(1.5 * 2**23)
        shifted = plus_product(integer, x, number(1 / math.log(2)))
        n = builder.fsub(shifted, integer)
        f = plus_product(x, n, number(-0.693359375))  # log 2 in two parts, the first with few bits
        f = plus_product(f, n, number(2.1219444005469057e-4))
        square = builder.fmul(f, f)
        terms = (number(1 / math.factorial(power)) for power in range(2, 8))
        low, middle, high = (plus_product(next(terms), f, next(terms)) for _ in range(3))
        s = plus_product(low, square, plus_product(middle, square, high))
        s = builder.fadd(plus_product(f, square, s), number(1))
        exponent = builder.add(builder.bitcast(shifted, whole), ir.Constant(whole, [127] * TILE))
        power = builder.bitcast(builder.shl(exponent, ir.Constant(whole, [23] * TILE)), vector)
        is_normal = builder.fcmp_ordered(">", x, number(-87))
        found = builder.select(is_normal, builder.fmul(s, power), number(0))
        builder.store(found, place(signature.args[3], result), align=4)
        return context.get_dummy_value()

    return types.void(row, k, shift, result), generate


def _everywhere(builder: Any, value: Any, width: int) -> Any:
    """A vector of one number."""
    nothing = ir.Constant(ir.VectorType(value.type, width), ir.Undefined)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
    first = builder.insert_element(nothing, value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, nothing, zeros)


_some: Any = intrinsic(_some_exponentials)


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
def extent(row: Any) -> Any:
    """Minimum and maximum of a row (K,) of at least one number; one of them is NaN where a number is."""
    low, high = _rank(row[0]), _rank(row[0])
    for k in range(len(row)):
        rank = _rank(row[k])
        low = rank if rank < low else low
        high = rank if rank > high else high
    return _number(low), _number(high)


def _exponentials(row: Any, shift: Any, result: Any) -> None:
    """`exponentials_below`."""


@overload(_exponentials, strict=False)
def _exponentials_of(row: Any, shift: Any, result: Any) -> Any:
    def one_by_one(row: Any, shift: Any, result: Any) -> None:
        for k in range(len(row)):
            result[k] = math.exp(row[k] - shift)

    def in_tiles(row: Any, shift: Any, result: Any) -> None:
        if len(row) < TILE:
            for k in range(len(row)):
                result[k] = math.exp(row[k] - shift)
        else:
            for k in range(0, len(row), TILE):  # the last ones begin early enough to fit
                _some(row, min(k, len(row) - TILE), shift, result)

    return one_by_one if row.dtype == types.float64 else in_tiles


@numba.njit(cache=True)
def exponentials_below(row: Any, shift: Any, result: Any) -> None:
    """exp(z_j - shift) into `result` (K,), of z_j <= shift; both contiguous, and not the same memory."""
    _exponentials(row, shift, result)


@numba.njit(cache=True, fastmath=SUMS)
def sum_of(values: Any) -> Any:
    total = 0.0
    for k in range(len(values)):
        total += values[k]
    return total


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

        start = lanes(totals, integer(0))
        left = cgutils.alloca_once_value(  # type: ignore[no-untyped-call]
            builder, builder.load(start, align=size)
        )
        with cgutils.for_range_slice(builder, begin, end, integer(1)) as (at, _):
            rate = _everywhere(builder, builder.load(builder.gep(values, [at])), LANES)
            column = builder.load(lanes(side, builder.load(builder.gep(others, [at]))), align=size)
            removed = builder.fmul(rate, column, flags=("contract",))
            builder.store(builder.fsub(builder.load(left), removed, flags=("contract",)), left)
        denominator = builder.load(left)
        score = builder.fdiv(builder.load(lanes(side, i), align=size), denominator)
        one = ir.Constant(vector, [1.0] * LANES)  # rounding may lead beyond it
        score = builder.select(builder.fcmp_ordered("<", score, one), score, one)
        builder.store(score, lanes(result, integer(0)), align=size)
        unsure = builder.fcmp_ordered("<", denominator, builder.load(lanes(least, integer(0)), align=size))
        return builder.zext(builder.bitcast(unsure, ir.IntType(LANES)), integer)

    return types.uint64(i, side, others, values, begin, end, totals, least, result), generate


divide: Any = intrinsic(_division)


def _turning(typing_context: Any, source: Any, row: Any, column: Any, result: Any) -> Any:
    """result[column + n, row + m] = source[row + m, column + n] of TILE m and n; rows of both are contiguous."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, row, column, result = arguments
        kinds, integer = (signature.args[0], signature.args[3]), ir.IntType(64)
        number = kinds[0].dtype
        size, vector = number.bitwidth // 8, ir.VectorType(context.get_value_type(number), TILE)

        def lines(kind: Any, value: Any, first: Any, begin: Any) -> Iterable[Any]:
            array = context.make_array(kind)(context, builder, value)
            start = builder.bitcast(builder.gep(array.data, [begin]), ir.IntType(8).as_pointer())
            stride = builder.extract_value(array.strides, 0)  # in bytes
            for n in range(TILE):
                line = builder.gep(start, [builder.mul(builder.add(first, integer(n)), stride)])
                yield builder.bitcast(line, vector.as_pointer())

        tile = [builder.load(line, align=size) for line in lines(kinds[0], source, row, column)]
        step = TILE // 2
        while step:  # the blocks off the diagonal change places: of 8 x 8, then in each block of 4 x 4, ...
            low = [j - step + TILE if j & step else j for j in range(TILE)]
            high = [j + TILE if j & step else j + step for j in range(TILE)]
            for n in (n for n in range(TILE) if not n & step):
                pair = tile[n], tile[n + step]
                for place, mask in ((n, low), (n + step, high)):
                    chosen = ir.Constant(ir.VectorType(ir.IntType(32), TILE), mask)
                    tile[place] = builder.shuffle_vector(*pair, chosen)
            step //= 2
        for values, line in zip(tile, lines(kinds[1], result, column, row), strict=True):
            builder.store(values, line, align=size)
        return context.get_dummy_value()

    return types.void(source, row, column, result), generate


_turn: Any = intrinsic(_turning)


@numba.njit(cache=True)
def transpose(source: Any, result: Any) -> None:
    """source (A, B) into result (B, A), rows contiguous; numba's own loops take twice as long."""
    rows, columns = source.shape
    tiled = rows >= TILE and columns >= TILE
    for r in range(0, rows, TILE):
        for c in range(0, columns, TILE):
            if tiled:  # the last ones begin early enough to fit
                _turn(source, min(r, rows - TILE), min(c, columns - TILE), result)
            else:
                for i in range(r, min(r + TILE, rows)):
                    for j in range(c, min(c + TILE, columns)):
                        result[j, i] = source[i, j]
