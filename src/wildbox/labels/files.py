"""The files of an audit: CSV tables that people sort, and a summary that programs read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from wildbox.formats.files import whole_file, write_csv
from wildbox.labels.audit import LabelAudit
from wildbox.labels.suspects import suspects

CLASS_COLUMNS = (
    *("class_id", "class_name", "boxes", "images", "group", "published_group"),
    "boxes_verified_absent",
)
PAIR_COLUMNS = (
    *("source", "confusion", "source_name", "confusion_name"),
    *("source_boxes", "confusion_boxes", "ratio", "related", "unexplained"),
)
SET_COLUMNS = ("labels", "names", "size", "boxes")
IMPLIED_COLUMNS = ("class", "ancestor", "class_name", "ancestor_name", "boxes", "with_ancestor", "missing")
SUSPECT_COLUMNS = (
    *("rank", "kind", "score", "labels", "names", "boxes", "why"),
    *("image_id", "x1", "y1", "x2", "y2"),
)

Row = tuple[object, ...]


def write_audit(audit: LabelAudit, folder: str | Path) -> None:
    """Write the tables into a folder, which is made; summary.json comes last.

    - classes.csv: boxes and images of each class; its third of the classes by images; the group that its file gives
      it (LVIS: frequency).
    - confusion_pairs.csv: pairs of classes on one object above `min_ratio`; related: one is the other's ancestor;
      unexplained: pairs of boxes that no label below explains.
    - concurrent_rates.csv: what `ConcurrentRates.read` reads.
    - label_sets.csv: which labels objects carry together, and on how many boxes.
    - implied_labels.csv: how many boxes of a class carry each of its ancestors.
    - suspects.csv: what is likely to be wrong, an example a row (rank: the suspect that it belongs to).
    """
    folder = Path(folder)
    ids, names = audit.vocabulary.ids, audit.vocabulary.names
    counts = audit.counts
    published = audit.vocabulary.groups or ("",) * len(ids)
    columns = (counts.boxes.tolist(), counts.images.tolist(), counts.groups(), published)
    classes = zip(ids, names, *columns, audit.contradictions.boxes.tolist(), strict=True)
    write_csv(folder / "classes.csv", CLASS_COLUMNS, classes)
    write_csv(folder / "confusion_pairs.csv", PAIR_COLUMNS, _pair_rows(audit))
    audit.rates.write(folder / "concurrent_rates.csv")
    sets = ((*_together(audit, one.labels), len(one.labels), one.boxes) for one in audit.label_sets.sets)
    write_csv(folder / "label_sets.csv", SET_COLUMNS, sets)
    implied = (
        (ids[i], ids[a], names[i], names[a], boxes, found, boxes - found)
        for i, a, boxes, found in audit.implied
    )
    write_csv(folder / "implied_labels.csv", IMPLIED_COLUMNS, implied)
    write_csv(folder / "suspects.csv", SUSPECT_COLUMNS, _suspect_rows(audit))
    numbers = {name: None if math.isnan(number) else number for name, number in audit.summary().items()}
    with whole_file(folder / "summary.json") as temporary:
        temporary.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


def _together(audit: LabelAudit, labels: tuple[int, ...]) -> tuple[str, str]:
    """Ids (between semicolons) and names (between pluses) of some classes."""
    vocabulary = audit.vocabulary
    return ";".join(vocabulary.ids[i] for i in labels), " + ".join(vocabulary.names[i] for i in labels)


def _pair_rows(audit: LabelAudit) -> Iterator[Row]:
    ids, names = audit.vocabulary.ids, audit.vocabulary.names
    for pair in audit.pairs:
        s, t = pair.source, pair.confusion
        related = str(audit.related(s, t)).lower()
        numbers = (pair.source_boxes, pair.confusion_boxes, pair.ratio)
        yield (ids[s], ids[t], names[s], names[t], *numbers, related, int(audit.unexplained[s, t]))


def _suspect_rows(audit: LabelAudit) -> Iterator[Row]:
    for rank, one in enumerate(suspects(audit), start=1):
        told = (rank, one.kind, one.score, *_together(audit, one.labels), one.boxes, one.why)
        for example in one.examples:
            yield (*told, example.image_id, *example.box)
        if not one.examples:
            yield (*told, "", "", "", "", "")
