"""Rules and rates by the names that settings know, and what a new run takes from an earlier one."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn
from training.small_run import draw_small_world, small_run

from wildbox.annotations import Annotations
from wildbox.detectors.suppression import SoftNMS
from wildbox.errors import InputWarning
from wildbox.training.checkpoint import load_checkpoint
from wildbox.training.config import ModelConfig, RuleName
from wildbox.training.devices import launch
from wildbox.training.model import build_rule, build_suppression
from wildbox.training.run import train
from wildbox.training.source import Source, load_source
from wildbox.training.trainer import Trainer, training_rates
from wildbox.vocabulary import Vocabulary

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


def test_a_run_of_the_same_classes_starts_with_all_that_an_earlier_one_learned(tmp_path: Path) -> None:
    """Its average where it keeps one, the class head too; the rates are those of the data."""
    config = small_run(draw_small_world(tmp_path / "world"), steps=2, average=0.5)
    path = train(config, tmp_path / "first")
    saved = load_checkpoint(path)
    model = config.model.model_copy(update={"initial_weights": path, "rate_threshold": 0.5})
    second = config.model_copy(update={"model": model, "seed": 1})
    with pytest.warns(InputWarning, match=r"tensors kept; 1 new \(roi_heads.rule.rates\)"):
        trainer = Trainer(second, load_source(config.data), launch(second))
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, saved.weights[name]) == (name != "roi_heads.rule.rates"), name


def test_rates_are_cut_bounded_and_sharpened_as_settings_say() -> None:
    """Four boxes of a, one of which is also b: the rate of a with b is 1/4, its Wilson interval begins at 0.046."""
    boxes = [[n, 0, n + 1, 1] for n in (0, 2, 4, 6, 6)]
    truth = Annotations(
        Vocabulary(("a", "b")),
        ("x",),
        image=[0] * 5,
        boxes=boxes,
        label=[0, 0, 0, 0, 1],
    )
    source = Source(truth, Path(), None, relative=False)

    def rate(**settings: object) -> float:
        rates = training_rates(truth, source, ModelConfig.model_validate(settings))
        assert rates.shape == (3, 3)
        return float(rates[0, 1])

    assert rate() == 0.25
    assert rate(rate_gamma=0.5) == 0.5
    assert rate(rate_gamma=0) == 1
    assert rate(rate_gamma=0, rate_threshold=0.25) == 0
    assert rate(rate_gamma=0, rate_bound="wilson") == 0
    assert rate(rate_bound="wilson", rate_threshold=0) == pytest.approx(0.0456, abs=1e-4)


def test_settings_of_soft_nms() -> None:
    found = build_suppression(ModelConfig(suppression="linear", nms_iou=0.7, score_threshold=0.02))
    assert isinstance(found, SoftNMS)
    assert (found.method, found.iou, found.min_score) == ("linear", 0.7, 0.02)
