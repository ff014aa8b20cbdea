"""Detections in files: CSV, Parquet (one or many), COCO results, challenge submissions. Letters: D detections.

CSV and Parquet have the columns ImageID, LabelName, Score, XMin, XMax, YMin, YMax.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from wildbox.annotations import Floats
from wildbox.boxes import count_empty
from wildbox.detections import Detections, concatenate_detections
from wildbox.errors import InputError
from wildbox.formats.detection_rows import ids_in, place_of_empty, read_results, read_rows, result_rows
from wildbox.formats.files import tell, whole_file, write_json
from wildbox.formats.labelled_rows import LabelledRows, number_images, texts
from wildbox.vocabulary import Vocabulary

ENDING = re.compile(r"\.parquet$|\.(csv|json)(\.gz|\.zst)?$")
"""Of the files of a folder that are taken for detections."""


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
    if path.suffix == ".json":
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
    with whole_file(path) as temporary:
        if path.suffix == ".parquet":
            table.write_parquet(temporary)
        else:
            table.write_csv(temporary)


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
    with whole_file(path) as temporary:
        table.write_csv(temporary)


def detection_files(path: str | Path) -> list[Path]:
    """The files that a path names, sorted: itself, those of a folder, or those that a pattern with * matches.

    Raises:
        InputError: there is none; a folder holds one file in several forms, as a.csv and a.csv.gz.
    """
    if Path(path).is_dir():
        found = [file for file in Path(path).iterdir() if ENDING.search(file.name)]
        if not found:
            raise InputError("no .csv, .parquet or .json in the folder", path=path)
        names = sorted(ENDING.sub("", file.name) for file in found)
        twice = next((name for name, following in pairwise(names) if name == following), None)
        if twice is not None:
            raise InputError(f"two files are named {twice!r}; expected one, since all count", path=path)
        return sorted(found)
    if "*" in str(path) and not Path(path).exists():
        found = [Path(name) for name in glob.glob(str(path), recursive=True)]
        if not found:
            raise InputError("no such files", path=path)
        return sorted(found)
    return [Path(path)]


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
        image_ids: the images, in order; another is an error. Default: those in the file, as they first appear.
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
    _tell(files, path=path if len(files) > 1 else files[0].path, relative=relative)
    return Detections(vocabulary, images, _joined(image), boxes, _joined(label), score)


def read_detection_parts(
    path: str | Path,
    *,
    vocabulary: Vocabulary,
    image_ids: Sequence[str] | None = None,
    more_images: bool = False,
    relative: bool | None = None,
) -> Iterator[Detections]:
    """As `read_detections`, file by file: each part holds all detections of its images, and no image stands in two.

    What is in memory is a file, and those detections of earlier files whose image stands in a later one, too; so it
    is best where shards are made by image. Which images those are takes a first pass over the ids.
    """
    files = detection_files(path)
    last = _last_files(files)
    known = None if image_ids is None or more_images else set(image_ids)
    waiting: Detections | None = None
    for number, file in enumerate(files):
        rows = read_rows(file, classes=vocabulary.ids, relative=relative)
        images, image = number_images([rows], None)
        unknown = None if known is None else next((id_ for id_ in images if id_ not in known), None)
        if known is not None and unknown is not None:
            rows.refuse("ImageID", unknown, f"ImageID is {unknown!r}, expected one of {len(known):,} images")
        score, boxes = rows.values
        _tell([rows], path=file, relative=relative)
        part = Detections(vocabulary, images, image[0], boxes, rows.labels(vocabulary), score)
        part = part if waiting is None else concatenate_detections([waiting, part])
        later = np.array([last.get(id_, -1) > number for id_ in part.image_ids], bool)
        waiting = part.select(np.flatnonzero(later)) if later.any() else None
        yield part.select(np.flatnonzero(~later)) if later.any() else part


def _joined(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return columns[0] if len(columns) == 1 else np.concatenate(columns)


def _tell(files: Sequence[LabelledRows], *, path: str | Path, relative: bool | None) -> None:
    empty = [count_empty(rows.values[1]) for rows in files]
    place = ""
    if any(empty):
        rows = files[int(np.flatnonzero(empty)[0])]
        place = place_of_empty(rows) if len(files) == 1 else f"{rows.path}, {place_of_empty(rows)}"
    found = sum(map(len, files))
    small = relative is False and found > 0 and all((np.abs(rows.values[1]) <= 1).all() for rows in files)
    told = {
        f"{{n}} boxes are turned around or have no area, the first in {place}": sum(empty),
        "all coordinates are within 0 and 1, but those of the truth are pixels": int(small),
        "no rows: nothing was found": int(not found),
    }
    tell(told, path=path, stacklevel=4)


def _last_files(files: Sequence[Path]) -> dict[str, int]:
    """The number of the last file that holds an image, for those that stand in several files."""
    last: dict[str, int] = {}
    several: set[str] = set()
    for number, file in enumerate(files):
        images = ids_in(file, "ImageID") if len(files) > 1 else []
        several.update(id_ for id_ in images if id_ in last)
        last.update(dict.fromkeys(images, number))
    return {id_: last[id_] for id_ in several}


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
    rows = result_rows(entries, path)
    number_images([rows], image_ids)
    rows.labels(vocabulary)
    _tell([rows], path=path, relative=False)
    order = ("image_id", "x", "y", "width", "height", "score", "category_id")
    return entries.select(order).cast(pl.Float64()).to_numpy(order="c")
