"""Detections in files: CSV, Parquet (one or many), COCO results, challenge submissions. Letters: D detections.

CSV and Parquet have the columns ImageID, LabelName, Score, XMin, XMax, YMin, YMax.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from wildbox.annotations import Floats
from wildbox.boxes import count_empty
from wildbox.detections import Detections
from wildbox.errors import InputError
from wildbox.formats.csv_rows import write_table
from wildbox.formats.detection_rows import place_of_empty, read_results, read_rows, results_table
from wildbox.formats.files import tell, whole_file, write_json
from wildbox.formats.labelled_rows import LabelledRows, number_images, texts
from wildbox.vocabulary import Vocabulary

ENDING = re.compile(r"\.parquet$|(?i:\.(csv|json)(\.gz|\.zst)?)$")
"""Of the files of a folder that are taken for detections."""
ORIGIN = "prediction.json"
"""Beside the folders of detections that `wildbox predict` makes, one for each rule of scoring: how they were made."""


def write_detections(detections: Detections, path: str | Path) -> None:
    """Write detections, coordinates in the unit that they have: by the ending Parquet, COCO results .json, or CSV.

    Images without detections are not in the file: name the images when reading it.

    >>> import tempfile
    >>> file, cat = Path(tempfile.mkdtemp()) / "found.csv", Vocabulary(("cat",))
    >>> write_detections(Detections(cat, ("a",), image=[0], boxes=[[0, 0, 1, 1]], label=[0], score=[1]), file)
    >>> read_detections(file, vocabulary=cat).score.tolist()
    [1.0]
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        write_json(_results(detections), path)
        return
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
    if path.suffix != ".parquet":
        write_table(table, path)
        return
    with whole_file(path) as temporary:
        table.write_parquet(temporary)


def _results(detections: Detections) -> list[dict[str, object]]:
    def number(id_: str) -> int | str:
        return int(id_) if id_.isascii() and id_.isdecimal() and str(int(id_)) == id_ else id_

    images, classes = list(map(number, detections.image_ids)), list(map(number, detections.vocabulary.ids))
    boxes = np.hstack([detections.boxes[:, :2], detections.boxes[:, 2:] - detections.boxes[:, :2]]).tolist()
    rows = zip(
        detections.image.tolist(), detections.label.tolist(), boxes, detections.score.tolist(), strict=True
    )
    return [
        {"image_id": images[image], "category_id": classes[label], "bbox": box, "score": score}
        for image, label, box, score in rows
    ]


def write_submission(detections: Detections, path: str | Path) -> None:
    """Write a challenge submission: ImageId,PredictionString, with "class score xmin ymin xmax ymax" repeated.

    Every image has a row; coordinates are expected to be relative, and numbers are written in full.

    Raises:
        InputError: a class id with a space in it.
    """
    spaced = next((id_ for id_ in detections.vocabulary.ids if id_.split() != [id_]), None)
    if spaced is not None:
        raise InputError(
            f"class id {spaced!r}: a submission cannot hold an id with a space, or none", path=path
        )
    numbers = np.column_stack([detections.score, detections.boxes]).tolist()
    words = [
        f"{detections.vocabulary.ids[label]} {' '.join(map(repr, row))}"
        for label, row in zip(detections.label.tolist(), numbers, strict=True)
    ]
    bounds = detections.offsets.tolist()
    strings = [" ".join(words[first:last]) for first, last in pairwise(bounds)]
    table = pl.DataFrame({"ImageId": detections.image_ids, "PredictionString": strings})
    write_table(table, path)


def detection_files(path: str | Path) -> list[Path]:
    """The files that a path names, sorted: itself, those of a folder, or those that a pattern with * matches.

    Raises:
        InputError: there is none; a folder holds one file in several forms, as a.csv and a.csv.gz.
    """
    if Path(path).is_dir():
        found = _detections_in(Path(path))
        if not found:
            inner = sorted(sub.name for sub in Path(path).iterdir() if sub.is_dir() and _detections_in(sub))
            hint = f", but in its folders {', '.join(inner)}: name one of them" if inner else ""
            raise InputError(f"no .csv, .parquet or .json in the folder{hint}", path=path)
        names = sorted(ENDING.sub("", file.name) for file in found)
        twice = next((name for name, following in pairwise(names) if name == following), None)
        if twice is not None:
            raise InputError(f"two files are named {twice!r}; expected one, since all count", path=path)
        return sorted(found)
    if "*" in str(path) and not Path(path).exists():
        found = [Path(name) for name in glob.glob(str(path), recursive=True)]
        if not found:
            raise InputError("no such files", path=path)
        for file in found:
            if file.is_dir():
                raise InputError("a folder matches the pattern; expected files alone", path=file)
        return sorted(found)
    return [Path(path)]


def _detections_in(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if ENDING.search(file.name) and file.name != ORIGIN]


def read_detections(
    path: str | Path,
    *,
    vocabulary: Vocabulary,
    image_ids: Sequence[str] | None = None,
    more_images: bool = False,
    relative: bool | None = None,
) -> Detections:
    """Detections of a file, a folder of files, or a pattern with *; one without rows is a model that found nothing.

    Endings: .parquet; .json, COCO results, a list of image_id, category_id, bbox (x, y, width, height), score;
    anything else is CSV, or a challenge submission where the header is ImageId,PredictionString. All but Parquet may
    be compressed by gzip or Zstandard. Classes are given by their ids, or by names in a file where none is an id.

    Args:
        vocabulary: the classes; another is an error.
        image_ids: the images, in order; another is an error. Default: those that have rows, as they first appear.
        more_images: another image is no error, but added to `image_ids`.
        relative: whether coordinates should be relative to the image (True) or pixels; default: not looked at.
    Raises:
        InputError: with file and line (Parquet: row, JSON: entry): a missing column, a missing or unknown value, a
            coordinate that is no finite number, a score outside [0, 1], pixels where coordinates should be relative.
    Warns:
        InputWarning: counts boxes that are turned around or without area, which are kept; a file without rows;
            relative coordinates where pixels are due; a CSV file whose last line has no line break.
    """
    files = [read_rows(file, classes=vocabulary.ids, relative=relative) for file in detection_files(path)]
    images, image = number_images(files, image_ids, more=more_images)
    label = [rows.labels(vocabulary) for rows in files]
    score, boxes = (_joined([rows.values[i] for rows in files]) for i in (0, 1))
    odd = [oddities(rows, relative=relative) for rows in files]
    tell_oddities(odd, path=path if len(files) > 1 else files[0].path)
    return Detections(vocabulary, images, _joined(image), boxes, _joined(label), score)


def _joined(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return columns[0] if len(columns) == 1 else np.concatenate(columns)


@dataclass(frozen=True)
class Oddities:
    """What is to be told of some rows of a file, all that are read together at once."""

    path: Path
    first_row: int
    rows: int
    empty: int
    first_empty: str
    """Where in the file the first box without area stands."""
    are_small: bool
    """Whether all coordinates are within -1 and 1, where they should be pixels."""


def oddities(rows: LabelledRows, *, relative: bool | None) -> Oddities:
    """Of some rows."""
    boxes = rows.values[1]
    empty = count_empty(boxes) if rows.empty is None else rows.empty
    small = relative is False and bool((np.abs(boxes) <= 1).all())
    return Oddities(
        Path(rows.path), rows.first_row, len(rows), empty, place_of_empty(rows) if empty else "", small
    )


def tell_oddities(found: Iterable[Oddities], *, path: str | Path) -> None:
    """Warn of what is odd about the rows of a file, or of several that `path` names."""
    found = sorted(found, key=lambda some: (some.path, some.first_row))
    first = next((some for some in found if some.empty), None)
    place = "" if first is None else first.first_empty
    if first is not None and len({some.path for some in found}) > 1:
        place = f"{first.path}, {place}"
    rows = sum(some.rows for some in found)
    small = rows > 0 and all(some.are_small for some in found)
    told = {
        f"{{n}} boxes are turned around or have no area, the first in {place}": sum(
            some.empty for some in found
        ),
        "all coordinates are within 0 and 1, but those of the truth are pixels": int(small),
        "no rows: nothing was found": int(not rows),
    }
    tell(told, path=path, stacklevel=4)


def read_coco_results(path: str | Path, *, vocabulary: Vocabulary, image_ids: Sequence[str]) -> Floats:
    """COCO results as `evaluate_coco` takes them, to the last bit: (D, 7) image id, x, y, width, height, score, class.

    Args:
        vocabulary, image_ids: classes and images, whose ids are whole numbers; another is an error.
    Raises:
        InputError: as `read_detections`.
    Warns:
        InputWarning: as `read_detections`.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "results.json"
    >>> _ = file.write_text('[{"image_id": 7, "category_id": 1, "bbox": [0, 1, 2, 3], "score": 0.5}]')
    >>> read_coco_results(file, vocabulary=Vocabulary(("1",)), image_ids=["7"]).tolist()
    [[7.0, 0.0, 1.0, 2.0, 3.0, 0.5, 1.0]]
    """
    path = Path(path)
    entries = read_results(path)
    rows = results_table(entries, path).whole(classes=vocabulary.ids, relative=False)
    _, (image,) = number_images([rows], image_ids)
    label = rows.labels(vocabulary)
    tell_oddities([oddities(rows, relative=False)], path=path)
    images, classes = (np.array(list(map(int, ids)), np.float64) for ids in (image_ids, vocabulary.ids))
    order = ("x", "y", "width", "height", "score")
    numbers = entries.select(order).cast(pl.Float64()).to_numpy()
    return np.column_stack([images[image], numbers, classes[label]])
