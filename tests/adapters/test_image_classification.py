"""Rules on whole images: the two ends in closed form, empty rows, and that a classifier learns."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wildbox.adapters.image_classification import ImageRule, image_rates, with_none
from wildbox.classification import ConcurrentSoftmax, Focal, Rule, Sigmoid, Softmax
from wildbox.errors import ConfigError, InputError

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double() * 3
TARGETS = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]])


def test_full_concurrence_is_sigmoid_scores() -> None:
    rates = torch.ones(4, 4).double().fill_diagonal_(0)
    criterion = ImageRule(ConcurrentSoftmax(with_none(rates)))
    torch.testing.assert_close(criterion.scores(LOGITS), LOGITS.sigmoid())
    # labels compete with "none" alone, which competes with all
    labelled = TARGETS.bool()
    own = torch.where(labelled, -F.logsigmoid(LOGITS), 0).sum(dim=1)
    none = F.pad(LOGITS, (0, 1)).logsumexp(dim=1)
    expected = torch.where(labelled.any(dim=1), own, none).mean()
    torch.testing.assert_close(criterion(LOGITS, TARGETS), expected)


def test_no_concurrence_is_softmax_over_the_classes_and_none() -> None:
    criterion = ImageRule(ConcurrentSoftmax(with_none(torch.zeros(4, 4).double())))
    wide = F.pad(LOGITS, (0, 1))
    torch.testing.assert_close(criterion.scores(LOGITS), wide.softmax(dim=1)[:, :4])
    single = TARGETS[[1, 2, 4, 5]]
    labels = torch.tensor([4, 1, 2, 4])
    expected = F.cross_entropy(wide[[1, 2, 4, 5]], labels)
    torch.testing.assert_close(criterion(LOGITS[[1, 2, 4, 5]], single.float()), expected)


def test_sigmoid_is_binary_cross_entropy_of_every_class() -> None:
    expected = F.binary_cross_entropy_with_logits(LOGITS, TARGETS.double()) * 4
    torch.testing.assert_close(ImageRule(Sigmoid())(LOGITS, TARGETS), expected)
    torch.testing.assert_close(ImageRule(Sigmoid()).scores(LOGITS), LOGITS.sigmoid())


@pytest.mark.parametrize(
    "rule", [Softmax(), Sigmoid(), Focal(), ConcurrentSoftmax(with_none(image_rates(TARGETS)).float())]
)
def test_a_classifier_learns(rule: Rule) -> None:
    torch.manual_seed(0)
    features = torch.randn(64, 5)
    targets = (features[:, :4] > 0.5).long()
    assert (targets.sum(dim=1) == 0).any()
    model, criterion = nn.Linear(5, 4), ImageRule(rule)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        criterion(model(features), targets.float()).backward()
        optimizer.step()
    scores = criterion.scores(model(features))
    assert scores.shape == (64, 4)
    # a pair (present, absent) of a class is mostly in order; by chance in half of all cases
    for label in range(4):
        present, absent = (scores[targets[:, label] == value, label] for value in (1, 0))
        assert (present[:, None] > absent).float().mean() > 0.85


def test_rates_are_shares_of_images_and_parts_add_up() -> None:
    found = image_rates(TARGETS, min_ratio=0)
    for i in range(4):
        for j in range(4):
            own = [row for row in TARGETS.tolist() if row[i]]
            expected = sum(row[j] for row in own) / len(own) if i != j else 0
            assert found[i, j].item() == pytest.approx(expected)
    torch.testing.assert_close(image_rates((TARGETS[:2], TARGETS[2:].bool()), min_ratio=0), found)
    assert image_rates(TARGETS, min_ratio=0.5)[0].tolist() == [0, 0, 0, 1]
    assert image_rates(torch.zeros(0, 2)).tolist() == [[0, 0], [0, 0]]


def test_compiles_without_a_graph_break() -> None:
    torch.compiler.reset()
    criterion = ImageRule(ConcurrentSoftmax(with_none(image_rates(TARGETS)).float()))
    compiled = torch.compile(criterion, fullgraph=True, dynamic=True, backend="aot_eager")
    logits = LOGITS.float()
    torch.testing.assert_close(compiled(logits, TARGETS), criterion(logits, TARGETS))


def test_refuses() -> None:
    criterion = ImageRule(Softmax())
    with pytest.raises(InputError, match=r"targets: expected a tensor \(B, C\), got list"):
        criterion(LOGITS, TARGETS.tolist())
    with pytest.raises(InputError, match=r"logits: expected \(6, 4\) as the targets, got \(6, 5\)"):
        criterion(torch.zeros(6, 5), TARGETS)
    with pytest.raises(InputError, match=r"expected \(B, C\), got \(6,\)"):
        criterion(LOGITS, torch.zeros(6))
    for value in (2.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="row 1 has values other than 0 and 1"):
            image_rates(torch.tensor([[0.0], [value]]))
    with pytest.raises(InputError, match="at least one tensor"):
        image_rates(())
    with pytest.raises(ConfigError, match="min_ratio is 1"):
        image_rates(TARGETS, min_ratio=1)
    with pytest.raises(InputError, match=r"rates: expected \(5, 5\)"):
        ImageRule(ConcurrentSoftmax(torch.zeros(4, 4)))(LOGITS.float(), TARGETS)


def test_a_rate_is_a_share_of_the_images_of_its_row() -> None:
    assert image_rates(torch.tensor([[1, 1], [1, 0]])).tolist() == [[0, 0.5], [1, 0]]
