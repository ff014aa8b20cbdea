"""The rules beside concurrent softmax against their formulas, written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from classification.problems import Problem, problem
from oracles import rules as oracle
from torch import Tensor

from wildbox.classification import (
    Equalization,
    Federated,
    Focal,
    Rule,
    Seesaw,
    Sigmoid,
    Softmax,
    equalization_loss,
    federated_classes,
    federated_loss,
    focal_loss,
    seesaw_loss,
    seesaw_scores,
    sigmoid_loss,
    softmax_loss,
)
from wildbox.errors import ConfigError, InputError

CASE = problem(0, proposals=30, dtype=torch.float64)
Z, Y = CASE.logits.tolist(), CASE.targets.tolist()
FREQUENCIES = torch.tensor([0.5, 1e-3, 0.0, 1.76e-3])
COUNTS = torch.tensor([1000, 10, 1, 10])


def same(found: Tensor, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_softmax() -> None:
    same(softmax_loss(CASE.logits, CASE.targets, reduction="none"), oracle.softmax(Z, Y))
    label = torch.arange(30) % 5
    torch.testing.assert_close(Softmax().loss(CASE.logits, label), F.cross_entropy(CASE.logits, label))
    assert torch.equal(Softmax().scores(CASE.logits), CASE.logits.softmax(dim=1))


def test_sigmoid() -> None:
    same(sigmoid_loss(CASE.logits, CASE.targets, reduction="none"), oracle.sigmoid(Z, Y))


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.9, 0.5), (0.25, 5.0)])
def test_focal(alpha: float, gamma: float) -> None:
    found = focal_loss(CASE.logits, CASE.targets, alpha=alpha, gamma=gamma, reduction="none")
    expected = oracle.focal(Z, Y, alpha=alpha, gamma=gamma)
    same(found, expected)
    same(Focal(alpha=alpha, gamma=gamma).loss(CASE.logits, CASE.targets), np.mean(expected))


@pytest.mark.parametrize("threshold", [0.0, 1.76e-3, 1e-2, 1.0])
def test_equalization(threshold: float) -> None:
    found = equalization_loss(
        CASE.logits, CASE.targets, frequencies=FREQUENCIES, threshold=threshold, reduction="none"
    )
    expected = oracle.equalization(Z, Y, FREQUENCIES.tolist(), threshold=threshold)
    same(found, expected)
    rule = Equalization(FREQUENCIES.numpy(), threshold=threshold)
    same(rule.loss(CASE.logits, CASE.targets), np.mean(expected))


def test_equalization_spares_rare_classes_from_objects_alone() -> None:
    logits = torch.zeros(2, 5, requires_grad=True)
    equalization_loss(logits, [[0], [4]], frequencies=FREQUENCIES).backward()
    assert logits.grad is not None
    assert (logits.grad[0] != 0).tolist() == [True, False, False, True, False]
    assert (logits.grad[1] != 0).tolist() == [True, True, True, True, False]


@pytest.mark.parametrize(("p", "q"), [(0.8, 2.0), (0.0, 0.0), (1.0, 0.0), (0.0, 1.5)])
def test_seesaw(p: float, q: float) -> None:
    found = seesaw_loss(
        CASE.logits, CASE.targets, counts=COUNTS, mitigation=p, compensation=q, reduction="none"
    )
    same(found, oracle.seesaw(Z, Y, COUNTS.tolist(), p=p, q=q))


def test_seesaw_without_exponents_is_softmax_and_objectness() -> None:
    label = torch.arange(30) % 4
    found = seesaw_loss(CASE.logits, label, counts=COUNTS, mitigation=0, compensation=0)
    objectness = -F.logsigmoid(-CASE.logits[:, -1]).mean()
    torch.testing.assert_close(found, F.cross_entropy(CASE.logits[:, :-1], label) + objectness)
    joint = seesaw_scores(CASE.logits)
    torch.testing.assert_close(joint.sum(dim=1), torch.ones(30, dtype=torch.float64))
    torch.testing.assert_close(joint[:, -1], CASE.logits[:, -1].sigmoid())


def test_seesaw_gradient_holds_its_weights_fixed() -> None:
    """dL / dz_j = S_ij exp(z_j) / D_i, with S as it is."""
    logits = torch.tensor([[0.0, 1.0, -1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    seesaw_loss(logits, [[0]], counts=torch.tensor([100, 10, 1])).backward()
    row = logits.detach()[0, :3]
    weights = torch.tensor([1.0, 0.1**0.8 * math.e**2, 0.01**0.8], dtype=torch.float64)
    shares = weights * row.exp() / (weights * row.exp()).sum()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0, :3], shares - torch.tensor([1.0, 0, 0], dtype=torch.float64))


def test_seesaw_counts_labels_in_training_alone() -> None:
    rule = Seesaw(classes=4)
    rule.loss(CASE.logits, CASE.targets)
    seen = CASE.targets[:, :4].sum(dim=0)
    assert torch.equal(rule.counts, seen)
    found = rule.eval().loss(CASE.logits, CASE.targets)
    assert torch.equal(rule.counts, seen)
    torch.testing.assert_close(found, seesaw_loss(CASE.logits, CASE.targets, counts=seen))
    resumed = Seesaw(classes=4)
    resumed.load_state_dict(rule.state_dict())
    assert torch.equal(resumed.counts, rule.counts)


@pytest.mark.parametrize("rule", [Equalization, Federated])
def test_rules_of_frequencies_are_made_without_memory_and_loaded(
    rule: type[Equalization] | type[Federated],
) -> None:
    """As Hugging Face's `from_pretrained` makes every model."""
    frequencies = [0.5, 0.001, 0.1, 0.1]
    with torch.device("meta"):
        later = rule(frequencies)
    made = rule(frequencies)
    later.load_state_dict(made.state_dict(), assign=True)
    assert later.loss(CASE.logits, CASE.targets) == made.loss(CASE.logits, CASE.targets)


@pytest.mark.parametrize("classes", [[True, False, True, False], [True] * 4, [False] * 4])
def test_federated(classes: list[bool]) -> None:
    found = federated_loss(CASE.logits, CASE.targets, classes=torch.tensor(classes), reduction="none")
    same(found, oracle.federated(Z, Y, classes))


def test_federated_on_all_classes_is_sigmoid() -> None:
    rule = Federated([0.5, 0.1, 0.1, 0.1], number=4)
    torch.testing.assert_close(
        rule.loss(CASE.logits, CASE.targets), Sigmoid().loss(CASE.logits, CASE.targets)
    )


def test_federated_classes_are_those_of_the_batch_and_as_many_more_as_asked() -> None:
    generator = torch.Generator().manual_seed(0)
    present, weights = torch.tensor([True, False, False, False]), torch.tensor([0.0, 9.0, 1.0, 0.0])
    draws = torch.stack(
        [federated_classes(present, weights, number=2, generator=generator) for _ in range(4000)]
    )
    assert draws.sum(dim=1).unique().tolist() == [2]
    assert draws[:, 0].all()
    assert not draws[:, 3].any()
    share = float(draws[:, 1].double().mean())
    assert abs(share - 0.9) < 4 * math.sqrt(0.9 * 0.1 / 4000)
    assert federated_classes(present, weights, number=4).tolist() == [True, True, True, False]
    everything = torch.ones(4, dtype=torch.bool)
    assert torch.equal(federated_classes(everything, weights, number=2), everything)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "rule", [Equalization(FREQUENCIES), Seesaw(4).eval(), Federated([0.5] * 4, number=4)]
)
def test_rules_follow_the_logits(rule: Rule) -> None:
    found = rule.loss(CASE.logits.cuda(), CASE.targets.cuda())
    torch.testing.assert_close(found.cpu(), rule.loss(CASE.logits, CASE.targets))


def test_federated_draws_from_its_own_generator() -> None:
    def losses() -> list[float]:
        rule = Federated([0.5] * 4, number=2, generator=torch.Generator().manual_seed(3))
        return [float(rule.loss(CASE.logits[:1], [[0]])) for _ in range(8)]

    before = torch.get_rng_state()
    first = losses()
    assert first == losses()
    assert len(set(first)) > 1
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "rule",
    [Sigmoid(), Focal(), Equalization(FREQUENCIES), Federated([0.5] * 4, number=4)],
    ids=lambda rule: type(rule).__name__,
)
def test_the_background_column_has_no_part(rule: Any) -> None:
    moved = Problem(
        CASE.logits + torch.tensor([0, 0, 0, 0, 7.0], dtype=torch.float64), CASE.targets, CASE.rates
    )
    assert rule.loss(moved.logits, CASE.targets) == rule.loss(CASE.logits, CASE.targets)
    scores = rule.scores(CASE.logits)
    assert torch.equal(scores[:, :-1], CASE.logits[:, :-1].sigmoid())
    assert scores[:, -1].abs().max() == 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Focal(alpha=-0.1), "expected alpha"),
        (lambda: Focal(alpha=1.1), "expected alpha"),
        (lambda: Focal(gamma=-1.0), "expected alpha"),
        (lambda: Focal(gamma=math.nan), "expected alpha"),
        (lambda: Equalization([0.5], threshold=-1), "threshold = -1"),
        (lambda: Seesaw(3, mitigation=-1), "mitigation = -1"),
        (lambda: Seesaw(3, compensation=math.inf), "compensation = inf"),
        (lambda: Federated([0.5], number=0), "number = 0"),
        (lambda: Federated([0.5], power=-1), "power = -1"),
        (lambda: softmax_loss(CASE.logits, CASE.targets, reduction="total"), "reduction = 'total'"),  # type: ignore[arg-type]
    ],
)
def test_settings_are_checked(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


@pytest.mark.parametrize(
    "rule", [Softmax(), Sigmoid(), Focal(), Equalization(FREQUENCIES)], ids=lambda rule: type(rule).__name__
)
def test_compiles_without_a_graph_break(rule: Rule) -> None:
    """Seesaw and federated losses choose rows and classes by the data, which breaks a graph or draws anew."""
    torch.compiler.reset()
    compiled = torch.compile(rule.loss, fullgraph=True, dynamic=True, backend="aot_eager")
    torch.testing.assert_close(compiled(CASE.logits, CASE.targets), rule.loss(CASE.logits, CASE.targets))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Equalization([0.5, 1.5]), r"frequencies\[1\] is 1.5, expected a share of images"),
        (lambda: Federated([[0.5]]), r"frequencies: expected \(C,\), got \(1, 1\)"),
        (lambda: Seesaw(0), "classes = 0"),
        (
            lambda: Equalization([0.5]).loss(CASE.logits, CASE.targets),
            r"frequencies: expected \(4,\).*got \(1,\)",
        ),
        (
            lambda: Federated([0.5]).loss(CASE.logits, CASE.targets),
            r"frequencies: expected \(4,\).*got \(1,\)",
        ),
        (lambda: Seesaw(3).loss(CASE.logits, CASE.targets), r"classes: expected \(4,\).*got \(3,\)"),
        (
            lambda: seesaw_loss(CASE.logits, CASE.targets, counts=torch.tensor([3, 1, -1, 2])),
            r"counts\[2\] is -1, expected at least 0",
        ),
        (
            lambda: equalization_loss(CASE.logits, CASE.targets, frequencies=torch.full((4,), math.nan)),
            r"frequencies\[0\] is nan, expected at least 0",
        ),
    ],
)
def test_class_counts_are_checked(build: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


def test_federated_draws_classes_by_the_root_of_their_frequency() -> None:
    assert Federated([0.25, 0.01, 0.0]).weights.tolist() == pytest.approx([0.5, 0.1, 0.0])
    assert Federated([0.25, 0.01, 0.0], power=1.0).weights.tolist() == pytest.approx([0.25, 0.01, 0.0])


@pytest.mark.parametrize("loss", [softmax_loss, sigmoid_loss, focal_loss])
def test_gradients_of_each_proposal_by_vmap(loss: Callable[..., Tensor]) -> None:
    logits, targets = CASE.logits, CASE.targets.double()
    each = torch.func.vmap(torch.func.grad(lambda z, y: loss(z[None], y[None])))(logits, targets)
    whole = torch.func.grad(lambda z: loss(z, targets, reduction="sum"))(logits)
    torch.testing.assert_close(each, whole)
