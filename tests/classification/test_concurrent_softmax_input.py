"""What concurrent softmax refuses, and how it says so; and its module."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from classification.problems import INTERPRETED, by_kernels, problem
from torch import Tensor

from wildbox.classification import (
    ConcurrentSoftmax,
    Equalization,
    concurrent_softmax_loss,
    concurrent_softmax_scores,
)
from wildbox.errors import ConfigError, InputError
from wildbox.labels.concurrency import ConcurrentRates
from wildbox.vocabulary import Vocabulary

BAD_RATES = [
    (torch.zeros(2, 3), r"expected \(K, K\) of floats, got \(2, 3\)"),
    (torch.tensor([[0, 1.5], [0, 0]]), r"rates\[0, 1\] is 1.5, expected 0 to 1"),
    (torch.tensor([[0, 0], [-0.25, 0]]), r"rates\[1, 0\] is -0.25"),
    (torch.tensor([[0, torch.nan], [0, 0]]), r"rates\[0, 1\] is nan"),
    (torch.tensor([[0, 0], [0, 0.5]]), r"rates\[1, 1\] is 0.5, expected 0 on the diagonal"),
]


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the tests of loss and scores: on the CPU's way, and interpreted on that of a GPU."""
    if INTERPRETED:
        by_kernels(monkeypatch)


@pytest.mark.parametrize(("rates", "message"), BAD_RATES)
def test_rates_are_checked(rates: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ConcurrentSoftmax(rates)
    with pytest.raises(InputError, match=message):
        concurrent_softmax_loss(torch.zeros(1, 2), [[0]], rates)
    with pytest.raises(InputError, match=message):
        concurrent_softmax_scores(torch.zeros(1, 2), rates)


@pytest.mark.parametrize(("i", "j"), [(2, 0), (1, 2)])
def test_the_background_concurs_with_nothing(i: int, j: int) -> None:
    rates = torch.zeros(3, 3)
    rates[i, j] = 0.5
    for background in (2, -1):
        with pytest.raises(
            InputError, match=rf"rates\[{i}, {j}\] is 0.5, expected 0: column 2 is the background"
        ):
            ConcurrentSoftmax(rates, background=background)
    ConcurrentSoftmax(rates)
    with pytest.raises(ConfigError, match="background = 3: expected a column of the 3"):
        ConcurrentSoftmax(rates, background=3)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_not_finite_are_named(bad: float) -> None:
    logits, rates = torch.zeros(3, 4), torch.zeros(4, 4)
    logits[1, 2] = bad
    message = f"logits: row 1 is {bad} in column 2, expected a finite number"
    for targets in (torch.zeros(3, dtype=torch.int64), torch.ones(3, 4)):
        with pytest.raises(InputError, match=message):
            concurrent_softmax_loss(logits, targets, rates)
    with pytest.raises(InputError, match=message):
        concurrent_softmax_scores(logits, rates)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0, 3]), "row 1 is 3, expected 0..2"),
        (torch.tensor([-1, 0]), "row 0 is -1, expected 0..2"),
        (
            torch.tensor([[1, 0, 0], [0, 0, 0]]),
            "row 1 has no label; a background proposal has the background's",
        ),
        ([[0], []], "row 1 has no label"),
        ([[0], [1, 3]], "row 1 has label 3, expected 0..2"),
        ([[-1], [1]], "row 0 has label -1, expected 0..2"),
        ([[1, 2], [0, 1, 1]], "row 1 has 3 labels, some twice; multi-hot rows are given as a tensor"),
        ([[0]], "1 lists of labels for 2 rows of logits"),
        ([0, 1], "row 0 is 0, expected the list of its labels, whole numbers"),
        ([[0], [0.5]], r"row 1 is \[0.5\], expected the list of its labels"),
        ([[True, False, False], [False, True, False]], r"row 0 is \[True, False, False\], expected the list"),
        (list(torch.eye(3)[:2] > 0), r"row 0 is tensor\(\[ True, False, False\]\), expected the list"),
        (None, "expected a tensor or a list of lists, got NoneType"),
        (np.array([[1, 0, 0], [0, 1, 0]]), "expected a tensor or a list of lists, got ndarray"),
    ],
)
def test_labels_are_checked(targets: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        concurrent_softmax_loss(torch.zeros(2, 3), targets, torch.zeros(3, 3))


def test_shapes_and_settings_are_checked() -> None:
    logits, label, rates = torch.zeros(2, 3), torch.tensor([0, 1]), torch.zeros(3, 3)
    with pytest.raises(InputError, match=r"rates: expected \(3, 3\).*got \(4, 4\)"):
        concurrent_softmax_loss(logits, label, torch.zeros(4, 4))
    with pytest.raises(InputError, match=r"rates: expected \(3, 3\).*got \(4, 4\)"):
        ConcurrentSoftmax(torch.zeros(4, 4)).scores(logits)
    with pytest.raises(
        InputError, match=r"negatives: expected a tensor \(2, 3\) bool, got \(2, 3\) torch.float"
    ):
        concurrent_softmax_loss(logits, label, rates, negatives=torch.zeros(2, 3))
    with pytest.raises(InputError, match=r"negatives: expected a tensor \(2, 3\) bool, got ndarray"):
        concurrent_softmax_loss(logits, label, rates, negatives=np.ones((2, 3), bool))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"logits: expected at least one column, got \(2, 0\)"):
        concurrent_softmax_scores(torch.zeros(2, 0), torch.zeros(0, 0))
    with pytest.raises(InputError, match=r"logits: expected a tensor \(P, K\), got ndarray"):
        concurrent_softmax_scores(logits.numpy(), rates)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"rates: expected a tensor \(K, K\), got ndarray"):
        concurrent_softmax_loss(logits, label, rates.numpy())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected mean, sum or none"):
        concurrent_softmax_loss(logits, label, rates, reduction="average")  # type: ignore[arg-type]


@pytest.mark.parametrize("targets", [torch.ones(2, 3), torch.tensor([0, 1])], ids=["multi-hot", "one label"])
def test_tensors_on_another_device_are_not_read(targets: Tensor) -> None:
    """Their addresses mean nothing to a CPU's loops."""
    logits, rates, away = torch.zeros(2, 3), torch.zeros(3, 3), torch.device("meta")
    absent = torch.ones(2, 3, dtype=torch.bool, device=away)
    with pytest.raises(InputError, match="targets: expected on cpu, where the logits are, got meta"):
        concurrent_softmax_loss(logits, targets.to(away), rates)
    for check in (True, False):
        with pytest.raises(InputError, match="negatives: expected on cpu, where the logits are, got meta"):
            concurrent_softmax_loss(logits, targets, rates, negatives=absent, check=check)
    with pytest.raises(InputError, match="rates: expected on cpu, where the logits are, got meta"):
        concurrent_softmax_loss(logits, targets, rates.to(away), check=False)
    with pytest.raises(InputError, match="rates: expected on cpu, where the logits are, got meta"):
        concurrent_softmax_scores(logits, rates.to(away), check=False)


def test_lists_of_labels_are_multi_hot() -> None:
    case = problem(9)
    ragged = [row.nonzero()[:, 0].tolist() for row in case.targets]
    assert concurrent_softmax_loss(case.logits, ragged, case.rates) == concurrent_softmax_loss(*case)
    tensors = [row.nonzero()[:, 0] for row in case.targets]
    assert concurrent_softmax_loss(case.logits, tensors, case.rates) == concurrent_softmax_loss(*case)


def test_labels_do_not_compete_even_where_they_are_called_absent() -> None:
    case = problem(10)
    everywhere = torch.ones_like(case.targets)
    assert concurrent_softmax_loss(*case, negatives=everywhere) == concurrent_softmax_loss(*case)
    nowhere = torch.zeros_like(case.targets)
    assert concurrent_softmax_loss(*case, negatives=nowhere) == 0


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


def test_rates_of_float64_serve_logits_of_both_precisions() -> None:
    case, rates = problem(7), problem(7).rates.double() / 3
    rule = ConcurrentSoftmax(rates)
    for z, r in ((case.logits, rates.float()), (case.logits.double(), rates)):
        assert torch.equal(rule(z, case.targets), concurrent_softmax_loss(z, case.targets, r))
        assert torch.equal(rule.scores(z), concurrent_softmax_scores(z, r))


@pytest.mark.parametrize("rates", ["rates.csv", object(), [[0, 1], [0]], {"a": 1}])
def test_what_is_no_matrix_is_refused(rates: Any) -> None:
    with pytest.raises(InputError, match=r"rates: expected a matrix \(K, K\), got (str|object|list|dict)"):
        ConcurrentSoftmax(rates)


def test_module_scores_by_the_rates_that_were_loaded() -> None:
    logits, rates = torch.zeros(1, 2), torch.tensor([[0, 1.0], [0, 0]])
    rule = ConcurrentSoftmax(torch.zeros(2, 2))
    assert rule.scores(logits).tolist() == [[0.5, 0.5]]
    rule.load_state_dict({"rates": rates})
    assert rule.scores(logits).tolist() == [[1.0, 0.5]]


def test_module_counts_with_the_rates_that_were_assigned() -> None:
    rates, others, logits = torch.zeros(3, 3), torch.zeros(3, 3), torch.randn(2, 3)
    rates[0, 1], others[1, 0] = 1, 0.5
    rule, other = ConcurrentSoftmax(rates), ConcurrentSoftmax(others)
    rule.rates = others
    assert torch.equal(rule.scores(logits), other.scores(logits))
    assert rule(logits, torch.tensor([1, 2])) == other(logits, torch.tensor([1, 2]))
    with pytest.raises(InputError, match=r"rates\[1, 0\] is 2, expected 0 to 1"):
        rule.rates = others * 4
    assert torch.equal(rule.rates, others)
    others[1, 0] = 0.25  # the rule has a copy
    assert rule.rates[1, 0] == 0.5
    rule.rates = torch.nn.Parameter(others)
    assert torch.equal(copy.deepcopy(rule).scores(logits), ConcurrentSoftmax(others).scores(logits))
    assert [*rule.buffers()] == [rule.rates]
    assert not [*rule.parameters()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("again", [lambda rule: rule, copy.deepcopy, ConcurrentSoftmax.double])
def test_module_counts_with_the_rates_that_were_written_in_their_place(
    dtype: torch.dtype, again: Callable[[ConcurrentSoftmax], ConcurrentSoftmax]
) -> None:
    """As `DistributedDataParallel`, checkpoints of many processes, and averages of models write them."""
    case = problem(4)
    rule, expected = ConcurrentSoftmax(torch.zeros_like(case.rates).to(dtype)), ConcurrentSoftmax(case.rates)
    rule.scores(case.logits)
    rule.rates.copy_(case.rates)
    found = again(rule)
    assert torch.equal(found.scores(case.logits), expected.scores(case.logits))
    assert found(case.logits, case.targets) == expected(case.logits, case.targets)
    rule.rates[0, 0] = 0.5
    with pytest.raises(InputError, match=r"rates\[0, 0\] is 0.5, expected 0 on the diagonal"):
        rule.scores(case.logits)


def test_rates_that_lost_their_digits_in_their_place_are_refused() -> None:
    rule = ConcurrentSoftmax(torch.zeros(3, 3))
    rule.rates.data = rule.rates.bfloat16()  # as FSDP's mixed precision does
    with pytest.raises(InputError, match=r"rates: made torch.bfloat16 in their place.*buffer_dtype=None"):
        rule.scores(torch.zeros(1, 3))


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float64])
def test_lists_keep_their_digits_whatever_the_default_dtype(default: torch.dtype) -> None:
    torch.set_default_dtype(default)
    try:
        rates = ConcurrentSoftmax([[0.0, 0.9999], [0.0, 0.0]]).rates
        frequencies = Equalization([0.0017599]).frequencies
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(rates, torch.tensor([[0, 0.9999], [0, 0]]))
    assert torch.equal(frequencies, torch.tensor([0.0017599]))


@pytest.mark.parametrize("assign", [True, False])
def test_a_module_made_without_memory_takes_the_rates_that_are_loaded(assign: bool) -> None:
    rates, logits = torch.zeros(3, 3), torch.randn(2, 3)
    rates[0, 1] = 1
    rule = ConcurrentSoftmax(rates)
    with torch.device("meta"):
        later = ConcurrentSoftmax(rates)
    with pytest.raises(
        InputError, match="rates: on meta, where there are no values; load a state that has them"
    ):
        later.scores(logits)
    if not assign:
        later.to_empty(device="cpu")
    later.load_state_dict(rule.state_dict(), assign=assign)
    assert torch.equal(later.scores(logits), rule.scores(logits))
    assert later(logits, torch.tensor([1, 2])) == rule(logits, torch.tensor([1, 2]))


def test_a_module_made_without_memory_is_called_with_rates() -> None:
    rates, logits = torch.zeros(3, 3), torch.randn(2, 3)
    rates[0, 1] = 1
    with torch.device("meta"):
        rule = ConcurrentSoftmax(rates)
    found = torch.func.functional_call(rule, {"rates": rates}, (logits, torch.tensor([1, 2])))
    assert found == ConcurrentSoftmax(rates)(logits, torch.tensor([1, 2]))


def test_a_function_of_other_rates() -> None:
    """What `functional_call` puts in the place of the buffer is what counts, for that call."""
    logits, rates, labels = torch.randn(2, 3), torch.zeros(3, 3), torch.tensor([1, 2])
    rates[0, 1] = 1
    rule, other = ConcurrentSoftmax(torch.zeros(3, 3)), ConcurrentSoftmax(rates)
    for z in (logits, logits.double()):
        assert torch.func.functional_call(rule, {"rates": rates}, (z, labels)) == other(z, labels)
        assert rule(z, labels) == ConcurrentSoftmax(torch.zeros(3, 3))(z, labels)

    class Scores(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rule = rule

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return self.rule.scores(z)

    found = torch.func.functional_call(Scores(), {"rule.rates": rates}, (logits,))
    assert torch.equal(found, other.scores(logits))
    with pytest.raises(InputError, match=r"rates\[0, 0\] is 1, expected 0 on the diagonal"):
        torch.func.functional_call(rule, {"rates": torch.ones(3, 3)}, (logits, labels))
    _, buffers = torch.func.stack_module_state([rule, other])
    with pytest.raises(NotImplementedError, match="leave them out of what is stacked"):
        torch.func.vmap(lambda some: torch.func.functional_call(rule, some, (logits, labels)))(buffers)


def test_the_same_rates_are_not_derived_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detached, as for gradients of each sample, or distributed."""
    logits, labels = torch.randn(2, 3), torch.tensor([1, 2])
    rule = ConcurrentSoftmax(torch.zeros(3, 3))
    monkeypatch.setattr(rule, "_other_rates", None)
    buffers = {name: buffer.detach() for name, buffer in rule.named_buffers()}
    assert torch.func.functional_call(rule, buffers, (logits, labels)) == rule(logits, labels)
    rule._buffers["rates"] = torch.zeros(3, 3).as_subclass(Distributed)
    assert rule(logits, labels) == ConcurrentSoftmax(torch.zeros(3, 3))(logits, labels)


class Distributed(torch.Tensor):
    """As DTensor, which `distribute_module` makes of buffers."""


def test_a_module_made_without_memory_that_was_filled_is_settled_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates, logits = torch.zeros(3, 3), torch.randn(2, 3)
    rates[0, 1] = 1
    with torch.device("meta"):
        rule = ConcurrentSoftmax(rates)
    rule._buffers["rates"] = rates.clone()
    monkeypatch.setattr(rule, "_other_rates", None)
    assert torch.equal(rule.scores(logits), ConcurrentSoftmax(rates).scores(logits))
    assert rule._removed == 1


def test_rates_that_were_moved_in_their_place_are_prepared_there() -> None:
    """As FSDP moves a buffer: the module is not asked."""
    case = problem(9)
    rule, other = ConcurrentSoftmax(case.rates), ConcurrentSoftmax(case.rates)
    away = torch.zeros_like(case.rates, device="meta")
    rule._single = rule._double = (away, rule._single[1])
    assert torch.equal(rule.scores(case.logits), other.scores(case.logits))


def test_rates_do_not_follow_logits_to_where_there_are_no_values() -> None:
    rule = ConcurrentSoftmax(torch.zeros(3, 3))
    with pytest.raises(InputError, match="logits: on meta"):
        rule.scores(torch.zeros(2, 3, device="meta"))
    assert rule.scores(torch.zeros(1, 3)).tolist() == [[pytest.approx(1 / 3)] * 3]


def test_a_rule_made_or_changed_in_inference_mode_trains_afterwards() -> None:
    """As where a model is checked before its training."""
    logits, labels = torch.randn(2, 3, requires_grad=True), torch.tensor([1, 2])
    with torch.inference_mode():
        made = ConcurrentSoftmax(torch.zeros(3, 3))
        changed = ConcurrentSoftmax(torch.ones(3, 3).fill_diagonal_(0))
        changed.rates = torch.zeros(3, 3)
        moved = ConcurrentSoftmax(torch.zeros(3, 3)).half()
        moved.load_state_dict({"rates": torch.zeros(3, 3)})
    for rule in (made, changed, moved):
        rule(logits, labels).backward()
        torch.testing.assert_close(rule(logits, labels), torch.nn.functional.cross_entropy(logits, labels))


def test_a_module_without_memory_gets_some_and_then_its_rates() -> None:
    case = problem(9)
    rule = ConcurrentSoftmax(case.rates)
    empty = copy.deepcopy(rule).to("meta").to_empty(device="cpu")
    empty.load_state_dict(rule.state_dict())
    assert torch.equal(empty.scores(case.logits), rule.scores(case.logits))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda rule: pickle.loads(pickle.dumps(rule))])
def test_copies_and_pickles_stand_by_themselves(
    again: Callable[[ConcurrentSoftmax], ConcurrentSoftmax],
) -> None:
    """As a model that is sent to other processes, saved whole, or averaged."""
    logits, rates = torch.zeros(1, 2), torch.tensor([[0, 1.0], [0, 0]])
    rule = ConcurrentSoftmax(rates)
    other = again(rule)
    assert other.scores(logits).tolist() == [[1.0, 0.5]]
    other.load_state_dict({"rates": torch.zeros(2, 2)})
    assert other.scores(logits).tolist() == [[0.5, 0.5]]
    assert rule.scores(logits).tolist() == [[1.0, 0.5]]


def test_from_the_file_of_an_audit_in_one_line(tmp_path: Path) -> None:
    vocabulary = Vocabulary(("torch", "flashlight"))
    (tmp_path / "rates.csv").write_text("class,other,rate,boxes,matched\ntorch,flashlight,0.5,4,2\n")
    rule = ConcurrentSoftmax(
        ConcurrentRates.read(tmp_path / "rates.csv", vocabulary).with_background(), background=-1
    )
    assert rule.rates.tolist() == [[0, 0.5, 0], [0, 0, 0], [0, 0, 0]]
    assert rule.loss(torch.zeros(1, 3), [[0]]) == pytest.approx(torch.tensor(2.5).log().item())
