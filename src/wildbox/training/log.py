"""What a run tells while it trains: JSON lines, and where asked TensorBoard and Weights & Biases."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wildbox.errors import ConfigError
from wildbox.formats.files import whole_file
from wildbox.training.config import RunConfig

Sink = tuple[Callable[[int, Mapping[str, float]], None], Callable[[], None]]
"""Write the values of a step; close."""


class RunLog:
    """Values by step, to every place that the settings name.

    Args:
        folder: of the run; `log.jsonl` and the event files go there.
        step: of the checkpoint that the run continues from; what was logged after it is dropped.
        writes: whether this process is the one that writes.
    Raises:
        ConfigError: a package that the settings need is not installed.
    """

    def __init__(self, folder: Path, config: RunConfig, *, step: int, writes: bool) -> None:
        self._sinks: list[Sink] = []
        if not writes:
            return
        self._sinks.append(_json_lines(folder / "log.jsonl", step))
        if config.log.tensorboard:
            self._sinks.append(_tensorboard(folder, step))
        if config.log.wandb:
            self._sinks.append(_wandb(folder, config))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line; a value that is not finite is left out."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        for write, _ in self._sinks:
            write(step, finite)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, close in self._sinks:
            close()


def _json_lines(path: Path, step: int) -> Sink:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    with whole_file(path) as temporary:
        kept = [line for line in lines if _step_of(line) <= step]
        temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    stream = path.open("a", encoding="utf-8")

    def write(at: int, values: Mapping[str, float]) -> None:
        stream.write(json.dumps({"step": at, **values}) + "\n")
        stream.flush()

    return write, stream.close


def _step_of(line: str) -> float:
    """Infinite for a line that a killed process did not finish."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf


def _tensorboard(folder: Path, step: int) -> Sink:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(f"log.tensorboard: {error}; pip install 'wildbox[tensorboard]'") from error
    writer: Any = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(at: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, at)

    return write, writer.close


def _wandb(folder: Path, config: RunConfig) -> Sink:
    try:
        import wandb
    except ImportError as error:
        raise ConfigError(f"log.wandb: {error}; pip install 'wildbox[wandb]'") from error
    # the id lies in the folder, so that a resumed run continues its own curves
    identity = folder / "wandb-id.txt"
    if not identity.exists():
        with whole_file(identity) as temporary:
            temporary.write_text(wandb.util.generate_id(), encoding="utf-8")
    run = wandb.init(
        project=config.log.wandb,
        id=identity.read_text(encoding="utf-8"),
        resume="allow",
        dir=str(folder),
        name=folder.resolve().name,
        config=config.model_dump(mode="json"),
    )

    def write(at: int, values: Mapping[str, float]) -> None:
        run.log(dict(values), step=at)

    return write, run.finish
