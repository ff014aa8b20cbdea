"""Concurrent softmax as operators of torch, each in the fastest way that there is for its inputs.

An operator is opaque to torch.compile, so the number of labels may depend on the data without a graph break. The
gradient of the loss is computed together with it; `torch.func` and second derivatives work, third ones do not.
Letters: P proposals, K columns, z logits (P, K), r rates (K, K).
"""

from __future__ import annotations

import inspect
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

import wildbox.classification.concurrent_softmax_cpu as cpu
import wildbox.classification.concurrent_softmax_formula as formula
from wildbox.classification.rates import SparseRates, sparse_rates
from wildbox.classification.rule import as_computed, as_multi_hot, check_finite, check_rows

MOST_COLUMNS = 1 << 14
"""A row must fit into the registers of one program of the GPU's kernel."""


def loss(
    logits: Tensor, labels: Tensor, rates: Tensor, negatives: Tensor | None, *, reduction: str, check: bool
) -> Tensor:
    """The loss, differentiable twice: (P,) of each proposal ("none"), or their "mean" or "sum".

    Args:
        labels: (P, K) bool or (P,) int64.
        rates: (K, K) in [0, 1], on the device of the logits.
        check: look at rows where that means to wait for a GPU; on a CPU they are always looked at.
    """
    inputs = (logits, labels, rates, negatives, reduction, check)
    found: Tensor = _PlainLoss.apply(*inputs) if _is_plain(logits) else _Loss.apply(*inputs)[0]
    return found


def scores(
    z: Tensor,
    rates: Tensor,
    sparse: SparseRates | None = None,
    *,
    removed: int | None = None,
    check: bool,
) -> Tensor:
    """(P, K) σ+ of every class, differentiable once.

    Args:
        z: (P, K) as computed.
        sparse: `sparse_rates(rates)` where it is at hand.
        removed: the largest number of rates of 1 in a row, which a graph that is exported without custom operators
            needs; None: it has one.
    """
    offsets, others, values = (None, None, None) if sparse is None else sparse
    if _is_plain(z):
        if not (z.requires_grad and torch.is_grad_enabled()):
            return _scores(z, rates, offsets, others, values, check)
    elif removed is not None and (torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()):
        return formula.exportable_scores(z, rates.to(z.dtype), removed=removed)
    found: Tensor = _Scores.apply(z, rates, offsets, others, values, check)
    return found


def _loss(
    logits: Tensor, labels: Tensor, rates: Tensor, negatives: Tensor | None, scale: float, check: bool
) -> tuple[Tensor, Tensor]:
    """(P,) losses, and (P, K) `scale` times their gradient."""
    if _has_kernel(logits):
        import wildbox.classification.concurrent_softmax_kernel as kernel

        found, slopes = kernel.losses_and_slopes(logits, labels, rates.float(), negatives, scale)
        if check and not bool(found.isfinite().all()):
            check_rows(logits, labels)
        return found, slopes
    z, rates = as_computed(logits), rates.to(as_computed(logits).dtype)
    if z.device.type == "cpu":
        return cpu.losses_and_slopes(z, labels, rates, negatives, scale)
    if check:
        check_rows(z, labels)
    found, slopes = formula.losses_and_slopes(z, as_multi_hot(z, labels), rates, negatives)
    return found, slopes * scale


_traced_loss = torch.library.custom_op("wildbox::concurrent_softmax_loss", _loss, mutates_args=())


@_traced_loss.register_fake
def _(logits: Tensor, labels: Any, rates: Any, negatives: Any, scale: Any, check: Any) -> Any:
    found = logits.new_empty(len(logits), dtype=as_computed(logits).dtype)
    return found, _like(logits, dtype=_slope_dtype(logits))


@torch.library.custom_op("wildbox::concurrent_softmax_curvature", mutates_args=())
def _curvature(
    logits: Tensor, labels: Tensor, rates: Tensor, negatives: Tensor | None, direction: Tensor
) -> Tensor:
    """(P, K) the second derivative of the sum of losses, times a direction (P, K)."""
    z = as_computed(logits)
    return formula.curvature(z, as_multi_hot(z, labels), rates.to(z.dtype), negatives, direction.to(z.dtype))


@_curvature.register_fake
def _(logits: Tensor, labels: Tensor, rates: Tensor, negatives: Tensor | None, direction: Tensor) -> Any:
    return _like(logits, dtype=as_computed(logits).dtype)


def _scores(
    z: Tensor,
    rates: Tensor,
    offsets: Tensor | None,
    others: Tensor | None,
    values: Tensor | None,
    check: bool,
) -> Tensor:
    if rates.dtype != z.dtype:
        rates, values = rates.to(z.dtype), None if values is None else values.to(z.dtype)
    if z.is_cpu:
        if offsets is None or others is None or values is None:
            offsets, others, values = sparse_rates(rates)
        return cpu.scores(z, rates, offsets, others, values)
    if check:
        check_finite(z)
    return formula.scores(z, rates).contiguous()


_traced_scores = torch.library.custom_op("wildbox::concurrent_softmax_scores", _scores, mutates_args=())


@_traced_scores.register_fake
def _(z: Tensor, rates: Tensor, offsets: Any, others: Any, values: Any, check: bool) -> Any:
    return _like(z, dtype=z.dtype)


@torch.library.custom_op("wildbox::concurrent_softmax_scores_backward", mutates_args=())
def _scores_backward(z: Tensor, rates: Tensor, direction: Tensor) -> Tensor:
    """(P, K) the gradient with respect to the logits of the sum of scores times a direction (P, K)."""
    return formula.scores_slopes(z, rates.to(z.dtype), direction).contiguous()


@_scores_backward.register_fake
def _(z: Tensor, rates: Tensor, direction: Tensor) -> Any:
    return _like(z, dtype=z.dtype)


def _like(logits: Tensor, *, dtype: torch.dtype) -> Tensor:
    """What every operator returns, however the logits lie: compiled code relies on its strides."""
    return torch.empty_like(logits, dtype=dtype, memory_format=torch.contiguous_format)


def _scale(reduction: str, rows: int) -> float:
    return 1 / max(rows, 1) if reduction == "mean" else 1.0


def _is_plain(logits: Tensor) -> bool:
    """Whether nothing traces, transforms or fakes: then the loops may write to addresses, and nobody need know."""
    return (
        type(logits) is Tensor
        and not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()
    )


def _is_one(direction: Tensor) -> bool:
    """Whether there is nothing to multiply, where a CPU can tell."""
    if direction.ndim or direction.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    try:
        return direction.item() == 1
    except RuntimeError:  # under vmap there is no one value
        return False


def _has_kernel(logits: Tensor) -> bool:
    on_gpu = logits.device.type == "cuda" and logits.dtype != torch.float64
    return on_gpu and logits.shape[1] <= MOST_COLUMNS and find_spec("triton") is not None


def _slope_dtype(logits: Tensor) -> torch.dtype:
    """Of the gradient as it is kept."""
    as_it_is = _has_kernel(logits) and logits.dtype == torch.bfloat16
    return logits.dtype if as_it_is else as_computed(logits).dtype


def _folded(size: int, dims: Any, inputs: Any, *, shared: set[int]) -> list[Any]:
    """The inputs of a batch of problems, one below the other, as those of one problem with more rows.

    Args:
        shared: the positions of inputs that all problems must share, such as the rates.
    """
    folded = []
    for position, (value, dim) in enumerate(zip(inputs, dims, strict=True)):
        if dim is not None and position in shared:
            raise NotImplementedError("concurrent softmax: vmap over the rates is not implemented")
        if isinstance(value, Tensor) and position not in shared:
            value = value.expand(size, *value.shape) if dim is None else value.movedim(dim, 0)
            value = value.flatten(0, 1)
        folded.append(value)
    return folded


class _PlainLoss(torch.autograd.Function):
    """Losses, reduced; the gradient was computed beside them. As `_Loss`, at a third of the cost of a call."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        labels: Tensor,
        rates: Tensor,
        negatives: Tensor | None,
        reduction: str,
        check: bool,
    ) -> Tensor:
        found, slopes = _loss(logits, labels, rates, negatives, _scale(reduction, logits.shape[0]), check)
        ctx.reduction = reduction
        ctx.save_for_backward(logits, labels, rates, negatives, slopes)
        return _reduced(found, reduction)

    @staticmethod
    def backward(ctx: Any, direction: Tensor) -> Any:
        return _slopes_along(ctx, direction), None, None, None, None, None


class _Loss(torch.autograd.Function):
    """The same for torch.compile and torch.func, with the gradient as a second result."""

    @staticmethod
    def forward(
        logits: Tensor, labels: Tensor, rates: Tensor, negatives: Tensor | None, reduction: str, check: bool
    ) -> tuple[Tensor, Tensor]:
        scale = _scale(reduction, len(logits))
        operator = _loss if _is_plain(logits) else _traced_loss
        found, slopes = operator(logits, labels, rates, negatives, scale, check)
        return _reduced(found, reduction), slopes

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *saved, ctx.reduction, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # no (P, K) zeros for it
        ctx.save_for_backward(*saved, output[1])

    @staticmethod
    def backward(ctx: Any, direction: Tensor | None, _: None) -> Any:
        slopes = None if direction is None else _slopes_along(ctx, direction)
        return slopes, None, None, None, None, None

    @staticmethod
    def vmap(info: Any, dims: Any, *inputs: Any) -> Any:
        size = info.batch_size
        *tensors, reduction, check = _folded(size, dims, inputs, shared={2})
        found, slopes = _Loss.apply(*tensors, "none", check)
        found, slopes = found.unflatten(0, (size, -1)), slopes.unflatten(0, (size, -1))
        if reduction == "none":
            return (found, slopes), (0, 0)
        scale = _scale(reduction, found.shape[1])
        return (found.sum(dim=1) * scale, slopes * scale), (0, 0)


def _reduced(found: Tensor, reduction: str) -> Tensor:
    return found if reduction == "none" else found.sum() * _scale(reduction, found.shape[0])


def _slopes_along(ctx: Any, direction: Tensor) -> Tensor:
    """The gradient that was saved, times the direction that backward has come from: a scalar, or (P,) for "none"."""
    *inputs, slopes = ctx.saved_tensors
    if torch.is_grad_enabled():  # the gradient itself will be differentiated
        slopes = _Slopes.apply(*inputs, slopes, _scale(ctx.reduction, len(slopes)))
    if not _is_one(direction):
        slopes = slopes * (direction[:, None] if ctx.reduction == "none" else direction)
    wanted: Tensor = slopes.to(inputs[0].dtype)
    return wanted


class _Slopes(torch.autograd.Function):
    """The gradient of the losses (P, K), known already, as a function of the logits."""

    @staticmethod
    def forward(
        logits: Tensor,
        labels: Tensor,
        rates: Tensor,
        negatives: Tensor | None,
        slopes: Tensor,
        scale: float,
    ) -> Tensor:
        return slopes.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *saved, _, ctx.scale = inputs
        ctx.save_for_backward(*saved)

    @staticmethod
    def backward(ctx: Any, direction: Tensor) -> Any:
        logits = ctx.saved_tensors[0]
        product = _Curvature.apply(*ctx.saved_tensors, direction)
        return (product * ctx.scale).to(logits.dtype), None, None, None, None, None

    @staticmethod
    def vmap(info: Any, dims: Any, *inputs: Any) -> Any:
        size = info.batch_size
        slopes = _Slopes.apply(*_folded(size, dims, inputs, shared={2}))
        return slopes.unflatten(0, (size, -1)), 0


class _Curvature(torch.autograd.Function):
    """`_curvature`, which has no derivative here, under vmap."""

    @staticmethod
    def forward(
        logits: Tensor, labels: Tensor, rates: Tensor, negatives: Tensor | None, direction: Tensor
    ) -> Tensor:
        product: Tensor = _curvature(logits, labels, rates, negatives, direction)
        return product

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, direction: Tensor) -> Any:
        raise NotImplementedError("concurrent softmax loss: the third derivative is not implemented")

    @staticmethod
    def vmap(info: Any, dims: Any, *inputs: Any) -> Any:
        size = info.batch_size
        product = _Curvature.apply(*_folded(size, dims, inputs, shared={2}))
        return product.unflatten(0, (size, -1)), 0


class _Scores(torch.autograd.Function):
    """Every argument has a name: of `*others`, torch.compile makes a context where no gradient is wanted."""

    @staticmethod
    def forward(
        z: Tensor,
        rates: Tensor,
        offsets: Tensor | None,
        others: Tensor | None,
        values: Tensor | None,
        check: bool,
    ) -> Tensor:
        operator = _scores if _is_plain(z) else _traced_scores
        found: Tensor = operator(z, rates, offsets, others, values, check)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0], inputs[1])

    @staticmethod
    def backward(ctx: Any, direction: Tensor) -> Any:
        slopes = _ScoresBackward.apply(*ctx.saved_tensors, direction)
        return slopes, None, None, None, None, None

    @staticmethod
    def vmap(info: Any, dims: Any, *inputs: Any) -> Any:
        size = info.batch_size
        found = _Scores.apply(*_folded(size, dims, inputs, shared={1, 2, 3, 4}))
        return found.unflatten(0, (size, -1)), 0


class _ScoresBackward(torch.autograd.Function):
    """`_scores_backward`, which has no derivative here, under vmap."""

    @staticmethod
    def forward(z: Tensor, rates: Tensor, direction: Tensor) -> Tensor:
        slopes: Tensor = _scores_backward(z, rates, direction)
        return slopes

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, direction: Tensor) -> Any:
        raise NotImplementedError("concurrent softmax scores: the second derivative is not implemented")

    @staticmethod
    def vmap(info: Any, dims: Any, *inputs: Any) -> Any:
        size = info.batch_size
        slopes = _ScoresBackward.apply(*_folded(size, dims, inputs, shared={1}))
        return slopes.unflatten(0, (size, -1)), 0


for _function in (_Loss, _Slopes, _Curvature, _Scores, _ScoresBackward):
    # torch asks for it in each call, and to find it out takes as long as a thousand logits
    _function.forward.__signature__ = inspect.signature(_function.forward)  # type: ignore[union-attr]
