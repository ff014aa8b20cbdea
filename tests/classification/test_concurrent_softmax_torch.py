"""Concurrent softmax inside what torch does to functions: compile, vmap, export, threads, processes."""

from __future__ import annotations

import ctypes
import io
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from classification.problems import problem
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from wildbox.classification import ConcurrentSoftmax, concurrent_softmax_loss, concurrent_softmax_scores
from wildbox.classification import concurrent_softmax_cpu as cpu
from wildbox.errors import InputError

CASE = problem(0, proposals=12, columns=9)
Z, Y, R = CASE
NEGATIVES = torch.rand(Z.shape, generator=torch.Generator().manual_seed(0)) < 0.5
RULE = ConcurrentSoftmax(R)


def value_and_gradient(function: Callable[[Tensor], Tensor], logits: Tensor) -> list[Tensor]:
    logits = logits.clone().requires_grad_()
    found = function(logits)
    found.backward()
    assert logits.grad is not None
    return [found.detach(), logits.grad]


@pytest.mark.parametrize(
    "function",
    [
        lambda z: concurrent_softmax_loss(z, Y, R, negatives=NEGATIVES),
        lambda z: concurrent_softmax_loss(z, Y.long().argmax(dim=1), R, reduction="sum"),
        lambda z: RULE(z, Y.float()),
        lambda z: concurrent_softmax_scores(z, R).square().sum(),
        lambda z: RULE.scores(z).square().sum(),
    ],
    ids=["loss", "one label", "module", "scores", "scores of the module"],
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_a_graph_break(function: Callable[[Tensor], Tensor], dynamic: bool) -> None:
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for found, expected in zip(value_and_gradient(compiled, Z), value_and_gradient(function, Z), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("rule", [lambda z: RULE(z, Y), RULE.scores], ids=["loss", "scores"])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_compiles_where_no_gradient_is_wanted(rule: Callable[[Tensor], Tensor], mode: Any) -> None:
    torch.compiler.reset()
    compiled = torch.compile(rule, fullgraph=True, backend="aot_eager")
    with mode():
        torch.testing.assert_close(compiled(Z), rule(Z))


@pytest.mark.parametrize("logits", [Z, Z.T.contiguous().T], ids=["rows", "columns"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operators_are_what_compilers_are_told(logits: Tensor, dtype: torch.dtype) -> None:
    """Shapes, dtypes and strides, wherever the logits lie: in rows, or in columns as after a transposition."""
    z, operators = logits.to(dtype), torch.ops.wildbox
    checks = ("test_schema", "test_faketensor")
    for name, inputs in {
        "concurrent_softmax_loss": (z, Y, R, NEGATIVES, 0.5, True),
        "concurrent_softmax_curvature": (z, Y, R, None, Z),
        "concurrent_softmax_scores": (z.float(), R, None, None, None, True),
        "concurrent_softmax_scores_backward": (z.float(), R, logits),
    }.items():
        torch.library.opcheck(getattr(operators, name).default, inputs, test_utils=checks)


def test_a_compiled_loss_names_the_row_at_fault_too() -> None:
    torch.compiler.reset()
    compiled = torch.compile(lambda z, y: concurrent_softmax_loss(z, y, R), backend="aot_eager")
    with pytest.raises(InputError, match="row 3 has no label"):
        compiled(Z, Y & (torch.arange(12) != 3)[:, None])


def test_gradients_of_each_proposal_by_vmap() -> None:
    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return concurrent_softmax_loss(logits[None], targets[None], R)

    for given in (Y, Y.float()):
        found = torch.func.vmap(torch.func.grad(loss))(Z, given)
        for logits, targets, slopes in zip(Z, given, found, strict=True):
            torch.testing.assert_close(slopes, value_and_gradient(partial(loss, targets=targets), logits)[1])


class Reads(TorchDispatchMode):
    """Counts the values that come back to Python, for which a processor waits for a GPU."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("targets", [Y, Y.float(), Y.long(), Y.long().argmax(dim=1)])
def test_without_checks_no_value_is_read(targets: Tensor) -> None:
    """A mode is nothing plain: the operators are called, of which a GPU's read none."""
    rule, checked = ConcurrentSoftmax(R, check=False), ConcurrentSoftmax(R)
    with Reads() as reads:  # type: ignore[no-untyped-call]
        rule(Z, targets)
    with Reads() as more:  # type: ignore[no-untyped-call]
        checked(Z, targets)
    assert (reads.count, more.count > 0) == (
        0,
        targets.dtype in (torch.float32, torch.int64) and targets.ndim == 2,
    )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_vmap_over_images(reduction: str) -> None:
    logits, targets = Z.view(3, 4, 9), Y.view(3, 4, 9)

    def loss(z: Tensor, y: Tensor) -> Tensor:
        return concurrent_softmax_loss(z, y, R, reduction=reduction)  # type: ignore[arg-type]

    each = [loss(z, y) for z, y in zip(logits, targets, strict=True)]
    torch.testing.assert_close(torch.func.vmap(loss)(logits, targets), torch.stack(each))
    scores = torch.func.vmap(lambda z: concurrent_softmax_scores(z, R))(logits)
    torch.testing.assert_close(scores.view_as(Z), concurrent_softmax_scores(Z, R))


def test_vmap_over_the_rates_says_that_it_is_not_there() -> None:
    with pytest.raises(NotImplementedError, match="vmap over the rates"):
        torch.func.vmap(lambda r: concurrent_softmax_loss(Z, Y, r, check=False))(torch.stack([R, R]))


def test_hessian_is_symmetric_and_that_of_its_rows() -> None:
    def loss(logits: Tensor) -> Tensor:
        return concurrent_softmax_loss(logits, Y[:2], R.double())

    logits = Z[:2].double()
    found = torch.func.jacrev(torch.func.jacrev(loss))(logits)
    torch.testing.assert_close(found, torch.autograd.functional.hessian(loss, logits))
    torch.testing.assert_close(found, found.permute(2, 3, 0, 1))
    assert found[0, :, 1].abs().max() == 0
    assert found[0, :, 0].abs().max() > 0.01


@pytest.mark.parametrize("weight", [1.0, 1.5])
def test_a_weight_of_the_loss_has_a_gradient_through_the_gradient(weight: float) -> None:
    """As weights of tasks are learned from the size of gradients; 1 is where they begin."""

    def size(w: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        found: Tensor = torch.func.grad(lambda z: w * loss(z))(Z).norm()
        return found

    label, none = Y.long().argmax(dim=1), torch.zeros_like(R)
    losses = [lambda z: concurrent_softmax_loss(z, label, none), lambda z: F.cross_entropy(z, label)]
    found, expected = (torch.func.grad(partial(size, loss=loss))(torch.tensor(weight)) for loss in losses)
    torch.testing.assert_close(found, expected)
    logits, w = Z.clone().requires_grad_(), torch.tensor(weight, requires_grad=True)
    (slopes,) = torch.autograd.grad(w * losses[0](logits), logits, create_graph=True)
    torch.testing.assert_close(torch.autograd.grad(slopes.norm(), w)[0], expected)


def test_gradients_may_be_taken_twice_and_changed() -> None:
    """The gradient that was computed with the loss is handed out as it is: the next one must not see that."""
    logits = Z.clone().requires_grad_()
    loss = concurrent_softmax_loss(logits, Y, R)
    (first,) = torch.autograd.grad(loss, logits, retain_graph=True)
    kept = first.clone()
    loss.backward(retain_graph=True)
    assert logits.grad is not None
    logits.grad.mul_(7)
    logits.grad = None
    loss.backward()
    torch.testing.assert_close(logits.grad, kept)


def test_memory_is_the_gradient() -> None:
    saved = [0]

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        concurrent_softmax_loss(Z.clone().requires_grad_(), Y, R)
    assert max(saved) == max(Z.numel(), R.numel())


@pytest.mark.parametrize("team", ["whole", "too small", "none"])
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_change_the_result(threads: int, team: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads take 64 rows each time: these are seven pieces and a rest."""
    logits, targets, _ = problem(0, proposals=450, columns=9)

    def both() -> list[Tensor]:
        loss = partial(concurrent_softmax_loss, targets=targets, rates=R, reduction="none")
        return [*value_and_gradient(lambda z: loss(z).sum(), logits), concurrent_softmax_scores(logits, R)]

    expected, whole, asked = both(), cpu.TEAM, []

    def watched(entry: int, addresses: Any, threads: int, flags: int) -> None:
        asked.append(threads)
        whole(entry, addresses, threads if team == "whole" else 2, flags)

    monkeypatch.setattr(cpu, "TEAM", None if team == "none" else watched)
    monkeypatch.setattr(cpu, "WORK", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for found, of_one_thread in zip(both(), expected, strict=True):
        assert torch.equal(found, of_one_thread)
    assert asked == ([threads] * 2 if threads > 1 and team != "none" else [])
    logits[449, 0] = torch.nan
    with pytest.raises(InputError, match="row 449"):
        both()


@pytest.mark.skipif(cpu.TEAM is None, reason="torch has no OpenMP with GNU's entry points here")
def test_a_team_has_the_threads_that_were_asked_for() -> None:
    """Each waits until all have come."""
    every = threading.Barrier(3)
    entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: every.wait(timeout=30) and None)
    cpu.TEAM(ctypes.cast(entry, ctypes.c_void_p).value, None, 3, 0)
    assert not every.broken


def test_rows_left_unfinished_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What compiled code raises ends a thread and no more: the rows are counted."""

    class Fails:
        @staticmethod
        def ctypes(addresses: Any) -> None:
            """As where there was no memory."""

    monkeypatch.setattr(cpu, "_loss_entry", lambda *_: Fails)
    monkeypatch.setattr(cpu, "_score_entry", lambda *_: Fails)
    with pytest.raises(MemoryError, match="no memory to work in"):
        concurrent_softmax_loss(Z, Y, R)
    with pytest.raises(MemoryError, match="no memory to work in"):
        concurrent_softmax_scores(Z, R)


@pytest.mark.parametrize("function", [lambda z: RULE(z, Y), RULE.scores], ids=["loss", "scores"])
def test_tensors_without_memory_are_not_written_to(function: Callable[[Tensor], Tensor]) -> None:
    """What torch.export and others plan with have shapes alone; results made among them have, too."""
    expected = function(Z)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for logits in (Z, mode.from_tensor(Z)):
            found = function(logits)
            assert isinstance(found, FakeTensor)
            assert found.shape == expected.shape


def test_a_trace_scores_other_logits() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates it, and is not sure of shapes
        traced = torch.jit.trace(Scored(), Z)
    torch.testing.assert_close(traced(-Z), RULE.scores(-Z))


class Scored(nn.Module):
    """A detector's head as it is deployed."""

    def __init__(self, rule: ConcurrentSoftmax = RULE) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, logits: Tensor) -> Tensor:
        return self.rule.scores(logits)


@pytest.mark.parametrize("scale", [2.0, 1e4])
def test_scores_export(scale: float) -> None:
    rows = torch.export.Dim("P")
    program = torch.export.export(
        Scored(), (Z,), dynamic_shapes=({0: rows},), strict=False
    )  # torch's default by now
    assert not [node for node in program.graph.nodes if "wildbox" in str(node.target)]
    logits = problem(1, proposals=5, columns=9, scale=scale).logits
    torch.testing.assert_close(program.module()(logits), RULE.scores(logits), rtol=1e-5, atol=1e-30)


def test_scores_run_in_onnx() -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(
            Scored(),
            (Z,),
            written,  # type: ignore[arg-type]
            dynamo=False,
            input_names=["z"],
            dynamic_axes={"z": {0: "P"}},
        )
    session = runtime.InferenceSession(written.getvalue())
    logits = problem(1, proposals=5, columns=9, scale=30.0).logits
    (found,) = session.run(None, {"z": logits.numpy()})
    np.testing.assert_allclose(found, RULE.scores(logits), rtol=1e-5, atol=1e-30)


HALF_OF_THE_ROWS = """
import sys
import torch
import torch.nn.functional as F
from torch import nn
from wildbox.classification import ConcurrentSoftmax


def main(rank, folder):
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    z, y, r = torch.load(f"{folder}/case.pt")
    layer = nn.Linear(9, 9, bias=False)
    nn.init.eye_(layer.weight)
    layer.rule = ConcurrentSoftmax(r.double() if rank == 0 else torch.zeros_like(r).double())
    model = nn.parallel.DistributedDataParallel(layer)  # rank 0's rates come to all
    part = slice(6 * rank, 6 * rank + 6)
    layer.rule.loss(model(z[part]), y[part]).backward()
    torch.save(layer.weight.grad, f"{folder}/{rank}.pt")
    torch.distributed.barrier()  # who leaves first while the other one still works aborts at times
    torch.distributed.destroy_process_group()


main(int(sys.argv[1]), sys.argv[2])
"""


def test_distributed_gradients_are_those_of_all_rows(tmp_path: Path) -> None:
    torch.save(tuple(CASE), tmp_path / "case.pt")
    commands = [[sys.executable, "-c", HALF_OF_THE_ROWS, str(rank), str(tmp_path)] for rank in (0, 1)]
    ranks = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    for rank in ranks:
        _, said = rank.communicate(timeout=300)
        assert rank.returncode == 0, said
    _, slopes = value_and_gradient(lambda z: RULE(z, Y), Z)
    for number in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{number}.pt"), slopes.T @ Z)


def test_scores_export_where_one_class_loses_most_of_its_competitors() -> None:
    """Three of four, each of which no other class loses: by far the largest logits."""
    rates = torch.zeros(5, 5)
    rates[0, 1:4] = 1
    logits = torch.tensor([[0.0, 1000, 1000, 1000, 0]])
    scored = Scored(ConcurrentSoftmax(rates))
    program = torch.export.export(scored, (logits,), strict=False)
    third = 1 / 3
    torch.testing.assert_close(program.module()(logits), torch.tensor([[0.5, third, third, third, 0]]))


def test_an_exported_graph_scores_by_the_rates_that_were_loaded() -> None:
    rates = torch.zeros(5, 5)
    rates[0, 1:4] = 1
    logits = torch.tensor([[0.0, 1000, 1000, 1000, 0]])
    scored = Scored(ConcurrentSoftmax(torch.zeros(5, 5)))
    scored.load_state_dict({"rule.rates": rates})
    program = torch.export.export(scored, (logits,), strict=False)
    torch.testing.assert_close(program.module()(logits), scored(logits))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_of_each_image_by_vmap_and_their_gradient(reduction: Any) -> None:
    """Images of several proposals, so that a mean is none of single rows."""
    z, y, rates = problem(0, proposals=12, columns=9, dtype=torch.float64)
    logits, targets = z.view(3, 4, 9), y.view(3, 4, 9)

    def slopes(z: Tensor, y: Tensor) -> Tensor:
        found: Tensor = torch.func.grad(lambda z: concurrent_softmax_loss(z, y, rates, reduction=reduction))(
            z
        )
        return found

    def penalty(z: Tensor) -> Tensor:
        return torch.func.vmap(slopes)(z, targets).square().sum()

    def one_by_one(z: Tensor) -> Tensor:
        return torch.stack([slopes(*image) for image in zip(z, targets, strict=True)])

    torch.testing.assert_close(torch.func.vmap(slopes)(logits, targets), one_by_one(logits))
    expected = torch.func.grad(lambda z: one_by_one(z).square().sum())(logits)
    torch.testing.assert_close(torch.func.grad(penalty)(logits), expected)
