"""Concurrent softmax in plain torch: the way wherever no faster one is, and all derivatives in closed form.

One row of K a pair (proposal, label) is made, never (P, K, K). Letters: P proposals, K columns, M pairs, z logits
(P, K), r rates (K, K), w = 1 - r, all float32 or float64. For a pair (p, i), S = Σ w_ij exp(z_j) over its
competitors, a_j = w_ij exp(z_j) / S the share of each in it, and q = S / (S + exp(z_i)); the loss is -log(1 - q).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

RELIABLE = 1e-6
"""Share of a row's exponentials from here on: below it, what was flushed to 0 could matter in a denominator."""
CHUNK = 1 << 22
"""Elements of a block of rows (pair, K) of pairs that are computed anew at once."""


class Pairs(NamedTuple):
    """What each of M pairs (proposal, label) amounts to."""

    proposal: Tensor
    """(M,) ascending."""
    label: Tensor
    ratio: Tensor
    """(M,) log S - z_i, so that q is its sigmoid; -inf where all competitors are removed."""
    shares: Tensor
    """(M, K) a, which sums to 1; 0 where all competitors are removed."""

    def along(self, direction: Tensor) -> Tensor:
        """(M,) derivative of `ratio` along directions (P, K) of the logits: <a - 1_i, v>."""
        rows = direction[self.proposal]
        return (self.shares * rows).sum(dim=1) - self._alive() * rows.gather(1, self.label[:, None])[:, 0]

    def gathered(self, factor: Tensor, *, rows: int) -> Tensor:
        """(P, K) Σ factor (a - 1_i) over the pairs of each proposal, factor (M,)."""
        total = self.shares.new_zeros(rows, self.shares.shape[1])
        total.index_add_(0, self.proposal, self.shares * factor[:, None])
        return total.index_put_((self.proposal, self.label), -factor * self._alive(), accumulate=True)

    def _alive(self) -> Tensor:
        return (self.ratio > -torch.inf).to(self.shares)


def losses_and_slopes(
    z: Tensor, members: Tensor, rates: Tensor, negatives: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(P,) the loss of each proposal, -log σ*_i summed over its labels i; and (P, K) its gradient, q (a - 1_i).

    Args:
        members: (P, K) bool, whether a class is a label.
        negatives: (P, K) bool, the classes that compete where they are no labels; None: all.
    """
    pairs = _labelled(z, members, rates, negatives)
    losses = z.new_zeros(len(z)).index_add_(0, pairs.proposal, -F.logsigmoid(-pairs.ratio))
    return losses, pairs.gathered(pairs.ratio.sigmoid(), rows=len(z))


def curvature(
    z: Tensor, members: Tensor, rates: Tensor, negatives: Tensor | None, direction: Tensor
) -> Tensor:
    """(P, K) second derivative of the losses times a direction v (P, K).

    It is q (1 - q) (a - 1_i) <a - 1_i, v> + q (a v - a <a, v>), summed over the labels i.
    """
    pairs = _labelled(z, members, rates, negatives)
    q = pairs.ratio.sigmoid()
    product = pairs.gathered(q * (1 - q) * pairs.along(direction), rows=len(z))
    moved = pairs.shares * direction[pairs.proposal]
    moved -= pairs.shares * moved.sum(dim=1, keepdim=True)
    return product.index_add_(0, pairs.proposal, moved * q[:, None])


def scores(z: Tensor, rates: Tensor) -> Tensor:
    """(P, K) σ+_i of every class.

    One matrix product for all denominators; where a class that concurs fully (r = 1) dominates so much that
    what remains underflows, the pair is computed anew by itself.
    """
    exponentials, denominator, proposal, label = _products(z, rates)
    found = exponentials / denominator
    for p, i in _blocks(proposal, label, columns=z.shape[1]):
        found[p, i] = (-_pairs(z, p, i, rates).ratio).sigmoid()
    return found.clamp(max=1)


def scores_slopes(z: Tensor, rates: Tensor, direction: Tensor) -> Tensor:
    """(P, K) gradient of the scores times a direction v (P, K).

    With D the denominator it is v_k σ_k - exp(z_k) Σ_i w_ik v_i σ_i / D_i, a second matrix product; for a pair
    that is computed by itself, -v_i q (1 - q) (a - 1_i).
    """
    exponentials, denominator, proposal, label = _products(z, rates)
    moved = direction * exponentials / denominator
    moved[proposal, label] = 0
    slopes = moved - exponentials * _product(moved / denominator, _weights(rates))
    for p, i in _blocks(proposal, label, columns=z.shape[1]):
        pairs = _pairs(z, p, i, rates)
        q = pairs.ratio.sigmoid()
        slopes += pairs.gathered(-direction[p, i] * q * (1 - q), rows=len(z))
    return slopes


def exportable_scores(z: Tensor, rates: Tensor, *, removed: int) -> Tensor:
    """`scores` without a step that depends on values, for graphs that are exported.

    Among the `removed` + 2 largest logits of a row, at least one competes with class i: it is neither i nor
    removed. With the largest of these as shift nothing that matters underflows. The classes below them, none of
    which is larger, are summed by a matrix product.

    Args:
        removed: the most competitors that any class loses: the largest number of rates of 1 in a row.
    """
    leading = min(removed + 2, z.shape[1])
    top, index = z.topk(leading, dim=1)
    weights = (1 - rates) * (1 - torch.eye(len(rates), dtype=z.dtype, device=z.device))  # none of itself
    seen = weights.T[index].transpose(1, 2)  # (P, K, leading): how far each leading class competes with each
    largest = torch.where(seen > 0, top[:, None], torch.finfo(z.dtype).min).amax(dim=2)  # (P, K)
    first = (seen * (top[:, None] - largest[:, :, None]).clamp(max=0).exp()).sum(dim=2)
    rest = (z - top[:, -1:]).clamp(max=0).exp().scatter(1, index, 0.0)
    second = (rest @ weights.T) * (top[:, -1:] - largest).clamp(max=0).exp()
    total = first + second
    ratio = (largest - z) + total.clamp(min=torch.finfo(z.dtype).tiny).log()
    return torch.where(total > 0, 1 / (1 + ratio.exp()), 1.0)  # onnxruntime's own sigmoid keeps 1e-7


def _weights(rates: Tensor) -> Tensor:
    """w_ij = 1 - r_ij, and 1 for a class with itself."""
    return (1 - rates).fill_diagonal_(1)


def _product(left: Tensor, right: Tensor) -> Tensor:
    with torch.autocast(left.device.type, enabled=False):  # it would multiply in half precision
        return left @ right


def _products(z: Tensor, rates: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(P, K) exponentials and denominators, and (m,), (m,) the pairs whose denominators cannot be relied on."""
    exponentials = z.softmax(dim=1) if len(z) else z
    denominator = _product(exponentials, _weights(rates).T)
    proposal, label = (denominator < RELIABLE).nonzero(as_tuple=True)
    return exponentials, denominator.clamp(min=RELIABLE), proposal, label


def _blocks(proposal: Tensor, label: Tensor, *, columns: int) -> list[tuple[Tensor, Tensor]]:
    rows = max(CHUNK // columns, 1)
    return list(zip(proposal.split(rows), label.split(rows), strict=True)) if len(proposal) else []


def _labelled(z: Tensor, members: Tensor, rates: Tensor, negatives: Tensor | None) -> Pairs:
    proposal, label = members.nonzero(as_tuple=True)
    return _pairs(z, proposal, label, rates, members if negatives is None else members | ~negatives)


def _pairs(z: Tensor, proposal: Tensor, label: Tensor, rates: Tensor, spared: Tensor | None = None) -> Pairs:
    """The pairs (M,), (M,).

    Args:
        spared: (P, K) classes that do not compete; None: none but the pair's own.
    """
    rows = z[proposal]
    bias = torch.log1p(-rates).fill_diagonal_(-torch.inf)[label]  # log w, -inf where r is 1
    if spared is not None:
        bias.masked_fill_(spared[proposal], -torch.inf)
    # logits lose their offset before the bias comes, since 10,000 + log(1 - r) keeps but 3 digits of log(1 - r)
    offset = (rows + bias).amax(dim=1).clamp(min=torch.finfo(z.dtype).min)
    shares = (rows - offset[:, None]).add_(bias).exp_()
    total = shares.sum(dim=1)
    ratio = offset - rows.gather(1, label[:, None])[:, 0] + total.log()
    alone = total == 0
    shares /= total.masked_fill(alone, 1)[:, None]
    return Pairs(proposal, label, ratio.masked_fill(alone, -torch.inf), shares)
