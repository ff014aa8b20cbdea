"""The commands `evaluate` and `compare`. Heavy imports stand inside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from wildbox.errors import ConfigError

if TYPE_CHECKING:
    from wildbox.evaluation import EvaluationResult

console = Console(stderr=True)


def evaluate(
    detections: Annotated[
        Path,
        typer.Argument(
            help="CSV or .parquet: ImageID,LabelName,Score,XMin,XMax,YMin,YMax; COCO results .json; challenge "
            "submission CSV; a folder of such files, or a pattern with *."
        ),
    ],
    *,
    truth: Annotated[Path, typer.Option(help="Open Images boxes CSV, or COCO or LVIS instances .json.")],
    out: Annotated[Path, typer.Option(help="Per-class log; .csv, .json or .md.")],
    image_labels: Annotated[
        Path | None, typer.Option(help="Verified image labels CSV; other classes are ignored in an image.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Class descriptions CSV (id,name). Default: the classes that occur.")
    ] = None,
    hierarchy: Annotated[Path | None, typer.Option(help="Open Images hierarchy JSON; the truth is expanded.")] = None,
    expand_detections: Annotated[
        bool, typer.Option("--expand-detections", help="Repeat detections for all ancestors, too.")
    ] = False,
    protocol: Annotated[
        str, typer.Option(help="open-images-challenge, open-images-v2, coco, lvis, voc or voc-11-point.")
    ] = "open-images-challenge",
    group_of_weight: Annotated[
        int | None,
        typer.Option(min=0, max=1, help="What a group-of box is worth. Default: 1 for the challenge, 0 for V2."),
    ] = None,
    matches: Annotated[
        Path | None, typer.Option(help="Also keep what became of each detection, .npz, for `compare`.")
    ] = None,
    curves: Annotated[Path | None, typer.Option(help="Also write precision over recall, CSV.")] = None,
    errors: Annotated[
        Path | None, typer.Option(help="Folder for errors.csv (kinds of errors) and confused.csv (wrong classes).")
    ] = None,
    rates: Annotated[
        Path | None, typer.Option(help="concurrent_rates.csv of an audit, to read wrong classes against.")
    ] = None,
    samples: Annotated[int, typer.Option(min=0, help="Of the images, for an interval of mAP; 0: none.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
) -> None:
    """Average precision of each class.

    The truth is expanded by the hierarchy; detections are not unless told. A folder or pattern is evaluated file by
    file, in the memory of one file and 16 bytes a detection. Errors are told at each class's best F1.
    """
    from wildbox.evaluation.files import Inputs, evaluate_inputs

    if rates is not None and errors is None:
        raise ConfigError("--rates is read against wrong classes: it needs --errors")
    inputs = Inputs(
        detections,
        truth,
        protocol,
        image_labels=image_labels,
        classes=classes,
        hierarchy=hierarchy,
        group_of_weight=group_of_weight,
        expand_detections=expand_detections,
    )
    result = evaluate_inputs(inputs)
    if result.matches is None and (matches or curves or errors or samples):
        raise ConfigError(f"--protocol {protocol} knows no single detections: no --matches, --curves, --errors, --samples")
    result.write(out)
    _write_more(result, matches=matches, curves=curves)
    for name, value in result.summary.items():
        console.print(f"{name} {value:.4f}", highlight=False)
    if samples and result.matches is not None:
        from wildbox.evaluation.bootstrap import bootstrap

        interval = bootstrap(result.matches, samples=samples, seed=seed).mean()
        console.print(f"mAP {interval}, 95 % of {samples:,} samples of the images", highlight=False)
    if errors is not None:
        _write_errors(inputs, result, errors, rates)
    console.print(f"{protocol}; per class in {out}")


def _write_more(result: EvaluationResult, *, matches: Path | None, curves: Path | None) -> None:
    from wildbox.evaluation.matches import write_matches

    if matches and result.matches:
        write_matches(result.matches, matches)
    if curves and result.curves:
        result.curves.write(curves, result.vocabulary)
