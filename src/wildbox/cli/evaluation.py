"""What was found: `evaluate`, `errors`, `compare`. Heavy imports stand inside the commands."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from wildbox.cli.terminal import Classes, answers, console, named_csv
from wildbox.errors import ConfigError

if TYPE_CHECKING:
    from wildbox.evaluation import Comparison, Protocol

Found = Annotated[
    Path,
    typer.Argument(
        help="CSV or .parquet: ImageID,LabelName,Score,XMin,XMax,YMin,YMax; COCO results .json; challenge submission "
        "CSV; a folder of such files, or a pattern with *."
    ),
]
Truth = Annotated[
    Path,
    typer.Option(
        help="Open Images boxes CSV, COCO or LVIS instances .json, or a folder that `wildbox convert` made."
    ),
]
ImageLabels = Annotated[
    Path | None, typer.Option(help="Verified image labels CSV: which classes people looked for in an image.")
]
HierarchyFile = Annotated[
    Path | None,
    typer.Option(
        "--hierarchy", help="Open Images hierarchy JSON; the truth is expanded by it. A folder has its own."
    ),
]
ProtocolName = Annotated[
    str, typer.Option(help="open-images-challenge, open-images-v2, coco, lvis, voc or voc-11-point.")
]
Matches = Annotated[
    Path | None, typer.Option(help="Also keep what became of each detection, .npz, for `compare`.")
]
Points = Annotated[
    Path | None,
    typer.Option(callback=named_csv, help="Also write precision over recall of each class, CSV."),
]
GroupOfWeight = Annotated[
    int | None,
    typer.Option(min=0, max=1, help="What a group-of box is worth. Default: 1 for the challenge, 0 for V2."),
]
VerifiedOnly = Annotated[
    bool | None,
    typer.Option(
        "--verified-only/--all-detections",
        help="Whether detections of classes that nobody looked for in an image are ignored. Default: the challenge "
        "ignores them, V2 does not.",
    ),
]
Upward = Annotated[
    bool, typer.Option("--expand-detections", help="Repeat detections for all ancestors, too.")
]
Samples = Annotated[int, typer.Option(min=0, help="Draws of the images, for 95 % intervals; 0: none.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the draws.")]


def evaluate(
    detections: Found,
    *,
    truth: Truth,
    out: Annotated[Path, typer.Option(help="Per-class log; .csv, .json or .md.")],
    image_labels: ImageLabels = None,
    classes: Classes = None,
    hierarchy: HierarchyFile = None,
    expand_detections: Upward = False,
    protocol: ProtocolName = "open-images-challenge",
    group_of_weight: GroupOfWeight = None,
    verified_only: VerifiedOnly = None,
    matches: Matches = None,
    curves: Points = None,
    samples: Samples = 0,
    seed: Seed = 0,
) -> None:
    """Average precision of each class.

    The truth is expanded by the hierarchy; detections are not unless told. A folder or pattern is evaluated file by
    file, in the memory of one file and about 16 bytes a detection.
    """
    from wildbox.evaluation.bootstrap import bootstrap
    from wildbox.evaluation.coco import read_coco_truth
    from wildbox.evaluation.files import evaluate_coco_files, evaluate_files
    from wildbox.evaluation.matches import write_matches
    from wildbox.evaluation.protocols import protocol_named
    from wildbox.evaluation.result import log_ending
    from wildbox.formats.annotated import open_annotations
    from wildbox.formats.detection_parts import open_beside

    log_ending(out)
    if matches is not None and matches.suffix != ".npz":
        raise ConfigError(f"--matches {matches} ends in {matches.suffix!r}, expected .npz")
    if samples and protocol == "voc-11-point":
        raise ConfigError("there are no intervals for VOC's eleven points: leave out --samples")
    if protocol in ("coco", "lvis"):
        given = (classes, hierarchy, image_labels, group_of_weight, verified_only, matches, curves)
        further = bool(expand_detections or samples) or any(value is not None for value in given)
        _check_coco(protocol, truth, further=further)
        result = evaluate_coco_files(detections, read_coco_truth(truth), lvis=protocol == "lvis")
    else:
        rules = protocol_named(protocol, group_of_weight=group_of_weight, verified_only=verified_only)
        _check_use(rules, image_labels)
        read = partial(open_annotations, classes=classes, hierarchy=hierarchy, image_labels=image_labels)
        found, source = open_beside(detections, partial(read, truth))
        table, tree = source.whole(), source.hierarchy
        result = evaluate_files(found, table, protocol=rules, hierarchy=tree, expand_found=expand_detections)
    told = [f"{name} {value:.4f}" for name, value in result.summary.items()]
    if samples and result.matches is not None:
        interval = bootstrap(result.matches, samples=samples, seed=seed).mean()
        told.append(f"mAP {interval} in 95 % of {samples:,} draws of the images")
    result.write(out)
    if matches and result.matches is not None:
        write_matches(result.matches, matches)
    if curves and result.curves is not None:
        result.curves.write(curves, result.vocabulary)
    for line in told:
        answers.print(line)
    console.print(f"{protocol}; per class in {out}")


def _check_coco(protocol: str, truth: Path, *, further: bool) -> None:
    from wildbox.formats.files import is_json

    if further:
        raise ConfigError(f"--protocol {protocol} takes only --truth and --out")
    if not is_json(truth):
        raise ConfigError(f"--protocol {protocol} takes its truth from a .json file, not {truth}")


def _check_use(protocol: Protocol, image_labels: Path | None) -> None:
    if image_labels and not protocol.verified_only:
        further = ", or say --verified-only" if protocol.absorbing else ""
        raise ConfigError(
            f"--protocol {protocol.name} ignores image labels: leave out --image-labels{further}"
        )


def errors(
    detections: Found,
    *,
    truth: Truth,
    out: Annotated[Path, typer.Option(help="Folder for errors.csv and confused.csv.")],
    image_labels: ImageLabels = None,
    classes: Classes = None,
    hierarchy: HierarchyFile = None,
    protocol: Annotated[
        str, typer.Option(help="open-images-challenge, open-images-v2 or voc.")
    ] = "open-images-challenge",
    verified_only: VerifiedOnly = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Of detections that are looked at. Default: each class's best F1, or the median of the others'.",
        ),
    ] = None,
    rates: Annotated[
        Path | None, typer.Option(help="concurrent_rates.csv of an audit, to read wrong classes against.")
    ] = None,
) -> None:
    """Kinds of errors of each class: poor box, wrong class and which, duplicate, background, missed.

    They are those of TIDE. With --rates, how much of the wrong classes is a label that the truth itself uses for the
    same objects.
    """
    from wildbox.evaluation.error_kinds import KINDS
    from wildbox.evaluation.files import errors_in_files
    from wildbox.evaluation.protocols import protocol_named
    from wildbox.formats.annotated import open_annotations
    from wildbox.labels import ConcurrentRates

    rules = protocol_named(protocol, verified_only=verified_only)
    _check_use(rules, image_labels)
    source = open_annotations(truth, classes=classes, hierarchy=hierarchy, image_labels=image_labels)
    table, tree = source.whole(), source.hierarchy
    read = None if rates is None else ConcurrentRates.read(rates, table.vocabulary).values
    kinds = errors_in_files(detections, table, protocol=rules, hierarchy=tree, min_score=min_score)
    kinds.write(out / "errors.csv")
    kinds.write_confused(out / "confused.csv", read)
    shown = Table("kind", "errors", "mAP without", title=f"mAP {kinds.mean_ap:.4f} at these scores")
    for k in range(len(KINDS)):
        shown.add_row(KINDS[k].replace("_", " "), f"{kinds.counts[:, k].sum():,}", f"{kinds.without[k]:.4f}")
    answers.print(shown)
    if read is not None and len(kinds.confused):
        concurring, by_chance = kinds.interchangeable(read)
        answers.print(
            f"of the wrong classes {concurring:.1%} are between classes that concur in the truth; {by_chance:.1%} "
            "would be right had these boxes been labelled once more",
            soft_wrap=True,
        )
    console.print(f"per class in {out}/")


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Two or more per-class logs (.csv), or matches (.npz) for intervals; the baseline first."
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(callback=named_csv, help="CSV: class, AP in each run, gain of the last over the first."),
    ],
    audit: Annotated[
        Path | None,
        typer.Option(help="Folder of an audit: head, middle and tail, and which classes concur."),
    ] = None,
    samples: Samples = 1000,
    seed: Seed = 0,
) -> None:
    """Gains per class and by groups of classes, best first."""
    from wildbox.evaluation import compare as set_side_by_side
    from wildbox.evaluation.comparison import read_run
    from wildbox.labels.groups import read_groups

    if len(runs) < 2:
        raise ConfigError("compare needs at least two runs")
    results = [read_run(run) for run in runs]
    groups = None if audit is None else read_groups(audit, results[0].vocabulary)
    found = set_side_by_side([run.stem for run in runs], results, groups=groups, samples=samples, seed=seed)
    found.write(out)
    _show(found)
    console.print(f"{found.complete.sum():,} classes in {out}")


def _show(found: Comparison) -> None:
    table = Table("", "classes", *found.names, "gain")
    for name, classes, means, gain in found.means():
        told = (
            f"{gain:+.4f}"
            if isinstance(gain, float)
            else f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
        )
        table.add_row(name, f"{classes:,}", *map("{:.4f}".format, means), told)
    answers.print(table)
