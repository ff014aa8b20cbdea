"""Rules by the names that settings know."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from wildbox.training.config import RuleName
from wildbox.training.model import build_rule

RATES = torch.tensor([[0, 1.0, 0], [0, 0, 0], [0, 0, 0]])
FREQUENCIES = torch.tensor([0.9, 0.001])


@pytest.mark.parametrize("name", get_args(RuleName))
def test_a_rule_is_restored_from_its_state(name: RuleName) -> None:
    """A checkpoint holds what the training set told the rule."""
    logits, labels = torch.zeros(4, 3), [[0, 1], [2], [2], [1]]
    rule = build_rule(name, RATES, frequencies=FREQUENCIES)
    restored = build_rule(name, RATES)
    assert isinstance(rule, nn.Module)
    assert isinstance(restored, nn.Module)
    expected = rule.loss(logits, labels)
    restored.load_state_dict(rule.state_dict())
    assert restored.eval().loss(logits, labels) == expected
    assert torch.equal(restored.scores(logits), rule.scores(logits))
