"""Seesaw loss: softmax in which a class pushes rarer ones less, and ones it is confused with more.

    L = -log( exp(z_i) / (Σ_{j ≠ i} S_ij exp(z_j) + exp(z_i)) ),   S_ij = M_ij C_ij
    M_ij = min(1, N_j / N_i)^p     mitigation, N_i the labels of class i seen so far
    C_ij = max(1, σ_j / σ_i)^q     compensation, σ the softmax of the logits, without a gradient

Source: Wang et al., "Seesaw Loss for Long-Tailed Instance Segmentation", CVPR 2021 (arXiv 2008.10032),
with its settings p = 0.8 and q = 2. The classes compete among foreground proposals; whether there is an
object is a question of its own (the paper's objectness branch), here asked by the last column. The paper's
normalised linear layer belongs to the network, not to the loss. Letters: P proposals, C foreground classes,
K = C + 1 columns, M pairs (foreground proposal, label).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wildbox.classification.rule import (
    Reduction,
    Targets,
    as_computed,
    check_foreground,
    check_not_negative,
    membership,
    reduced,
)
from wildbox.errors import ConfigError, InputError


def seesaw_loss(
    logits: Tensor,
    targets: Targets,
    *,
    counts: Tensor,
    mitigation: float = 0.8,
    compensation: float = 2.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Seesaw loss of foreground proposals, and binary cross-entropy of the last column, the background, of all.

    A proposal with several labels has the mean of their losses (the paper has one label; ours).

    Args:
        counts: (C,) N, at least 0; counts below 1 stand for 1.
        mitigation, compensation: the exponents p and q, at least 0; both 0 give softmax.

    >>> import torch
    >>> seesaw_loss(torch.zeros(1, 3), [[0]], counts=torch.tensor([100, 1]))
    tensor(0.7180)
    """
    _check(mitigation, compensation)
    z = as_computed(logits)
    check_foreground(z, counts, "counts")
    check_not_negative(counts, "counts")
    members = membership(z, targets)
    y, classes = members[:, :-1], z[:, :-1]
    background = F.binary_cross_entropy_with_logits(z[:, -1], (~y.any(dim=1)).to(z), reduction="none")
    proposal, label = y.nonzero(as_tuple=True)
    rows, own = classes[proposal], classes[proposal, label]
    seen = counts.clamp(min=1).to(z).log()
    # log S; that σ_j / σ_i is exp(z_j - z_i) keeps it finite
    log_s = mitigation * (seen - seen[label, None]).clamp(max=0)
    log_s = log_s + compensation * (rows - own[:, None]).detach().clamp(min=0)
    each = (rows + log_s).logsumexp(dim=1) - own
    share = each / y.sum(dim=1).to(z)[proposal]
    return reduced(background.index_add(0, proposal, share), reduction)


def seesaw_scores(logits: Tensor) -> Tensor:
    """Softmax over the foreground columns times the probability of an object; (P, K), the last that of none.

    >>> seesaw_scores(torch.zeros(1, 3))
    tensor([[0.2500, 0.2500, 0.5000]])
    """
    z = as_computed(logits)
    background = z[:, -1:]
    return torch.cat([z[:, :-1].softmax(dim=1) * (-background).sigmoid(), background.sigmoid()], dim=1)


class Seesaw(nn.Module):
    """`seesaw_loss` and `seesaw_scores` as a rule that counts the labels it is shown in training mode.

    The counts are a buffer, so a checkpoint holds them. Each process of a distributed run counts what it is shown
    itself; DistributedDataParallel, which sends buffers from rank 0 before each forward unless
    `broadcast_buffers=False`, has all count from there on. What computes a forward twice, such as
    `torch.utils.checkpoint`, counts twice.

    Args:
        classes: C.
        mitigation, compensation: as in `seesaw_loss`.

    >>> rule = Seesaw(classes=2)
    >>> _ = rule.loss(torch.zeros(2, 3), [[0], [2]])
    >>> rule.counts.tolist()
    [1, 0]
    """

    counts: Tensor

    def __init__(self, classes: int, *, mitigation: float = 0.8, compensation: float = 2.0) -> None:
        super().__init__()
        _check(mitigation, compensation)
        if classes < 1:
            raise InputError(f"classes = {classes}, expected at least 1")
        self.mitigation, self.compensation = mitigation, compensation
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.int64))

    def loss(self, logits: Tensor, targets: Targets, *, reduction: Reduction = "mean") -> Tensor:
        """`seesaw_loss`, after the labels were counted."""
        check_foreground(logits, self.counts, "classes")
        members = membership(logits, targets)
        if self.training:
            self.counts += members[:, :-1].sum(dim=0).to(self.counts)
        return seesaw_loss(
            logits,
            members,
            counts=self.counts,
            mitigation=self.mitigation,
            compensation=self.compensation,
            reduction=reduction,
        )

    forward = loss

    def scores(self, logits: Tensor) -> Tensor:
        """`seesaw_scores`."""
        return seesaw_scores(logits)


def _check(mitigation: float, compensation: float) -> None:
    for name, value in (("mitigation", mitigation), ("compensation", compensation)):
        if not 0 <= value < math.inf:
            raise ConfigError(f"{name} = {value}, expected at least 0")
