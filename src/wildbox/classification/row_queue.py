"""Rows that threads share: each takes the next ones until none is left.

A queue is (2,) int64: the first row that nobody took, and how many rows are finished. It begins with zeros. One that
began early does more, and whether there is one thread or many makes no difference to the rows.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _atomic_add(position: int) -> Any:
    """An intrinsic that adds to an entry of the queue, and returns what was there before."""

    def typed(typing_context: Any, queue: Any, rows: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, arguments[0])
            entry = builder.gep(array.data, [ir.IntType(64)(position)])
            return builder.atomic_rmw("add", entry, arguments[1], "seq_cst")

        return types.int64(queue, types.int64), generate

    return intrinsic(typed)


take_rows: Any = _atomic_add(0)
"""take_rows(queue, n): the first of the next n rows; from the number of rows on, there are none."""
finish_rows: Any = _atomic_add(1)
"""finish_rows(queue, n): n of the rows that were taken are done."""
