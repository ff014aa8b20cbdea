"""Sigmoid: every class is a question of its own. Letters: P proposals, C foreground classes, K = C + 1."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wildbox.classification.rule import Reduction, Targets, as_computed, membership, reduced


def sigmoid_loss(logits: Tensor, targets: Targets, *, reduction: Reduction = "mean") -> Tensor:
    """Binary cross-entropy of each foreground class, summed over classes.

    The last column is the background: it has no part in the loss. A proposal is background by being none of the
    classes. Args and errors as in `Rule.loss`.

    >>> import torch
    >>> sigmoid_loss(torch.zeros(1, 3), [[0]])
    tensor(1.3863)
    """
    z = as_computed(logits)
    y = membership(z, targets)[:, :-1].to(z)
    losses = F.binary_cross_entropy_with_logits(z[:, :-1], y, reduction="none")
    return reduced(losses.sum(dim=1), reduction)


def sigmoid_scores(logits: Tensor) -> Tensor:
    """Sigmoid of the foreground columns; 0 for the background. (P, K).

    >>> import torch
    >>> sigmoid_scores(torch.zeros(1, 3))
    tensor([[0.5000, 0.5000, 0.0000]])
    """
    return F.pad(as_computed(logits)[:, :-1].sigmoid(), (0, 1))


class Sigmoid(nn.Module):
    """`sigmoid_loss` and `sigmoid_scores` as a rule."""

    def loss(self, logits: Tensor, targets: Targets, *, reduction: Reduction = "mean") -> Tensor:
        """`sigmoid_loss`."""
        return sigmoid_loss(logits, targets, reduction=reduction)

    forward = loss

    def scores(self, logits: Tensor) -> Tensor:
        """`sigmoid_scores`."""
        return sigmoid_scores(logits)
