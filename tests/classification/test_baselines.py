"""Softmax, sigmoid and focal against their formulas, written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from classification.problems import Problem, problem
from torch import Tensor

from wildbox.classification import Focal, Sigmoid, Softmax
from wildbox.errors import ConfigError

CASE = problem(0, dtype=torch.float64)


def focal(case: Problem, *, alpha: float, gamma: float) -> float:
    total = 0.0
    for row, labels in zip(case.logits.tolist(), case.targets.tolist(), strict=True):
        for z, y in list(zip(row, labels, strict=True))[:-1]:
            p = 1 / (1 + math.exp(-z))
            p_t, alpha_t = (p, alpha) if y else (1 - p, 1 - alpha)
            total += -alpha_t * (1 - p_t) ** gamma * math.log(p_t)
    return total / len(case.logits)


def test_softmax_of_one_label_is_cross_entropy() -> None:
    label = torch.arange(6) % 5
    torch.testing.assert_close(Softmax().loss(CASE.logits, label), F.cross_entropy(CASE.logits, label))
    assert torch.equal(Softmax().scores(CASE.logits), CASE.logits.softmax(dim=1))


def test_softmax_shares_the_target_among_the_labels() -> None:
    logs = CASE.logits.log_softmax(dim=1)
    each = torch.stack([-row[labels].mean() for row, labels in zip(logs, CASE.targets, strict=True)])
    torch.testing.assert_close(Softmax().loss(CASE.logits, CASE.targets), each.mean())


def test_sigmoid_is_focal_without_focus() -> None:
    torch.testing.assert_close(
        float(Sigmoid().loss(CASE.logits, CASE.targets)), 2 * focal(CASE, alpha=0.5, gamma=0)
    )


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.9, 0.5), (0.25, 5.0)])
def test_focal(alpha: float, gamma: float) -> None:
    found = float(Focal(alpha=alpha, gamma=gamma).loss(CASE.logits, CASE.targets))
    torch.testing.assert_close(found, focal(CASE, alpha=alpha, gamma=gamma))


@pytest.mark.parametrize("rule", [Sigmoid(), Focal()], ids=["sigmoid", "focal"])
def test_the_background_column_has_no_part(rule: Sigmoid | Focal) -> None:
    moved: Tensor = CASE.logits + torch.tensor([0, 0, 0, 0, 7.0], dtype=torch.float64)
    assert rule.loss(moved, CASE.targets) == rule.loss(CASE.logits, CASE.targets)
    scores = rule.scores(CASE.logits)
    assert torch.equal(scores[:, :-1], CASE.logits[:, :-1].sigmoid())
    assert scores[:, -1].abs().max() == 0


@pytest.mark.parametrize(("alpha", "gamma"), [(-0.1, 2.0), (1.1, 2.0), (0.25, -1.0), (0.25, math.nan)])
def test_focal_refuses_other_settings(alpha: float, gamma: float) -> None:
    with pytest.raises(ConfigError, match="expected alpha"):
        Focal(alpha=alpha, gamma=gamma)
