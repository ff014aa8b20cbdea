"""What a run tells: the same values in JSON lines, TensorBoard and W&B, and no step twice after a resume."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training.small_run import world_data

from wildbox.errors import ConfigError
from wildbox.training.config import LogConfig, RunConfig
from wildbox.training.log import RunLog


def config(**log: object) -> RunConfig:
    return RunConfig(data=world_data(Path("none")), log=LogConfig.model_validate(log))


def write(folder: Path, settings: RunConfig, *, after: int, steps: range, value: float) -> None:
    with RunLog(folder, settings, step=after, writes=True) as log:
        for step in steps:
            log.write(step, {"loss": value + step, "absent": float("nan")})


def test_lines_after_the_checkpoint_are_dropped_and_damaged_ones_too(tmp_path: Path) -> None:
    write(tmp_path, config(), after=0, steps=range(1, 5), value=0.5)
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write('{"step": 2, "loss": {"half of a li}')
    write(tmp_path, config(), after=2, steps=range(3, 6), value=0.25)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [
        {"step": step, "loss": loss}
        for step, loss in zip(range(1, 6), (1.5, 2.5, 3.25, 4.25, 5.25), strict=True)
    ]


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    with RunLog(tmp_path, config(tensorboard=True, wandb="p"), step=0, writes=False) as log:
        log.write(1, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_reads_the_same_values(tmp_path: Path) -> None:
    settings = config(tensorboard=True)
    write(tmp_path, settings, after=0, steps=range(1, 5), value=0.5)
    write(tmp_path, settings, after=2, steps=range(3, 6), value=0.25)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss"]
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert found == [(1, 1.5), (2, 2.5), (3, 3.25), (4, 4.25), (5, 5.25)]


def test_wandb_is_told_the_same_values_and_resumes_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[dict[str, Any]] = []
    logged: list[tuple[int, dict[str, float]]] = []

    def init(**settings: Any) -> SimpleNamespace:
        begun.append(settings)
        return SimpleNamespace(log=lambda values, step: logged.append((step, values)), finish=lambda: None)

    fake = SimpleNamespace(init=init, util=SimpleNamespace(generate_id=lambda: f"id{len(begun)}"))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for after in (0, 1):
        write(tmp_path, config(wandb="wild"), after=after, steps=range(after + 1, after + 2), value=0.5)
    assert logged == [(1, {"loss": 1.5}), (2, {"loss": 2.5})]
    assert [(run["project"], run["id"], run["resume"]) for run in begun] == [("wild", "id0", "allow")] * 2
    assert begun[0]["config"] == config(wandb="wild").model_dump(mode="json")


@pytest.mark.parametrize(
    ("module", "log"), [("torch.utils.tensorboard", {"tensorboard": True}), ("wandb", {"wandb": "p"})]
)
def test_a_package_that_is_not_installed_is_named(
    module: str, log: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"pip install 'wildbox\["):
        RunLog(tmp_path, config(**log), step=0, writes=True)
