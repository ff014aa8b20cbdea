"""Whether every line of some CSV text is a row with as many fields as it should have: 64 bytes at a time.

Which of 64 bytes are commas is a number of 64 bits, made of one vector of bytes in LLVM's own terms: numba does not
make such numbers by itself, and the look at each byte takes eight times as long.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

import wildbox.loop_cache  # noqa: F401  # before the first loop

BLOCK = 64
"""Bytes that are looked at together; as many as an integer has bits."""
COMMA, BREAK, RETURN, QUOTE, NULL = b',\n\r"\0'
BEYOND = -1
"""For `_which`."""


def _which_are(typing_context: Any, data: Any, start: Any, byte: Any) -> Any:
    """Bit i tells whether data[start + i] is `byte`, a constant, or for -1 whether it is none of ASCII's."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        vector = ir.VectorType(ir.IntType(8), BLOCK)
        block = builder.bitcast(builder.gep(array.data, [arguments[1]]), vector.as_pointer())
        wanted = ir.Constant(vector, [max(byte.literal_value, 0)] * BLOCK)
        compared = "<" if byte.literal_value < 0 else "=="
        return builder.bitcast(
            builder.icmp_signed(compared, builder.load(block, align=1), wanted), ir.IntType(BLOCK)
        )

    return types.uint64(data, start, byte), generate


def _number_of(typing_context: Any, bits: Any) -> Any:
    """How many of 64 bits are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


_which: Any = intrinsic(prefer_literal=True)(_which_are)
_count: Any = intrinsic(_number_of)


@numba.njit(nogil=True, cache=True)
def regular_lines(data: NDArray[np.uint8], fields: int) -> tuple[int, bool]:
    """Lines, each of them `fields` fields, quotes being respected; -1 where there is anything else. And whether all
    of it is ASCII.

    Anything else is another number of fields, a line break within quotes, a null character, a carriage return that is
    not before a line break. The last line may lack its line break.
    """
    lines, seen, quoted, beyond, one = 0, 1, False, np.uint64(0), np.uint64(1)
    for start in range(0, len(data), BLOCK):
        end = min(start + BLOCK, len(data))
        if end == start + BLOCK and not quoted:
            commas, breaks = _which(data, start, COMMA), _which(data, start, BREAK)
            beyond |= _which(data, start, BEYOND)
            alone = _which(data, start, RETURN) & ~(breaks >> one)
            odd = _which(data, start, QUOTE) | _which(data, start, NULL) | alone
            if not odd:
                while breaks:
                    before = (breaks & -breaks) - one
                    if seen + _count(commas & before) != fields:
                        return -1, False
                    lines, seen, commas, breaks = lines + 1, 1, commas & ~before, breaks & (breaks - one)
                seen += _count(commas)
                continue
        for i in range(start, end):
            byte = data[i]
            beyond |= np.uint64(byte >> 7)
            if byte == QUOTE:
                quoted = not quoted
            elif byte == COMMA:
                seen += not quoted
            elif byte == BREAK:
                if quoted or seen != fields:
                    return -1, False
                lines, seen = lines + 1, 1
            elif byte == NULL or (byte == RETURN and (i + 1 == len(data) or data[i + 1] != BREAK)):
                return -1, False
    if data[-1] != BREAK:
        lines = -1 if quoted or seen != fields else lines + 1
    return lines, lines >= 0 and beyond == 0
