"""What goes wrong in a run is told with what to do, and the checkpoints stay."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training.small_run import draw_small_world, small_run

from wildbox.detectors.roi_heads import RuleRoIHeads
from wildbox.errors import ConfigError, WildboxError
from wildbox.training import log
from wildbox.training.checkpoint import load_checkpoint
from wildbox.training.devices import launch, pick_device
from wildbox.training.run import train


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_small_world(tmp_path_factory.mktemp("world"))


def from_call(number: int, method: Callable[..., Any], other: Callable[[Any], Any]) -> Callable[..., Any]:
    """`method`, whose result from its so-many-th call on goes through `other`."""
    calls = 0

    def instead(*arguments: Any, **settings: Any) -> Any:
        nonlocal calls
        calls += 1
        result = method(*arguments, **settings)
        return other(result) if calls >= number else result

    return instead


def out_of_memory(_: object) -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")


def not_a_number(losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: loss * float("nan") for name, loss in losses.items()}


@pytest.mark.parametrize(
    ("happening", "expected"),
    [
        (
            out_of_memory,
            r"step 4: out of memory with 3 images of 96 pixels at once \(schedule.batch_size 6, 1 processes, "
            r"schedule.accumulate 2\); set schedule.accumulate = 6, or schedule.precision = \"bf16-mixed\", or "
            r"model.image_size below 96, and resume.*CUDA out of memory",
        ),
        (not_a_number, r"step 4: the loss is .*nan.*lower learning_rate"),
    ],
)
def test_a_step_that_fails_says_why(
    happening: Callable[[Any], Any],
    expected: str,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing = from_call(9, RuleRoIHeads.losses, happening)  # of two calls a step
    monkeypatch.setattr(RuleRoIHeads, "losses", lambda self, *arguments: failing(self, *arguments))
    with pytest.raises(WildboxError, match=expected):
        train(small_run(world, steps=8, batch_size=6, accumulate=2), tmp_path)
    assert load_checkpoint(tmp_path / "checkpoint.pt").step == 4


def test_weights_that_diverge(world: Path, tmp_path: Path) -> None:
    """The rule refuses their logits before there is a loss."""
    with pytest.raises(WildboxError, match=r"step \d: logits: row 0 is .*; try a lower learning_rate"):
        train(small_run(world, optimizer="sgd", learning_rate=1e30, clip_norm=0.0), tmp_path)


@pytest.mark.parametrize("place", ["checkpoint", "log"])
def test_a_full_disk_is_told_and_the_run_continues_after(
    place: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if place == "checkpoint":
            patch.setattr(os, "fsync", from_call(2, os.fsync, full))
        else:
            patch.setattr(log.RunLog, "write", from_call(3, log.RunLog.write, full))
        with pytest.raises(WildboxError, match=r"No space left on device; make room, then resume"):
            train(small_run(world), tmp_path)
    assert load_checkpoint(tmp_path / "checkpoint.pt").step == 2
    assert not list(tmp_path.glob(".*"))
    assert load_checkpoint(train(small_run(world), tmp_path)).step == 6


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"processes": 2}, r"batch_size 3 is no multiple of 2 processes times schedule.accumulate 1"),
        ({"device": "cuda:99"}, r"device = 'cuda:99': this machine has \d+ GPUs that torch can use"),
        ({"device": "gpu"}, r"device = 'gpu': expected auto, cpu, cuda or cuda:N"),
    ],
)
def test_processes_that_cannot_be_are_refused(
    settings: dict[str, object], expected: str, world: Path
) -> None:
    with pytest.raises(ConfigError, match=expected):
        launch(small_run(world, batch_size=3).model_copy(update=settings))


def test_other_processes_than_torchrun_started(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="torchrun started 4 processes but the settings ask for 3"):
        launch(small_run(world, batch_size=12).model_copy(update={"processes": 3}))


def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert pick_device("auto").type == expected
