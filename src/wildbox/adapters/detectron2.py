"""detectron2's R-CNN box predictors with a rule in place of softmax. detectron2 is not imported.

Letters: n boxes of one image, P proposals of all images, C foreground classes, K = C + 1 columns, the background last,
as detectron2 has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from wildbox.adapters.targets import check_columns, columns_of, given_labels, object_labels, own_labels
from wildbox.classification.rule import Rule
from wildbox.errors import ConfigError

Model = TypeVar("Model", bound=nn.Module)


def use_rule(model: Model, rule: Rule, *, implied: Tensor | None = None) -> Model:
    """Train and score an R-CNN of detectron2 by `rule`; its weights stay where they are.

    A proposal learns the labels in the field `gt_multi_hot` (n, C) of its image's Instances, where the data has it
    (`share_labels` in the mapper); else its own class and what that implies. In a Cascade R-CNN the field reaches the
    first stage alone, the others learn the own class.

    Args:
        model: with `roi_heads.box_predictor`, one or, in a cascade, several; or such a predictor. Changed in place.
        rule: of K columns. With buffers (concurrent softmax: the rates) it joins the state dict.
        implied: (C, C) bool, the classes (columns) that each class (row) also is, such as its ancestors.

    Returns:
        the model.

    Raises:
        ConfigError: no box predictor, or a rule of another number of columns.
    """
    predictor = getattr(getattr(model, "roi_heads", None), "box_predictor", model)
    for stage in predictor if isinstance(predictor, nn.ModuleList) else [predictor]:
        kind = type(stage)
        if not all(callable(getattr(stage, name, None)) for name in ("losses", "predict_probs")):
            raise ConfigError(
                f"{kind.__name__} is no box predictor of detectron2, nor has it roi_heads.box_predictor"
            )
        check_columns(rule, stage, columns_of(stage))
        if not isinstance(stage, RulePredictor):
            stage.__class__ = type(f"Rule{kind.__name__}", (RulePredictor, kind), {})
        stage.rule, stage.implied = rule, implied
    return model


def share_labels(instances: Any, *, classes: int, iou: float | None = 0.9) -> Any:
    """Give the Instances of an image `gt_multi_hot` (n, C): the labels of all boxes that mark the same object.

    Args:
        instances: with `gt_boxes` and `gt_classes`; changed in place.
        classes: C.
        iou: boxes mark one object above this (strict).

    Returns:
        the instances.
    """
    instances.gt_multi_hot = object_labels(
        {}, instances.gt_boxes.tensor, instances.gt_classes, classes=classes, iou=iou
    )
    return instances


class RulePredictor:
    """What a predictor of `FastRCNNOutputLayers`' interface does otherwise, to mix in before it.

    Its class has `rule`, and `implied` or None.
    """

    rule: Rule
    implied: Tensor | None = None

    def losses(self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Any]) -> dict[str, Tensor]:
        """The predictor's losses, that of the classes by the rule.

        The box is learnt for one label of each proposal, drawn at random: on average the mean over its labels, where
        detectron2 would always take the first of identical boxes.
        """
        logits = predictions[0]
        members = self._members(proposals, logits.shape[1] - 1).to(logits.device)
        own = [proposal.gt_classes for proposal in proposals]
        picked = torch.multinomial(members.float(), 1)[:, 0] if len(members) else members.new_zeros(0).long()
        try:
            for proposal, label in zip(proposals, picked.split([len(each) for each in own]), strict=True):
                proposal.gt_classes = label
            losses: dict[str, Tensor] = super().losses(predictions, proposals)  # type: ignore[misc]
        finally:
            for proposal, label in zip(proposals, own, strict=True):
                proposal.gt_classes = label
        weight = getattr(self, "loss_weight", {}).get("loss_cls", 1.0)
        return {**losses, "loss_cls": weight * self.rule.loss(logits, members)}

    def predict_probs(
        self, predictions: tuple[Tensor, Tensor], proposals: Sequence[Any]
    ) -> tuple[Tensor, ...]:
        """Scores (P_i, K) of the proposals of each image."""
        scores: tuple[Tensor, ...] = self.rule.scores(predictions[0]).split([len(each) for each in proposals])
        return scores

    def _members(self, proposals: Sequence[Any], classes: int) -> Tensor:
        rows = []
        for proposal in proposals:
            labels = own_labels(proposal.gt_classes, classes=classes, implied=self.implied)
            if proposal.has("gt_multi_hot"):
                foreground = proposal.gt_classes < classes
                given = proposal.gt_multi_hot[foreground]  # of the background, that of the nearest box
                labels[foreground, :classes] = given_labels(
                    given, "gt_multi_hot", boxes=len(given), classes=classes
                )
            rows.append(labels)
        return torch.cat(rows) if rows else torch.zeros(0, classes + 1, dtype=torch.bool)
