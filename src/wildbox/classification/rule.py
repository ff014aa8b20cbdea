"""What a classification rule is, and how the rules read logits and labels.

Letters: P proposals, K columns of the logits (C foreground classes, then the background where there is one),
z logits (P, K), y labels (P, K), Y the set of labels of one proposal.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from wildbox.errors import InputError


@runtime_checkable
class Rule(Protocol):
    """A loss to train logits with, and the scores to read them by.

    The rules of this package are `nn.Module`s, called like any criterion: `rule(logits, targets)` is the loss.
    """

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the P proposals, a scalar; 0, with a gradient of 0, where there are none.

        Args:
            logits: (P, K) floating; half and bfloat16 are computed in float32.
            targets: (P, K) multi-hot, at least one label a row, or (P,) int64, the one label of each.
        """
        ...

    def scores(self, logits: Tensor) -> Tensor:
        """Logits (P, K) -> scores (P, K) in [0, 1]."""
        ...


def as_computed(logits: Tensor) -> Tensor:
    """Logits (P, K) in the dtype that rules compute in: float64 stays, every other one becomes float32."""
    if logits.ndim != 2 or not logits.is_floating_point():
        raise InputError(f"logits: expected (P, K) floating, got {tuple(logits.shape)} {logits.dtype}")
    return logits if logits.dtype == torch.float64 else logits.float()


def membership(logits: Tensor, targets: Tensor) -> Tensor:
    """Whether each class is a label of each proposal, (P, K) bool.

    Args:
        logits: (P, K), for the shape.
        targets: (P, K) bool, or 0 and 1 in any other dtype; or (P,) int64.

    Raises:
        InputError: another shape, a value other than 0 and 1, a label outside the columns, a proposal
            without a label.

    >>> membership(torch.zeros(2, 3), torch.tensor([2, 0])).long().tolist()
    [[0, 0, 1], [1, 0, 0]]
    """
    rows, columns = logits.shape
    if targets.shape == (rows,) and targets.dtype == torch.int64:
        outside = (targets < 0) | (targets >= columns)
        if outside.any():
            row = _first(outside)
            raise InputError(f"targets: row {row} is {int(targets[row])}, expected 0..{columns - 1}")
        return torch.zeros_like(logits, dtype=torch.bool).scatter_(1, targets[:, None], True)
    if targets.shape != logits.shape:
        raise InputError(
            f"targets: expected ({rows}, {columns}) multi-hot or ({rows},) int64, "
            f"got {tuple(targets.shape)} {targets.dtype}"
        )
    members = targets.bool()
    if targets.dtype != torch.bool and (strange := (targets != members).any(dim=1)).any():
        raise InputError(f"targets: row {_first(strange)} has values other than 0 and 1")
    if (empty := ~members.any(dim=1)).any():
        raise InputError(
            f"targets: row {_first(empty)} has no label; a background proposal has the background's"
        )
    return members


def _first(rows: Tensor) -> int:
    return int(rows.nonzero()[0])
