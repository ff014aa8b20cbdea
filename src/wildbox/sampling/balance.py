"""How often each class, or each image, should be drawn (METHOD section 5): pure functions of counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wildbox.errors import ConfigError, InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def class_probabilities(images_per_class: ArrayLike, *, balance: float) -> Floats:
    """Probability of drawing each class: p_s(i) ~ p_a(i)^lambda p_n(i)^(1 - lambda), over classes that occur.

    Args:
        images_per_class: (C,) number of images that hold each class; 0 gives probability 0.
        balance: lambda >= 0. 0 draws classes by frequency, 1 evenly (class-aware), above 1 favours the rare.
    Returns:
        (C,) summing to 1.
    Raises:
        ConfigError: lambda below 0 or not finite. InputError: no class occurs, or a count below 0.
    Source: Peng et al., CVPR 2020, eq. 8.

    >>> class_probabilities([90, 10, 0], balance=1).tolist()
    [0.5, 0.5, 0.0]
    """
    if not (np.isfinite(balance) and balance >= 0):
        raise ConfigError(f"balance (lambda) is {balance}, expected a number of at least 0")
    counts = np.asarray(images_per_class, np.float64)
    if (counts < 0).any() or not (counts > 0).any():
        raise InputError("expected counts of at least 0, and one class that occurs")
    # in logarithms, with the constants p_a^lambda and 1 / sum N cancelled: N^(1 - lambda) would overflow
    logs = np.full(len(counts), -np.inf)
    np.log(counts, out=logs, where=counts > 0)
    powers = np.where(counts > 0, (1 - balance) * np.where(counts > 0, logs, 0), -np.inf)
    weights = np.exp(powers - powers.max())
    return np.asarray(weights / weights.sum())


def repeat_factors(offsets: ArrayLike, labels: ArrayLike, *, threshold: float = 0.001) -> Floats:
    """How often an epoch repeats each image: max over its classes of max(1, sqrt(t / f)).

    Args:
        offsets: (B + 1,) CSR: the classes of image b are labels[offsets[b]:offsets[b + 1]], without repeats.
        labels: (sum,) class indices.
        threshold: t; classes on a smaller share f of the images than this are repeated.
    Returns:
        (B,) of at least 1; 1 for an image without labels.
    Source: Gupta et al., "LVIS", CVPR 2019, section 5.2.

    >>> repeat_factors([0, 1, 2, 3, 4], [0, 0, 0, 1], threshold=1.0).round(2).tolist()
    [1.15, 1.15, 1.15, 2.0]
    """
    start, label = np.asarray(offsets, np.int64), np.asarray(labels, np.int64)
    images = len(start) - 1
    share = np.bincount(label) / max(images, 1)
    factor = np.maximum(1.0, np.sqrt(threshold / np.maximum(share, 1e-300)))
    result = np.ones(images)
    np.maximum.at(result, np.repeat(np.arange(images), np.diff(start)), factor[label])
    return result
