"""Concurrent softmax against a decimal reading of its formulas, and against what it must reduce to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from classification.problems import Problem, problem, problems
from hypothesis import given, settings
from oracles import concurrent_softmax as oracle
from torch import Tensor

from wildbox.classification import ConcurrentSoftmax, concurrent_softmax_loss, concurrent_softmax_scores
from wildbox.errors import ConfigError, InputError

SMALLEST = 1e-30
"""What float32 cannot tell from 0 with five digits left."""


def lists(case: Problem) -> tuple[Any, Any, Any]:
    return case.logits.tolist(), case.targets.tolist(), case.rates.tolist()


def gradient(case: Problem) -> Tensor:
    logits = case.logits.clone().requires_grad_()
    concurrent_softmax_loss(logits, case.targets, case.rates, reduction="sum").backward()
    assert logits.grad is not None
    return logits.grad


@settings(max_examples=150, deadline=None)
@given(problems())
def test_loss_and_gradient_equal_the_formula(case: Problem) -> None:
    z, y, r = lists(case)
    found = concurrent_softmax_loss(*case, reduction="none")
    assert found.shape == (len(z),)
    np.testing.assert_allclose(found, np.array(oracle.losses(z, y, r)), rtol=1e-5, atol=SMALLEST)
    slopes = np.reshape(oracle.gradients(z, y, r), case.logits.shape)
    np.testing.assert_allclose(gradient(case), slopes, rtol=1e-5, atol=SMALLEST)


@settings(max_examples=150, deadline=None)
@given(problems())
def test_scores_equal_the_formula(case: Problem) -> None:
    z, _, r = lists(case)
    found = concurrent_softmax_scores(case.logits, case.rates)
    assert bool(((found >= 0) & (found <= 1)).all())
    expected = np.reshape(oracle.scores(z, r), case.logits.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=SMALLEST)


@pytest.mark.parametrize(
    "logits", [[1e4, -1e4, 0.0, 1.0], [1e4, 1e4, 9999.0, 0.0], [-1e4, -1e4, 1e4, -1e4], [0.0, 1e4, 0.5, -0.5]]
)
def test_extremes(logits: list[float]) -> None:
    rates = torch.tensor([[0, 1, 0.5, 0.25], [1, 0, 1, 1], [0.75, 1, 0, 0], [0, 1, 0.9, 0]])
    z = torch.tensor([logits])
    found = concurrent_softmax_scores(z, rates)
    np.testing.assert_allclose(found, oracle.scores(z.tolist(), rates.tolist()), rtol=1e-5, atol=SMALLEST)
    for label in range(4):
        case = Problem(z, torch.eye(4, dtype=torch.bool)[label : label + 1], rates)
        found = concurrent_softmax_loss(*case, reduction="none")
        np.testing.assert_allclose(found, oracle.losses(*lists(case)), rtol=1e-5, atol=SMALLEST)
        np.testing.assert_allclose(gradient(case), oracle.gradients(*lists(case)), rtol=1e-5, atol=SMALLEST)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("multi_hot", [False, True])
def test_without_rates_it_is_cross_entropy(dtype: torch.dtype, multi_hot: bool) -> None:
    logits = problem(0, proposals=40, columns=11, dtype=dtype).logits.requires_grad_()
    label = torch.arange(40) % 11
    targets = F.one_hot(label, 11).to(dtype) if multi_hot else label
    found = concurrent_softmax_loss(logits, targets, torch.zeros(11, 11))
    plain = F.cross_entropy(logits, label)
    digits = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(found, plain, rtol=digits, atol=digits)
    slopes = [torch.autograd.grad(loss, logits)[0] for loss in (found, plain)]
    torch.testing.assert_close(*slopes, rtol=digits, atol=digits)


def test_without_rates_scores_are_softmax() -> None:
    logits = problem(1, proposals=40, columns=11).logits
    digits = 8 * torch.finfo(torch.float32).eps
    found = concurrent_softmax_scores(logits, torch.zeros(11, 11))
    torch.testing.assert_close(found, logits.softmax(dim=1), rtol=10 * digits, atol=digits)


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("removed", ["by rates", "by labels", "by being alone"])
def test_without_competitors_loss_and_gradient_are_exactly_zero(scale: float, removed: str) -> None:
    columns = 1 if removed == "by being alone" else 3
    logits = problem(2, columns=columns, scale=scale).logits
    if removed == "by rates":
        case = Problem(logits, F.one_hot(torch.arange(6) % 3, 3), 1 - torch.eye(3))
    else:
        case = Problem(logits, torch.ones(6, columns), torch.zeros(columns, columns))
    assert concurrent_softmax_loss(*case, reduction="none").tolist() == [0.0] * 6
    assert gradient(case).abs().max() == 0
    if removed != "by labels":
        assert concurrent_softmax_scores(logits, case.rates).min() == 1


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_no_proposals_give_zero_with_a_gradient(reduction: Any) -> None:
    logits = torch.zeros(0, 4, requires_grad=True)
    targets = torch.zeros(0, 4)
    loss = concurrent_softmax_loss(logits, targets, torch.zeros(4, 4), reduction=reduction)
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert logits.grad.shape == (0, 4)
    assert concurrent_softmax_scores(logits, torch.zeros(4, 4)).shape == (0, 4)


def test_reductions_agree() -> None:
    case = problem(3)
    each = concurrent_softmax_loss(*case, reduction="none")
    torch.testing.assert_close(concurrent_softmax_loss(*case, reduction="sum"), each.sum())
    torch.testing.assert_close(concurrent_softmax_loss(*case), each.mean())


@pytest.mark.parametrize("scale", [2.0, 500.0])
def test_gradcheck(scale: float) -> None:
    case = problem(4, scale=scale, dtype=torch.float64)
    logits = case.logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: concurrent_softmax_loss(z, case.targets, case.rates), logits)
    assert torch.autograd.gradcheck(lambda z: concurrent_softmax_scores(z, case.rates), logits)


def test_scores_have_finite_gradients_where_the_product_underflows() -> None:
    logits = torch.tensor([[300.0, 0.0, 1.0]], requires_grad=True)
    rates = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 0, 0.0]])
    scores = concurrent_softmax_scores(logits, rates)
    scores[0, 1].backward()
    share = float(torch.tensor(-1.0).sigmoid())
    assert float(scores.detach()[0, 1]) == pytest.approx(share, rel=1e-6)
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad[0], [0, share * (1 - share), -share * (1 - share)], rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(problems())
def test_permuting_the_classes_permutes_the_result(case: Problem) -> None:
    order = torch.randperm(case.logits.shape[1], generator=torch.Generator().manual_seed(0))
    moved = Problem(case.logits[:, order], case.targets[:, order], case.rates[order][:, order])
    torch.testing.assert_close(concurrent_softmax_loss(*moved), concurrent_softmax_loss(*case))
    torch.testing.assert_close(gradient(moved), gradient(case)[:, order])
    scores = concurrent_softmax_scores(case.logits, case.rates)[:, order]
    torch.testing.assert_close(concurrent_softmax_scores(moved.logits, moved.rates), scores)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, autocast: bool) -> None:
    case = problem(5, proposals=20)
    low = case.logits.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = concurrent_softmax_loss(low, case.targets, case.rates)
        scores = concurrent_softmax_scores(low, case.rates)
    loss.backward()
    assert low.grad is not None
    assert low.grad.dtype == dtype
    exact = low.detach().float()
    torch.testing.assert_close(loss, concurrent_softmax_loss(exact, case.targets, case.rates), rtol=0, atol=0)
    torch.testing.assert_close(scores, concurrent_softmax_scores(exact, case.rates), rtol=0, atol=0)


def test_memory_is_the_gradient() -> None:
    case = problem(6, proposals=100, columns=50)
    saved = [0]

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        concurrent_softmax_loss(case.logits.requires_grad_(), case.targets, case.rates)
    assert max(saved) == case.logits.numel()


def test_module_equals_the_functions() -> None:
    case = problem(7)
    rule = ConcurrentSoftmax(case.rates)
    assert rule(case.logits, case.targets) == concurrent_softmax_loss(*case)
    assert torch.equal(rule.scores(case.logits), concurrent_softmax_scores(case.logits, case.rates))
    assert torch.equal(rule.state_dict()["rates"], case.rates)
    assert torch.equal(ConcurrentSoftmax(case.rates.numpy()).rates, case.rates)


def test_module_keeps_the_precision_of_its_rates() -> None:
    rates = torch.tensor([[0, 0.9999], [0, 0]])
    rule = ConcurrentSoftmax(rates)
    torch.nn.Sequential(rule).half()
    assert torch.equal(rule.rates, rates)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (torch.zeros(2, 3), r"expected \(K, K\) of floats, got \(2, 3\)"),
        ([[0, 1.5], [0, 0]], r"rates\[0, 1\] is 1.5"),
        ([[0, 0], [-0.25, 0]], r"rates\[1, 0\] is -0.25"),
        ([[0, float("nan")], [0, 0]], r"rates\[0, 1\] is nan"),
        ([[0, 0], [0, 0.5]], r"rates\[1, 1\] is 0.5, expected 0 on the diagonal"),
    ],
)
def test_module_refuses_other_rates(rates: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ConcurrentSoftmax(rates)


def test_function_refuses_what_does_not_fit() -> None:
    logits, label = torch.zeros(2, 3), torch.tensor([0, 1])
    with pytest.raises(InputError, match=r"rates: expected \(3, 3\).*got \(4, 4\)"):
        concurrent_softmax_loss(logits, label, torch.zeros(4, 4))
    with pytest.raises(InputError, match="rates"):
        concurrent_softmax_scores(logits, torch.zeros(3))
    with pytest.raises(ConfigError, match="expected mean, sum or none"):
        concurrent_softmax_loss(logits, label, torch.zeros(3, 3), reduction="average")  # type: ignore[arg-type]
