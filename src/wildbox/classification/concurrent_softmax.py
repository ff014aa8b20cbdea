"""Concurrent softmax: classes compete only as far as they do not label the same objects.

    training, i in Y:   -log σ*_i = log( Σ_{j ∉ Y} (1 - r_ij) exp(z_j) + exp(z_i) ) - z_i, summed over Y
    inference:               σ+_i = exp(z_i) / ( Σ_{j ≠ i} (1 - r_ij) exp(z_j) + exp(z_i) )

Source: Peng et al., "Large-Scale Object Detection in the Wild from Imbalanced Multi-Labels", CVPR 2020.
Letters: P proposals, K columns, M pairs (proposal, label), z logits (P, K), Y the labels of one proposal,
R concurrent rates (K, K): r_ij is the share of the objects of class i that are labelled j too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Self

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from wildbox.classification.rule import as_computed, membership
from wildbox.errors import ConfigError, InputError

CHUNK = 1 << 22
"""Elements of a block of rows (pair, K) that are computed at once where the matrix product underflows."""


def concurrent_softmax_loss(
    logits: Tensor,
    targets: Tensor,
    rates: Tensor,
    *,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Tensor:
    """Negative log-likelihood of every label of every proposal, other labels and concurring classes spared.

    Memory is that of one row of K a label, never (P, K, K). With rates of 0 and one label a proposal it is
    cross-entropy; a label without competitors costs exactly 0 and has no gradient.

    Args:
        logits: (P, K), finite; half and bfloat16 are computed in float32.
        targets: (P, K) multi-hot, at least one label a row, or (P,) int64, the one label of each.
        rates: (K, K) in [0, 1]; the diagonal is not looked at, and no gradient flows here.
        reduction: mean over the P proposals (0 where P is 0), their sum, or (P,) the sum over the labels of
            each.

    Returns:
        float32, or float64 where the logits are.

    Raises:
        InputError: shapes that do not fit, a label outside the columns, a proposal without a label.

    >>> rates = torch.tensor([[0.0, 0.9], [0.0, 0.0]])
    >>> concurrent_softmax_loss(torch.zeros(2, 2), torch.tensor([0, 1]), rates, reduction="none")
    tensor([0.0953, 0.6931])
    """
    if reduction not in ("mean", "sum", "none"):
        raise ConfigError(f"reduction = {reduction!r}: expected mean, sum or none")
    z, rates = _checked(logits, rates)
    members = membership(z, targets)
    proposal, label = members.nonzero(as_tuple=True)
    losses = _pair_losses(z, proposal, label, _log_weights(rates), members)
    if reduction == "none":
        return losses.new_zeros(len(z)).index_add(0, proposal, losses)
    return losses.sum() / max(len(z), 1) if reduction == "mean" else losses.sum()


def concurrent_softmax_scores(logits: Tensor, rates: Tensor) -> Tensor:
    """Probability of each class by itself, the labels being unknown: σ+ for all classes.

    One matrix product for all denominators; where a class that concurs fully (r = 1) dominates so much that
    what remains underflows, the pair is computed anew by itself. Rows may sum to more than 1.

    Args:
        logits: (P, K), finite; half and bfloat16 are computed in float32.
        rates: (K, K) in [0, 1]; the diagonal is not looked at, and no gradient flows here.

    Returns:
        (P, K) in [0, 1], float32, or float64 where the logits are.

    >>> rates = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    >>> concurrent_softmax_scores(torch.zeros(1, 2), rates)
    tensor([[1.0000, 0.5000]])
    """
    z, rates = _checked(logits, rates)
    if len(z) == 0:
        return z
    below = z - z.detach().amax(dim=1, keepdim=True)
    weights = (1 - rates).fill_diagonal_(1)
    with torch.autocast(z.device.type, enabled=False):  # autocast would multiply in half precision
        denominator = below.exp() @ weights.T
    # below it, the K terms that may have been flushed to 0 could matter by more than a millionth
    reliable = torch.finfo(z.dtype).tiny * z.shape[1] * 1e6
    scores = (below - denominator.clamp(min=reliable).log()).exp()
    proposal, label = (denominator < reliable).nonzero(as_tuple=True)
    if len(proposal):
        log_weights, rows = _log_weights(rates), max(CHUNK // z.shape[1], 1)
        exact = [
            (-_pair_losses(z, p, i, log_weights)).exp()
            for p, i in zip(torch.split(proposal, rows), torch.split(label, rows), strict=True)
        ]
        scores = scores.index_put((proposal, label), torch.cat(exact))
    return scores.clamp(max=1)


class ConcurrentSoftmax(nn.Module):
    """Concurrent softmax with fixed rates.

    The rates are a buffer: they follow `.to(device)`, or the logits where they lie elsewhere, and stand in
    the state dict. They keep their precision under `.half()`: 0.9999 must not become 1.

    Args:
        rates: (K, K) in [0, 1], the diagonal 0, and the background's row and column too where the last column
            is the background (`ConcurrentRates.with_background()`).

    Raises:
        InputError: rates that are not square, outside [0, 1] or NaN, or with a diagonal other than 0.

    >>> rule = ConcurrentSoftmax(torch.zeros(3, 3))
    >>> rule.scores(torch.zeros(1, 3))
    tensor([[0.3333, 0.3333, 0.3333]])
    """

    rates: Tensor

    def __init__(self, rates: Tensor | ArrayLike) -> None:
        super().__init__()
        matrix = torch.as_tensor(rates).detach().clone()
        matrix = matrix if matrix.dtype == torch.float64 else matrix.float()
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise InputError(f"rates: expected (K, K), got {tuple(matrix.shape)}")
        if len(outside := (~((matrix >= 0) & (matrix <= 1))).nonzero()):
            i, j = outside[0].tolist()
            raise InputError(f"rates[{i}, {j}] is {float(matrix[i, j])}, expected 0 to 1")
        if len(own := matrix.diagonal().nonzero()):
            i = int(own[0])
            raise InputError(f"rates[{i}, {i}] is {float(matrix[i, i])}, expected 0 on the diagonal")
        self.register_buffer("rates", matrix)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """`concurrent_softmax_loss`, the mean over proposals."""
        return concurrent_softmax_loss(logits, targets, self._rates_beside(logits))

    forward = loss

    def scores(self, logits: Tensor) -> Tensor:
        """`concurrent_softmax_scores`."""
        return concurrent_softmax_scores(logits, self._rates_beside(logits))

    def _rates_beside(self, logits: Tensor) -> Tensor:
        if self.rates.device != logits.device:
            self.rates = self.rates.to(logits.device)
        return self.rates

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        exact = self.rates
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.rates = exact.to(self.rates.device)
        return self


def _checked(logits: Tensor, rates: Tensor) -> tuple[Tensor, Tensor]:
    z = as_computed(logits)
    k = z.shape[1]
    if k == 0 or rates.shape != (k, k):
        raise InputError(f"rates: expected ({k}, {k}) for logits {tuple(z.shape)}, got {tuple(rates.shape)}")
    return z, rates.detach().to(z)


def _log_weights(rates: Tensor) -> Tensor:
    """log(1 - r_ij), which is -inf where r is 1; -inf at j = i: no class competes with itself."""
    return torch.log1p(-rates).fill_diagonal_(-torch.inf)


def _pair_losses(
    z: Tensor, proposal: Tensor, label: Tensor, log_weights: Tensor, members: Tensor | None = None
) -> Tensor:
    """-log σ of each of M pairs, (M,).

    Args:
        proposal, label: (M,) the pairs; with `members`, all pairs of all proposals, in order.
        members: (P, K) labels, which do not compete; None: none besides the pair's own.
    """
    every_row_once = members is not None and len(proposal) == len(z)
    rows = z if every_row_once else z.index_select(0, proposal)
    bias = log_weights.index_select(0, label)
    if members is not None:
        bias.masked_fill_(members if every_row_once else members.index_select(0, proposal), -torch.inf)
    # L = log Σ (1 - r_ij) exp(z_j) - z_i over the competitors j; logits lose their offset before the bias comes,
    # since 10,000 + log(1 - r) keeps but 3 digits of log(1 - r) in float32
    offset = (rows.detach() + bias).amax(dim=1).clamp(min=torch.finfo(z.dtype).min)
    total = ((rows - offset[:, None]).add_(bias)).exp_().sum(dim=1)
    alone = total == 0  # all competitors removed
    ratio = offset - rows.gather(1, label[:, None])[:, 0] + total.masked_fill(alone, 1).log()
    return -F.logsigmoid(-ratio.masked_fill(alone, -torch.inf))
