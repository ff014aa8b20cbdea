"""With the default settings a run on one CPU gives, to the last bit, what a plain loop gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training.plain_loop import train_plainly
from training.small_run import draw_small_world, logged_losses, small_run

from wildbox.training.checkpoint import load_checkpoint
from wildbox.training.run import train


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "rule"), [("adamw", "concurrent-softmax"), ("sgd", "softmax")], ids=["adamw", "sgd"]
)
def test_losses_and_weights_are_those_of_a_plain_loop(optimizer: str, rule: str, tmp_path: Path) -> None:
    config = small_run(draw_small_world(tmp_path / "world"), steps=5, optimizer=optimizer)
    config = config.model_copy(update={"model": config.model.model_copy(update={"rule": rule})})
    losses, weights = train_plainly(config)
    saved = load_checkpoint(train(config, tmp_path / "run"))
    assert logged_losses(tmp_path / "run") == [{"step": n, **step} for n, step in enumerate(losses, start=1)]
    assert saved.model.keys() == weights.keys()
    assert all(torch.equal(saved.model[name], weights[name]) for name in weights)
