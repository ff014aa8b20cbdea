"""Equalization loss: the sigmoid's, in which the objects of other classes do not push rare classes down.

    L = Σ_j w_j BCE(z_j, y_j),   w_j = 1 - E T(f_j) (1 - y_j)

E is 1 for a foreground proposal, 0 for background; T(f) is 1 where f is below a threshold: a rare class then
learns from its own objects and from background alone. Source: Tan et al., "Equalization Loss for Long-Tailed
Object Recognition", CVPR 2020 (arXiv 2003.05176). Letters: P proposals, C foreground classes,
K = C + 1 columns, f_j the share of the training images that hold class j.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from wildbox.classification.rule import (
    Reduction,
    Targets,
    as_computed,
    check_foreground,
    check_frequencies,
    check_not_negative,
    membership,
    reduced,
)
from wildbox.classification.sigmoid import sigmoid_scores
from wildbox.errors import ConfigError

THRESHOLD = 1.76e-3
"""The paper's lambda, for LVIS 0.5."""


def equalization_loss(
    logits: Tensor,
    targets: Targets,
    *,
    frequencies: Tensor,
    threshold: float = THRESHOLD,
    reduction: Reduction = "mean",
) -> Tensor:
    """Binary cross-entropy of each foreground class, without other classes' objects for the rare ones.

    The last column is the background, as in `sigmoid_loss`; args and errors else as in `Rule.loss`.

    Args:
        frequencies: (C,) share of the training images that hold each class.
        threshold: classes with a smaller frequency are rare.

    >>> import torch
    >>> equalization_loss(torch.zeros(1, 3), [[0]], frequencies=torch.tensor([0.5, 0.001]))
    tensor(0.6931)
    """
    _check(threshold)
    z = as_computed(logits)
    check_foreground(z, frequencies, "frequencies")
    check_not_negative(frequencies, "frequencies")
    y = membership(z, targets)[:, :-1].to(z)
    foreground = y.amax(dim=1, keepdim=True) if y.shape[1] else y
    rare = (frequencies < threshold).to(z)
    weight = 1 - foreground * rare * (1 - y)
    losses = F.binary_cross_entropy_with_logits(z[:, :-1], y, weight, reduction="none")
    return reduced(losses.sum(dim=1), reduction)


equalization_scores = sigmoid_scores


class Equalization(nn.Module):
    """`equalization_loss` and the sigmoid's scores as a rule; the frequencies are a buffer.

    Args:
        frequencies, threshold: as in `equalization_loss`.

    Raises:
        InputError: frequencies that are not (C,) in [0, 1].

    >>> import torch
    >>> Equalization([0.5, 0.001])(torch.zeros(1, 3), [[0]])
    tensor(0.6931)
    """

    frequencies: Tensor

    def __init__(self, frequencies: Tensor | ArrayLike, *, threshold: float = THRESHOLD) -> None:
        super().__init__()
        _check(threshold)
        self.threshold = threshold
        self.register_buffer("frequencies", check_frequencies(frequencies))

    def loss(self, logits: Tensor, targets: Targets, *, reduction: Reduction = "mean") -> Tensor:
        """`equalization_loss`."""
        return equalization_loss(
            logits, targets, frequencies=self.frequencies, threshold=self.threshold, reduction=reduction
        )

    forward = loss

    def scores(self, logits: Tensor) -> Tensor:
        """`sigmoid_scores`."""
        return sigmoid_scores(logits)


def _check(threshold: float) -> None:
    if not 0 <= threshold < math.inf:
        raise ConfigError(f"threshold = {threshold}, expected a share of images of at least 0")
