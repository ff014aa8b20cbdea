"""Concurrent softmax: classes compete only as far as they do not label the same objects.

    training, i in Y:   -log σ*_i = log( Σ_{j ∉ Y} (1 - r_ij) exp(z_j) + exp(z_i) ) - z_i, summed over Y
    inference:               σ+_i = exp(z_i) / ( Σ_{j ≠ i} (1 - r_ij) exp(z_j) + exp(z_i) )

Source: Peng et al., "Large-Scale Object Detection in the Wild from Imbalanced Multi-Labels", CVPR 2020.
Letters: P proposals, K columns, z logits (P, K), Y the labels of one proposal, R concurrent rates (K, K): r_ij is
the share of the objects of class i that are labelled j too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

import wildbox.classification.concurrent_softmax_autograd as autograd
from wildbox.classification.concurrent_softmax_operator import competing, has_kernel, prepared
from wildbox.classification.rates import RateTiles, SparseRates, check_rates
from wildbox.classification.rule import (
    COMPUTED,
    Reduction,
    Targets,
    check_beside,
    check_logits,
    check_reduction,
    read_targets,
)
from wildbox.errors import InputError


def concurrent_softmax_loss(
    logits: Tensor,
    targets: Targets,
    rates: Tensor,
    *,
    reduction: Reduction = "mean",
    negatives: Tensor | None = None,
    check: bool = True,
) -> Tensor:
    """Negative log-likelihood of every label of every proposal, other labels and concurring classes spared.

    With rates of 0 and one label a proposal it is cross-entropy; a label without competitors costs exactly 0 and
    has no gradient. The gradient, the one (P, K) tensor that is made, is computed together with the loss.

    Args:
        logits: (P, K), finite; half and bfloat16 are computed in float32.
        targets: (P, K) multi-hot; (P,) int64, the one label of each; or a list of the labels of each. At least one
            label a proposal: that of a background proposal is the background.
        rates: (K, K) in [0, 1] with a diagonal of 0, on the device of the logits; no gradient flows here.
        reduction: mean over the P proposals (0 where P is 0), their sum, or (P,) the sum over the labels of
            each.
        negatives: (P, K) bool, the classes known to be absent: only they compete. Classes that are neither
            labels nor negatives, such as those that nobody verified, leave the denominator. Labels never
            compete. None: all classes but the labels are known to be absent.
        check: False leaves out the checks of values that make the processor wait for a GPU; a label outside the
            columns or a proposal without one then gives a loss of NaN, and each value but 0 is a label. A CPU always
            checks the rows.

    Returns:
        float32, or float64 where the logits are. Differentiable twice, in reverse mode.

    Raises:
        InputError: shapes that do not fit, rates outside [0, 1] or with a diagonal, a label outside the columns, a
            proposal without a label, logits that are not finite. Under torch.compile, errors in the rates and
            in multi-hot values other than 0 and 1 are not seen.

    >>> rates = torch.tensor([[0.0, 0.9], [0.0, 0.0]])
    >>> concurrent_softmax_loss(torch.zeros(2, 2), [[0], [1]], rates, reduction="none")
    tensor([0.0953, 0.6931])
    """
    if check and not torch.compiler.is_compiling():
        check_rates(rates)
    check_logits(logits)
    _check_size(logits, rates)
    rates = competing(rates.detach()) if has_kernel(logits) else rates.detach()
    return _loss(logits, targets, rates, reduction=reduction, negatives=negatives, check=check)


def concurrent_softmax_scores(logits: Tensor, rates: Tensor, *, check: bool = True) -> Tensor:
    """Probability of each class by itself, the labels being unknown: σ+ for all classes.

    Exact also where one class dominates and concurs fully (r = 1), so that nothing else is left in the
    denominators of others. Rows may sum to more than 1. Use `ConcurrentSoftmax` to score often, and to export: it
    looks at the rates once.

    Args:
        logits: (P, K), finite; half and bfloat16 are computed in float32.
        rates: (K, K) in [0, 1] with a diagonal of 0, on the device of the logits; no gradient flows here.
        check: as in `concurrent_softmax_loss`.

    Returns:
        (P, K) in [0, 1], float32, or float64 where the logits are. Differentiable once.

    Raises:
        InputError: as `concurrent_softmax_loss`.

    >>> rates = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    >>> concurrent_softmax_scores(torch.zeros(1, 2), rates)
    tensor([[1.0000, 0.5000]])
    """
    if check and not torch.compiler.is_compiling():
        check_rates(rates)
    check_logits(logits)
    _check_size(logits, rates)
    check_beside(logits, rates, "rates")
    return autograd.scores(logits, rates.detach(), check=check)


class ConcurrentSoftmax(nn.Module):
    """Concurrent softmax with fixed rates.

    The rates are a buffer: they follow `.to(device)`, or the logits where they lie elsewhere, and stand in
    the state dict. They keep their precision under `.half()`: 0.9999 must not become 1. Other rates are assigned, a
    state that is loaded, or what `torch.func.functional_call` is given; or they are written in their place by what
    torch counts as a write, as `copy_`, and DistributedDataParallel where it is made, but not by `.data`, numpy or
    `torch.distributed.broadcast`. What is compiled sees only the first two, what is traced none.

    Args:
        rates: (K, K) in [0, 1], the diagonal 0. From the file that an audit leaves, where the last column is the
            background: `ConcurrentSoftmax(ConcurrentRates.read(path, vocabulary).with_background())`.
        background: column of the background, -1 for the last; its rates must be 0. None: not checked.
        check: as in `concurrent_softmax_loss`.

    Raises:
        InputError: rates that are not square, outside [0, 1] or NaN, or with a diagonal or a background other
            than 0; the entry is named. Logits on meta.

    >>> rule = ConcurrentSoftmax(torch.zeros(3, 3), background=-1)
    >>> rule.scores(torch.zeros(1, 3))
    tensor([[0.3333, 0.3333, 0.3333]])
    """

    rates: Tensor
    _taken: Tensor
    """The rates that what follows was derived from."""
    _seen: tuple[int, torch.dtype]
    """How they were then: by a version that counts what is written to them."""
    _single: tuple[Tensor, SparseRates | RateTiles]
    _double: tuple[Tensor, SparseRates | RateTiles]

    def __init__(
        self, rates: Tensor | ArrayLike, *, background: int | None = None, check: bool = True
    ) -> None:
        super().__init__()
        self.background, self.check = background, check
        self.register_buffer("rates", None)
        self.rates = rates  # type: ignore[assignment]
        self.register_load_state_dict_post_hook(_look_anew)  # type: ignore[no-untyped-call]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "rates":
            self._take(_matrix(value))
        else:
            super().__setattr__(name, value)

    # in inference mode, as where Lightning checks its sanity, rates would be made that no loss can use
    @torch.inference_mode(False)
    def _take(self, rates: Tensor) -> None:
        """Derive what is computed with from the rates; called whenever they change."""
        check_rates(rates, background=self.background)
        self._buffers["rates"] = self._taken = rates
        self._seen = _state(rates)
        if rates.is_meta:  # no values yet: a state will be loaded
            self._single = self._double = rates, SparseRates(rates, rates, rates)
            self._removed = 0
        else:
            self._prepare(rates, rates.device)
            self._removed = int((rates == 1).sum(dim=1).max()) if len(rates) else 0

    def _prepare(self, exact: Tensor, device: torch.device) -> None:
        """The rates, and those above 0, for float32 and for float64 logits on a device."""
        self._single, self._double = (prepared(exact.to(dtype), device) for dtype in COMPUTED)

    def loss(
        self,
        logits: Tensor,
        targets: Targets,
        *,
        reduction: Reduction = "mean",
        negatives: Tensor | None = None,
    ) -> Tensor:
        """`concurrent_softmax_loss`."""
        rates, _ = self._beside(logits)
        _check_size(logits, rates)
        return _loss(logits, targets, rates, reduction=reduction, negatives=negatives, check=self.check)

    forward = loss

    def scores(self, logits: Tensor) -> Tensor:
        """`concurrent_softmax_scores`; in a graph that is exported, without custom operators."""
        rates, above_zero = self._beside(logits)
        _check_size(logits, rates)
        return autograd.scores(logits, rates, above_zero, removed=self._removed, check=self.check)

    def _beside(self, logits: Tensor) -> tuple[Tensor, SparseRates | RateTiles]:
        """What `_prepare` made, where the logits are."""
        check_logits(logits)
        if logits.is_meta:  # and the rates, which follow the logits, would lose theirs
            raise InputError("logits: on meta, where there are no values")
        if self._taken.is_meta:  # values may have come without loading a state
            self._take(self.rates)
            if self.rates.is_meta:
                raise InputError("rates: on meta, where there are no values; load a state that has them")
        if self._is_called_with_others():
            return self._other_rates(logits)
        self._notice()
        if self._single[0].device != logits.device:
            self.to(logits.device)
            if self._single[0].device != logits.device:
                self._prepare(self.rates, logits.device)  # FSDP had moved the buffer in its place
        return self._double if logits.dtype == torch.float64 else self._single

    def _notice(self) -> None:
        """What was written to the rates in their place is other rates, if all of their digits are there."""
        if torch.compiler.is_compiling() or torch._C._is_tracing() or _state(self._taken) == self._seen:
            return
        if self._taken.dtype not in COMPUTED:
            raise InputError(
                f"rates: made {self._taken.dtype} in their place, which keeps too few digits; "
                "FSDP's MixedPrecision has to leave buffer_dtype=None"
            )
        self._take(self._taken)

    def __getstate__(self) -> dict[str, Any]:
        self._notice()
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._seen = _state(self._taken)  # a copy's version begins anew

    def _is_called_with_others(self) -> bool:
        """Whether `torch.func.functional_call` has put other rates here; what traces or distributes puts the same."""
        given = self._buffers["rates"]
        return (
            given is not self._taken
            and type(given) in (Tensor, nn.Parameter)
            and not torch.compiler.is_compiling()
            and not torch._C._is_tracing()
            and not torch._C._is_alias_of(given, self._taken)  # type: ignore[attr-defined]
        )

    def _other_rates(self, logits: Tensor) -> tuple[Tensor, SparseRates | RateTiles]:
        """As `_beside`, of the buffer as it is now, for this call."""
        if torch._C._functorch.is_batchedtensor(self.rates):
            raise NotImplementedError(
                "concurrent softmax: vmap over the rates is not implemented; leave them out of what is stacked"
            )
        rates = self.rates.detach().to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
        if self.check:
            check_rates(rates, background=self.background)
        return prepared(rates, logits.device)

    @torch.inference_mode(False)
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        exact, changed = self.rates, _state(self._taken) != self._seen
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        device = self.rates.device
        moved = device != exact.device
        if exact.is_meta:  # there are no values to keep: a state will be loaded
            exact = self.rates.to(exact.dtype)
        self._buffers["rates"] = self._taken = exact.to(device)
        if moved:
            self._seen = (-1, exact.dtype) if changed else _state(self._taken)
            self._prepare(exact, device)
        return self


@torch.inference_mode(False)
def _matrix(rates: Tensor | ArrayLike) -> Tensor:
    """A copy of the rates, in float32 or float64."""
    typed = hasattr(rates, "dtype")  # else torch's default takes effect, which may be bfloat16
    try:
        matrix = torch.as_tensor(rates, dtype=None if typed else torch.float32).detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"rates: expected a matrix (K, K), got {type(rates).__name__}: {error}") from error
    return matrix if matrix.dtype == torch.float64 else matrix.float()


def _state(rates: Tensor) -> tuple[int, torch.dtype]:
    """Something else once they are written to; those of inference mode do not count it."""
    return 0 if rates.is_inference() else rates._version, rates.dtype


def _look_anew(module: ConcurrentSoftmax, _: object) -> None:
    """After a state was loaded; no lambda, which would keep a model from being pickled."""
    module._take(module.rates)


def _loss(
    logits: Tensor,
    targets: Targets,
    rates: Tensor,
    *,
    reduction: Reduction,
    negatives: Tensor | None,
    check: bool,
) -> Tensor:
    """`concurrent_softmax_loss` with rates of the right size, as the operator takes them."""
    check_reduction(reduction)
    check_beside(logits, rates, "rates")
    labels = read_targets(logits, targets, check=check)
    if negatives is not None:
        expected = f"negatives: expected a tensor {tuple(logits.shape)} bool"
        if not isinstance(negatives, Tensor):
            raise InputError(f"{expected}, got {type(negatives).__name__}")
        if negatives.shape != logits.shape or negatives.dtype != torch.bool:
            raise InputError(f"{expected}, got {tuple(negatives.shape)} {negatives.dtype}")
        check_beside(logits, negatives, "negatives")
    return autograd.loss(logits, labels, rates, negatives, reduction=reduction, check=check)


def _check_size(logits: Tensor, rates: Tensor) -> None:
    k = logits.shape[1]
    if k == 0:
        raise InputError(f"logits: expected at least one column, got {tuple(logits.shape)}")
    if rates.shape != (k, k):
        raise InputError(
            f"rates: expected ({k}, {k}) for logits {tuple(logits.shape)}, got {tuple(rates.shape)}"
        )
