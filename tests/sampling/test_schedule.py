"""The hybrid schedule at its ends and between."""

from __future__ import annotations

import pytest

from wildbox.errors import ConfigError
from wildbox.sampling import hybrid_balance


@pytest.mark.parametrize(("start", "balanced"), [(0, 10), (0.25, 8), (0.5, 5), (0.7, 3), (0.9, 1), (1, 0)])
def test_the_last_steps_are_balanced(start: float, balanced: int) -> None:
    found = [hybrid_balance(step, steps=10, start=start, balance=0.7) for step in range(10)]
    assert found == [None] * (10 - balanced) + [0.7] * balanced


def test_steps_beyond_the_last_are_as_the_last() -> None:
    assert hybrid_balance(99, steps=10, start=0.9, balance=0) == 0
    assert hybrid_balance(99, steps=10, start=1, balance=0.7) is None


@pytest.mark.parametrize("start", [-0.1, 1.1, float("nan")])
def test_start_must_be_a_share(start: float) -> None:
    with pytest.raises(ConfigError, match=r"expected a share of the steps in \[0, 1\]"):
        hybrid_balance(0, steps=10, start=start, balance=0.7)


@pytest.mark.parametrize(("step", "steps"), [(-1, 10), (0, -1)])
def test_steps_are_counted_from_0(step: int, steps: int) -> None:
    with pytest.raises(ConfigError, match="expected none below 0"):
        hybrid_balance(step, steps=steps, start=0.5, balance=0.7)


def test_refuses_a_lambda_below_0_before_it_is_its_turn() -> None:
    with pytest.raises(ConfigError, match="balance"):
        hybrid_balance(0, steps=10, start=0.5, balance=-0.7)


def test_the_switching_step_is_rounded() -> None:
    """0.29 * 100 is 28.999999999999996."""
    told = [hybrid_balance(step, steps=100, start=0.29, balance=1.0) for step in (28, 29)]
    assert told == [None, 1.0]
