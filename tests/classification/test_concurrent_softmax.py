"""The loss of concurrent softmax against a decimal reading of its formula, and against what it must reduce to.

Everything here holds on every path: the compiled loops of the CPU, the formula in plain torch, and the GPU's
kernel, which `test_concurrent_softmax_kernel.py` has interpreted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from classification.problems import (
    EXTREME_RATES,
    EXTREMES,
    INTERPRETED,
    SMALLEST,
    Problem,
    by_kernels,
    lists,
    problem,
    problems,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracles import concurrent_softmax as oracle
from torch import Tensor

from wildbox.classification import concurrent_softmax_cpu as cpu
from wildbox.classification import concurrent_softmax_formula as formula
from wildbox.classification import concurrent_softmax_kernel as kernel
from wildbox.classification import concurrent_softmax_loss
from wildbox.classification.rule import as_multi_hot

EXAMPLES = 15 if INTERPRETED else 150


def by_formula(
    z: Tensor, labels: Tensor, rates: Tensor, negatives: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    losses, slopes = formula.losses_and_slopes(z, as_multi_hot(z, labels), rates, negatives)
    return losses, scale * slopes


@pytest.fixture(scope="module", autouse=True, params=["kernel"] if INTERPRETED else ["loops", "formula"])
def path(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "formula":
            patch.setattr(cpu, "losses_and_slopes", by_formula)
        if request.param == "kernel":
            by_kernels(patch)
        yield


def gradient(case: Problem) -> Tensor:
    logits = case.logits.clone().requires_grad_()
    concurrent_softmax_loss(logits, case.targets, case.rates, reduction="sum").backward()
    assert logits.grad is not None
    return logits.grad


# a class that concurs fully with a label is so far above its competitors that their exponentials are near 0
@example(problem(1880440, proposals=3, columns=6, scale=100.0))
@settings(max_examples=EXAMPLES)
@given(problems())
def test_loss_and_gradient_equal_the_formula(case: Problem) -> None:
    z, y, r = lists(case)
    found = concurrent_softmax_loss(*case, reduction="none")
    assert found.shape == (len(z),)
    np.testing.assert_allclose(found, np.array(oracle.losses(z, y, r)), rtol=1e-5, atol=SMALLEST)
    slopes = np.reshape(oracle.gradients(z, y, r), case.logits.shape)
    np.testing.assert_allclose(gradient(case), slopes, rtol=1e-5, atol=SMALLEST)


@example(problem(696194, proposals=3, columns=6, scale=100.0), 1)
@settings(max_examples=EXAMPLES)
@given(problems(), st.integers(0, 2**32))
def test_only_known_negatives_compete(case: Problem, seed: int) -> None:
    negatives = torch.rand(case.logits.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    (z, y, r), n = lists(case), negatives.tolist()
    logits = case.logits.clone().requires_grad_()
    found = concurrent_softmax_loss(logits, case.targets, case.rates, reduction="none", negatives=negatives)
    (slopes,) = torch.autograd.grad(found.sum(), logits)
    np.testing.assert_allclose(found.detach(), np.array(oracle.losses(z, y, r, n)), rtol=1e-5, atol=SMALLEST)
    expected = np.reshape(oracle.gradients(z, y, r, n), logits.shape)
    np.testing.assert_allclose(slopes, expected, rtol=1e-5, atol=SMALLEST)


@pytest.mark.parametrize("scale", [3.0, 60.0])
def test_many_rows_and_columns(scale: float) -> None:
    """More than fits in a vector register, and not a multiple of it."""
    case = problem(8, proposals=8 if INTERPRETED else 70, columns=67, scale=scale, sparse=True)
    found = concurrent_softmax_loss(*case, reduction="none")
    np.testing.assert_allclose(found, oracle.losses(*lists(case)), rtol=1e-5, atol=SMALLEST)
    np.testing.assert_allclose(gradient(case), oracle.gradients(*lists(case)), rtol=1e-5, atol=SMALLEST)


@pytest.mark.parametrize("logits", EXTREMES)
def test_extremes(logits: list[float]) -> None:
    for label in range(4):
        case = Problem(
            torch.tensor([logits]), torch.eye(4, dtype=torch.bool)[label : label + 1], EXTREME_RATES
        )
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


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_no_proposals_give_zero_with_a_gradient(reduction: Any) -> None:
    logits = torch.zeros(0, 4, requires_grad=True)
    targets = torch.zeros(0, 4)
    loss = concurrent_softmax_loss(logits, targets, torch.zeros(4, 4), reduction=reduction)
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert logits.grad.shape == (0, 4)


def test_reductions_agree() -> None:
    case = problem(3)
    each = concurrent_softmax_loss(*case, reduction="none")
    torch.testing.assert_close(concurrent_softmax_loss(*case, reduction="sum"), each.sum())
    torch.testing.assert_close(concurrent_softmax_loss(*case), each.mean())


@pytest.mark.parametrize("scale", [2.0, 500.0])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_first_and_second_derivative(scale: float, reduction: Any) -> None:
    case = problem(4, scale=scale, dtype=torch.float64)
    logits = case.logits.requires_grad_()
    negatives = torch.rand(logits.shape, generator=torch.Generator().manual_seed(4)) < 0.8

    def loss(z: Tensor) -> Tensor:
        return concurrent_softmax_loss(z, case.targets, case.rates, reduction=reduction, negatives=negatives)

    assert torch.autograd.gradcheck(loss, logits)
    assert torch.autograd.gradgradcheck(loss, logits)


@settings(max_examples=EXAMPLES // 3)
@given(problems())
def test_permuting_the_classes_permutes_the_result(case: Problem) -> None:
    order = torch.randperm(case.logits.shape[1], generator=torch.Generator().manual_seed(0))
    moved = Problem(case.logits[:, order], case.targets[:, order], case.rates[order][:, order])
    torch.testing.assert_close(concurrent_softmax_loss(*moved), concurrent_softmax_loss(*case))
    torch.testing.assert_close(gradient(moved), gradient(case)[:, order])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, autocast: bool) -> None:
    case = problem(5, proposals=20)
    low = case.logits.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = concurrent_softmax_loss(low, case.targets, case.rates)
    loss.backward()
    assert low.grad is not None
    assert low.grad.dtype == dtype
    exact = Problem(low.detach().float(), case.targets, case.rates)
    torch.testing.assert_close(loss, concurrent_softmax_loss(*exact), rtol=0, atol=0)
    torch.testing.assert_close(low.grad, (gradient(exact) / 20).to(dtype))


@pytest.mark.skipif(not INTERPRETED, reason="of the kernel alone; runs in its interpreter")
def test_rows_at_fault_have_a_loss_of_nan() -> None:
    """Whoever does not wait for the checks must not be told a number."""
    logits, rates = torch.zeros(5, 3), torch.zeros(3, 3)
    logits[4, 0] = torch.nan
    labels = torch.tensor([0, 3, -1, 1, 1])
    losses, _ = kernel.losses_and_slopes(logits, labels, rates, None, 1.0)
    assert losses.isnan().tolist() == [False, True, True, False, True]
    losses, _ = kernel.losses_and_slopes(logits[:1], torch.zeros(1, 3, dtype=torch.bool), rates, None, 1.0)
    assert losses.isnan().tolist() == [True]


@pytest.mark.skipif(not INTERPRETED, reason="of the kernel alone; runs in its interpreter")
@pytest.mark.parametrize("columns", [1, 33, 1024, 2500])
def test_the_kernel_finds_every_label(columns: int) -> None:
    """It keeps those of a row as bits: of each lane of threads, those of every 32nd class or more."""
    logits = torch.randn(3, columns, generator=torch.Generator().manual_seed(columns))
    labels = torch.zeros(3, columns, dtype=torch.bool)
    labels[0, [0, columns // 2]] = labels[1, -1] = True
    labels[1, columns % 32 :: 32] = True
    labels[2, -5:] = True
    rates = torch.zeros(columns, columns)
    found = kernel.losses_and_slopes(logits, labels, rates, None, 1.0)
    expected = formula.losses_and_slopes(logits.double(), labels, rates.double())
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not INTERPRETED, reason="of the kernel alone; runs in its interpreter")
@pytest.mark.parametrize("factors", [torch.tensor(1.0), torch.tensor(3.0), torch.tensor([1.0, 0.0, -2.0])])
def test_slopes_are_scaled_in_place(factors: Tensor) -> None:
    slopes = torch.randn(3, 2050)
    expected = slopes * (factors if factors.ndim == 0 else factors[:, None])
    kernel.scale_rows(slopes, factors)
    torch.testing.assert_close(slopes, expected)


@pytest.mark.parametrize("factor", [0.5, 3.0, -1.0, 65536.0])
def test_a_factor_of_the_loss_is_one_of_the_gradient(factor: float) -> None:
    case = problem(3)
    logits = case.logits.requires_grad_()
    (plain,) = torch.autograd.grad(concurrent_softmax_loss(*case), logits)
    (scaled,) = torch.autograd.grad(factor * concurrent_softmax_loss(*case), logits)
    torch.testing.assert_close(scaled, factor * plain)
