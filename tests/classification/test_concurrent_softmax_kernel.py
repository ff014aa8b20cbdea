"""The GPU's kernels: interpreted on the CPU, compiled for a GPU and run on the CPU, and run where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from classification.problems import Problem, problem
from compiled import Compiled
from torch import Tensor

from wildbox.classification import ConcurrentSoftmax, concurrent_softmax_loss, concurrent_softmax_scores
from wildbox.classification import concurrent_softmax_formula as formula
from wildbox.classification import concurrent_softmax_kernel as kernel
from wildbox.classification import concurrent_softmax_operator as operator
from wildbox.classification import concurrent_softmax_score_kernel as score_kernel
from wildbox.classification.rates import FIRST, rate_tiles, sparse_rates
from wildbox.errors import InputError

pytest.importorskip("triton")
TESTS = [
    Path(__file__).with_name(name)
    for name in (
        "test_concurrent_softmax.py",
        "test_concurrent_softmax_input.py",
        "test_concurrent_softmax_scores.py",
    )
]


def gpu(test: Any) -> Any:
    """Run where there is one."""
    return pytest.mark.gpu(
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")(test)
    )


def test_everything_that_must_hold_holds_interpreted() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, TESTS)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels run as they are compiled for an H100, which need not be there."""
    for module, name in (
        (kernel, "_loss_kernel"),
        (kernel, "_scale_kernel"),
        (score_kernel, "_score_kernel"),
    ):
        monkeypatch.setattr(module, name, Compiled(getattr(module, name)))


def extreme(columns: int, *, proposals: int = 6) -> Problem:
    """Logits within 3, 200 and 10,000, two rows each, and rates of 0.3, 0.9999 and 1."""
    case = problem(columns, proposals=proposals, columns=columns, scale=1, sparse=columns > 100)
    scales = torch.tensor([3.0, 3.0, 200.0, 200.0, 1e4, 1e4])
    return case._replace(logits=case.logits * scales[:proposals, None])


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(
    ("columns", "dtype", "one", "negatives"),
    [
        (601, torch.float32, True, False),
        (601, torch.float32, True, True),
        (601, torch.float32, False, False),
        (601, torch.bfloat16, True, True),
        (601, torch.bfloat16, False, True),
        (1, torch.float32, False, False),
        (40, torch.bfloat16, True, False),  # rows that lie on 16 bytes are read otherwise
        (608, torch.float32, False, True),
        (1500, torch.float32, True, True),  # two warps a row
        (1500, torch.bfloat16, False, False),
    ],
)
def test_the_compiled_loss(columns: int, dtype: torch.dtype, one: bool, negatives: bool) -> None:
    case = extreme(columns)
    low = case.logits.to(dtype)
    label = case.targets.int().argmax(dim=1)
    members = F.one_hot(label, columns).bool()
    members |= case.targets & (torch.arange(columns) % 5 == 0) & (not one)
    absent = torch.rand(low.shape, generator=torch.Generator().manual_seed(1)) < 0.5 if negatives else None
    labels = label if one else members
    losses, slopes = kernel.losses_and_slopes(low, labels, operator.competing(case.rates), absent, 0.25)
    expected, steep = formula.losses_and_slopes(low.double(), members, case.rates.double(), absent)
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-6)
    tolerance = 1e-5 if dtype == torch.float32 else 2**-8
    torch.testing.assert_close(slopes.double(), steep / 4, rtol=tolerance, atol=1e-6)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(
    ("columns", "dtype"),
    [(601, torch.float32), (601, torch.bfloat16), (2, torch.float32), (1500, torch.float32)],
)
def test_the_compiled_scores(columns: int, dtype: torch.dtype) -> None:
    case = extreme(columns, proposals=5)
    low = case.logits.to(dtype)
    tiles = rate_tiles(sparse_rates(case.rates), width=score_kernel.tile_width(columns))
    found, finite = score_kernel.scores(low, case.rates, tiles)
    torch.testing.assert_close(
        found.double(), formula.scores(low.double(), case.rates.double()), rtol=1e-5, atol=1e-12
    )
    assert finite.all()


def test_scores_of_many_classes_compile() -> None:
    """What runs would be too much to wait for."""
    floats, wide = torch.zeros(4), torch.zeros(4, dtype=torch.int64)
    small, bits = torch.zeros(4, dtype=torch.int32), torch.zeros(4, dtype=torch.uint8)
    arguments = (floats, floats, small, wide, small, floats, bits, floats, floats, 7, 2)
    width = score_kernel.tile_width(9000)
    constants = {"COLUMNS": 9000, "FIRST": FIRST, "WIDTH": width, "GROUP": score_kernel.GROUP}
    assert Compiled(score_kernel._score_kernel).compile(arguments, constants | {"num_warps": width // 32})


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("factors", [torch.tensor(3.0), torch.tensor([1.0, 0.0, -2.0])])
def test_the_compiled_scaling(factors: Tensor) -> None:
    slopes = torch.randn(3, 1100).bfloat16()
    expected = slopes * (factors if factors.ndim == 0 else factors[:, None])
    torch.testing.assert_close(kernel.scale_rows(slopes, factors), expected.bfloat16())


@pytest.fixture
def case() -> Problem:
    return problem(0, proposals=2000, columns=601, scale=3, sparse=True)


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("scale", [3.0, 1e4])
@pytest.mark.parametrize("one", [False, True])
def test_the_loss_on_the_gpu(dtype: torch.dtype, scale: float, one: bool) -> None:
    case = problem(0, proposals=2000, columns=601, scale=scale, sparse=True)
    low = case.logits.to(dtype)
    members = F.one_hot(case.targets.int().argmax(dim=1), 601).bool() if one else case.targets
    negatives = torch.rand(low.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    expected, slopes = formula.losses_and_slopes(low.double(), members, case.rates.double(), negatives)
    logits = low.cuda().requires_grad_()
    found = concurrent_softmax_loss(
        logits,
        (members.int().argmax(dim=1) if one else members).cuda(),
        case.rates.cuda(),
        reduction="none",
        negatives=negatives.cuda(),
    )
    weights = torch.rand(2000, generator=torch.Generator().manual_seed(2)).to(found).cpu()
    found.backward(weights.cuda())
    assert logits.grad is not None
    torch.testing.assert_close(found.detach().cpu().double(), expected, rtol=1e-5, atol=1e-6)
    digits = max(2 * torch.finfo(dtype).eps, 1e-5)  # bfloat16 slopes are rounded before and after the weights
    slopes = slopes * weights[:, None].double()
    torch.testing.assert_close(logits.grad.cpu().double(), slopes, rtol=digits, atol=1e-6)


@gpu
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("proposals", [20, 2000])  # multiplied apart, and in place
def test_backward_may_come_several_times_on_the_gpu(reduction: Any, proposals: int) -> None:
    case = problem(0, proposals=proposals, columns=601, scale=3, sparse=True)
    logits, targets, rates = (part.cuda() for part in case)
    logits.requires_grad_()
    loss = concurrent_softmax_loss(logits, targets, rates, reduction=reduction)
    (once,) = torch.autograd.grad(loss, logits, retain_graph=True)
    kept = once.clone()
    (thrice,) = torch.autograd.grad(3 * loss, logits, retain_graph=True)
    (smooth,) = torch.autograd.grad(2 * loss, logits, retain_graph=True, create_graph=True)
    (again,) = torch.autograd.grad(loss, logits)
    for found, factor in ((once, 1), (thrice, 3), (smooth, 2), (again, 1)):
        torch.testing.assert_close(found.detach(), factor * kept)
    expected = formula.losses_and_slopes(case.logits.double(), case.targets, case.rates.double())[1]
    share = 1 / proposals if reduction == "mean" else 1
    torch.testing.assert_close(kept.cpu().double(), expected * share, rtol=1e-5, atol=1e-6)


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("scale", [3.0, 30.0, 1e4])
@pytest.mark.parametrize("proposals", [0, 3, 2000])
@pytest.mark.parametrize("dense", [False, True])
def test_scores_on_the_gpu(dtype: torch.dtype, scale: float, proposals: int, dense: bool) -> None:
    case = problem(0, proposals=proposals, columns=601, scale=scale, sparse=not dense)
    low = case.logits.to(dtype)
    expected = formula.scores(low.double(), case.rates.double())
    for found in (
        ConcurrentSoftmax(case.rates).scores(low.cuda()),
        concurrent_softmax_scores(low.cuda(), case.rates.cuda()),
        concurrent_softmax_scores(low.cuda().requires_grad_(), case.rates.cuda()).detach(),
    ):
        assert found.dtype == (dtype if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(found.cpu().double(), expected, rtol=2e-5, atol=1e-6)


@gpu
def test_pieces_compile_on_the_gpu(case: Problem) -> None:
    rule, logits, targets = ConcurrentSoftmax(case.rates).cuda(), case.logits.cuda(), case.targets.cuda()
    fast = torch.compile(rule, fullgraph=True)
    slopes = [
        torch.autograd.grad(f(z := logits.clone().requires_grad_(), targets), z)[0] for f in (rule, fast)
    ]
    torch.testing.assert_close(*slopes)
    torch.testing.assert_close(torch.compile(rule.scores, fullgraph=True)(logits), rule.scores(logits))


@gpu
def test_autocast_and_scaler_on_the_gpu(case: Problem) -> None:
    rule, features = ConcurrentSoftmax(case.rates).cuda(), torch.randn(2000, 64).cuda()
    layer = torch.nn.Linear(64, 601).cuda()
    slopes = []
    for dtype, scale in ((torch.float32, 1.0), (torch.bfloat16, 1.0), (torch.float16, 65536.0)):
        layer.zero_grad()
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            loss = rule(layer(features), case.targets.cuda())
        (loss * scale).backward()
        assert layer.weight.grad is not None
        slopes.append(layer.weight.grad / scale)
    for found in slopes[1:]:
        assert F.cosine_similarity(found.flatten(), slopes[0].flatten(), dim=0) > 0.999


@gpu
def test_the_gpu_names_the_row_at_fault() -> None:
    logits, rates = torch.zeros(2, 3, device="cuda"), torch.zeros(3, 3, device="cuda")
    outside = torch.tensor([0, 3], device="cuda")
    with pytest.raises(InputError, match="row 1 is 3"):
        concurrent_softmax_loss(logits, outside, rates)
    unchecked = concurrent_softmax_loss(logits, outside, rates, reduction="none", check=False)
    assert unchecked.isnan().tolist() == [False, True]
    with pytest.raises(InputError, match="row 1"):
        concurrent_softmax_loss(logits, torch.tensor([[1, 0, 1], [0, 0, 0]], device="cuda").bool(), rates)


@gpu
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_gpu_names_logits_that_are_not_finite(bad: float) -> None:
    logits, rates = torch.zeros(40, 33, device="cuda"), torch.zeros(33, 33, device="cuda")
    logits[37, 32] = bad
    with pytest.raises(InputError, match=r"row 37 is .* in column 32"):
        concurrent_softmax_scores(logits, rates)
    for label in (3, 32):
        with pytest.raises(InputError, match=r"row 37 is .* in column 32"):
            concurrent_softmax_loss(logits, torch.full((40,), label, device="cuda"), rates)


@pytest.mark.parametrize("width", [2, 5, 32])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_tiles_hold_all_rates_of_every_class_once(width: int, share: float) -> None:
    source = torch.Generator().manual_seed(width)
    rates = torch.rand(23, 23, generator=source) * (torch.rand(23, 23, generator=source) < share)
    offsets, others, places = rate_tiles(sparse_rates(rates), width=width)
    found, size = torch.zeros(23, 24), len(places)
    assert size % width == 0

    def add(row: int, pair: int) -> None:
        competes = torch.tensor(pair >> 32, dtype=torch.int32).view(torch.float32)
        found[row, pair & 0xFFFFFFFF] += 1 - competes

    for i in range(23):
        for level in range(FIRST):
            add(i, int(others[level * size + i]))
        if places[i] > 0:
            tile, lane = divmod(int(places[i]) - 1, width)
            for level in range(*offsets[tile : tile + 2].tolist()):
                add(i, int(others[FIRST * size + level * width + lane]))
    assert torch.equal(found[:, :23], 1 - (1 - rates))
