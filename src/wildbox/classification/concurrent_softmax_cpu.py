"""Concurrent softmax on the tensors of a CPU: the compiled loops, in torch's threads.

A training step calls this when the caches hold what other layers left there. Python then takes as long as a thousand
rows do, and once more for each thread that has to enter it: threads run compiled code alone, on addresses.
Letters: P proposals, K columns, z logits (P, K), r rates (K, K); both float32 or float64.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from numba import types
from torch import Tensor

import wildbox.classification.concurrent_softmax_loops as loops
from wildbox.classification.rule import check_finite, check_rows

carray: Any = numba.carray  # type: ignore[attr-defined]
WORK = 1 << 16
"""Logits that are worth a thread."""


class _Header(ctypes.Structure):
    """What the loops are told beside the tensors; as int64, `scale` as float64, for compiled code."""

    _fields_ = (
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("others", ctypes.c_int64),
        ("scale", ctypes.c_double),
        ("queue", 2 * ctypes.c_int64),
    )


WORDS = ctypes.sizeof(_Header) // 8
_Addresses = 7 * ctypes.c_void_p
"""That of the header, then those of the tensors that an entry takes."""


def losses_and_slopes(
    z: Tensor, labels: Tensor, rates: Tensor, negatives: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """(P,) losses, and (P, K) `scale` times their gradient.

    Args:
        labels: (P, K) bool or (P,) int64.
        negatives: (P, K) bool, the classes that compete where they are no labels; None: all.

    Raises:
        InputError: a label outside the columns, a row without one, a logit that is not finite; the row is named.
    """
    found, slopes = z.new_empty(z.shape[0]), torch.empty_like(z, memory_format=torch.contiguous_format)
    entry = _loss_entry(z.dtype == torch.float64, labels.ndim == 1)
    absent, count = (labels, 0) if negatives is None else (negatives, z.shape[0])
    if not _run(entry, z, labels, rates, absent, found, slopes, others=count, scale=scale):
        check_rows(z, labels)
        raise MemoryError("concurrent softmax: no memory to work in")
    return found, slopes


def scores(z: Tensor, rates: Tensor, offsets: Tensor, others: Tensor, values: Tensor) -> Tensor:
    """(P, K) σ+ of every class.

    Args:
        offsets, others, values: `SparseRates` of the rates.

    Raises:
        InputError: a logit that is not finite; the row is named.
    """
    found = torch.empty_like(z, memory_format=torch.contiguous_format)
    entry = _score_entry(z.dtype == torch.float64)
    if not _run(entry, z, rates, offsets, others, values, found, others=others.numel()):
        check_finite(z)
        raise MemoryError("concurrent softmax: no memory to work in")
    return found


def _run(entry: Any, z: Tensor, *tensors: Tensor, others: int, scale: float = 1.0) -> bool:
    """Call an entry in as many threads as the logits are worth; whether all rows were finished.

    Args:
        tensors: as the entry takes them after the logits; the results are contiguous.
    """
    rows, columns = z.shape
    header = _Header(rows, columns, others, scale)
    kept = [tensor.contiguous() for tensor in (z, *tensors)]  # addresses do not keep them
    addresses = _Addresses(ctypes.addressof(header), *map(Tensor.data_ptr, kept))
    threads = min(torch.get_num_threads(), rows * columns // WORK)
    if threads > 1 and TEAM is not None:
        TEAM(entry.address, addresses, threads, 0)
    else:
        entry.ctypes(addresses)
    return bool(header.queue[1] == rows)


ENTRY = types.void(types.CPointer(types.voidptr))  # type: ignore[no-untyped-call]


@cache
def _loss_entry(double: bool, one: bool) -> Any:
    """Of float64 or float32 logits, with one label a row as int64 or multi-hot ones."""
    number: Any = np.float64 if double else np.float32
    boolean: Any = np.bool_

    @numba.cfunc(ENTRY, cache=True)
    def entry(addresses: Any) -> None:
        header = carray(addresses[0], WORDS, np.int64)
        rows, columns, known = header[0], header[1], header[2]
        z = carray(addresses[1], (rows, columns), number)
        rates = carray(addresses[3], (columns, columns), number)
        negatives = carray(addresses[4], (known, columns), boolean)
        losses = carray(addresses[5], (rows,), number)
        slopes = carray(addresses[6], (rows, columns), number)
        scale = carray(addresses[0], WORDS, np.float64)[3]
        if one:
            label = carray(addresses[2], (rows,), np.int64)
            loops.loss_rows(header[4:6], z, label, rates, negatives, scale, losses, slopes)
        else:
            members = carray(addresses[2], (rows, columns), boolean)
            loops.loss_rows(header[4:6], z, members, rates, negatives, scale, losses, slopes)

    return entry


@cache
def _score_entry(double: bool) -> Any:
    """Of float64 or float32 logits."""
    number: Any = np.float64 if double else np.float32

    @numba.cfunc(ENTRY, cache=True)
    def entry(addresses: Any) -> None:
        header = carray(addresses[0], WORDS, np.int64)
        rows, columns, rated = header[0], header[1], header[2]
        z = carray(addresses[1], (rows, columns), number)
        rates = carray(addresses[2], (columns, columns), number)
        offsets = carray(addresses[3], (columns + 1,), np.int64)
        others = carray(addresses[4], (rated,), np.int64)
        values = carray(addresses[5], (rated,), number)
        found = carray(addresses[6], (rows, columns), number)
        loops.score_rows(header[4:6], z, rates, offsets, others, values, found)

    return entry


def _torch_team() -> Any:
    """Calls an entry, with its addresses, in some of the threads that torch's own operators run in; flags are 0.

    These often still spin for the next piece of work, on all processors: threads of the call's own would have to
    wait for one. None where torch has no OpenMP with GNU's entry points, as on Windows: then one thread does all.
    """
    try:
        begin = ctypes.CDLL(None).GOMP_parallel  # torch has its OpenMP's symbols known to all
    except (OSError, TypeError, AttributeError):
        return None
    begin.argtypes, begin.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return begin


TEAM = _torch_team()
