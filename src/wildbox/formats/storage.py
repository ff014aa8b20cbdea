"""Detections as CSV: ImageID, LabelName, Score, XMin, XMax, YMin, YMax. Letters: B images, D detections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from wildbox.detections import Detections
from wildbox.formats.files import (
    CORNERS,
    NUMBER,
    TEXT,
    coded,
    integers,
    read_table,
    refuse,
    tell,
    texts,
    whole_file,
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
    columns = {"ImageID": TEXT, "LabelName": TEXT, "Score": NUMBER}
    rows = read_table(path, columns | dict.fromkeys(CORNERS, NUMBER))
    for name, expected in (("ImageID", "the id of an image"), ("LabelName", "the id of a class")):
        refuse(rows, pl.col(name).is_null(), expected, value=name, path=path)
    inside = pl.col("Score").is_between(0, 1) & pl.col("Score").is_not_nan()
    refuse(rows, ~inside.fill_null(False), "a score in [0, 1]", value="Score", path=path)
    for name in CORNERS:
        finite = pl.col(name).is_finite().fill_null(False)
        refuse(rows, ~finite, "a finite number", value=name, path=path)
    images = tuple(rows["ImageID"].unique(maintain_order=True) if image_ids is None else image_ids)
    table = coded(rows, vocabulary.ids, images, path=path)
    boxes = table.select(CORNERS).to_numpy()
    degenerate = int((boxes[:, 2:] <= boxes[:, :2]).any(axis=1).sum())
    tell({"{n} boxes are turned around or have no area; they are kept": degenerate}, path=path)
    return Detections(
        vocabulary,
        images,
        image=integers(table["image"]),
        boxes=boxes,
        label=integers(table["label"]),
        score=table["Score"].to_numpy().astype(np.float64),
    )
