"""Focal loss: the sigmoid's, with less weight on what is easy.

Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017 (arXiv 1708.02002), equation 5 and its
best setting, alpha 0.25 and gamma 2. Letters: P proposals, C foreground classes, K = C + 1 columns, p_t the
probability of what is true.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wildbox.classification.rule import Targets, as_computed, membership
from wildbox.errors import ConfigError


class Focal(nn.Module):
    """-alpha_t (1 - p_t)^gamma log p_t of each foreground class, summed over classes.

    The last column is the background, as in `Sigmoid`. The paper divides by the number of positives instead
    of that of proposals.

    Args:
        alpha: weight of positives, in [0, 1]; negatives have 1 - alpha.
        gamma: at least 0; 0 gives half the sigmoid's loss where alpha is 0.5.

    >>> import torch
    >>> Focal().loss(torch.zeros(1, 2), torch.tensor([0]))
    tensor(0.0433)
    """

    def __init__(self, *, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        if not (0 <= alpha <= 1 and 0 <= gamma < float("inf")):
            raise ConfigError(f"alpha = {alpha}, gamma = {gamma}: expected alpha in [0, 1], gamma >= 0")
        self.alpha, self.gamma = alpha, gamma

    def loss(self, logits: Tensor, targets: Targets) -> Tensor:
        """Mean over proposals; arguments as in `Rule.loss`."""
        z = as_computed(logits)[:, :-1]
        y = membership(logits, targets)[:, :-1].to(z)
        towards = z * (2 * y - 1)  # p_t = sigmoid(towards)
        easy = (self.gamma * F.logsigmoid(-towards)).exp()
        weight = self.alpha * y + (1 - self.alpha) * (1 - y)
        return (weight * easy * -F.logsigmoid(towards)).sum() / max(len(z), 1)

    forward = loss

    def scores(self, logits: Tensor) -> Tensor:
        """Sigmoid of the foreground columns; 0 for the background."""
        return F.pad(as_computed(logits)[:, :-1].sigmoid(), (0, 1))
