"""Concurrent softmax, word for word, in decimal numbers of 60 digits and any exponent: nothing is shifted.

Letters: P proposals, K columns, z logits (P, K), y multi-hot labels (P, K), r rates (K, K), n (P, K) which classes
are known to be absent: the others leave the denominators.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext

Matrix = Sequence[Sequence[float]]
Mask = Sequence[Sequence[bool]]


def losses(z: Matrix, y: Mask, r: Matrix, n: Mask | None = None) -> list[float]:
    """(P,) the loss of each proposal: -log σ*_i, summed over its labels i."""
    with localcontext() as context:
        context.prec = 60
        result = []
        for row, labels, spared in zip(z, y, _spared(y, n), strict=True):
            e = _exponentials(row)
            denominators = _denominators(e, labels, spared, r).items()
            result.append(float(sum((-(e[i] / d).ln() for i, d in denominators), Decimal(0))))
        return result


def gradients(z: Matrix, y: Mask, r: Matrix, n: Mask | None = None) -> list[list[float]]:
    """(P, K) derivative of each proposal's loss with respect to its logits, in closed form."""
    with localcontext() as context:
        context.prec = 60
        result = []
        for row, labels, spared in zip(z, y, _spared(y, n), strict=True):
            e = _exponentials(row)
            slope = [Decimal(0)] * len(row)
            for i, d in _denominators(e, labels, spared, r).items():
                slope[i] += e[i] / d - 1
                for k in range(len(row)):
                    if not spared[k]:
                        slope[k] += (1 - Decimal(r[i][k])) * e[k] / d
            result.append([float(value) for value in slope])
        return result


def scores(z: Matrix, r: Matrix) -> list[list[float]]:
    """(P, K) σ+_i of every class."""
    with localcontext() as context:
        context.prec = 60
        result = []
        for row in z:
            e = _exponentials(row)
            single = [_only(i, row) for i in range(len(row))]
            result.append([float(e[i] / _denominators(e, only, only, r)[i]) for i, only in enumerate(single)])
        return result


def _exponentials(row: Sequence[float]) -> list[Decimal]:
    return [Decimal(value).exp() for value in row]


def _only(i: int, row: Sequence[float]) -> list[bool]:
    return [j == i for j in range(len(row))]


def _spared(y: Mask, n: Mask | None) -> list[list[bool]]:
    """Who does not compete: the labels, and what is not known to be absent."""
    absent = [[True] * len(row) for row in y] if n is None else n
    return [[a or not b for a, b in zip(*rows, strict=True)] for rows in zip(y, absent, strict=True)]


def _denominators(
    e: Sequence[Decimal], labels: Sequence[bool], spared: Sequence[bool], r: Matrix
) -> dict[int, Decimal]:
    """For each label i: Σ over j that are not spared, j != i, of (1 - r_ij) exp(z_j), plus exp(z_i)."""
    columns = range(len(e))
    return {
        i: sum(((1 - Decimal(r[i][j])) * e[j] for j in columns if not spared[j] and j != i), e[i])
        for i in columns
        if labels[i]
    }
