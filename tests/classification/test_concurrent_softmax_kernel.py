"""The GPU's kernel: interpreted on the CPU, compiled without a GPU, and run where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from classification.problems import problem

from wildbox.classification import concurrent_softmax_formula as formula
from wildbox.classification import concurrent_softmax_kernel as kernel
from wildbox.classification import concurrent_softmax_loss
from wildbox.errors import InputError

triton = pytest.importorskip("triton")
LOSS_TESTS = Path(__file__).with_name("test_concurrent_softmax.py")


def test_everything_that_must_hold_of_the_loss_holds_interpreted() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(LOSS_TESTS)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("logits", ["fp32", "bf16"])
@pytest.mark.parametrize("labels", ["u8", "i64"])
def test_compiles_for_a_gpu(logits: str, labels: str) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    pointers = {"logits": logits, "labels": labels, "rates": "fp32", "absent": "u8", "losses": "fp32"}
    signature = {name: f"*{kind}" for name, kind in pointers.items()}
    signature |= {"slopes": f"*{logits}", "columns": "i32", "scale": "fp32"}
    constants = {"BLOCK": 1024, "MULTI_HOT": labels == "u8", "SOME_ABSENT": True}
    signature |= dict.fromkeys(constants, "constexpr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = ASTSource(kernel._loss_kernel, signature=signature, constexprs=constants)
        built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    assert "cubin" in built.asm


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [3.0, 1e4])
def test_on_the_gpu(dtype: torch.dtype, scale: float) -> None:
    case = problem(0, proposals=2000, columns=601, scale=scale, sparse=True)
    low = case.logits.to(dtype)
    negatives = torch.rand(low.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    expected, slopes = formula.losses_and_slopes(low.double(), case.targets, case.rates.double(), negatives)
    logits = low.cuda().requires_grad_()
    found = concurrent_softmax_loss(
        logits, case.targets.cuda(), case.rates.cuda(), reduction="none", negatives=negatives.cuda()
    )
    found.sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(found.cpu().double(), expected, rtol=1e-5, atol=1e-6)
    digits = max(torch.finfo(dtype).eps, 1e-5)
    torch.testing.assert_close(logits.grad.cpu().double(), slopes, rtol=digits, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_names_the_row_at_fault() -> None:
    logits, rates = torch.zeros(2, 3, device="cuda"), torch.zeros(3, 3, device="cuda")
    outside = torch.tensor([0, 3], device="cuda")
    with pytest.raises(InputError, match="row 1 is 3"):
        concurrent_softmax_loss(logits, outside, rates)
    unchecked = concurrent_softmax_loss(logits, outside, rates, reduction="none", check=False)
    assert unchecked.isnan().tolist() == [False, True]
