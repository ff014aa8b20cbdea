"""Sigmoid: every class is a question of its own. Letters: P proposals, C foreground classes, K = C + 1."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wildbox.classification.rule import Targets, as_computed, membership


class Sigmoid(nn.Module):
    """Binary cross-entropy of each foreground class, summed over classes.

    The last column is the background: it has no part in the loss, and its score is 0. A proposal is background
    by being none of the classes.

    >>> import torch
    >>> Sigmoid().scores(torch.zeros(1, 3))
    tensor([[0.5000, 0.5000, 0.0000]])
    """

    def loss(self, logits: Tensor, targets: Targets) -> Tensor:
        """Mean over proposals; arguments as in `Rule.loss`."""
        z = as_computed(logits)
        y = membership(z, targets)[:, :-1].to(z)
        return F.binary_cross_entropy_with_logits(z[:, :-1], y, reduction="sum") / max(len(z), 1)

    forward = loss

    def scores(self, logits: Tensor) -> Tensor:
        """Sigmoid of the foreground columns; 0 for the background."""
        return F.pad(as_computed(logits)[:, :-1].sigmoid(), (0, 1))
