"""Concurrent softmax on the tensors of a CPU: the compiled loops, in torch's number of threads.

Letters: P proposals, K columns, z logits (P, K), r rates (K, K); both float32 or float64.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

import wildbox.classification.concurrent_softmax_loops as loops
from wildbox.classification.rates import SparseRates
from wildbox.classification.rule import check_finite, check_rows

WORK = 1 << 16
"""Logits that are worth a thread."""


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
    rows, columns = z.shape
    found, slopes = z.new_empty(rows), torch.empty_like(z, memory_format=torch.contiguous_format)
    competing = torch.empty(0, columns, dtype=torch.bool) if negatives is None else negatives
    logits, targets, weights, absent = (
        t.detach().contiguous().numpy() for t in (z, labels, rates, competing)
    )
    losses, gradient = found.numpy(), slopes.numpy()

    def work(first: int, last: int) -> int:
        return int(loops.loss_rows(logits, targets, weights, absent, scale, losses, gradient, first, last))

    if _in_threads(rows, columns, work):
        check_rows(z, labels)
    return found, slopes


def scores(z: Tensor, rates: Tensor, sparse: SparseRates) -> Tensor:
    """(P, K) σ+ of every class.

    Raises:
        InputError: a logit that is not finite; the row is named.
    """
    found = torch.empty_like(z, memory_format=torch.contiguous_format)
    logits, weights, offsets, others, values = (t.detach().contiguous().numpy() for t in (z, rates, *sparse))
    result = found.numpy()

    def work(first: int, last: int) -> int:
        return int(loops.score_rows(logits, weights, offsets, others, values, result, first, last))

    if _in_threads(len(z), z.shape[1], work):
        check_finite(z)
    return found


def _in_threads(rows: int, columns: int, work: Callable[[int, int], int]) -> bool:
    """Call `work(first, last)` on parts of the rows; whether one was at fault, which means not to return -1."""
    parts = max(min(torch.get_num_threads(), rows * columns // WORK), 1)
    bounds = [rows * part // parts for part in range(parts + 1)]
    faults: list[int | None] = [None] * parts

    def run(part: int) -> None:
        faults[part] = work(bounds[part], bounds[part + 1])

    if parts > 1 and TEAM is not None:
        TEAM(run, parts)
    for part in range(parts):
        if faults[part] is None:  # all of them where there is no team, those of threads that it did not get
            run(part)
    return any(fault != -1 for fault in faults)


def _torch_team() -> Callable[[Callable[[int], None], int], None] | None:
    """What runs a function of the thread's number in the threads that torch's own operators run in.

    These often still spin for the next piece of work, on all processors: threads of the call's own would have to
    wait for one. None where torch has no OpenMP with GNU's entry points, as on Windows: then one thread does all.
    """
    try:
        library = ctypes.CDLL(None)  # torch has its OpenMP's symbols known to all
        begin, number = library.GOMP_parallel, library.omp_get_thread_num
    except (OSError, TypeError, AttributeError):
        return None
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

    def team(run: Callable[[int], None], threads: int) -> None:
        begin(kind(lambda _: run(number())), None, ctypes.c_uint(threads), ctypes.c_uint(0))

    return team


TEAM = _torch_team()
