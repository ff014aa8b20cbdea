"""The command line: a name -> a function."""

from __future__ import annotations

import signal
import sys
import warnings

import typer

from wildbox.cli import evaluation, experiments, fusion, labels, models
from wildbox.cli.terminal import console
from wildbox.errors import InputWarning, WildboxError

app = typer.Typer(
    name="wildbox",
    help="Find, measure and beat label imbalance and multi-labels in object detection.",
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
    app.command()(command)
app.command("lambda")(labels.choose_lambda)


def main() -> None:
    """Run a command; an error that the user can mend is one line and exit status 2."""
    warnings.showwarning = _show_warning
    signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C: clean up, say how to go on
    try:
        app()
    except WildboxError as error:
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        console.print(f"[bold red]error:[/] {error}{notes}", highlight=False, soft_wrap=True)
        sys.exit(2)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    if issubclass(category, InputWarning):
        console.print(f"[yellow]warning:[/] {message}", highlight=False, soft_wrap=True)
