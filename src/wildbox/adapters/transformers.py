"""Hugging Face's DETR and its kin with a rule in place of the loss on the class head. transformers is not imported.

Letters: B images, Q queries, n objects of one image, C foreground classes, K = C + 1 columns, the last "no object".
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torchvision.ops import box_convert, generalized_box_iou, generalized_box_iou_loss

from wildbox.adapters.targets import check_columns, first_of_object, object_labels, with_background
from wildbox.classification.rule import Rule
from wildbox.errors import ConfigError, InputError

Model = TypeVar("Model", bound=nn.Module)
Labels = Sequence[Mapping[str, Tensor]]

KINDS = ("detr", "table-transformer", "yolos", "conditional_detr", "deformable_detr", "dab-detr")
"""`model_type` of the models whose loss is that of classes, L1 and GIoU after one matching a layer."""

NO_OBJECT = 0.1
"""Weight of a query without object, of DETR's paper (arXiv 2005.12872), where the config does not tell it."""


def use_rule(model: Model, rule: Rule, *, same_object_iou: float | None = 0.9) -> Model:
    """Train a `...ForObjectDetection` model of transformers by `rule`; its weights stay where they are.

    `model(pixel_values, labels=labels).loss` is then the rule's, with the weights of the config for the rest. Labels
    are as ever: for each image `class_labels` (n,) in 0..C-1 and `boxes` (n, 4), center, width and height relative to
    the image. Boxes that mark one object are matched as one, with all their labels (or `multi_hot` (n, C), where it is
    there). With `Softmax()` and one box an object, DETR's loss is what it was. Models with C columns (Conditional,
    Deformable and DAB-DETR) get the constant logit 0 for "no object". Read the results with `detections`: the image
    processor's own post-processing knows no rule.

    The rule stays out of the model's state dict: `save_pretrained` saves what it did before.

    Args:
        model: changed in place; its config's `num_labels` is C.
        rule: of K columns.
        same_object_iou: two boxes mark one object above this (strict); None: each is an object of its own.

    Returns:
        the model.

    Raises:
        ConfigError: another kind of model, or a rule of another number of columns.
    """
    config: Any = getattr(model, "config", None)
    kind = getattr(config, "model_type", None)
    if kind not in KINDS or not type(model).__name__.endswith("ForObjectDetection"):
        name, kinds = type(model).__name__, ", ".join(KINDS)
        raise ConfigError(f"{name} of type {kind!r}: expected a ...ForObjectDetection model of type {kinds}")
    check_columns(rule, model, config.num_labels + 1)
    model.loss_function = DetrLoss(rule, same_object_iou)  # type: ignore[assignment]
    return model


def detections(
    model: nn.Module,
    outputs: Any,
    *,
    threshold: float = 0.5,
    target_sizes: Sequence[tuple[int, int] | Tensor] | Tensor | None = None,
) -> list[dict[str, Tensor]]:
    """What a model with a rule found: every class of every query that the rule scores above the threshold.

    Args:
        model: that `use_rule` was called on, or what wraps it for several processes.
        outputs: of the model: `logits` (B, Q, C or K) and `pred_boxes` (B, Q, 4).
        threshold: scores above it (strict) are kept.
        target_sizes: B pairs (height, width) in pixels, numbers or tensors; None: boxes are relative to the image.

    Returns:
        for each image `scores` (D,), best first, `labels` (D,) in 0..C-1 and `boxes` (D, 4) x1 y1 x2 y2.

    Raises:
        ConfigError: a model without a rule. InputError: another number of sizes.
    """
    model = getattr(model, "module", model)  # of DistributedDataParallel
    loss = getattr(model, "loss_function", None)
    if not isinstance(loss, DetrLoss):
        raise ConfigError(f"{type(model).__name__} has no rule; call use_rule(model, rule) first")
    config: Any = model.config
    classes = config.num_labels
    boxes = box_convert(outputs.pred_boxes.float(), "cxcywh", "xyxy")
    if target_sizes is not None:
        if len(target_sizes) != len(boxes):
            raise InputError(
                f"target_sizes: expected one for each of {len(boxes)} images, got {len(target_sizes)}"
            )
        sizes = [torch.as_tensor(size) for size in target_sizes]  # pairs, or what `orig_size` holds
        height, width = torch.stack(sizes).to(boxes).unbind(1)
        boxes = boxes * torch.stack([width, height, width, height], dim=1)[:, None]
    found = []
    for logits, image in zip(outputs.logits, boxes, strict=True):
        scores = loss.scores(logits, classes)
        query, label = (scores > threshold).nonzero(as_tuple=True)
        score, order = scores[query, label].sort(descending=True, stable=True)
        found.append({"scores": score, "labels": label[order], "boxes": image[query[order]]})
    return found


@dataclass(frozen=True)
class DetrLoss:
    """The `loss_function` of a model, with transformers' arguments and results."""

    rule: Rule
    same_object_iou: float | None

    def __call__(
        self,
        logits: Tensor,
        labels: Labels,
        device: torch.device,
        pred_boxes: Tensor,
        config: Any,
        outputs_class: Tensor | None = None,
        outputs_coord: Tensor | None = None,
        **_: object,
    ) -> tuple[Tensor, dict[str, Tensor], list[dict[str, Tensor]] | None]:
        """The weighted sum, its parts, and the outputs of the layers before the last, where they are trained too."""
        layers, auxiliary = [(logits, pred_boxes, "")], None
        if config.auxiliary_loss and outputs_class is not None and outputs_coord is not None:
            before = list(zip(outputs_class[:-1], outputs_coord[:-1], strict=True))
            auxiliary = [{"logits": z, "pred_boxes": boxes} for z, boxes in before]
            layers += [(z, boxes, f"_{number}") for number, (z, boxes) in enumerate(before)]
        objects = [self._objects(image, config.num_labels) for image in labels]
        count = _mean_over_processes(sum(len(boxes) for boxes, _ in objects), logits.device)
        weights = {
            "loss_ce": getattr(config, "cls_loss_coefficient", 1),
            "loss_bbox": config.bbox_loss_coefficient,
            "loss_giou": config.giou_loss_coefficient,
        }
        losses: dict[str, Tensor] = {}
        total = logits.new_zeros(())
        for z, boxes, suffix in layers:
            for name, loss in self._of_layer(z, boxes, objects, config, count).items():
                losses[name + suffix] = loss
                total = total + weights[name] * loss
        return total, losses, auxiliary

    def scores(self, logits: Tensor, classes: int) -> Tensor:
        """(Q, C or K) -> (Q, C)."""
        return self.rule.scores(_wide(logits, classes))[:, :-1]

    def _objects(self, image: Mapping[str, Tensor], classes: int) -> tuple[Tensor, Tensor]:
        """Boxes (n, 4) of the objects of an image, as they came, and their labels (n, C)."""
        boxes = image["boxes"].float()
        corners = box_convert(boxes, "cxcywh", "xyxy")
        iou = self.same_object_iou
        members = object_labels(image, corners, image["class_labels"], classes=classes, iou=iou)
        first = first_of_object(corners, iou=iou)
        return boxes[first], members[first]

    def _of_layer(
        self, logits: Tensor, boxes: Tensor, objects: list[tuple[Tensor, Tensor]], config: Any, count: float
    ) -> dict[str, Tensor]:
        boxes = boxes.float()
        members = torch.zeros(*logits.shape[:2], config.num_labels, dtype=torch.bool, device=logits.device)
        chosen, goals = [], []
        for image, (goal, labels) in enumerate(objects):
            query, own = self._match(logits[image], boxes[image], goal, labels, config)
            members[image, query] = labels[own]
            chosen.append(boxes[image, query])
            goals.append(goal[own])
        box, goal = torch.cat(chosen), torch.cat(goals)
        corners = [box_convert(each, "cxcywh", "xyxy") for each in (box, goal)]
        return {
            "loss_ce": self._of_classes(logits.flatten(0, 1), members.flatten(0, 1), config),
            "loss_bbox": F.l1_loss(box, goal, reduction="sum") / count,
            "loss_giou": generalized_box_iou_loss(*corners, reduction="sum") / count,
        }

    def _of_classes(self, logits: Tensor, members: Tensor, config: Any) -> Tensor:
        """The mean over queries, those without an object weighing less, as in DETR."""
        labels = with_background(members)
        losses = self.rule.loss(_wide(logits, config.num_labels), labels, reduction="none")
        weights = torch.ones_like(losses)
        weights[labels[:, -1]] = getattr(config, "eos_coefficient", NO_OBJECT)
        return (weights * losses).sum() / weights.sum().clamp(min=1e-9)

    @torch.no_grad()
    def _match(
        self, logits: Tensor, boxes: Tensor, goal: Tensor, labels: Tensor, config: Any
    ) -> tuple[Tensor, Tensor]:
        """Queries and objects of one image, one to one, of least cost; an object's class is the mean of its labels."""
        members = labels.float()
        likely = (
            self.scores(logits, config.num_labels).float() @ (members / members.sum(dim=1, keepdim=True)).T
        )
        overlap = generalized_box_iou(*(box_convert(each, "cxcywh", "xyxy") for each in (boxes, goal)))
        cost = config.bbox_cost * torch.cdist(boxes, goal, p=1)
        cost = cost - config.class_cost * likely - config.giou_cost * overlap
        worst = torch.finfo(cost.dtype).max  # a broken query is matched last
        cost = cost.nan_to_num(nan=worst, posinf=worst, neginf=worst)
        # scipy is there wherever transformers trains a DETR
        assignment = importlib.import_module("scipy.optimize").linear_sum_assignment
        query, own = assignment(cost.cpu().numpy())
        return torch.as_tensor(query, device=boxes.device), torch.as_tensor(own, device=boxes.device)


def _wide(logits: Tensor, classes: int) -> Tensor:
    """(P, C or K) -> (P, K): a model without a column for "no object" gets the constant logit 0."""
    return F.pad(logits, (0, 1)) if logits.shape[-1] == classes else logits


def _mean_over_processes(objects: int, device: torch.device) -> float:
    """Objects a process, at least 1."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return max(float(objects), 1.0)
    count = torch.tensor(float(objects), device=device)
    distributed.all_reduce(count)
    return max(count.item() / distributed.get_world_size(), 1.0)
