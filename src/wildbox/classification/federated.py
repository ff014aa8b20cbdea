"""Federated loss: the sigmoid's, on the classes of the batch and a random few others.

Of 1,000 classes almost all are absent from a batch, and where images are not labelled exhaustively nobody knows
which. So a step looks at the classes that occur in its batch and at others drawn by the square root of their
frequency, 50 in all. Source: Zhou, Koltun and Krähenbühl, "Probabilistic two-stage detection", 2021 (arXiv
2103.07461), after the federated annotation of LVIS (Gupta et al., CVPR 2019). Letters: P proposals, C
foreground classes, K = C + 1 columns.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from wildbox.classification.rule import (
    Reduction,
    Targets,
    as_computed,
    check_foreground,
    check_frequencies,
    check_not_negative,
    membership,
    reduced,
)
from wildbox.classification.sigmoid import sigmoid_scores
from wildbox.errors import ConfigError


def federated_loss(
    logits: Tensor, targets: Targets, *, classes: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    """Binary cross-entropy of the chosen foreground classes, summed over them.

    The last column is the background, as in `sigmoid_loss`; args and errors else as in `Rule.loss`.

    Args:
        classes: (C,) bool, those that this batch looks at: `federated_classes`.

    >>> federated_loss(torch.zeros(1, 3), [[0]], classes=torch.tensor([True, False]))
    tensor(0.6931)
    """
    z = as_computed(logits)
    check_foreground(z, classes, "classes")
    check_not_negative(classes, "classes")
    y = membership(z, targets)[:, :-1].to(z)
    losses = F.binary_cross_entropy_with_logits(z[:, :-1], y, classes.to(z).expand_as(y), reduction="none")
    return reduced(losses.sum(dim=1), reduction)


federated_scores = sigmoid_scores


def federated_classes(
    present: Tensor, weights: Tensor, *, number: int = 50, generator: torch.Generator | None = None
) -> Tensor:
    """The classes that a batch looks at: (C,) bool.

    Args:
        present: (C,) bool, the classes that occur in the batch; all of them are chosen.
        weights: (C,) at least 0; others are drawn with these weights, without repetition, until there are
            `number` in all. A class of weight 0 is not drawn.
        generator: source of randomness, on the device of the weights; None: torch's own.

    >>> federated_classes(torch.tensor([True, False, False]), torch.tensor([0.0, 1.0, 0.0]), number=2).tolist()
    [True, True, False]
    """
    # the largest keys log(w) - log(e), e exponential, are a draw without repetition (Efraimidis and Spirakis)
    waiting = torch.empty_like(weights).exponential_(generator=generator)
    keys = (weights.log() - waiting.log()).masked_fill(present, torch.inf)
    keys, chosen = keys.topk(min(number, len(weights)))
    return present.scatter(0, chosen, keys > -torch.inf)


class Federated(nn.Module):
    """`federated_loss` on classes that each call draws anew, and the sigmoid's scores, as a rule.

    Args:
        frequencies: (C,) share of the training images that hold each class.
        number: of classes that a batch looks at, where it does not hold more itself.
        power: classes are drawn by their frequency to this power.
        generator: as in `federated_classes`. What computes a forward twice, such as `torch.utils.checkpoint`, sets
            torch's own back but no other: it would draw other classes.

    Raises:
        InputError: frequencies that are not (C,) in [0, 1].

    >>> Federated([0.5, 0.001, 0.1], number=3)(torch.zeros(1, 4), [[0]])
    tensor(2.0794)
    """

    weights: Tensor

    def __init__(
        self,
        frequencies: Tensor | ArrayLike,
        *,
        number: int = 50,
        power: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if number < 1:
            raise ConfigError(f"number = {number}, expected at least 1 class")
        if not 0 <= power < math.inf:
            raise ConfigError(f"power = {power}, expected at least 0")
        self.number, self.generator = number, generator
        checked = check_frequencies(frequencies)
        self.register_buffer("weights", torch.where(checked > 0, checked**power, 0.0))

    def loss(self, logits: Tensor, targets: Targets, *, reduction: Reduction = "mean") -> Tensor:
        """`federated_loss` on `federated_classes`."""
        check_foreground(logits, self.weights, "frequencies")
        members = membership(logits, targets)
        # drawn where the weights are, and so is the generator, wherever the logits lie
        present = members[:, :-1].any(dim=0).to(self.weights.device)
        classes = federated_classes(present, self.weights, number=self.number, generator=self.generator)
        return federated_loss(logits, members, classes=classes.to(logits.device), reduction=reduction)

    forward = loss

    def scores(self, logits: Tensor) -> Tensor:
        """`sigmoid_scores`."""
        return sigmoid_scores(logits)
