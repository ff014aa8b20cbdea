"""Ranges in chunks: each item once, in order, whatever the number of threads."""

from __future__ import annotations

import multiprocessing
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain

import numpy as np
import pytest

import wildbox.threads as threads_module
from wildbox.threads import at_once, in_chunks, over_lists, thread_count


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", request.param)
    monkeypatch.setattr(threads_module, "WORTH_A_THREAD", 3)
    return int(request.param)


@pytest.mark.parametrize("size", [0, 1, 2, 100])
def test_each_item_once_and_in_order(size: int, threads: int) -> None:
    parts = in_chunks(lambda first, last: list(range(first, last)), size, rows=10 * size)
    assert list(chain(*parts)) == list(range(size))


@pytest.mark.parametrize(
    "lengths", [[], [0, 0], [7], [1000, 1, 1, 1], [1, 0, 0, 1000], [2] * 50], ids=lambda x: f"{len(x)}"
)
def test_each_list_once_and_in_order(lengths: list[int], threads: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    parts = over_lists(lambda first, last: list(range(first, last)), offsets)
    assert list(chain(*parts)) == list(range(len(lengths)))


def test_work_is_shared_out_where_there_is_much_of_it(threads: int) -> None:
    met = threading.Barrier(threads, timeout=60)  # breaks unless as many tasks as threads run at once

    def task(first: int, last: int) -> int:
        return met.wait() * 0 + last - first

    assert sum(in_chunks(task, 5 * threads, rows=100, each=1)) == 5 * threads
    assert in_chunks(lambda first, last: last - first, 8, rows=2) == [8]  # not worth a thread


def test_tasks_at_once(threads: int) -> None:
    """In order, in as many threads as there may be, which start none of their own; a single task runs in this one."""
    met = threading.Barrier(threads, timeout=60)

    def task(number: int) -> tuple[int, int]:
        met.wait()
        return number, thread_count(100)

    inner = threads if threads == 1 else 1
    assert at_once([partial(task, i) for i in range(2 * threads)]) == [(i, inner) for i in range(2 * threads)]
    assert at_once([threading.current_thread]) == [threading.current_thread()]
    assert at_once([]) == []
    assert thread_count(100) == threads


def _sum_at_once() -> None:
    if at_once([partial(sum, [i]) for i in range(9)]) != list(range(9)):
        raise SystemExit(1)


def test_a_forked_process_has_threads_of_its_own(threads: int) -> None:
    """Those that were there before are not in it."""
    _sum_at_once()
    child = multiprocessing.get_context("fork").Process(target=_sum_at_once, daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads and forks
        child.start()
    child.join(60)
    assert child.exitcode == 0


def test_tasks_of_tasks_do_not_wait_for_each_other(threads: int) -> None:
    """Where each task of all threads has a thread of its own, which wants the same helpers."""

    def task() -> int:
        with ThreadPoolExecutor(1) as own:
            return own.submit(lambda: sum(at_once([lambda: 1] * 8))).result()

    assert at_once([task] * 4 * threads) == [8] * 4 * threads


def test_no_task_begins_after_an_error(threads: int) -> None:
    begun = []

    def fail(number: int) -> None:
        begun.append(number)
        raise ValueError(number)

    with pytest.raises(ValueError, match=r"^0$"):
        at_once([partial(fail, i) for i in range(100)])
    assert len(begun) <= threads


def test_the_first_of_several_errors(threads: int) -> None:
    def fail(number: int) -> None:
        raise ValueError(number)

    with pytest.raises(ValueError, match=r"^0$"):
        at_once([partial(fail, i) for i in range(5)])
