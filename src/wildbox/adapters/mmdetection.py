"""MMDetection's box heads with a rule as their `loss_cls`. mmdet is not imported.

Letters: P proposals, C foreground classes, K = C + 1 columns, the background last, as MMDetection has it.
"""

from __future__ import annotations

from torch import Tensor, nn

from wildbox.adapters.targets import own_labels
from wildbox.classification.rule import Rule
from wildbox.errors import ConfigError, InputError


class RuleLoss(nn.Module):
    """What a box head asks of `loss_cls`: the loss, the columns, the scores, the accuracy.

    Set it on a built model, whose classifier keeps its weights: `head.loss_cls = RuleLoss(rule)`, or register it and
    name it in a config. MMDetection knows one label a box; what else that means (a hierarchy's ancestors) stands in
    `implied`. Of several boxes of one object its assigner takes the first: other labels than implied ones are lost.

    Args:
        rule: of K columns.
        implied: (C, C) bool, the classes (columns) that each class (row) also is.
        loss_weight: at least 0.

    >>> import torch
    >>> from wildbox.classification import Softmax
    >>> RuleLoss(Softmax())(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor(1.3863)
    """

    custom_cls_channels = True
    custom_activation = True
    custom_accuracy = True

    implied: Tensor | None

    def __init__(self, rule: Rule, *, implied: Tensor | None = None, loss_weight: float = 1.0) -> None:
        super().__init__()
        if not loss_weight >= 0:
            raise ConfigError(f"loss_weight is {loss_weight}, expected at least 0")
        self.rule, self.loss_weight = rule, loss_weight
        self.register_buffer("implied", implied, persistent=False)

    def forward(
        self,
        cls_score: Tensor,
        labels: Tensor,
        label_weights: Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Sum of the weighted losses over `avg_factor`.

        Args:
            cls_score: (P, K) logits.
            labels: (P,) int64 in 0..C, C is the background; or (P, K) multi-hot.
            label_weights: (P,) at least 0; None: 1 each.
            avg_factor: None: P.
            reduction_override: None or "mean".
        """
        if reduction_override not in (None, "mean"):
            raise ConfigError(f"reduction_override is {reduction_override!r}, expected None or 'mean'")
        columns = cls_score.shape[1]
        members = (
            own_labels(labels, classes=columns - 1, implied=self.implied) if labels.ndim == 1 else labels
        )
        if members.shape != cls_score.shape:
            raise InputError(f"labels: expected (P,) or {tuple(cls_score.shape)}, got {tuple(labels.shape)}")
        if label_weights is None:
            label_weights = cls_score.new_ones(len(cls_score))
        if (wrong := label_weights[~(label_weights >= 0)]).numel():
            raise InputError(f"label_weights: one is {float(wrong[0])}, expected at least 0")
        rows = label_weights > 0
        losses = self.rule.loss(cls_score[rows], members[rows], reduction="none")
        total = (label_weights[rows] * losses).sum()
        count = len(cls_score) if avg_factor is None else avg_factor
        return self.loss_weight * total / max(count, 1e-9)

    def get_cls_channels(self, num_classes: int) -> int:
        """K of C."""
        return num_classes + 1

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Scores (P, K)."""
        return self.rule.scores(cls_score)

    def get_accuracy(self, cls_score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Percent of proposals whose best column is one of their labels, for the log."""
        members = labels
        if labels.ndim == 1:
            members = own_labels(labels, classes=cls_score.shape[1] - 1, implied=self.implied)
        best = cls_score.argmax(dim=1, keepdim=True)
        return {"acc": members.gather(1, best).float().sum() * 100 / max(len(cls_score), 1)}
