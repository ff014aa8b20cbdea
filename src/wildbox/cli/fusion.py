"""Several models together: `ensemble`. Heavy imports stand inside the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wildbox.cli.terminal import Classes, console
from wildbox.errors import ConfigError


def ensemble(
    detections: Annotated[list[Path], typer.Argument(help="Of each model, as `evaluate` reads them.")],
    *,
    out: Annotated[
        Path,
        typer.Option(
            help="Detections: .csv, .parquet or COCO results .json; by image and class, best first."
        ),
    ],
    method: Annotated[str, typer.Option(help="wbf (weighted boxes fusion), nms or soft-nms.")] = "wbf",
    iou: Annotated[
        float | None,
        typer.Option(
            help="Boxes of a class match above it. Default: 0.55 (wbf), 0.5 (nms); soft-nms then decays "
            "linearly above it instead of by a Gaussian."
        ),
    ] = None,
    logs: Annotated[
        list[Path] | None,
        typer.Option(
            help="Per-class log of each model, in the same order (--logs A --logs B): weights by AP."
        ),
    ] = None,
    skip_below: Annotated[float, typer.Option(help="Detections of a lower score are left out.")] = 0.0,
    classes: Classes = None,
) -> None:
    """One set of detections out of those of several models, class by class.

    The classes are those of --classes, else of the logs, else all that occur.
    """
    from wildbox import ensembling
    from wildbox.formats.open_images import read_classes
    from wildbox.formats.storage import write_detections
    from wildbox.training.full_disk import full_disk_told

    methods = {
        "wbf": ensembling.weighted_boxes_fusion,
        "nms": ensembling.nms,
        "soft-nms": ensembling.soft_nms,
    }
    if method not in methods:
        raise ConfigError(f"--method {method}: expected one of {', '.join(methods)}")
    vocabulary = None if classes is None else read_classes(classes)
    models, weights = ensembling.read_models(detections, logs=logs or (), vocabulary=vocabulary)
    threshold = {} if iou is None else {"iou": iou}
    together = methods[method](models, weights=weights, skip_below=skip_below, **threshold)
    with full_disk_told(out, advice="start the same command again"):
        write_detections(together, out)
    total = sum(len(model) for model in models)
    console.print(f"{total:,} detections of {len(models)} models, {len(together):,} together in {out}")
