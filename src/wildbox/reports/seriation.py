"""The order of rows and columns in which a matrix is readable. Letters: C classes."""

from __future__ import annotations

import numpy as np

from wildbox.annotations import Floats, Ints

MAX_NAMES = 60
"""More names than that are not readable along one axis."""


def concurring_order(rates: Floats, *, limit: int = MAX_NAMES) -> Ints:
    """The classes that concur with another, at most the `limit` strongest, those that concur side by side.

    The strength of a class is the sum of its rates in both directions. The order walks from the strongest
    class to the one it concurs with most, deep first, so that every group of concurring classes is a block.

    >>> concurring_order(np.array([[0, 0, 0.9], [0, 0, 0], [0.1, 0, 0]])).tolist()
    [0, 2]
    """
    bond = np.asarray(rates, np.float64) + np.asarray(rates, np.float64).T
    strength = bond.sum(axis=1)
    ranked = np.argsort(-strength, kind="stable")[:limit]
    ranked = ranked[strength[ranked] > 0]
    kept = {int(i) for i in ranked}
    order: list[int] = []
    stack = [int(i) for i in ranked[::-1]]
    while stack:
        node = stack.pop()
        if node in kept:
            kept.remove(node)
            order.append(node)
            stack += [int(i) for i in np.argsort(bond[node], kind="stable") if bond[node, i] > 0]
    return np.array(order, np.int64)
