"""Loaders that keep the state of their sampler themselves, as torchdata's StatefulDataLoader."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from wildbox.sampling import BalancedSampler, DistributedBalancedSampler, to_csr

OFFSETS, LABELS = to_csr([[0]] * 14 + [[0, 1]] * 5 + [[2]])


def balanced() -> BalancedSampler:
    return BalancedSampler(OFFSETS, LABELS, seed=0, balance=0.7, length=20)


def dropin() -> DistributedBalancedSampler:
    return DistributedBalancedSampler(OFFSETS, LABELS, balance=0.7)


class StatefulLoader:
    """What torchdata 0.11 calls of a sampler, in its order; with workers (`ahead` batches) it fetches at once."""

    def __init__(self, sampler: Any, *, ahead: int, drop_last: bool) -> None:
        self.sampler, self.ahead, self.drop_last = sampler, ahead, drop_last
        self.restored: dict[str, Any] | None = None
        self.finished = False

    def __iter__(self) -> Iterator[list[int]]:
        self.begin()
        if self.restored is not None:
            self.sampler.load_state_dict(self.restored["sampler"])
            self.begin()
            if self.restored["iterator"] is not None:
                self.iterator.load_state_dict(self.restored["iterator"])
            self.fetch(self.ahead)
            if self.restored["finished"]:
                self.begin()
        self.restored, self.finished = None, False
        self.fetch(self.ahead - len(self.fetched))
        while True:
            self.fetch(1)
            if not self.fetched:
                break
            batch, self.taken = self.fetched.popleft()
            yield batch
        self.finished = True

    def begin(self) -> None:
        self.iterator = iter(self.sampler)
        self.fetched: deque[tuple[list[int], dict[str, Any]]] = deque()

    def fetch(self, batches: int) -> None:
        for _ in range(batches):
            batch = list(islice(self.iterator, 3))
            if len(batch) == 3 or (batch and not self.drop_last):
                self.fetched.append((batch, self.now()))

    def now(self) -> dict[str, Any]:
        stateful = hasattr(self.iterator, "state_dict")
        return {
            "sampler": self.sampler.state_dict(),
            "iterator": self.iterator.state_dict() if stateful else None,
        }

    def state_dict(self) -> dict[str, Any]:
        return {**(self.taken if self.ahead else self.now()), "finished": self.finished}


def epoch(loader: StatefulLoader, number: int) -> Iterator[list[int]]:
    if isinstance(loader.sampler, DistributedBalancedSampler):
        loader.sampler.set_epoch(number)
    return iter(loader)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("ahead", [0, 4])
@pytest.mark.parametrize("make", [balanced, dropin])
def test_a_state_of_any_step_or_after_an_epoch_resumes(make: Any, ahead: int, drop_last: bool) -> None:
    whole = StatefulLoader(make(), ahead=ahead, drop_last=drop_last)
    seen: list[list[int]] = []
    states = []
    for number in range(3):
        for batch in epoch(whole, number):
            seen.append(batch)
            states.append((number, len(seen), json.dumps(whole.state_dict())))
        states.append((number + 1, len(seen), json.dumps(whole.state_dict())))
    assert len(seen) == 3 * (6 if drop_last else 7)
    for first, trained, state in states:
        again = StatefulLoader(make(), ahead=ahead, drop_last=drop_last)
        again.restored = json.loads(state)
        rest = [batch for number in range(first, 3) for batch in epoch(again, number)]
        assert rest == seen[trained:], (first, trained, state)


def test_an_older_state_goes_back_where_no_other_epoch_was_just_named() -> None:
    sampler = dropin()
    for draws in (5, 20):
        sampler.set_epoch(3)
        assert len(list(islice(sampler, draws))) == draws
        sampler.load_state_dict({"seed": 0, "epoch": 1, "draw": 18})
        assert sampler.state_dict() == {"seed": 0, "epoch": 1, "draw": 18}
        assert list(sampler) == balanced().draws(38, 40).tolist()
    sampler.load_state_dict({"seed": 0, "epoch": 3, "draw": 0})
    sampler.load_state_dict({"seed": 0, "epoch": 2, "draw": 18})
    assert list(sampler) == balanced().draws(58, 60).tolist()


def test_the_state_before_the_first_draw_is_that_of_the_beginning() -> None:
    sampler = dropin()
    assert len(list(sampler)) == 20
    iter(sampler)
    assert sampler.state_dict()["draw"] == 0
