"""Detections as CSV: ImageID, LabelName, Score, XMin, XMax, YMin, YMax. Letters: B images, D detections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from wildbox.detections import Detections
from wildbox.formats.csv_rows import NUMBER, Check
from wildbox.formats.files import tell, whole_file
from wildbox.formats.labelled_rows import (
    CORNERS,
    LABELLED,
    corners,
    number_images,
    read_labelled_rows,
    texts,
)
from wildbox.vocabulary import Vocabulary


def write_detections(detections: Detections, path: str | Path) -> None:
    """Write detections, one a row, coordinates in the unit that they have.

    Images without detections are not in the file: name the images when reading it.

    >>> import tempfile
    >>> file, cat = Path(tempfile.mkdtemp()) / "found.csv", Vocabulary(("cat",))
    >>> write_detections(Detections(cat, ("a",), image=[0], boxes=[[0, 0, 1, 1]], label=[0], score=[1]), file)
    >>> read_detections(file, vocabulary=cat).score.tolist()
    [1.0]
    """
    x1, y1, x2, y2 = detections.boxes.T
    table = pl.DataFrame(
        {
            "ImageID": texts(detections.image_ids, detections.image),
            "LabelName": texts(detections.vocabulary.ids, detections.label),
            "Score": detections.score,
            "XMin": x1,
            "XMax": x2,
            "YMin": y1,
            "YMax": y2,
        }
    )
    with whole_file(path) as temporary:
        table.write_csv(temporary)


def read_detections(
    path: str | Path, *, vocabulary: Vocabulary, image_ids: Sequence[str] | None = None
) -> Detections:
    """Detections of a CSV file; one without rows is a model that found nothing.

    Args:
        vocabulary: the classes; another is an error.
        image_ids: the images, in order; another is an error. Default: those in the file, as they first appear.
    Raises:
        InputError: with file and line: a missing column, a missing or unknown value, a coordinate that is no
            finite number, a score outside [0, 1].
    Warns:
        InputWarning: counts boxes that are turned around or without area; they are kept.
    """
    score = pl.col("Score")
    inside = (score.is_between(0, 1) & score.is_not_nan()).fill_null(False)
    finite = [(name, pl.col(name).is_finite().fill_null(False)) for name in CORNERS]
    rows = read_labelled_rows(
        path,
        {"Score": NUMBER, **dict.fromkeys(CORNERS, NUMBER)},
        lambda table: (corners(table), table["Score"].to_numpy()),
        checks=[
            LABELLED,
            Check(~inside, ("Score",), "a score in [0, 1]"),
            *(Check(~ok, (name,), "a finite number") for name, ok in finite),
        ],
    )
    boxes, scores = rows.values
    degenerate = int((boxes[:, 2:] <= boxes[:, :2]).any(axis=1).sum())
    tell({"{n} boxes are turned around or have no area; they are kept": degenerate}, path=path)
    images, (image,) = number_images([rows], image_ids)
    label = rows.labels(vocabulary)
    return Detections(vocabulary, images, image=image, boxes=boxes, label=label, score=scores)
