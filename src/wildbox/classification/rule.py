"""What a classification rule is, and how the rules read logits and labels.

Letters: P proposals, K columns of the logits (C foreground classes, then the background where there is one),
z logits (P, K), y labels (P, K), Y the set of labels of one proposal.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from wildbox.errors import ConfigError, InputError

Reduction = Literal["mean", "sum", "none"]
"""Over the P proposals; "none" leaves (P,)."""

Targets: TypeAlias = Tensor | Sequence[Sequence[int]]
"""(P, K) multi-hot: bool, or 0 and 1 in any other dtype; (P,) int64, the one label of each; or the list of the
labels of each."""

COMPUTED = (torch.float32, torch.float64)
"""What rules compute in."""


@runtime_checkable
class Rule(Protocol):
    """A loss to train logits with, and the scores to read them by.

    The rules of this package are `nn.Module`s, called like any criterion: `rule(logits, targets)` is the loss.
    """

    def loss(self, logits: Tensor, targets: Targets, *, reduction: Reduction = "mean") -> Tensor:
        """Mean over the P proposals, a scalar; 0, with a gradient of 0, where there are none.

        Args:
            logits: (P, K) floating and finite; half and bfloat16 are computed in float32.
            targets: (P, K) multi-hot, (P,) int64, or a list of lists; at least one label a proposal.
            reduction: "sum", or "none" for (P,), to weigh proposals.
        """
        ...

    def scores(self, logits: Tensor) -> Tensor:
        """Logits (P, K) -> scores (P, K) in [0, 1]."""
        ...


def as_computed(logits: Tensor) -> Tensor:
    """Logits (P, K) in the dtype that rules compute in: float64 stays, every other one becomes float32."""
    check_logits(logits)
    return computed(logits)


def computed(logits: Tensor) -> Tensor:
    """`as_computed`, of logits that were looked at already."""
    return logits if logits.dtype in COMPUTED else logits.float()


def check_logits(logits: Tensor) -> None:
    """`InputError` where they are not (P, K) floating."""
    if not isinstance(logits, Tensor):
        raise InputError(f"logits: expected a tensor (P, K), got {type(logits).__name__}")
    if logits.ndim != 2 or not logits.is_floating_point():
        raise InputError(f"logits: expected (P, K) floating, got {tuple(logits.shape)} {logits.dtype}")


def check_beside(logits: Tensor, tensor: Tensor, name: str) -> None:
    """`InputError` where a tensor does not lie on the device of the logits."""
    if tensor.device != logits.device:
        raise InputError(f"{name}: expected on {logits.device}, where the logits are, got {tensor.device}")


def membership(logits: Tensor, targets: Targets) -> Tensor:
    """Whether each class is a label of each proposal, (P, K) bool.

    Where torch.compile or torch.export traces, and under vmap, values are not looked at: no error could be raised.

    Args:
        logits: (P, K).
        targets: as in `Rule.loss`.

    Raises:
        InputError: another shape, a value other than 0 and 1, a label outside the columns, a proposal
            without a label, logits that are not finite.

    >>> membership(torch.zeros(2, 3), [[2, 1], [0]]).long().tolist()
    [[0, 1, 1], [1, 0, 0]]
    """
    labels = read_targets(logits, targets)
    check_rows(logits, labels)
    return as_multi_hot(logits, labels)


def read_targets(logits: Tensor, targets: Targets, *, check: bool = True) -> Tensor:
    """Targets as (P,) int64 or (P, K) bool, their form checked, their rows not: see `check_rows`.

    Args:
        check: whether to look for values other than 0 and 1, which makes the processor wait for a GPU.
    """
    rows, columns = logits.shape
    if not isinstance(targets, Tensor):
        return _multi_hot_of_lists(targets, rows, columns).to(logits.device)
    check_beside(logits, targets, "targets")
    if targets.shape == (rows,) and targets.dtype == torch.int64:
        return targets
    if targets.shape != logits.shape:
        raise InputError(
            f"targets: expected ({rows}, {columns}) multi-hot, ({rows},) int64 or a list of {rows} lists, "
            f"got {tuple(targets.shape)} {targets.dtype}"
        )
    members = targets.bool()
    if check and targets.dtype != torch.bool and _any(strange := targets != members):
        raise InputError(f"targets: row {_first(strange.any(dim=1))} has values other than 0 and 1")
    return members


def as_multi_hot(logits: Tensor, labels: Tensor) -> Tensor:
    """What `read_targets` gives, as (P, K) bool."""
    if labels.ndim == 2:
        return labels
    return torch.zeros_like(logits, dtype=torch.bool).scatter_(1, labels[:, None], True)


def check_rows(logits: Tensor, labels: Tensor) -> None:
    """`InputError` names the first row without a label, with one outside, or with logits that are not finite."""
    columns = logits.shape[1]
    if labels.ndim == 1:
        outside = (labels < 0) | (labels >= columns)
        if _any(outside):
            row = _first(outside)
            raise InputError(f"targets: row {row} is {int(labels[row])}, expected 0..{columns - 1}")
    elif _any(empty := ~labels.any(dim=1)):
        raise InputError(
            f"targets: row {_first(empty)} has no label; a background proposal has the background's"
        )
    check_finite(logits)


def check_finite(logits: Tensor) -> None:
    """`InputError` names the first logit that is NaN or infinite."""
    strange = ~torch.isfinite(logits)
    if _any(strange):
        row, column = strange.nonzero()[0].tolist()
        raise InputError(
            f"logits: row {row} is {float(logits[row, column])} in column {column}, expected a finite number"
        )


def reduced(losses: Tensor, reduction: Reduction) -> Tensor:
    """Losses (P,) as `reduction` says; the mean of none is 0."""
    check_reduction(reduction)
    if reduction == "none":
        return losses
    return losses.sum() / max(len(losses), 1) if reduction == "mean" else losses.sum()


def check_reduction(reduction: Reduction) -> None:
    """`ConfigError` where it is none of the three."""
    if reduction not in ("mean", "sum", "none"):
        raise ConfigError(f"reduction = {reduction!r}: expected mean, sum or none")


def check_foreground(logits: Tensor, values: Tensor, name: str) -> None:
    """`InputError` where `values` is not (C,), one for each column but the last."""
    classes = as_computed(logits).shape[1] - 1
    if values.shape != (classes,):
        raise InputError(
            f"{name}: expected ({classes},) for logits {tuple(logits.shape)} with the background last, "
            f"got {tuple(values.shape)}"
        )


def check_not_negative(values: Tensor, name: str) -> None:
    """`InputError` names the first of (C,) that is below 0 or NaN."""
    if _any(strange := ~(values >= 0)):
        i = _first(strange)
        raise InputError(f"{name}[{i}] is {float(values[i]):.6g}, expected at least 0")


def check_frequencies(frequencies: Tensor | ArrayLike) -> Tensor:
    """Shares of images (C,) as float32; `InputError` where one is not in [0, 1]; on meta there is none to look at."""
    shares = torch.as_tensor(frequencies, dtype=torch.float32).detach()
    if shares.ndim != 1 or not len(shares):
        raise InputError(f"frequencies: expected (C,), got {tuple(shares.shape)}")
    if _any(strange := ~((shares >= 0) & (shares <= 1))):
        i = _first(strange)
        raise InputError(f"frequencies[{i}] is {float(shares[i]):.6g}, expected a share of images, 0 to 1")
    return shares


def _multi_hot_of_lists(targets: Sequence[Sequence[int]], rows: int, columns: int) -> Tensor:
    # an array's 0 and 1 would be read as labels
    if hasattr(targets, "dtype") or not isinstance(targets, Sequence):
        raise InputError(f"targets: expected a tensor or a list of lists, got {type(targets).__name__}")
    if len(targets) != rows:
        raise InputError(f"targets: {len(targets)} lists of labels for {rows} rows of logits")
    members = torch.zeros(rows, columns, dtype=torch.bool)
    each = [_whole_numbers(row, labels) for row, labels in enumerate(targets)]
    for row, labels in enumerate(each):
        wrong = [i for i in labels if not 0 <= i < columns]
        if wrong:
            raise InputError(f"targets: row {row} has label {wrong[0]}, expected 0..{columns - 1}")
        if len(labels) == columns and len(set(labels)) < columns:
            raise InputError(
                f"targets: row {row} has {columns} labels, some twice; multi-hot rows are given as a tensor (P, K)"
            )
    counts = torch.tensor([len(labels) for labels in each], dtype=torch.int64)
    flat = torch.tensor([i for labels in each for i in labels], dtype=torch.int64)
    members[torch.repeat_interleave(torch.arange(rows), counts), flat] = True
    return members


def _whole_numbers(row: int, labels: Sequence[int]) -> list[int]:
    try:
        each = labels.tolist() if hasattr(labels, "tolist") else labels  # index() takes a tensor's True for 1
        if not any(isinstance(i, bool) for i in each):
            return [index(i) for i in each]
    except TypeError:
        pass
    raise InputError(f"targets: row {row} is {labels!r}, expected the list of its labels, whole numbers")


def _any(strange: Tensor) -> bool:
    """Whether there is one; False where nobody can look: traced, on meta, or under vmap, of many at once."""
    if torch.compiler.is_compiling() or strange.is_meta:
        return False
    try:
        return bool(strange.any())
    except RuntimeError:
        if torch._C._are_functorch_transforms_active():
            return False
        raise


def _first(rows: Tensor) -> int:
    return int(rows.nonzero()[0])
