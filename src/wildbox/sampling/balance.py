"""How often each class, or each image, should be drawn: pure functions of who holds what.

Letters: B images, C classes, N_i the number of images that hold class i, lambda the balance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wildbox.errors import ConfigError, InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]


def class_probabilities(images_per_class: ArrayLike, *, balance: float) -> Floats:
    """Probability of each class under soft-balance: p_s(i) ∝ p_a(i)^lambda p_n(i)^(1 - lambda).

    p_n(i) = N_i / Σ N is the frequency and p_a(i) = 1 / C' is even over the C' classes that occur.

    Args:
        images_per_class: (C,) N; a class that no image holds has probability 0.
        balance: lambda >= 0. 0 draws classes by frequency, 1 evenly (class-aware), above 1 favours the rare.

    Returns:
        (C,) summing to 1.

    Raises:
        ConfigError: lambda below 0 or not finite.
        InputError: a count below 0 or not finite, or no class that occurs.

    Source: Peng et al., CVPR 2020, soft-balance sampling.

    >>> class_probabilities([90, 10, 0], balance=1).tolist()
    [0.5, 0.5, 0.0]
    """
    if not (np.isfinite(balance) and balance >= 0):
        raise ConfigError(f"balance (lambda) is {balance}, expected a number of at least 0")
    counts = np.asarray(images_per_class, np.float64)
    if not (np.isfinite(counts) & (counts >= 0)).all():
        raise InputError("images per class: expected counts of at least 0")
    if not counts.any():
        raise InputError("images per class: no class occurs in any image")
    occurs = counts > 0
    # in logarithms, since N^(1 - lambda) overflows; the constants p_a^lambda and 1 / Σ N cancel
    logs = np.where(occurs, (1 - balance) * np.log(np.where(occurs, counts, 1)), -np.inf)
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


def repeat_factors(offsets: ArrayLike, labels: ArrayLike, *, threshold: float = 0.001) -> Floats:
    """How often an epoch repeats each image: the largest max(1, sqrt(t / f_i)) of the classes i it holds.

    Args:
        offsets: (B + 1,) CSR: the classes of image b are labels[offsets[b]:offsets[b + 1]]; repeats count once.
        labels: (sum,) class indices.
        threshold: t; classes on a smaller share f of the images than this are repeated.

    Returns:
        (B,) of at least 1; 1 for an image without labels.

    Source: Gupta et al., "LVIS", CVPR 2019 (arXiv 1908.03195), repeat factor sampling.

    >>> repeat_factors([0, 1, 2, 3, 4], [0, 0, 0, 1], threshold=1.0).round(2).tolist()
    [1.15, 1.15, 1.15, 2.0]
    """
    if not (np.isfinite(threshold) and threshold >= 0):
        raise ConfigError(f"threshold is {threshold}, expected a share of images of at least 0")
    first, image = images_by_class(offsets, labels)
    counts, images = np.diff(first), len(np.asarray(offsets)) - 1
    factors = np.maximum(1.0, np.sqrt(threshold * images / np.maximum(counts, 1)))
    largest = np.ones(images)
    np.maximum.at(largest, image, np.repeat(factors, counts))
    return largest


def images_by_class(offsets: ArrayLike, labels: ArrayLike) -> tuple[Ints, Ints]:
    """Turn the classes of images into the images of classes.

    Args:
        offsets: (B + 1,) CSR: the classes of image b are labels[offsets[b]:offsets[b + 1]]; repeats count once.
        labels: (sum,) class indices.

    Returns:
        (C + 1,) offsets and image indices, ascending within a class; C is one more than the largest label.

    Raises:
        InputError: offsets that do not ascend from 0 to len(labels), or a label below 0.

    >>> [column.tolist() for column in images_by_class([0, 2, 3], [1, 1, 0])]
    [[0, 1, 2], [1, 0]]
    """
    start, label = np.asarray(offsets, np.int64), np.asarray(labels, np.int64)
    if len(start) == 0 or start[0] != 0 or start[-1] != len(label) or (np.diff(start) < 0).any():
        raise InputError(f"offsets: expected to ascend from 0 to {len(label)}, the number of labels")
    if (label < 0).any():
        raise InputError(f"labels: entry {int(np.argmax(label < 0))} is {label.min()}, expected at least 0")
    classes = int(label.max()) + 1 if len(label) else 0
    if classes <= 1 << 16:
        label = label.astype(np.uint16)  # numpy sorts it by digits, ten times faster
    order = np.argsort(label, kind="stable")
    image = np.repeat(np.arange(len(start) - 1, dtype=np.int32), np.diff(start))[order]
    label = label[order]
    again = (label[1:] == label[:-1]) & (image[1:] == image[:-1])
    keep = np.concatenate([np.ones(min(len(label), 1), bool), ~again])
    counts = np.bincount(label[keep], minlength=classes)
    return np.concatenate([[0], np.cumsum(counts)]), image[keep]
