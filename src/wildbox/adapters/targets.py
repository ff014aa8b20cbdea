"""Truth as other libraries have it, one label a box, turned into the rows of labels that rules take.

Letters: n boxes of one image, P proposals or queries, C foreground classes, K = C + 1 columns, the background last.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_iou

from wildbox.classification.rule import Rule
from wildbox.errors import ConfigError, InputError


def object_labels(
    target: Mapping[str, Tensor], boxes: Tensor, labels: Tensor, *, classes: int, iou: float | None = 0.9
) -> Tensor:
    """The labels of the object that each box marks, where an object with several labels is several boxes.

    Args:
        target: where it has `multi_hot` (n, C), that is the result.
        boxes: (n, 4) x1 y1 x2 y2.
        labels: (n,) integers in 0..C-1.
        classes: C.
        iou: boxes mark one object above this (strict); None: each box is an object of its own.

    Returns:
        (n, C) bool, for each box the labels of all boxes that mark its object.

    Raises:
        InputError: a label outside 0..C-1, `multi_hot` as `given_labels` refuses it.

    >>> object_labels({}, torch.tensor([[0, 0, 8, 8.0]] * 2), torch.tensor([0, 2]), classes=3).long().tolist()
    [[1, 0, 1], [1, 0, 1]]
    """
    check_labels(labels, first=0, last=classes - 1)
    if (given := target.get("multi_hot")) is not None:
        return given_labels(given, "multi_hot", boxes=len(labels), classes=classes)
    own = F.one_hot(labels.long(), classes)
    if iou is None or len(labels) == 0:
        return own.bool()
    same = (box_iou(boxes, boxes) > iou).float()
    same.fill_diagonal_(1)  # a box without area too is its own
    return torch.gt(same @ own.float(), 0)


def given_labels(given: Tensor, name: str, *, boxes: int, classes: int) -> Tensor:
    """The labels that the data gives its boxes, (n, C) multi-hot in any dtype, as bool.

    Raises:
        InputError: another shape, a value other than 0 and 1, a box without a label.

    >>> given_labels(torch.tensor([[1, 0], [1, 1]]), "multi_hot", boxes=2, classes=2).tolist()
    [[True, False], [True, True]]
    """
    if given.shape != (boxes, classes):
        raise InputError(f"{name}: expected ({boxes}, {classes}), got {tuple(given.shape)}")
    members = given.bool()
    if (strange := (given != members).any(dim=1)).any():
        raise InputError(f"{name}: row {int(strange.nonzero()[0])} has values other than 0 and 1")
    if (empty := ~members.any(dim=1)).any():
        raise InputError(f"{name}: row {int(empty.nonzero()[0])} has no label, expected at least one a box")
    return members


def first_of_object(boxes: Tensor, *, iou: float | None = 0.9) -> Tensor:
    """(n,) bool: boxes that mark no object which an earlier one of these already does.

    >>> first_of_object(torch.tensor([[0, 0, 8, 8.0], [0, 0, 8, 8.0], [5, 5, 9, 9.0]])).tolist()
    [True, False, True]
    """
    first: list[int] = []
    if iou is None:
        first = list(range(len(boxes)))
    else:
        for box, others in enumerate((box_iou(boxes, boxes) > iou).tolist()):
            if not any(others[i] for i in first):
                first.append(box)
    chosen = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    chosen[first] = True
    return chosen


def with_background(multi_hot: Tensor) -> Tensor:
    """(P, C) -> (P, C + 1) bool: rows without a label get the background's.

    >>> with_background(torch.tensor([[1, 0], [0, 0]])).long().tolist()
    [[1, 0, 0], [0, 0, 1]]
    """
    members = multi_hot.bool()
    return torch.cat([members, ~members.any(dim=1, keepdim=True)], dim=1)


def own_labels(labels: Tensor, *, classes: int, implied: Tensor | None = None) -> Tensor:
    """One label a proposal as a row of labels.

    Args:
        labels: (P,) int64 in 0..C, C is the background.
        classes: C.
        implied: (C, C) bool, the classes (columns) that each class (row) also is, such as its ancestors.

    Returns:
        (P, C + 1) bool.

    >>> own_labels(torch.tensor([0, 2]), classes=2, implied=torch.tensor([[0, 1], [0, 0]])).long().tolist()
    [[1, 1, 0], [0, 0, 1]]
    """
    check_labels(labels, first=0, last=classes)
    sets = torch.eye(classes + 1, dtype=torch.bool, device=labels.device)
    if implied is not None:
        if implied.shape != (classes, classes):
            raise InputError(f"implied: expected ({classes}, {classes}), got {tuple(implied.shape)}")
        sets[:classes, :classes] |= implied.bool().to(labels.device)
    return sets[labels]


def check_labels(labels: Tensor, *, first: int, last: int) -> None:
    """`InputError` where a label (n,) lies outside first..last."""
    if (outside := (labels < first) | (labels > last)).any():
        box = int(outside.nonzero()[0])
        raise InputError(f"labels: box {box} of an image has {int(labels[box])}, expected {first}..{last}")


def check_columns(rule: Rule, model: nn.Module, columns: int | None) -> None:
    """`ConfigError` where the rule is none, or of another number of classes than a model of that many columns.

    Args:
        columns: None where the model does not tell: the first loss will, as where the rule has no values yet.
    """
    # isinstance(rule, Rule) would not see what a module's __getattr__ gives
    answers = all(callable(getattr(rule, name, None)) for name in ("loss", "scores"))
    if isinstance(rule, type) or not answers:
        told = rule.__name__ if isinstance(rule, type) else f"a {type(rule).__name__}"
        raise ConfigError(f"rule: expected one such as ConcurrentSoftmax(rates), got {told}")
    if columns is None or (isinstance(rule, nn.Module) and any(values.is_meta for values in rule.buffers())):
        return
    device = next((p.device for p in model.parameters() if not p.is_meta), torch.device("cpu"))
    try:
        with torch.no_grad():
            rule.scores(torch.zeros(1, columns, device=device))
    except InputError as error:
        raise ConfigError(
            f"the model has {columns} columns with the background; the rule: {error}"
        ) from error


def columns_of(predictor: object) -> int | None:
    """Outputs of the classifier of a torchvision or detectron2 box predictor, where it is an ordinary one."""
    columns = getattr(getattr(predictor, "cls_score", None), "out_features", None)
    return columns if isinstance(columns, int) else None
