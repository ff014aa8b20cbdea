"""One detector: `train`, `predict`. Heavy imports stand inside the commands."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from wildbox.cli.terminal import console, progress
from wildbox.errors import ConfigError


def train(
    run: Annotated[Path, typer.Argument(help="Settings of the run, TOML (or the config.json of a run).")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for config.json, log.jsonl, checkpoint.pt.")],
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in --out.")] = False,
) -> None:
    """Train one detector.

    SIGTERM and Ctrl-C save and leave, with status 143 and 130; --resume continues, and starts where there is
    nothing yet. See docs/training.md.
    """
    from wildbox.training.config import RunConfig
    from wildbox.training.devices import is_first_process
    from wildbox.training.run import train as run_training
    from wildbox.training.settings import read_config
    from wildbox.training.stopping import Stopped, StopSignal

    config = read_config(run, RunConfig)
    if not resume and (kept := sorted([*out.glob("*.pt"), *out.glob("*.pt.damaged")])):
        raise ConfigError(f"{kept[0]} is there; give --resume to continue this run, or another --out")

    def told(done: int, total: int, values: Mapping[str, float]) -> None:
        left = timedelta(seconds=round(values["eta"]))
        note = "loss {loss:.3f}, {images_per_second:.1f} images/s, waits {data_wait:.0%}".format(**values)
        show("train", done, total, note=f"{note}, {left} left")

    with StopSignal() as stop, progress() as show:
        try:
            path = run_training(config, out, resume=resume, progress=told, stop=stop)
        except Stopped as stopped:
            if not is_first_process():  # whoever started us must not take it for a failure
                raise typer.Exit(0) from None
            console.print(f"{stopped}; give --resume to go on")
            raise typer.Exit(stop.status) from None
    if is_first_process():
        console.print(f"trained: {path}")


Scores = Annotated[
    list[str] | None,
    typer.Option(
        help="own (the rule it was trained with: the default), softmax, concurrent, or sharp (concurrent with every "
        "rate made 1); may repeat."
    ),
]
ImagesOf = Annotated[
    Path | None,
    typer.Option(
        help="COCO or LVIS .json whose images to take, by their ids. Default: every .jpg and .png of the folder."
    ),
]
Sizes = Annotated[
    list[int] | None,
    typer.Option(help="Shorter side of the network's input, in pixels; may repeat. Default: the run's."),
]
CorruptShare = Annotated[
    float, typer.Option(help="Of the images, that may fail to open; they have no detections.")
]


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint.pt or best.pt of a run.")],
    images: Annotated[Path, typer.Argument(help="Folder of the images.")],
    *,
    out: Annotated[
        Path,
        typer.Option(help="Folder for Parquet shards; or a .csv, .parquet or .json (COCO results) file."),
    ],
    scores: Scores = None,
    of: ImagesOf = None,
    flip: Annotated[bool, typer.Option("--flip", help="Show each image mirrored, too.")] = False,
    size: Sizes = None,
    shard: Annotated[int, typer.Option(help="Images a shard.")] = 1000,
    batch: Annotated[int, typer.Option(help="Images at once, of a process.")] = 8,
    workers: Annotated[int, typer.Option(help="Processes that load images, for each that predicts.")] = 0,
    max_corrupt_share: CorruptShare = 0.0,
    precision: Annotated[str, typer.Option(help="32 or bf16-mixed.")] = "32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    processes: Annotated[int, typer.Option(help="That predict, one a GPU.")] = 1,
) -> None:
    """Detect on a folder of images; coordinates are in the unit of the training set.

    Interrupted or killed, the same command goes on where it was. See docs/training.md.
    """
    from wildbox.training.devices import is_first_process
    from wildbox.training.prediction import PredictConfig, images_to_predict, predict_images
    from wildbox.training.settings import parse_config

    settings = {"scores": scores or ["own"], "image_sizes": size or [], "flip": flip, "shard_size": shard}
    settings |= {"batch_size": batch, "workers": workers, "max_corrupt_share": max_corrupt_share}
    settings |= {"precision": precision, "device": device, "processes": processes}
    config = parse_config(settings, PredictConfig, source="predict")
    table = images_to_predict(checkpoint, images, listed=of, max_absent_share=max_corrupt_share)
    with progress() as show:
        written = predict_images(
            checkpoint, table, images, out, config, progress=lambda d, a: show("predict", d, a)
        )
    if is_first_process():
        console.print(f"{len(table.image_ids):,} images: {', '.join(map(str, written.values()))}")
