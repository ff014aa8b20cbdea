"""Whole experiments: `glyphs`, `demo`, `study`. Heavy imports stand inside the commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from wildbox.cli.terminal import Seed, console, progress


def glyphs(
    *,
    out: Annotated[Path, typer.Option(help="Folder for images and Open Images files.")],
    images: Annotated[int, typer.Option(help="Training images.")] = 2500,
    validation_images: Annotated[int, typer.Option(help="Validation images.")] = 400,
    classes: Annotated[int | None, typer.Option(help="Leaf classes, at most 500.")] = None,
    size: Annotated[int, typer.Option(help="Side of an image, in pixels.")] = 160,
    seed: Seed = 0,
    processes: Annotated[int, typer.Option(help="That draw at the same time.")] = os.cpu_count() or 1,
) -> None:
    """Draw the glyph world: a long-tailed, multi-labelled detection set, as Open Images' own files."""
    from wildbox.glyphs import GlyphWorld, draw_world

    settings = {"images": images, "validation_images": validation_images, "size": size, "seed": seed}
    if classes is not None:
        settings["classes"] = classes
    with progress() as show:
        draw_world(
            out,
            settings=GlyphWorld(**settings),
            processes=processes,
            progress=lambda d, a: show("draw", d, a),
        )
    console.print(f"written to {out}/")


def demo(
    *,
    out: Annotated[Path, typer.Option(help="Folder for everything; open report.html in it.")],
    seed: Seed = 0,
    images: Annotated[int, typer.Option(help="Training images to draw.")] = 2500,
    full: Annotated[
        bool, typer.Option("--full", help="Also the other baselines and the samplings (within an hour).")
    ] = False,
) -> None:
    """Draw the glyph world, train softmax and concurrent softmax on it, and report.

    Five to twelve minutes on 2 cores; --full trains nine models instead of two. Interrupted, the same command goes on
    where it was.
    """
    from wildbox.demo import OTHERS, PAIR, demo_config, draw_demo_world
    from wildbox.glyphs import GlyphWorld
    from wildbox.reports.study import write_report
    from wildbox.study import run_study

    settings = GlyphWorld(seed=seed, images=images)
    with progress() as show:
        world = draw_demo_world(out, settings, processes=os.cpu_count() or 1, progress=show)
        config = demo_config(world, seed=seed, runs=PAIR + OTHERS if full else PAIR, size=settings.size)
        page = write_report(run_study(config, out, progress=show), out, progress=show)
    console.print(f"open {page}")


def study(
    settings: Annotated[Path, typer.Argument(help="Settings of the study, TOML; see examples/.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for everything; open report.html in it.")],
) -> None:
    """Audit, train, predict, evaluate, compare and report on your own data."""
    from wildbox.reports.study import write_report
    from wildbox.study import StudyConfig, run_study
    from wildbox.training.settings import read_config

    config = read_config(settings, StudyConfig)
    with progress() as show:
        page = write_report(run_study(config, out, progress=show), out, progress=show)
    console.print(f"open {page}")
