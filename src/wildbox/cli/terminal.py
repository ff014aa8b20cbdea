"""What all commands share: the terminal, bars of progress, and options that several take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from wildbox.errors import ConfigError

console = Console(stderr=True, markup=False, emoji=False)
"""What is said of the work. Texts hold names of files and classes, in which brackets and colons mean nothing."""

answers = Console(markup=False, emoji=False, highlight=False)
"""The numbers and tables that a command was asked for: standard output, to be piped and kept."""

Boxes = Annotated[
    Path,
    typer.Argument(
        help="Open Images boxes CSV, COCO or LVIS .json, or a folder that `wildbox convert` made."
    ),
]
Classes = Annotated[
    Path | None, typer.Option(help="Class descriptions CSV (id,name). Default: the classes that occur.")
]
HierarchyFile = Annotated[Path | None, typer.Option("--hierarchy", help="Open Images hierarchy JSON.")]
ImageLabelsFile = Annotated[Path | None, typer.Option("--image-labels", help="Verified image labels CSV.")]
Seed = Annotated[int, typer.Option(help="Of every random choice.")]


def named_csv(option: typer.CallbackParam, path: Path | None) -> Path | None:
    """Refuse another ending before the work begins: no other kind of file is written."""
    if path is not None and path.suffix.lower() != ".csv":
        raise ConfigError(f"{option.opts[0]} {path} ends in {path.suffix!r}, expected .csv")
    return path


def telling_of_compilation(command: Callable[..., None]) -> Callable[..., None]:
    """The same command, which says once where it waits for loops to be compiled, as after an installation."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        from numba.core import event  # here: help and errors of usage need no numba

        class Compiles(event.Listener):
            told = False

            def on_start(self, _: object) -> None:
                if not self.told:
                    self.told = True
                    console.print("compiling loops, once: this first run takes up to a minute longer")

            def on_end(self, _: object) -> None: ...

        with event.install_listener("numba:compile", Compiles()):
            command(*args, **kwargs)

    return run


@contextmanager
def progress() -> Iterator[Callable[..., None]]:
    """Bars, one a stage, as a function (stage, done, all, note="" to show behind)."""
    columns = (TextColumn("{task.description:<28}", markup=False), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False))
    with Progress(*columns, *times, console=console) as bars:
        tasks = {}

        def show(stage: str, done: int, total: int, note: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, note=note)
            bars.update(tasks[stage], completed=done, total=total, note=note)

        try:
            yield show
        except KeyboardInterrupt:
            # here and not in main: typer would answer it first, with "Aborted"
            console.print("interrupted; start the same command again to go on")
            raise typer.Exit(130) from None
