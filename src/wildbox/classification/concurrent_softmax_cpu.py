"""Concurrent softmax on the tensors of a CPU: the compiled loops, in torch's number of threads.

Letters: P proposals, K columns, z logits (P, K), r rates (K, K); both float32 or float64.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

import wildbox.classification.concurrent_softmax_loops as loops
from wildbox.classification.rates import SparseRates
from wildbox.classification.rule import check_finite, check_rows

WORK = 1 << 18
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
    if labels.ndim == 1 and bool(((labels < 0) | (labels >= columns)).any()):
        check_rows(z, labels)
    found, slopes = z.new_empty(rows), torch.empty_like(z, memory_format=torch.contiguous_format)
    competing = torch.empty(0, columns, dtype=torch.bool) if negatives is None else negatives
    logits, targets, weights, absent = (
        t.detach().contiguous().numpy() for t in (z, labels, rates, competing)
    )
    losses, gradient = found.numpy(), slopes.numpy()

    def work(first: int, last: int) -> int:
        part = targets[first:last]
        pairs = np.arange(len(part)) * columns + part if part.ndim == 1 else np.flatnonzero(part)
        pairs += first * columns
        return int(loops.loss_rows(logits, pairs, weights, absent, scale, losses, gradient, first, last))

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
    """Call `work(first, last)` on parts of the rows; whether one was at fault, which means not to return -1.

    Threads of the call's own: those of numba may be more than torch was told to use, and do not survive a fork.
    """
    parts = max(min(torch.get_num_threads(), rows * columns // WORK), 1)
    bounds = [rows * part // parts for part in range(parts + 1)]
    faults = [-1] * parts

    def run(part: int) -> None:
        faults[part] = work(bounds[part], bounds[part + 1])

    threads = [threading.Thread(target=run, args=(part,)) for part in range(1, parts)]
    for thread in threads:
        thread.start()
    run(0)
    for thread in threads:
        thread.join()
    return max(faults) >= 0
