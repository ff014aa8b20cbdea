"""A rule for classifiers of whole images with several labels each, in place of `nn.BCEWithLogitsLoss`.

Letters: B images, C classes, K = C + 1 columns, the last "no class of these", z logits (B, C).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wildbox.adapters.targets import with_background
from wildbox.classification.rule import Rule
from wildbox.errors import ConfigError, InputError


class ImageRule(nn.Module):
    """Loss and scores of a rule on logits (B, C), images without any label included.

    Rules have a column for the background; here it is an image of none of the classes, with the constant logit 0. So
    a classifier needs no further output, and the two ends of concurrent softmax are what one expects: where all classes
    concur fully the scores are sigmoids, exp(z_i) / (exp(z_i) + 1), and where none do they are softmax over the classes
    and "none".

    Args:
        rule: of K = C + 1 columns (`with_none` widens the rates of C classes).

    >>> import torch
    >>> from wildbox.classification import ConcurrentSoftmax
    >>> criterion = ImageRule(ConcurrentSoftmax(with_none(torch.zeros(2, 2))))
    >>> criterion(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])), criterion.scores(torch.zeros(1, 2))
    (tensor(1.0986), tensor([[0.3333, 0.3333]]))
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over images.

        Args:
            logits: (B, C).
            targets: (B, C) multi-hot in any dtype; a row may be empty.

        Raises:
            InputError: shapes that differ, a target other than 0 and 1 (which torch.compile does not see).
        """
        _check(targets)
        if targets.shape != logits.shape:
            raise InputError(
                f"logits: expected {tuple(targets.shape)} as the targets, got {tuple(logits.shape)}"
            )
        return self.rule.loss(F.pad(logits, (0, 1)), with_background(targets))

    def scores(self, logits: Tensor) -> Tensor:
        """Logits (B, C) -> scores (B, C) in [0, 1]."""
        return self.rule.scores(F.pad(logits, (0, 1)))[:, :-1]


def image_rates(targets: Tensor | Iterable[Tensor], *, min_ratio: float = 0.1) -> Tensor:
    """How often images of one class hold another too: concurrent rates where the image is the object.

    Args:
        targets: (B, C) multi-hot, or several such, of a set too large for one.
        min_ratio: rates are kept above this (strict), in [0, 1); others become 0, as in the audit.

    Returns:
        (C, C) float64 in [0, 1]: entry i, j is the share of the images of class i that hold j; 0 on the diagonal and
        in the row of a class without images.

    Raises:
        InputError: no targets, another shape, a target other than 0 and 1.

    >>> import torch
    >>> image_rates(torch.tensor([[1, 1], [1, 0]])).tolist()
    [[0.0, 0.5], [1.0, 0.0]]
    """
    if not 0 <= min_ratio < 1:
        raise ConfigError(f"min_ratio is {min_ratio}, expected at least 0 and below 1")
    together: Tensor | None = None
    for part in [targets] if isinstance(targets, Tensor) else targets:
        _check(part)
        counts = part.double().T @ part.double()
        together = counts if together is None else together + counts
    if together is None:
        raise InputError("targets: expected at least one tensor (B, C)")
    rates = (together / together.diagonal().clamp(min=1)[:, None]).fill_diagonal_(0)
    return rates.masked_fill(rates <= min_ratio, 0)


def with_none(rates: Tensor) -> Tensor:
    """Rates (C, C) -> (C + 1, C + 1): "no class of these" concurs with nothing.

    >>> import torch
    >>> with_none(torch.ones(1, 1)).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    return F.pad(rates, (0, 1, 0, 1))


def _check(targets: Tensor) -> None:
    if not isinstance(targets, Tensor):
        raise InputError(f"targets: expected a tensor (B, C), got {type(targets).__name__}")
    if targets.ndim != 2:
        raise InputError(f"targets: expected (B, C), got {tuple(targets.shape)}")
    if torch.compiler.is_compiling():  # an error could not be raised there
        return
    if (strange := ((targets != 0) & (targets != 1)).any(dim=1)).any():
        raise InputError(f"targets: row {int(strange.nonzero()[0])} has values other than 0 and 1")
