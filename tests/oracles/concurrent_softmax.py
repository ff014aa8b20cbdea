"""Concurrent softmax, word for word, in decimal numbers of 60 digits and any exponent: nothing is shifted.

Letters: P proposals, K columns, z logits (P, K), y multi-hot labels (P, K), r rates (K, K).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext

Matrix = Sequence[Sequence[float]]


def losses(z: Matrix, y: Sequence[Sequence[bool]], r: Matrix) -> list[float]:
    """(P,) the loss of each proposal: -log σ*_i, summed over its labels i."""
    with localcontext() as context:
        context.prec = 60
        rows = zip(z, y, strict=True)
        return [
            float(sum((-(e[i] / d).ln() for i, d in _denominators(e, labels, r).items()), Decimal(0)))
            for e, labels in ((_exponentials(row), labels) for row, labels in rows)
        ]


def gradients(z: Matrix, y: Sequence[Sequence[bool]], r: Matrix) -> list[list[float]]:
    """(P, K) derivative of each proposal's loss with respect to its logits, in closed form."""
    with localcontext() as context:
        context.prec = 60
        result = []
        for row, labels in zip(z, y, strict=True):
            e = _exponentials(row)
            slope = [Decimal(0)] * len(row)
            for i, d in _denominators(e, labels, r).items():
                slope[i] += e[i] / d - 1
                for k in range(len(row)):
                    if not labels[k]:
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
            result.append([float(e[i] / _denominators(e, _only(i, row), r)[i]) for i in range(len(row))])
        return result


def _exponentials(row: Sequence[float]) -> list[Decimal]:
    return [Decimal(value).exp() for value in row]


def _only(i: int, row: Sequence[float]) -> list[bool]:
    return [j == i for j in range(len(row))]


def _denominators(e: Sequence[Decimal], labels: Sequence[bool], r: Matrix) -> dict[int, Decimal]:
    """For each label i: Σ over j that are no label, j != i, of (1 - r_ij) exp(z_j), plus exp(z_i)."""
    columns = range(len(e))
    return {
        i: sum(((1 - Decimal(r[i][j])) * e[j] for j in columns if not labels[j] and j != i), e[i])
        for i in columns
        if labels[i]
    }
