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
    from wildbox.training.config import RunConfig, read_config
    from wildbox.training.devices import is_first_process
    from wildbox.training.run import train as run_training
    from wildbox.training.stopping import Stopped, StopSignal

    config = read_config(run, RunConfig)
    if not resume and (out / "checkpoint.pt").exists():
        raise ConfigError(f"{out}/checkpoint.pt exists; give --resume to continue it, or another --out")

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


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint.pt of a run.")],
    images: Annotated[Path, typer.Argument(help="Folder of .jpg or .png images.")],
    *,
    out: Annotated[Path, typer.Option(help="Detections CSV; coordinates in the unit of the training set.")],
    scores: Annotated[
        str, typer.Option(help="softmax, concurrent, or own: the rule it was trained with.")
    ] = "own",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Detect on a folder of images."""
    from torch.utils.data import DataLoader

    from wildbox.detectors.dataset import DetectionDataset, collate, images_of
    from wildbox.detectors.inference import predict as run_model
    from wildbox.formats.storage import write_detections
    from wildbox.study import CONCURRENT, OWN, SOFTMAX, scoring_rule
    from wildbox.training.checkpoint import load_checkpoint
    from wildbox.training.model import restore_model
    from wildbox.training.run import pick_device

    names = {"softmax": SOFTMAX, "concurrent": CONCURRENT, "own": OWN}
    if scores not in names:
        raise ConfigError(f"--scores {scores}: expected one of {', '.join(names)}")
    saved = load_checkpoint(checkpoint)
    table = images_of(images, saved.vocabulary, relative=saved.relative)
    model = restore_model(saved).to(pick_device(device))
    loader = DataLoader(DetectionDataset(table, images, objects=None), batch_size=8, collate_fn=collate)
    rule = scoring_rule(names[scores], saved.rates, model.roi_heads.rule.scores)
    with progress() as show:
        total = len(table.image_ids)
        found = run_model(
            model, loader, table, scorings={"it": rule}, progress=lambda d: show("predict", d, total)
        )["it"]
    write_detections(found, out)
    console.print(f"{len(found):,} detections on {total:,} images in {out}")
