"""Compiled loops in threads: a range in chunks, which loops that need no interpreter work off side by side.

There are as many threads as numba's own loops would have (the environment's NUMBA_NUM_THREADS; by default the cores of
this process), fewer for few rows of work; they stay for the next call. What is made of the results must not depend on
the chunks.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import pairwise
from threading import local
from typing import TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

import wildbox.loop_cache  # noqa: F401  # before the first loop

WORTH_A_THREAD = 20_000
"""Rows below which another thread costs more than it saves."""
EACH = 8
"""Chunks for each thread, since some take longer than others."""

Result = TypeVar("Result")
_here = local()
"""Of a thread that works for `at_once`: `is_one_of_many`."""


@lru_cache
def _helpers(threads: int) -> ThreadPoolExecutor:
    """Kept: each new thread would have memory of its own from the C library, which holds it when the thread is gone."""
    return ThreadPoolExecutor(threads)


os.register_at_fork(after_in_child=_helpers.cache_clear)  # a process that is forked has no thread but its own


def at_once(tasks: Sequence[Callable[[], Result]], *, threads: int | None = None) -> list[Result]:
    """Results of some tasks, in order; of several that fail, the first one's error.

    Several run in threads, this one among them, which start none of their own: those would only wait for each other. A
    single one runs here. After an error no further task begins.

    Args:
        threads: at most; default: as many as there may be.

    >>> at_once([lambda: 1, lambda: 2])
    [1, 2]
    """
    most = _most_threads()
    threads = min(most, most if threads is None else threads, len(tasks))
    if threads < 2:
        return [task() for task in tasks]
    results: dict[int, Result] = {}
    errors: dict[int, BaseException] = {}
    waiting = enumerate(tasks)  # each is taken once: no other thread has the interpreter meanwhile

    def work() -> None:
        _here.is_one_of_many = True
        for i, task in waiting:
            try:
                results[i] = task()
            except BaseException as error:  # raised below
                errors[i] = error
                deque(waiting, maxlen=0)  # nothing is left to take
        _here.is_one_of_many = False

    others = [_helpers(most - 1).submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        if not other.cancel():  # where all helpers are busy, this thread has done the work
            other.result()
    if errors:
        raise errors[min(errors)]
    return [results[i] for i in range(len(tasks))]


def in_chunks(task: Callable[[int, int], Result], size: int, *, rows: int, each: int = EACH) -> list[Result]:
    """Results of task(first, last) over 0..size, in order.

    Args:
        rows: of work, all together.
        each: chunks for each thread.

    >>> in_chunks(lambda first, last: last - first, 5, rows=5)
    [5]
    """
    threads = min(thread_count(rows), max(size, 1))
    chunks = min(each * threads, size) if threads > 1 else 1
    return _run(task, [size * i // chunks for i in range(chunks + 1)], threads)


def over_lists(task: Callable[[int, int], Result], offsets: NDArray[np.int64]) -> list[Result]:
    """Results of task(first, last) over L lists, in order; the chunks have about as many rows each.

    Args:
        offsets: (L + 1,) list l is rows offsets[l] to offsets[l + 1].

    >>> over_lists(lambda first, last: last - first, np.array([0, 3, 5]))
    [2]
    """
    lists, rows = len(offsets) - 1, int(offsets[-1] - offsets[0])
    threads = thread_count(rows)
    if threads == 1:
        return [task(0, lists)]
    goals = np.linspace(offsets[0], offsets[-1], EACH * threads + 1)[1:-1]
    return _run(task, np.unique([0, *np.searchsorted(offsets, goals), lists]).tolist(), threads)


def thread_count(rows: int) -> int:
    """Threads for so many rows of work."""
    return max(1, min(_most_threads(), rows // WORTH_A_THREAD))


def _most_threads() -> int:
    # numba.get_num_threads() would start numba's own threads, and set torch's number to theirs
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    return 1 if getattr(_here, "is_one_of_many", False) else most


def load_compiled() -> None:
    """Load what every compiled loop needs, a third of a second once: to be done while something waits for a disk."""
    _nothing()


@numba.njit(cache=True)
def _nothing() -> None:
    return


def _run(task: Callable[[int, int], Result], bounds: Sequence[int], threads: int) -> list[Result]:
    return at_once([partial(task, *ends) for ends in pairwise(bounds)], threads=threads)
