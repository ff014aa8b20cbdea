"""The scores of concurrent softmax against a decimal reading of their formula, on every path.

That of the GPU's kernel `test_concurrent_softmax_kernel.py` has interpreted.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
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
from hypothesis import given, settings
from oracles import concurrent_softmax as oracle
from torch import Tensor

from wildbox.classification import concurrent_softmax_cpu as cpu
from wildbox.classification import concurrent_softmax_formula as formula
from wildbox.classification import concurrent_softmax_scores


def by_formula(z: Tensor, rates: Tensor, *sparse: Tensor) -> Tensor:
    return formula.scores(z, rates)


def as_exported(z: Tensor, rates: Tensor, *sparse: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):  # a graph is exported without it
        return formula.exportable_scores(z, rates, removed=int((rates == 1).sum(dim=1).max()))


WAYS = {"formula": by_formula, "exported": as_exported}


@pytest.fixture(
    scope="module", autouse=True, params=["kernel"] if INTERPRETED else ["loops", "formula", "exported"]
)
def path(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param in WAYS:
            patch.setattr(cpu, "scores", WAYS[request.param])
        if request.param == "kernel":
            by_kernels(patch)
        yield


@settings(max_examples=15 if INTERPRETED else 150)
@given(problems())
def test_scores_equal_the_formula(case: Problem) -> None:
    z, _, r = lists(case)
    found = concurrent_softmax_scores(case.logits, case.rates)
    assert bool(((found >= 0) & (found <= 1)).all())
    expected = np.reshape(oracle.scores(z, r), case.logits.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=SMALLEST)


@pytest.mark.parametrize("scale", [3.0, 60.0])
def test_many_rows_and_columns(scale: float) -> None:
    """More than stand side by side, and not a multiple of it."""
    case = problem(8, proposals=70, columns=67, scale=scale, sparse=True)
    z, _, r = lists(case)
    found = concurrent_softmax_scores(case.logits, case.rates)
    np.testing.assert_allclose(found, oracle.scores(z, r), rtol=1e-5, atol=SMALLEST)


@pytest.mark.parametrize("gap", [6.0, 12.0, 16.0, 18.0, 24.0])
def test_several_concurring_classes_dominate(gap: float) -> None:
    """What they leave of the total cancels, to every degree."""
    source = torch.Generator().manual_seed(int(gap))
    rates = torch.tensor([0, 0, 0.7, 0.999, 1, 1])[torch.randint(6, (33, 33), generator=source)]
    logits = torch.randn(12, 33, generator=source)
    logits.scatter_add_(
        1, torch.rand(12, 33, generator=source).argsort(dim=1)[:, :3], torch.full((12, 3), gap)
    )
    found = concurrent_softmax_scores(logits, rates.fill_diagonal_(0))
    np.testing.assert_allclose(found, oracle.scores(logits.tolist(), rates.tolist()), rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("logits", EXTREMES)
def test_extremes(logits: list[float]) -> None:
    found = concurrent_softmax_scores(torch.tensor([logits]), EXTREME_RATES)
    expected = oracle.scores([logits], EXTREME_RATES.tolist())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=SMALLEST)


def test_without_rates_scores_are_softmax() -> None:
    logits = problem(1, proposals=40, columns=11).logits
    digits = 8 * torch.finfo(torch.float32).eps
    found = concurrent_softmax_scores(logits, torch.zeros(11, 11))
    torch.testing.assert_close(found, logits.softmax(dim=1), rtol=10 * digits, atol=digits)


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("columns", [1, 3])
def test_without_competitors_the_score_is_exactly_one(scale: float, columns: int) -> None:
    logits = problem(2, columns=columns, scale=scale).logits
    assert concurrent_softmax_scores(logits, 1 - torch.eye(columns)).min() == 1


def test_no_proposals() -> None:
    assert concurrent_softmax_scores(torch.zeros(0, 4), torch.zeros(4, 4)).shape == (0, 4)


@pytest.mark.parametrize("scale", [2.0, 500.0])
def test_derivative(scale: float) -> None:
    case = problem(4, scale=scale, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda z: concurrent_softmax_scores(z, case.rates), case.logits.requires_grad_()
    )


def test_derivative_where_a_removed_class_dominates() -> None:
    logits = torch.tensor([[300.0, 0.0, 1.0]], requires_grad=True)
    rates = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 0, 0.0]])
    scores = concurrent_softmax_scores(logits, rates)
    scores[0, 1].backward()
    share = float(torch.tensor(-1.0).sigmoid())
    assert float(scores.detach()[0, 1]) == pytest.approx(share, rel=1e-6)
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad[0], [0, share * (1 - share), -share * (1 - share)], rtol=1e-5)


@settings(max_examples=15 if INTERPRETED else 50)
@given(problems())
def test_permuting_the_classes_permutes_the_result(case: Problem) -> None:
    order = torch.randperm(case.logits.shape[1], generator=torch.Generator().manual_seed(0))
    found = concurrent_softmax_scores(case.logits[:, order], case.rates[order][:, order])
    torch.testing.assert_close(found, concurrent_softmax_scores(case.logits, case.rates)[:, order])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, autocast: bool) -> None:
    case = problem(5, proposals=20)
    low = case.logits.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        scores = concurrent_softmax_scores(low, case.rates)
    torch.testing.assert_close(scores, concurrent_softmax_scores(low.float(), case.rates), rtol=0, atol=0)


@pytest.mark.skipif(INTERPRETED, reason="the loops of a CPU")
@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1.5e-6), (torch.float64, 1e-10)])
def test_what_cancels_keeps_its_digits(path: None, dtype: torch.dtype, share: float) -> None:
    """A class that concurs fully takes all but exp(-d) of the sum: d from 0, where sums are taken in the type of the
    logits, over where they are taken in float64, to where a class gets a maximum of its own."""
    d, columns = torch.linspace(0, 24, 400, dtype=torch.float64), 50
    logits = torch.randn(400, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 2
    logits[:, 0] = logits[:, 1:].logsumexp(dim=1) + d
    rates = torch.zeros(columns, columns, dtype=dtype)
    rates[1:, 0] = 1
    rest = logits.to(dtype).double()[:, 1:]
    found = concurrent_softmax_scores(logits.to(dtype), rates)[:, 1:].double()
    assert float((found / rest.softmax(dim=1) - 1).abs().max()) < share
