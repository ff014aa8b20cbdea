"""Focal loss: the sigmoid's, with less weight on what is easy.

Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017 (arXiv 1708.02002), equation 5 and its
best setting, alpha 0.25 and gamma 2. Letters: P proposals, C foreground classes, K = C + 1 columns, p_t the
probability of what is true.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wildbox.classification.rule import Reduction, Targets, as_computed, membership, reduced
from wildbox.classification.sigmoid import sigmoid_scores
from wildbox.errors import ConfigError


def focal_loss(
    logits: Tensor,
    targets: Targets,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """-alpha_t (1 - p_t)^gamma log p_t of each foreground class, summed over classes.

    The last column is the background, as in `sigmoid_loss`. The paper divides by the number of positives instead
    of that of proposals.

    Args:
        alpha: weight of positives, in [0, 1]; negatives have 1 - alpha.
        gamma: at least 0; 0 gives half the sigmoid's loss where alpha is 0.5.

    >>> import torch
    >>> focal_loss(torch.zeros(1, 2), [[0]])
    tensor(0.0433)
    """
    _check(alpha, gamma)
    z = as_computed(logits)
    y = membership(z, targets)[:, :-1].to(z)
    towards = z[:, :-1] * (2 * y - 1)  # p_t = sigmoid(towards)
    easy = (gamma * F.logsigmoid(-towards)).exp()
    weight = alpha * y + (1 - alpha) * (1 - y)
    return reduced((weight * easy * -F.logsigmoid(towards)).sum(dim=1), reduction)


focal_scores = sigmoid_scores


class Focal(nn.Module):
    """`focal_loss` and the sigmoid's scores as a rule.

    Args:
        alpha, gamma: as in `focal_loss`.
    """

    def __init__(self, *, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        _check(alpha, gamma)
        self.alpha, self.gamma = alpha, gamma

    def loss(self, logits: Tensor, targets: Targets, *, reduction: Reduction = "mean") -> Tensor:
        """`focal_loss`."""
        return focal_loss(logits, targets, alpha=self.alpha, gamma=self.gamma, reduction=reduction)

    forward = loss

    def scores(self, logits: Tensor) -> Tensor:
        """`sigmoid_scores`."""
        return sigmoid_scores(logits)


def _check(alpha: float, gamma: float) -> None:
    if not (0 <= alpha <= 1 and 0 <= gamma < float("inf")):
        raise ConfigError(f"alpha = {alpha}, gamma = {gamma}: expected alpha in [0, 1], gamma >= 0")
