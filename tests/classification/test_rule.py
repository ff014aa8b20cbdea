"""How the rules read labels, and what all of them have in common."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from classification.problems import problem
from torch import Tensor

from wildbox.classification import (
    ConcurrentSoftmax,
    Equalization,
    Federated,
    Focal,
    Rule,
    Seesaw,
    Sigmoid,
    Softmax,
)
from wildbox.classification.rule import as_computed, membership
from wildbox.errors import InputError

RULES = [
    Softmax(),
    Sigmoid(),
    Focal(),
    ConcurrentSoftmax(torch.zeros(4, 4)),
    Equalization([0.5, 0.001, 0.001]),
    Seesaw(3).eval(),
    Federated([0.5, 0.001, 0.001], number=3),
]
BACKGROUND = torch.tensor([[0, 0, 0, 1]])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
class TestEveryRule:
    def test_is_a_rule_and_a_module(self, rule: Rule) -> None:
        assert isinstance(rule, Rule)
        assert isinstance(rule, torch.nn.Module)
        case = problem(0, columns=4)
        assert rule(case.logits, case.targets) == rule.loss(case.logits, case.targets)

    def test_no_proposals_give_zero_with_a_gradient(self, rule: Rule) -> None:
        logits = torch.zeros(0, 4, requires_grad=True)
        loss = rule.loss(logits, torch.zeros(0, 4))
        loss.backward()
        assert loss.shape == ()
        assert loss == 0
        assert logits.grad is not None
        assert rule.scores(logits).shape == (0, 4)

    def test_loss_is_a_mean_over_proposals(self, rule: Rule) -> None:
        case = problem(1, columns=4)
        rows = zip(torch.split(case.logits, 1), torch.split(case.targets, 1), strict=True)
        each = torch.stack([rule.loss(logits, targets) for logits, targets in rows])
        torch.testing.assert_close(rule.loss(case.logits, case.targets), each.mean())
        torch.testing.assert_close(rule.loss(case.logits, case.targets, reduction="none"), each)

    def test_gradient_is_right(self, rule: Rule) -> None:
        if isinstance(rule, Seesaw):
            rule = Seesaw(3, compensation=0).eval()  # which depends on the logits, without a gradient
        case = problem(2, columns=4, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda z: rule.loss(z, case.targets), case.logits.requires_grad_())

    def test_labels_may_be_indices_or_any_zeros_and_ones(self, rule: Rule) -> None:
        logits, label = problem(3, columns=4).logits, torch.tensor([0, 1, 2, 3, 3, 0])
        losses = {float(rule.loss(logits, form)) for form in forms(label)}
        losses.add(float(rule.loss(logits, [[int(i)] for i in label])))
        assert len(losses) == 1

    @pytest.mark.parametrize("scale", [1.0, 1e4])
    def test_is_finite_in_any_precision(self, rule: Rule, scale: float) -> None:
        for dtype in (torch.float16, torch.bfloat16, torch.float32):
            case = problem(4, columns=4, scale=scale, dtype=dtype)
            logits = case.logits.requires_grad_()
            loss, scores = rule.loss(logits, case.targets), rule.scores(logits)
            (slope,) = torch.autograd.grad(loss, logits)
            assert loss.dtype == scores.dtype == torch.float32
            assert loss.isfinite()
            assert slope.isfinite().all()
            assert bool(((scores >= 0) & (scores <= 1)).all())

    def test_being_right_costs_less(self, rule: Rule) -> None:
        right, wrong = torch.tensor([[-4.0, -4, -4, 4]]), torch.tensor([[4.0, -4, -4, -4]])
        assert rule.loss(right, BACKGROUND) < rule.loss(wrong, BACKGROUND)


def forms(label: Tensor) -> list[Tensor]:
    hot = torch.nn.functional.one_hot(label, 4)
    return [label, hot, hot.bool(), hot.float(), hot.half(), hot.to(torch.uint8)]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0, 4]), "row 1 is 4, expected 0..3"),
        (torch.tensor([-1, 0]), "row 0 is -1"),
        (
            torch.tensor([0.0, 1.0]),
            r"expected \(2, 4\) multi-hot, \(2,\) int64 or a list of 2 lists, got \(2,\) torch.float32",
        ),
        (torch.zeros(2, 3), r"got \(2, 3\)"),
        (torch.tensor([[0, 0, 0, 1], [0, 0, 0, 0]]), "row 1 has no label"),
        (torch.tensor([[0, 0, 0.5, 0.5], [0, 0, 0, 1]]), "row 0 has values other than 0 and 1"),
        (torch.tensor([[0, 0, 0, 1], [0, 0, torch.nan, 1]]), "row 1 has values other than 0 and 1"),
        ([[0], []], "row 1 has no label"),
        ([[0], [4]], "row 1 has label 4, expected 0..3"),
        ([[0]], "1 lists of labels for 2 rows"),
    ],
)
def test_membership_names_the_row_at_fault(targets: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        membership(torch.zeros(2, 4), targets)


def test_membership_names_the_logit_at_fault() -> None:
    logits = torch.zeros(2, 4)
    logits[1, 3] = torch.nan
    with pytest.raises(InputError, match="logits: row 1 is nan in column 3"):
        membership(logits, torch.tensor([0, 0]))


def test_logits_must_be_a_floating_matrix() -> None:
    with pytest.raises(InputError, match=r"expected \(P, K\) floating"):
        as_computed(torch.zeros(3))
    with pytest.raises(InputError, match="int64"):
        as_computed(torch.zeros(2, 3, dtype=torch.int64))
