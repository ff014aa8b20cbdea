"""Concurrent softmax with its derivatives: the gradient of the loss is computed together with it.

`torch.func` and second derivatives of the loss work, third ones do not. Letters: P proposals, K columns, z logits
(P, K), r rates (K, K).
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

import wildbox.classification.concurrent_softmax_formula as formula
import wildbox.classification.concurrent_softmax_operator as operator
from wildbox.classification.rates import RateTiles, SparseRates
from wildbox.classification.rule import computed

MANY = 1 << 20
"""Slopes that it pays to multiply in place on a GPU: none where the factor is 1, which the processor cannot see."""


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
    logits: Tensor,
    rates: Tensor,
    above_zero: SparseRates | RateTiles | None = None,
    *,
    removed: int | None = None,
    check: bool,
) -> Tensor:
    """(P, K) σ+ of every class, float32 or float64, differentiable once.

    Args:
        above_zero: `arranged(rates)` where it is at hand.
        removed: the largest number of rates of 1 in a row, which a graph that is exported without custom operators
            needs; None: it has one.
    """
    offsets, others, values = (None, None, None) if above_zero is None else above_zero
    plain = _is_plain(logits)
    if plain and not (logits.requires_grad and torch.is_grad_enabled()):
        return operator.scores(logits, rates, offsets, others, values, check)
    z = computed(logits)
    if (
        not plain
        and removed is not None
        and (torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export())
    ):
        return formula.exportable_scores(z, rates.to(z.dtype), removed=removed)
    found: Tensor = _Scores.apply(z, rates, offsets, others, values, check)
    return found


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
        found, slopes = operator.losses_and_slopes(
            logits, labels, rates, negatives, _scale(reduction, logits.shape[0]), check
        )
        ctx.reduction, ctx.spent = reduction, False
        ctx.save_for_backward(logits, labels, rates, negatives, slopes)
        return _reduced(found, reduction)

    @staticmethod
    def backward(ctx: Any, direction: Tensor) -> Any:
        *inputs, slopes = ctx.saved_tensors
        if ctx.spent:  # backward has come before, and they were multiplied in place
            logits, labels, rates, negatives = inputs
            scale = _scale(ctx.reduction, len(slopes))
            slopes = operator.losses_and_slopes(logits, labels, rates, negatives, scale, False)[1]
        if torch.is_grad_enabled() or slopes.numel() < MANY or not operator.has_kernel(slopes):
            found = _slopes_along(inputs, slopes, direction, ctx.reduction)
        else:
            import wildbox.classification.concurrent_softmax_kernel as kernel

            ctx.spent = True
            found = kernel.scale_rows(slopes, direction).to(inputs[0].dtype)
        return found, None, None, None, None, None


class _Loss(torch.autograd.Function):
    """The same for torch.compile and torch.func, with the gradient as a second result."""

    @staticmethod
    def forward(
        logits: Tensor, labels: Tensor, rates: Tensor, negatives: Tensor | None, reduction: str, check: bool
    ) -> tuple[Tensor, Tensor]:
        scale = _scale(reduction, len(logits))
        run = operator.losses_and_slopes if _is_plain(logits) else operator.traced_loss
        found, slopes = run(logits, labels, rates, negatives, scale, check)
        return _reduced(found, reduction), slopes

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *saved, ctx.reduction, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # no (P, K) zeros for it
        ctx.save_for_backward(*saved, output[1])

    @staticmethod
    def backward(ctx: Any, direction: Tensor | None, _: None) -> Any:
        *inputs, slopes = ctx.saved_tensors
        found = None if direction is None else _slopes_along(inputs, slopes, direction, ctx.reduction)
        return found, None, None, None, None, None

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
    if reduction == "none":
        return found
    return found.mean() if reduction == "mean" and found.shape[0] else found.sum()


def _slopes_along(inputs: Any, slopes: Tensor, direction: Tensor, reduction: str) -> Tensor:
    """The gradient that was saved, times the direction that backward has come from: a scalar, or (P,) for "none"."""
    if torch.is_grad_enabled():  # the gradient itself will be differentiated
        slopes = _Slopes.apply(*inputs, slopes, _scale(reduction, len(slopes)))
    # where the gradient itself will be differentiated, so may be what it is multiplied with
    if torch.is_grad_enabled() or not _is_one(direction):
        slopes = slopes * (direction[:, None] if reduction == "none" else direction)
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
    """`operator.curvature`, which has no derivative here, under vmap."""

    @staticmethod
    def forward(
        logits: Tensor, labels: Tensor, rates: Tensor, negatives: Tensor | None, direction: Tensor
    ) -> Tensor:
        product: Tensor = operator.curvature(logits, labels, rates, negatives, direction)
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
        run = operator.scores if _is_plain(z) else operator.traced_scores
        found: Tensor = run(z, rates, offsets, others, values, check)
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
    """`operator.scores_backward`, which has no derivative here, under vmap."""

    @staticmethod
    def forward(z: Tensor, rates: Tensor, direction: Tensor) -> Tensor:
        slopes: Tensor = operator.scores_backward(z, rates, direction)
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
