"""The command line: a name -> a function. Heavy imports stand inside the commands."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from rich.table import Table as RichTable

from wildbox.errors import ConfigError, InputWarning, WildboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wildbox.annotations import Annotations
    from wildbox.vocabulary import Hierarchy

app = typer.Typer(
    name="wildbox",
    help="Find, measure and beat label imbalance and multi-labels in object detection.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(stderr=True)

Boxes = Annotated[Path, typer.Argument(help="Open Images boxes CSV, or COCO instances .json.")]
Classes = Annotated[
    Path | None, typer.Option(help="Class descriptions CSV (id,name). Default: the classes that occur.")
]
HierarchyFile = Annotated[Path | None, typer.Option("--hierarchy", help="Open Images hierarchy JSON.")]
Seed = Annotated[int, typer.Option(help="Of every random choice.")]


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


@contextmanager
def _progress() -> Iterator[Callable[..., None]]:
    """Bars, one a stage, as a function (stage, done, all, note="" to show behind)."""
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
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


def _read_truth(
    boxes: Path, *, classes: Path | None, hierarchy: Path | None, image_labels: Path | None = None
) -> tuple[Annotations, Hierarchy | None]:
    """Annotations and hierarchy of the files that commands name; `.json` is COCO."""
    from wildbox.formats.coco import read_coco
    from wildbox.formats.open_images import read_hierarchy, read_open_images

    if boxes.suffix == ".json":
        if classes or hierarchy or image_labels:
            raise ConfigError("--classes, --hierarchy and --image-labels belong to Open Images CSV, not COCO")
        return read_coco(boxes), None
    truth = read_open_images(boxes, classes=classes, image_labels=image_labels)
    return truth, None if hierarchy is None else read_hierarchy(hierarchy, truth.vocabulary)


@app.command()
def audit(
    boxes: Boxes,
    *,
    out: Annotated[Path, typer.Option(help="Folder for the page and the CSVs.")],
    classes: Classes = None,
    hierarchy: HierarchyFile = None,
    image_labels: Annotated[
        Path | None, typer.Option(help="Verified image labels CSV: finds boxes of what is verified absent.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images: the page shows crops.")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Published pairs CSV: source,confusion,source_boxes,confusion_boxes.")
    ] = None,
    iou: Annotated[float, typer.Option(help="Two boxes mark one object above this IoU (strict).")] = 0.9,
    min_ratio: Annotated[float, typer.Option(help="Pairs and rates are kept above this share.")] = 0.1,
    group_of: Annotated[bool, typer.Option(help="Count group-of boxes like the others.")] = True,
    examples: Annotated[int, typer.Option(help="Boxes to keep as examples of each label set.")] = 4,
) -> None:
    """Tell what is wrong with labels: imbalance, confusion pairs, concurrent rates, suspected errors.

    Boxes are counted as the file has them; the hierarchy marks related pairs and adds a rate of 1 from a class to its
    ancestors. Writes report.html and CSVs into --out, summary.json last.
    """
    from wildbox.labels.audit import audit as run_audit
    from wildbox.labels.files import write_audit
    from wildbox.labels.published import compare_published, read_published, write_compared
    from wildbox.reports.audit import write_audit_page
    from wildbox.reports.crops import images_of
    from wildbox.reports.tables import csv_table, markdown_table

    published = None if compare is None else read_published(compare)
    truth, tree = _read_truth(boxes, classes=classes, hierarchy=hierarchy, image_labels=image_labels)
    found = run_audit(
        truth, hierarchy=tree, iou=iou, min_ratio=min_ratio, include_group_of=group_of, examples=examples
    )
    table = None
    if published is not None:
        write_compared(compare_published(found, published), out / "published.csv")
        table = csv_table(out / "published.csv", note=f"Pairs of {compare} beside ours; en dash: not known.")
        console.print(markdown_table(table.header, table.rows), markup=False, highlight=False, soft_wrap=True)
    source = None if images is None else images_of(truth, images)
    write_audit_page(found, out / "report.html", title=boxes.name, images=source, published=table)
    write_audit(found, out)
    console.print(
        f"{len(truth.image_ids):,} images, {len(truth):,} boxes, {len(truth.vocabulary):,} classes; "
        f"{len(found.pairs):,} confusion pairs; open {out}/report.html"
    )


@app.command()
def split(
    boxes: Boxes,
    *,
    out: Annotated[Path, typer.Option(help="Folder for minitrain.txt and minival.txt, one image id a line.")],
    train: Annotated[int, typer.Option(help="Images in minitrain.")],
    val: Annotated[int, typer.Option(help="Images in minival.")],
    classes: Classes = None,
    seed: Seed = 0,
) -> None:
    """Choose disjoint subsets of images that keep every class."""
    from wildbox.formats.open_images import write_image_list
    from wildbox.splits import split as choose

    truth, _ = _read_truth(boxes, classes=classes, hierarchy=None)
    out.mkdir(parents=True, exist_ok=True)
    for name, indices in zip(
        ("minitrain", "minival"), choose(truth, seed=seed, train=train, val=val), strict=True
    ):
        write_image_list(out / f"{name}.txt", [truth.image_ids[i] for i in indices])
        console.print(f"{len(indices):,} images in {out / name}.txt")


@app.command("lambda")
def choose_lambda(
    boxes: Boxes,
    *,
    draws: Annotated[int, typer.Option(help="Of images in the training: steps times batch size.")],
    out: Annotated[Path, typer.Option(help="CSV: how often each class is seen at each lambda.")],
    balance: Annotated[
        list[float] | None,
        typer.Option(help="A lambda to try; several times for several. Default: 0, 0.25, 0.5, 0.7, 0.85, 1."),
    ] = None,
    max_repeats: Annotated[float, typer.Option(help="Mark where images repeat more often than this.")] = 20.0,
    rarest: Annotated[int, typer.Option(help="Classes shown, the rarest first; the CSV has all.")] = 10,
    classes: Classes = None,
    hierarchy: HierarchyFile = None,
) -> None:
    """Choose lambda: how often a training would see each class and each image, for a range of lambda.

    Expected numbers of soft-balance throughout a training; "none" is non-balance. With a hierarchy an image holds
    the ancestors of its classes too, as in training.
    """
    from wildbox.annotations import expand
    from wildbox.sampling import exposure, largest_balance
    from wildbox.sampling.exposure import by_balance, of_rarest, write_exposures

    truth, tree = _read_truth(boxes, classes=classes, hierarchy=hierarchy)
    truth = truth if tree is None else expand(truth, tree)
    settings = {"draws": draws, "max_repeats": max_repeats, "classes": len(truth.vocabulary)}
    found = [
        exposure(truth.offsets, truth.label, balance=b, **settings)  # type: ignore[arg-type]
        for b in (None, *sorted(balance or (0, 0.25, 0.5, 0.7, 0.85, 1)))
    ]
    write_exposures(out, found, truth.vocabulary)
    for title, (header, rows) in {
        "times an image of the class is drawn, on average (! more than --max-repeats)": of_rarest(
            found, truth.vocabulary, rarest
        ),
        f"all {len(truth.image_ids):,} images": by_balance(found),
    }.items():
        table = RichTable(*header, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    best = largest_balance(found)
    console.print(
        f"largest lambda of these at which no class's images repeat more than {max_repeats:g} times on average: "
        f"{'none' if best is None else f'{best:g}'}; each class at each lambda in {out}",
        soft_wrap=True,
    )


@app.command()
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

    with StopSignal() as stop, _progress() as show:
        try:
            path = run_training(config, out, resume=resume, progress=told, stop=stop)
        except Stopped as stopped:
            if not is_first_process():  # whoever started us must not take it for a failure
                raise typer.Exit(0) from None
            console.print(f"{stopped}; give --resume to go on")
            raise typer.Exit(stop.status) from None
    if is_first_process():
        console.print(f"trained: {path}")


@app.command()
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
    with _progress() as show:
        total = len(table.image_ids)
        found = run_model(
            model, loader, table, scorings={"it": rule}, progress=lambda d: show("predict", d, total)
        )["it"]
    write_detections(found, out)
    console.print(f"{len(found):,} detections on {total:,} images in {out}")


@app.command()
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
        table, tree = _read_truth(truth, classes=classes, hierarchy=hierarchy, image_labels=image_labels)
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


@app.command()
def ensemble(
    detections: Annotated[list[Path], typer.Argument(help="Detections CSV of each model.")],
    *,
    out: Annotated[Path, typer.Option(help="Detections CSV; images by id, in each the classes, best first.")],
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
    write_detections(together, out)
    total = sum(len(model) for model in models)
    console.print(f"{total:,} detections of {len(models)} models, {len(together):,} together in {out}")


@app.command()
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


@app.command()
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
    with _progress() as show:
        draw_world(
            out,
            settings=GlyphWorld(**settings),
            processes=processes,
            progress=lambda d, a: show("draw", d, a),
        )
    console.print(f"written to {out}/")


@app.command()
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

    About five minutes on 2 cores; --full trains nine models instead of two. Interrupted, the same command goes on
    where it was.
    """
    from wildbox.demo import OTHERS, PAIR, demo_config, draw_demo_world
    from wildbox.glyphs import GlyphWorld
    from wildbox.reports.study import write_report
    from wildbox.study import run_study

    settings = GlyphWorld(seed=seed, images=images)
    with _progress() as show:
        world = draw_demo_world(out, settings, processes=os.cpu_count() or 1, progress=show)
        config = demo_config(world, seed=seed, runs=PAIR + OTHERS if full else PAIR, size=settings.size)
        page = write_report(run_study(config, out, progress=show), out, progress=show)
    console.print(f"open {page}")


@app.command()
def study(
    settings: Annotated[Path, typer.Argument(help="Settings of the study, TOML; see examples/.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for everything; open report.html in it.")],
) -> None:
    """Audit, train, predict, evaluate, compare and report on your own data."""
    from wildbox.reports.study import write_report
    from wildbox.study import StudyConfig, run_study
    from wildbox.training.config import read_config

    config = read_config(settings, StudyConfig)
    with _progress() as show:
        page = write_report(run_study(config, out, progress=show), out, progress=show)
    console.print(f"open {page}")


if __name__ == "__main__":
    main()
