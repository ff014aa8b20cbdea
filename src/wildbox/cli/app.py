"""The command line: a name -> a function."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated

import typer
from rich.text import Text

from wildbox.cli import evaluation, experiments, fusion, labels, models
from wildbox.cli.terminal import answers, console, telling_of_compilation
from wildbox.errors import InputWarning, WildboxError

app = typer.Typer(
    name="wildbox",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    labels.audit,
    labels.convert,
    labels.split,
    models.train,
    models.predict,
    evaluation.evaluate,
    evaluation.errors,
    evaluation.compare,
    fusion.ensemble,
    experiments.glyphs,
    experiments.demo,
    experiments.study,
):
    app.command()(telling_of_compilation(command))
app.command("lambda")(telling_of_compilation(labels.choose_lambda))


def _show_version(wanted: bool) -> None:
    if wanted:
        answers.print(f"wildbox {version('wildbox')}")
        raise typer.Exit


@app.callback()
def _before(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Find, measure and beat label imbalance and multi-labels in object detection."""


def main() -> None:
    """Run a command; an error that the user can mend is one line and exit status 2."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of classes that its encoding does not have
    warnings.showwarning = _show_warning
    signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C: clean up, say how to go on
    try:
        app()
    except WildboxError as error:
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        _say("error:", "bold red", f"{error}{notes}")
        sys.exit(2)
    except OSError as error:
        place = error.filename2 or error.filename or _unwritten_output()
        if place is None:
            raise
        _say("error:", "bold red", f"{place}: {error.strerror}")
        sys.exit(2)


def _unwritten_output() -> str | None:
    """Name of standard output where it takes no line; what it holds is dropped, or Python would try at its end."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return "standard output"
    return None


def _say(kind: str, style: str, text: str) -> None:
    """One line, on terminals broken only where they end."""
    console.print(Text.assemble((kind, style), f" {text}"), soft_wrap=True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    if issubclass(category, InputWarning):
        _say("warning:", "yellow", str(message))
