"""Softmax, the baseline: all classes compete. Letters: P proposals, K columns, Y the labels of a proposal."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wildbox.classification.rule import Reduction, Targets, as_computed, membership, reduced


def softmax_loss(logits: Tensor, targets: Targets, *, reduction: Reduction = "mean") -> Tensor:
    """Cross-entropy against 1 / |Y| for each label of Y; with one label a proposal, the ordinary one.

    Args and errors as in `Rule.loss`.

    >>> import torch
    >>> softmax_loss(torch.zeros(1, 4), [[0, 1]])
    tensor(1.3863)
    """
    z = as_computed(logits)
    members = membership(z, targets).to(z)
    share = members / members.sum(dim=1, keepdim=True)
    return reduced(F.cross_entropy(z, share, reduction="none"), reduction)


def softmax_scores(logits: Tensor) -> Tensor:
    """Softmax over the K columns, (P, K).

    >>> import torch
    >>> softmax_scores(torch.zeros(1, 4))
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """
    return as_computed(logits).softmax(dim=1)


class Softmax(nn.Module):
    """`softmax_loss` and `softmax_scores` as a rule."""

    def loss(self, logits: Tensor, targets: Targets, *, reduction: Reduction = "mean") -> Tensor:
        """`softmax_loss`."""
        return softmax_loss(logits, targets, reduction=reduction)

    forward = loss

    def scores(self, logits: Tensor) -> Tensor:
        """`softmax_scores`."""
        return softmax_scores(logits)
