"""Hybrid training: the first steps see the data as it is, the last are balanced."""

from __future__ import annotations

from wildbox.errors import ConfigError
from wildbox.sampling.balance import check_balance


def hybrid_balance(step: int, *, steps: int, start: float, balance: float) -> float | None:
    """lambda of a step, or None for non-balance.

    Args:
        step: 0-based, of `steps`; later ones are as the last.
        start: share of the steps in [0, 1] that run non-balanced before; 0 balances all, 1 none.
        balance: lambda of the rest.

    Raises:
        ConfigError: `start` outside [0, 1], lambda below 0, or a step or number of steps below 0.

    >>> [hybrid_balance(s, steps=10, start=0.6, balance=0.7) for s in (0, 5, 6, 9)]
    [None, None, 0.7, 0.7]
    """
    if not 0 <= start <= 1:
        raise ConfigError(f"start is {start}, expected a share of the steps in [0, 1]")
    check_balance(balance)
    if step < 0 or steps < 0:
        raise ConfigError(f"step is {step} of {steps}, expected none below 0")
    return balance if start < 1 and step >= round(start * steps) else None
