"""Detections in files: CSV, Parquet (one or many), COCO results, challenge submissions. Letters: D detections.

CSV and Parquet have the columns ImageID, LabelName, Score, XMin, XMax, YMin, YMax.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from wildbox.annotations import Floats
from wildbox.detections import Detections
from wildbox.errors import InputError
from wildbox.formats.detection_rows import Rows, coded, corners, read_results, read_rows, result_rows
from wildbox.formats.files import tell, whole_file, write_json
from wildbox.formats.labelled_rows import CORNERS, integers, texts
from wildbox.vocabulary import Vocabulary

FAR = 2.0
"""A relative coordinate beyond -1 and 2 is none: the box would stick out by more than its image's side."""


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
        InputError: there is none.
    """
    if Path(path).is_dir():
        found = [file for file in Path(path).iterdir() if file.suffix in (".csv", ".parquet", ".json")]
        if not found:
            raise InputError("no .csv, .parquet or .json in the folder", path=path)
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
    anything else is CSV, or a challenge submission where the header is ImageId,PredictionString.

    Args:
        vocabulary: the classes; another is an error.
        image_ids: the images, in order; another is an error. Default: those in the file, as they first appear.
        more_images: another image is no error, but added to `image_ids`.
        relative: whether coordinates should be relative to the image (True) or pixels; default: not looked at.
    Raises:
        InputError: with file and line (Parquet: row, JSON: entry): a missing column, a missing or unknown value, a
            coordinate that is no finite number, a score outside [0, 1], pixels where coordinates should be relative.
    Warns:
        InputWarning: counts boxes that are turned around or without area, they are kept; a file without rows;
            relative coordinates where pixels are due.
    """
    files = detection_files(path)
    parts = [read_rows(file, classes=vocabulary.ids, images=image_ids) for file in files]
    images = image_ids
    if images is None:
        names = [rows.frame["ImageID"].cast(pl.String()).drop_nulls() for rows in parts]
        images = pl.concat(names).unique(maintain_order=True).to_list()
    frames = []
    for rows in parts:
        frame, images = _checked(rows, vocabulary.ids, images, more=more_images, relative=relative)
        frames.append(frame)
    return _detections(
        frames, vocabulary, tuple(images), paths=[rows.path for rows in parts], relative=relative
    )


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
    last = _last_files(files, vocabulary) if len(files) > 1 else None
    waiting: list[pl.DataFrame] = []
    for number, file in enumerate(files):
        rows = read_rows(file, classes=vocabulary.ids, images=image_ids)
        images = rows.frame["ImageID"].cast(pl.String()).drop_nulls().unique(maintain_order=True).to_list()
        known = images if image_ids is None else image_ids
        frame, known = _checked(rows, vocabulary.ids, known, more=more_images, relative=relative)
        names = pl.Series(known, dtype=pl.String())
        frame = frame.with_columns(ImageID=names.gather(frame["image"])).drop("image")
        if last is not None:
            frame = pl.concat([*waiting, frame]).join(last, on="ImageID", how="left", maintain_order="left")
            later = frame["last"].fill_null(-1) > number
            waiting = [frame.filter(later).drop("last")]
            frame = frame.filter(~later).drop("last")
        images = frame["ImageID"].unique(maintain_order=True).to_list()
        whole = frame.with_columns(image=frame["ImageID"].cast(pl.Enum(images)).to_physical()).drop("ImageID")
        yield _detections([whole], vocabulary, tuple(images), paths=[file], relative=relative)


def _last_files(files: Sequence[Path], vocabulary: Vocabulary) -> pl.DataFrame:
    """ImageID and `last`, the number of the last file that holds it, of the images that stand in several files."""
    parts = []
    for number, file in enumerate(files):
        if file.suffix == ".parquet":
            ids = pl.read_parquet(file, columns=["ImageID"])["ImageID"].cast(pl.String())
        else:
            ids = read_rows(file, classes=vocabulary.ids, images=None).frame["ImageID"].cast(pl.String())
        parts.append(pl.DataFrame({"ImageID": ids.unique()}).with_columns(last=pl.lit(number)))
    return (
        pl.concat(parts)
        .group_by("ImageID")
        .agg(pl.col("last").max(), n=pl.len())
        .filter(pl.col("n") > 1)
        .drop("n")
    )


def _checked(
    rows: Rows, classes: Sequence[str], images: Sequence[str], *, more: bool, relative: bool | None
) -> tuple[pl.DataFrame, list[str]]:
    for name, expected in (("ImageID", "the id of an image"), ("LabelName", "the id of a class")):
        rows.refuse(pl.col(name).is_null(), expected, value=name)
    inside = pl.col("Score").is_between(0, 1) & pl.col("Score").is_not_nan()
    rows.refuse(~inside, "a score in [0, 1]", value="Score")
    for name in CORNERS:
        rows.refuse(~pl.col(name).is_finite(), "a finite number", value=name)
        if relative:
            near = "a relative coordinate, from 0 to 1 across the image, as those of the truth are"
            rows.refuse(~pl.col(name).is_between(1 - FAR, FAR), near, value=name)
    return coded(rows, classes, images, more=more)


def _detections(
    frames: Sequence[pl.DataFrame],
    vocabulary: Vocabulary,
    images: tuple[str, ...],
    *,
    paths: Sequence[Path],
    relative: bool | None,
) -> Detections:
    frame = frames[0] if len(frames) == 1 else pl.concat(frames)
    boxes = corners(frame)
    degenerate = int(((boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])).sum())
    path = paths[0] if len(paths) == 1 else paths[0].parent
    small = relative is False and len(boxes) > 0 and bool((np.abs(boxes) <= 1).all())
    told = {
        "{n} boxes are turned around or have no area; they are kept": degenerate,
        "all coordinates are within 0 and 1, but those of the truth are pixels": int(small),
        "no rows: nothing was found": int(not len(boxes)),
    }
    tell(told, path=path, stacklevel=4)
    columns = (integers(frame["image"]), boxes, integers(frame["label"]), frame["Score"].to_numpy())
    return Detections(vocabulary, images, *columns)


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
    frame, images = _checked(result_rows(entries, path), vocabulary.ids, image_ids, more=False, relative=None)
    _detections([frame], vocabulary, tuple(images), paths=[path], relative=None)  # for its checks
    numbers = entries.select("image_id", "x", "y", "width", "height", "score", "category_id").cast(
        pl.Float64()
    )
    return numbers.to_numpy(order="c")
