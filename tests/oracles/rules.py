"""The rules beside concurrent softmax, word for word, in plain Python floats: one proposal, one class at a time.

Letters: z logits (P, K), y multi-hot labels (P, K), the last column the background. Each gives (P,) losses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Row = Sequence[float]
Matrix = Sequence[Row]
Mask = Sequence[Sequence[bool]]


def softmax(z: Matrix, y: Mask) -> list[float]:
    result = []
    for row, labels in zip(z, y, strict=True):
        own = [i for i, label in enumerate(labels) if label]
        p = _softmax(row)
        result.append(-sum(math.log(p[i]) for i in own) / len(own))
    return result


def sigmoid(z: Matrix, y: Mask) -> list[float]:
    return equalization(z, y, [1.0] * (len(z[0]) - 1), threshold=0.0)


def focal(z: Matrix, y: Mask, *, alpha: float, gamma: float) -> list[float]:
    result = []
    for row, labels in zip(z, y, strict=True):
        total = 0.0
        for value, label in list(zip(row, labels, strict=True))[:-1]:
            p = _sigmoid(value)
            p_t, alpha_t = (p, alpha) if label else (1 - p, 1 - alpha)
            total += -alpha_t * (1 - p_t) ** gamma * math.log(p_t)
        result.append(total)
    return result


def equalization(z: Matrix, y: Mask, frequencies: Row, *, threshold: float) -> list[float]:
    result = []
    for row, labels in zip(z, y, strict=True):
        e = 1 if any(labels[:-1]) else 0
        total = 0.0
        for j, f in enumerate(frequencies):
            t = 1 if f < threshold else 0
            weight = 1 - e * t * (1 - int(labels[j]))
            p = _sigmoid(row[j])
            total += -weight * math.log(p if labels[j] else 1 - p)
        result.append(total)
    return result


def seesaw(z: Matrix, y: Mask, counts: Row, *, p: float, q: float) -> list[float]:
    result = []
    for row, labels in zip(z, y, strict=True):
        background = _sigmoid(row[-1])
        own = [i for i, label in enumerate(labels[:-1]) if label]
        total = -math.log(1 - background if own else background)
        sigma = _softmax(row[:-1])
        for i in own:
            denominator = math.exp(row[i])
            for j in range(len(counts)):
                if j == i:
                    continue
                m = (counts[j] / counts[i]) ** p if counts[i] > counts[j] else 1
                c = (sigma[j] / sigma[i]) ** q if sigma[j] > sigma[i] else 1
                denominator += m * c * math.exp(row[j])
            total += -math.log(math.exp(row[i]) / denominator) / len(own)
        result.append(total)
    return result


def federated(z: Matrix, y: Mask, classes: Sequence[bool]) -> list[float]:
    result = []
    for row, labels in zip(z, y, strict=True):
        chosen = [j for j, is_chosen in enumerate(classes) if is_chosen]
        p = [_sigmoid(value) for value in row]
        result.append(-sum(math.log(p[j] if labels[j] else 1 - p[j]) for j in chosen))
    return result


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def _softmax(row: Row) -> list[float]:
    e = [math.exp(value) for value in row]
    return [value / sum(e) for value in e]
