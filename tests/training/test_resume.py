"""Killed at any moment, a run that is started again ends as one that was never interrupted."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training.processes import deterministic_choices, join, kill_after, last_step, start
from training.small_run import draw_small_world, logged_losses, small_run, world_data

from wildbox.errors import ConfigError, InputError, InputWarning
from wildbox.glyphs import GlyphWorld, draw_world
from wildbox.training.checkpoint import load_checkpoint, save_checkpoint
from wildbox.training.run import train


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_small_world(tmp_path_factory.mktemp("world"))


def assert_same_run(one: Path, other: Path) -> None:
    assert logged_losses(one) == logged_losses(other)
    first, second = (load_checkpoint(folder / "checkpoint.pt") for folder in (one, other))
    assert first.step == second.step
    for name, value in first.model.items():
        assert torch.equal(value, second.model[name]), name


@pytest.mark.slow
def test_killed_at_random_moments_a_run_ends_as_one_that_was_not(world: Path, tmp_path: Path) -> None:
    config = small_run(world, steps=40, average=0.9)  # far more than a fast machine does in 0.3 s
    train(config, tmp_path / "whole")
    killed = tmp_path / "killed"
    for until in (3, 15):
        more = random.uniform(0, 0.3)  # no seed: any moment must do
        kill_after(until, start(config, killed), killed, more=more)
        assert last_step(killed) < 40
    join(start(config, killed))
    assert_same_run(tmp_path / "whole", killed)


@pytest.mark.slow
def test_two_processes_resume_to_the_bit(world: Path, tmp_path: Path) -> None:
    config = small_run(world, steps=30, batch_size=4).model_copy(update={"processes": 2})
    join(start(config, tmp_path / "whole"))
    killed = tmp_path / "killed"
    kill_after(3, start(config, killed), killed, more=random.uniform(0, 0.3))
    assert last_step(killed) < 30
    join(start(config, killed))
    assert_same_run(tmp_path / "whole", killed)


BATCH_NORMS = tuple(f"backbone.{layer}.*" for layer in (1, 4, 7, 10, 13, 16))


@pytest.mark.slow
def test_two_processes_and_two_parts_give_the_gradient_of_one_batch(world: Path, tmp_path: Path) -> None:
    """What remains in the way is held fixed: batch statistics, and the random choice of proposals."""

    def gradient(name: str, *, processes: int, accumulate: int) -> torch.Tensor:
        config = small_run(
            world, steps=1, batch_size=4, accumulate=accumulate, optimizer="sgd", weight_decay=0, clip_norm=0,
            freeze=BATCH_NORMS,
        )  # fmt: skip
        model = config.model.model_copy(update={"sampled_proposals": 8})
        config = config.model_copy(update={"processes": processes, "model": model})
        join(start(config, tmp_path / name, prepare=deterministic_choices))
        # the momentum of SGD is, after its first step, the gradient
        state = load_checkpoint(tmp_path / name / "checkpoint.pt").optimizer["state"]
        return torch.cat([state[place]["momentum_buffer"].flatten() for place in sorted(state)])

    one = gradient("one", processes=1, accumulate=1)
    assert float(one.abs().max()) > 0.01
    for processes, accumulate in ((2, 1), (1, 2), (2, 2)):
        other = gradient(f"{processes}-{accumulate}", processes=processes, accumulate=accumulate)
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)


def test_what_may_change_and_what_may_not(world: Path, tmp_path: Path) -> None:
    train(small_run(world, steps=2), tmp_path)
    train(small_run(world, steps=2, checkpoint_every=1, keep_checkpoints=5), tmp_path)  # of no influence
    with pytest.raises(ConfigError, match=r"schedule.learning_rate was 0.001, now 0.01"):
        train(small_run(world, steps=2, learning_rate=0.01), tmp_path)
    with pytest.warns(InputWarning, match=r"schedule.accumulate was 1, now 2.*not to the bit"):
        train(small_run(world, steps=2, accumulate=2), tmp_path)
    other = tmp_path / "other"
    draw_world(other, settings=GlyphWorld(images=13, validation_images=1, size=96))
    with pytest.raises(ConfigError, match=r"trained on 12 images with .* and the data now has 13"):
        train(small_run(other, steps=2), tmp_path)


def test_other_boxes_are_refused(world: Path, tmp_path: Path) -> None:
    """As many as before, so that numbers alone do not tell them."""
    config = small_run(world, steps=2)
    train(config, tmp_path / "run")
    changed = tmp_path / "boxes.csv"
    first, row, *others = config.data.boxes.read_text().splitlines(keepends=True)
    fields = row.split(",")
    fields[first.split(",").index("XMin")] = "0"
    changed.write_text("".join([first, ",".join(fields), *others]))
    data = config.data.model_copy(update={"boxes": changed})
    with pytest.raises(ConfigError, match="trained on other boxes, labels or images, as many as now"):
        train(config.model_copy(update={"data": data}), tmp_path / "run")


def test_another_class_list_is_refused(world: Path, tmp_path: Path) -> None:
    config = small_run(world, steps=2)
    train(config, tmp_path / "run")
    assert config.data.classes is not None
    lines = config.data.classes.read_text().splitlines(keepends=True)
    turned, fewer = tmp_path / "turned.csv", tmp_path / "fewer.csv"
    turned.write_text("".join(reversed(lines)))
    fewer.write_text("".join(lines[1:]))
    classes = f"the checkpoint was trained on {len(lines)} classes, and the data now has {len(lines)}, not the same in"
    data = config.data.model_copy(update={"classes": turned})
    with pytest.raises(ConfigError, match=classes):
        train(config.model_copy(update={"data": data}), tmp_path / "run")
    validation = world_data(world, "validation").model_copy(update={"classes": turned})
    with pytest.raises(ConfigError, match=r"validation\.classes is not the list of data\.classes"):
        train(config.model_copy(update={"validation": validation}), tmp_path / "other")
    validation = validation.model_copy(update={"classes": fewer, "hierarchy": None, "image_labels": None})
    with pytest.raises(InputError, match=r"validation-annotations-bbox.csv:\d+: "):
        train(config.model_copy(update={"validation": validation}), tmp_path / "other")


def test_another_number_of_processes_is_told(world: Path, tmp_path: Path) -> None:
    path = train(small_run(world, steps=2), tmp_path)
    saved = load_checkpoint(path)
    save_checkpoint(replace(saved, random_states=saved.random_states * 2), path)
    with pytest.warns(InputWarning, match="trained by 2 processes, now 1.*not to the bit"):
        train(small_run(world, steps=2), tmp_path)
