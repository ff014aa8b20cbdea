"""The public interfaces of libraries that do not install here, as small as their adapters need them.

Written from the documented interfaces, in place of the libraries: what their real classes do beyond is not tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Boxes:
    """detectron2.structures.Boxes."""

    tensor: Tensor


class Instances:
    """detectron2.structures.Instances: fields of equal length, set and read as attributes."""

    def __init__(self, image_size: tuple[int, int], **fields: Any) -> None:
        object.__setattr__(self, "image_size", image_size)
        object.__setattr__(self, "fields", dict(fields))

    def __setattr__(self, name: str, value: Any) -> None:
        self.fields[name] = value

    def __getattr__(self, name: str) -> Any:
        fields = object.__getattribute__(self, "fields")
        if name not in fields:
            raise AttributeError(name)
        return fields[name]

    def has(self, name: str) -> bool:
        return name in self.fields

    def __len__(self) -> int:
        value = next(iter(self.fields.values()))
        return len(value.tensor if isinstance(value, Boxes) else value)


class FastRCNNOutputLayers(nn.Module):
    """detectron2's box predictor: logits with the background last, deltas of each class."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.num_classes = classes
        self.cls_score = nn.Linear(features, classes + 1)
        self.bbox_pred = nn.Linear(features, 4 * classes)
        self.loss_weight = {"loss_cls": 2.0}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(x), self.bbox_pred(x)

    def losses(self, predictions: tuple[Tensor, Tensor], proposals: list[Any]) -> dict[str, Tensor]:
        logits, deltas = predictions
        classes = torch.cat([each.gt_classes for each in proposals])
        goal = torch.cat([each.gt_boxes.tensor - each.proposal_boxes.tensor for each in proposals])
        row = (classes < self.num_classes).nonzero()[:, 0]
        chosen = deltas.reshape(len(deltas), -1, 4)[row, classes[row]]
        losses = {
            "loss_cls": F.cross_entropy(logits, classes),
            "loss_box_reg": F.l1_loss(chosen, goal[row], reduction="sum") / max(len(classes), 1),
        }
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def predict_probs(self, predictions: tuple[Tensor, Tensor], proposals: list[Any]) -> tuple[Tensor, ...]:
        probabilities: tuple[Tensor, ...] = (
            predictions[0].softmax(-1).split([len(each) for each in proposals])
        )
        return probabilities


class BBoxHead(nn.Module):
    """MMDetection's box head, as far as it asks its `loss_cls`."""

    def __init__(self, features: int, num_classes: int, loss_cls: Any) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.loss_cls = loss_cls
        custom = getattr(loss_cls, "custom_cls_channels", False)
        channels = loss_cls.get_cls_channels(num_classes) if custom else num_classes + 1
        self.fc_cls = nn.Linear(features, channels)

    def loss(self, cls_score: Tensor, labels: Tensor, label_weights: Tensor) -> dict[str, Tensor]:
        count = max(float((label_weights > 0).sum()), 1.0)
        losses = {
            "loss_cls": self.loss_cls(
                cls_score, labels, label_weights, avg_factor=count, reduction_override=None
            )
        }
        if getattr(self.loss_cls, "custom_activation", False):
            losses |= self.loss_cls.get_accuracy(cls_score, labels)
        return losses

    def predict(self, cls_score: Tensor) -> Tensor:
        if getattr(self.loss_cls, "custom_cls_channels", False):
            scores: Tensor = self.loss_cls.get_activation(cls_score)
            return scores
        return cls_score.softmax(-1)
