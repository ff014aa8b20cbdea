"""What is in the labels: `audit`, `convert`, `split`, `lambda`. Heavy imports stand inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from wildbox.cli.terminal import (
    Boxes,
    Classes,
    HierarchyFile,
    ImageLabelsFile,
    Seed,
    answers,
    console,
    named_csv,
    progress,
)

if TYPE_CHECKING:
    from wildbox.formats.annotated import AnnotatedSet
    from wildbox.labels.audit import LabelAudit
    from wildbox.reports.crops import ImageSource

BOXES_A_SHARD = 2_000_000


def audit(
    boxes: Boxes,
    *,
    out: Annotated[Path, typer.Option(help="Folder for the page and the CSVs.")],
    classes: Classes = None,
    hierarchy: HierarchyFile = None,
    image_labels: ImageLabelsFile = None,
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
    ancestors. Verified image labels show boxes of what is verified to be absent. Writes report.html and CSVs into
    --out, summary.json last.
    """
    from wildbox.formats.annotated import open_annotations
    from wildbox.labels.audit import audit as audit_shard
    from wildbox.labels.files import write_audit
    from wildbox.labels.published import compare_published, read_published, write_compared
    from wildbox.reports.audit import write_audit_page
    from wildbox.reports.tables import csv_table, markdown_table

    published = None if compare is None else read_published(compare)
    source = open_annotations(boxes, classes=classes, hierarchy=hierarchy, image_labels=image_labels)
    found: LabelAudit | None = None
    with progress() as show:
        for done, shard in enumerate(source, start=1):
            part = audit_shard(
                shard,
                hierarchy=source.hierarchy,
                iou=iou,
                min_ratio=min_ratio,
                include_group_of=group_of,
                examples=examples,
            )
            found = part if found is None else found + part
            show("audit", done, len(source))
    assert found is not None  # there is at least one shard
    table = None
    (out / "published.csv").unlink(missing_ok=True)  # of an audit before
    if published is not None:
        write_compared(compare_published(found, published), out / "published.csv")
        table = csv_table(out / "published.csv", note=f"Pairs of {compare} beside ours; en dash: not known.")
        answers.print(markdown_table(table.header, table.rows), soft_wrap=True)
    crops = None if images is None else _images(source, found, images)
    write_audit_page(found, out / "report.html", title=boxes.name, images=crops, published=table)
    write_audit(found, out)
    console.print(
        f"{found.images:,} images, {found.counts.boxes.sum():,} boxes, {len(found.vocabulary):,} classes; "
        f"{len(found.pairs):,} confusion pairs; {found.duplicates:,} repeated rows; open {out}/report.html",
        soft_wrap=True,
    )


def _images(source: AnnotatedSet, audit: LabelAudit, folder: Path) -> ImageSource:
    """The images of all examples; of several shards each is read anew, and only these images are kept."""
    from wildbox.annotations import concatenate
    from wildbox.reports.crops import images_of

    shown = [one.examples for one in audit.label_sets.sets] + [*audit.contradictions.examples]
    wanted = {example.image_id for some in shown for example in some}
    kept = [
        shard.select([i for i, image_id in enumerate(shard.image_ids) if image_id in wanted])
        for shard in source
    ]
    return images_of(concatenate(kept), folder)


def convert(
    boxes: Boxes,
    *,
    out: Annotated[Path, typer.Option(help="Folder for the Parquet files; it must hold no such set yet.")],
    classes: Classes = None,
    hierarchy: HierarchyFile = None,
    image_labels: ImageLabelsFile = None,
    shards: Annotated[int | None, typer.Option(min=1, help="Default: one for every 2 million boxes.")] = None,
) -> None:
    """Keep annotations as Parquet, in shards of whole images: read in a second, and one at a time.

    DuckDB, pandas and polars read the files too: plain columns, one row an image, a box, a verified label.
    """
    from wildbox.formats.annotated import open_annotations
    from wildbox.formats.parquet import write_parquet

    source = open_annotations(boxes, classes=classes, hierarchy=hierarchy, image_labels=image_labels)
    truth = source.whole()
    count = shards or max(-(-len(truth) // BOXES_A_SHARD), 1)
    with progress() as show:
        write_parquet(
            truth,
            out,
            shards=count,
            hierarchy=source.hierarchy,
            progress=lambda done, total: show("convert", done, total),
        )
    console.print(f"{len(truth.image_ids):,} images, {len(truth):,} boxes in {out}/")


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
    from wildbox.formats.annotated import open_annotations
    from wildbox.formats.open_images import write_image_list
    from wildbox.splits import split as choose

    truth = open_annotations(boxes, classes=classes).whole()
    out.mkdir(parents=True, exist_ok=True)
    for name, indices in zip(
        ("minitrain", "minival"), choose(truth, seed=seed, train=train, val=val), strict=True
    ):
        write_image_list(out / f"{name}.txt", [truth.image_ids[i] for i in indices])
        console.print(f"{len(indices):,} images in {out / name}.txt")


def choose_lambda(
    boxes: Boxes,
    *,
    draws: Annotated[int, typer.Option(help="Of images in the training: steps times batch size.")],
    out: Annotated[
        Path, typer.Option(callback=named_csv, help="CSV: how often each class is seen at each lambda.")
    ],
    balance: Annotated[
        list[float] | None,
        typer.Option(help="A lambda to try; several times for several. Default: 0, 0.25, 0.5, 0.7, 0.85, 1."),
    ] = None,
    max_repeats: Annotated[float, typer.Option(help="Mark where images repeat more often than this.")] = 20.0,
    rarest: Annotated[
        int, typer.Option(min=0, help="Classes shown, the rarest first; the CSV has all.")
    ] = 10,
    classes: Classes = None,
    hierarchy: HierarchyFile = None,
    image_labels: ImageLabelsFile = None,
    group_of: Annotated[
        bool, typer.Option(help='Without for a training that has group_of = "ignore".')
    ] = True,
) -> None:
    """Choose lambda: how often a training would see each class and each image, for a range of lambda.

    Expected numbers of soft-balance throughout a training; "none" is non-balance. With a hierarchy an image holds
    the ancestors of its classes too, as in training. Image labels add the images that only they name.
    """
    from wildbox.annotations import expand
    from wildbox.formats.annotated import open_annotations
    from wildbox.sampling import exposure, largest_balance
    from wildbox.sampling.exposure import by_balance, of_rarest, write_exposures

    source = open_annotations(boxes, classes=classes, hierarchy=hierarchy, image_labels=image_labels)
    truth = source.whole()
    if source.hierarchy is not None:
        truth = expand(truth, source.hierarchy)
    if not group_of:
        truth = truth.keep(~truth.is_group_of)
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
        table = Table(*header, title=title)
        for row in rows:
            table.add_row(*row)
        answers.print(table)
    best = largest_balance(found)
    answers.print(
        f"largest lambda of these at which no class's images repeat more than {max_repeats:g} times on average: "
        f"{'none' if best is None else f'{best:g}'}; each class at each lambda in {out}",
        soft_wrap=True,
    )
