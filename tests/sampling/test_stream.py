"""The stream of draws against its definition, one draw at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wildbox.errors import ConfigError
from wildbox.sampling import class_probabilities, to_csr
from wildbox.sampling.stream import BLOCK, DrawStream, blocks

HOLDINGS = [[0], [0, 1], [2], [0, 2, 2], [], [4, 0], [4]]
BALANCED, PASSES = 1, 0


def generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def draw(n: int, *, seed: int, balance: float | None) -> int:
    """The definition, literally."""
    if balance is None:
        order = generator(seed, PASSES, n // len(HOLDINGS)).permutation(len(HOLDINGS))
        return int(order[n % len(HOLDINGS)])
    held = [[image for image, labels in enumerate(HOLDINGS) if label in labels] for label in range(5)]
    uniform = generator(seed, BALANCED, n // BLOCK).random((BLOCK, 2))[n % BLOCK]
    below = 0.0
    for label, probability in enumerate(
        class_probabilities([len(images) for images in held], balance=balance)
    ):
        below += probability
        if uniform[0] < below:
            return held[label][int(uniform[1] * len(held[label]))]
    raise AssertionError("the probabilities do not reach 1")


def schedule(n: int) -> float | None:
    return None if n % 5 == 0 else float(n % 3)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 5 * BLOCK),
    st.integers(0, 30),
    st.integers(1, 2 * BLOCK),
    st.integers(0, 3),
    st.sampled_from([None, 0.0, 0.7, 2.0, schedule]),
)
def test_every_draw_is_as_defined(start: int, count: int, step: int, seed: int, balance: Any) -> None:
    found = DrawStream(*to_csr(HOLDINGS), seed=seed, balance=balance).draws(
        start, start + count * step, step=step
    )
    numbers = range(start, start + count * step, step)
    expected = [draw(n, seed=seed, balance=balance(n) if callable(balance) else balance) for n in numbers]
    assert found.tolist() == expected


@given(st.integers(0, 3 * BLOCK), st.integers(-5, 3 * BLOCK), st.integers(1, 2 * BLOCK))
def test_blocks_are_a_partition(start: int, count: int, step: int) -> None:
    numbers = range(start, start + count, step)
    parts = list(blocks(numbers))
    assert [n for part in parts for n in part] == list(numbers)
    assert all(len({n // BLOCK for n in part}) == 1 for part in parts)


def test_refuses_numbers_before_the_first() -> None:
    stream = DrawStream(*to_csr(HOLDINGS), seed=0, balance=1.0)
    with pytest.raises(ConfigError, match="draws from -1"):
        stream.draws(-1, 3)
    with pytest.raises(ConfigError, match="by 0"):
        stream.draws(0, 3, step=0)
