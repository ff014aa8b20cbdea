"""What was found: `evaluate`, `compare`. Heavy imports stand inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wildbox.cli.terminal import Classes, HierarchyFile, console
from wildbox.errors import ConfigError


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
    classes: Classes = None,
    hierarchy: HierarchyFile = None,
    expand_detections: Annotated[
        bool, typer.Option("--expand-detections", help="Repeat detections for all ancestors, too.")
    ] = False,
    protocol: Annotated[
        str, typer.Option(help="open-images-challenge, open-images-v2, coco, lvis, voc or voc-11-point.")
    ] = "open-images-challenge",
    group_of_weight: Annotated[
        int | None,
        typer.Option(
            min=0, max=1, help="What a group-of box is worth. Default: 1 for the challenge, 0 for V2."
        ),
    ] = None,
    matches: Annotated[
        Path | None, typer.Option(help="Also keep what became of each detection, .npz, for `compare`.")
    ] = None,
    curves: Annotated[
        Path | None, typer.Option(help="Also write precision over recall of each class, CSV.")
    ] = None,
) -> None:
    """Average precision of each class.

    The truth is expanded by the hierarchy; detections are not unless told. A folder or pattern is evaluated file by
    file, in the memory of one file and 16 bytes a detection.
    """
    from wildbox.evaluation import protocol_named, read_coco_truth
    from wildbox.evaluation.files import evaluate_coco_files, evaluate_files
    from wildbox.evaluation.matches import write_matches

    if protocol in ("coco", "lvis"):
        if classes or hierarchy or image_labels or group_of_weight is not None or matches or curves:
            raise ConfigError(f"--protocol {protocol} takes only --truth and --out")
        if truth.suffix != ".json":
            raise ConfigError(f"--protocol {protocol} takes its truth from a .json file, not {truth}")
        result = evaluate_coco_files(detections, read_coco_truth(truth), lvis=protocol == "lvis")
    else:
        verified_only = True if image_labels and protocol == "open-images-v2" else None
        rules = protocol_named(protocol, group_of_weight=group_of_weight, verified_only=verified_only)
        source = open_annotations(truth, classes=classes, hierarchy=hierarchy, image_labels=image_labels)
        table, tree = source.whole(), source.hierarchy
        result = evaluate_files(
            detections, table, protocol=rules, hierarchy=tree, expand_found=expand_detections
        )
    result.write(out)
    if matches and result.matches:
        write_matches(result.matches, matches)
    if curves and result.curves:
        result.curves.write(curves, result.vocabulary)
    for name, value in result.summary.items():
        console.print(f"{name} {value:.4f}", highlight=False)
    console.print(f"{protocol}; per class in {out}")


def compare(
    logs: Annotated[
        list[Path], typer.Argument(help="Two or more per-class logs; the first is the baseline.")
    ],
    *,
    out: Annotated[Path, typer.Option(help="CSV: class, AP in each log, gain of the last over the first.")],
) -> None:
    """Gains per class between per-class logs, best first."""
    from wildbox.evaluation import EvaluationResult, compare_results

    if len(logs) < 2:
        raise ConfigError("compare needs at least two logs")
    results = [EvaluationResult.read(log) for log in logs]
    compare_results([log.stem for log in logs], results, out)
    for log, result in zip(logs, results, strict=True):
        gain = result.mean_ap - results[0].mean_ap
        console.print(f"{log.stem}: mAP {result.mean_ap:.4f} ({gain:+.4f})")
