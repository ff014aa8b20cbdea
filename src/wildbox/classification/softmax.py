"""Softmax, the baseline: all classes compete. Letters: P proposals, K columns, Y the labels of a proposal."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wildbox.classification.rule import Targets, as_computed, membership


class Softmax(nn.Module):
    """Cross-entropy against 1 / |Y| for each label of Y; with one label a proposal, the ordinary one.

    >>> import torch
    >>> Softmax().loss(torch.zeros(1, 4), torch.tensor([[1, 1, 0, 0]]))
    tensor(1.3863)
    """

    def loss(self, logits: Tensor, targets: Targets) -> Tensor:
        """Mean over proposals; arguments as in `Rule.loss`."""
        z = as_computed(logits)
        members = membership(z, targets).to(z)
        share = members / members.sum(dim=1, keepdim=True)
        return F.cross_entropy(z, share, reduction="sum") / max(len(z), 1)

    forward = loss

    def scores(self, logits: Tensor) -> Tensor:
        """Softmax over the K columns."""
        return as_computed(logits).softmax(dim=1)
