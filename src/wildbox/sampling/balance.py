"""How often each class, or each image, should be drawn: pure functions of who holds what.

Letters: B images, C classes, E entries (image, class), N_i the number of images that hold class i, lambda the
balance.
"""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from wildbox.annotations import Floats
from wildbox.errors import ConfigError, InputError
from wildbox.sampling.holdings import images_by_class


def class_probabilities(images_per_class: ArrayLike, *, balance: float) -> Floats:
    """Probability of each class under soft-balance: p_s(i) ∝ p_a(i)^lambda p_n(i)^(1 - lambda).

    p_n(i) = N_i / Σ N is the frequency and p_a(i) = 1 / C' is even over the C' classes that occur.

    A class that no image holds has probability 0 and is not among the C': it cannot be drawn, so it is no error.

    Args:
        images_per_class: (C,) N.
        balance: lambda >= 0. 0 draws classes by frequency, 1 evenly (class-aware), above 1 favours the rare.

    Returns:
        (C,) summing to 1.

    Raises:
        ConfigError: lambda below 0 or not finite.
        InputError: not one row of counts, a count below 0 or not finite, or no class that occurs.

    Source: Peng et al., CVPR 2020, soft-balance sampling.

    >>> class_probabilities([90, 10, 0], balance=1).tolist()
    [0.5, 0.5, 0.0]
    """
    check_balance(balance)
    counts = np.asarray(images_per_class, np.float64)
    if counts.ndim != 1:
        raise InputError(f"images per class: expected (C,), got {counts.shape}")
    if (wrong := ~(np.isfinite(counts) & (counts >= 0))).any():
        label = int(np.argmax(wrong))
        raise InputError(
            f"images per class: class {label} has {counts[label]}, expected a count of at least 0"
        )
    if not counts.any():
        raise InputError("images per class: no class occurs in any image")
    occurs = counts > 0
    # in logarithms, since N^(1 - lambda) overflows; the constants p_a^lambda and 1 / Σ N cancel
    logs = np.where(occurs, (1 - balance) * np.log(np.where(occurs, counts, 1)), -np.inf)
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


def check_balance(balance: float) -> None:
    """`ConfigError` where lambda is no number of at least 0."""
    # float first: a schedule asks for each draw, and to ask an abstract class takes as long as all the rest of it
    if not (isinstance(balance, (float, Real)) and 0 <= balance < np.inf):
        raise ConfigError(f"balance (lambda) is {balance!r}, expected a number of at least 0")


def image_weights(
    offsets: ArrayLike, labels: ArrayLike, *, balance: float, classes: int | None = None
) -> Floats:
    """Probability of each image in one draw of soft-balance: Σ p_s(i) / N_i over the classes i that it holds.

    As weights of `torch.utils.data.WeightedRandomSampler` they give the frequencies of `BalancedSampler`, without
    its shards and its resuming.

    Args:
        offsets: (B + 1,) CSR: the classes of image b are labels[offsets[b]:offsets[b + 1]]; repeats count once.
        labels: (E,) class indices.
        balance: lambda >= 0, as in `class_probabilities`.
        classes: C, to refuse labels beyond; None: one more than the largest label.

    Returns:
        (B,) summing to 1; 0 for an image without labels.

    Raises:
        ConfigError, InputError: as `class_probabilities` and `images_by_class`.

    >>> image_weights([0, 1, 2, 4], [0, 0, 0, 1], balance=1).round(3).tolist()
    [0.167, 0.167, 0.667]
    """
    first, image = images_by_class(offsets, labels, classes=classes)
    counts, images = np.diff(first), len(np.asarray(offsets)) - 1
    each = class_probabilities(counts, balance=balance) / np.maximum(counts, 1)
    return np.asarray(np.bincount(image, np.repeat(each, counts), minlength=images), np.float64)


def repeat_factors(
    offsets: ArrayLike, labels: ArrayLike, *, threshold: float = 0.001, classes: int | None = None
) -> Floats:
    """How often an epoch repeats each image: the largest max(1, sqrt(t / f_i)) of the classes i it holds.

    Args:
        offsets: (B + 1,) CSR: the classes of image b are labels[offsets[b]:offsets[b + 1]]; repeats count once.
        labels: (E,) class indices.
        threshold: t; classes on a smaller share f of the images than this are repeated.
        classes: C, to refuse labels beyond; None: one more than the largest label.

    Returns:
        (B,) of at least 1; 1 for an image without labels.

    Source: Gupta et al., "LVIS", CVPR 2019 (arXiv 1908.03195), repeat factor sampling.

    >>> repeat_factors([0, 1, 2, 3, 4], [0, 0, 0, 1], threshold=1.0).round(2).tolist()
    [1.15, 1.15, 1.15, 2.0]
    """
    if not (np.isfinite(threshold) and threshold >= 0):
        raise ConfigError(f"threshold is {threshold}, expected a share of images of at least 0")
    first, image = images_by_class(offsets, labels, classes=classes)
    counts, images = np.diff(first), len(np.asarray(offsets)) - 1
    factors = np.maximum(1.0, np.sqrt(threshold * images / np.maximum(counts, 1)))
    largest = np.ones(images)
    np.maximum.at(largest, image, np.repeat(factors, counts))
    return largest
