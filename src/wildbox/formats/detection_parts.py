"""Detections in files, in parts that hold all detections of their images: file by file, and within a file in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from wildbox.detections import Detections, concatenate_detections
from wildbox.formats.detection_rows import ids_in, read_rows, read_table
from wildbox.formats.detection_table import DetectionTable
from wildbox.formats.labelled_rows import LabelledRows, number_runs
from wildbox.formats.storage import Oddities, detection_files, oddities, tell_oddities
from wildbox.vocabulary import Vocabulary

Truth = TypeVar("Truth")
Piece = Callable[[], Detections]
"""Makes the detections of some images, when it is called."""


class DetectionFiles:
    """The files of detections that a path names; a single .parquet or .json is read at once, and held until it is used.

    Raises:
        InputError: no such files; a file that cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.files = detection_files(path)
        self._read = [read_table(self.files[0])] if len(self.files) == 1 else []

    def table(self, file: Path) -> DetectionTable | None:
        """As `read_table`."""
        return self._read.pop() if self._read else read_table(file)


def open_beside(path: str | Path, read: Callable[[], Truth]) -> tuple[DetectionFiles, Truth]:
    """Open detections while something else is read, as the truth: the disk and all cores have more to do.

    Raises:
        InputError: as `read` or, where that goes well, as `DetectionFiles`.
    """
    with ThreadPoolExecutor(1) as pool:
        opened = pool.submit(DetectionFiles, path)
        truth = read()
    return opened.result(), truth


def read_detection_parts(
    path: str | Path | DetectionFiles,
    *,
    vocabulary: Vocabulary,
    image_ids: Sequence[str] | None = None,
    more_images: bool = False,
    relative: bool | None = None,
) -> Iterator[list[Piece]]:
    """As `read_detections`, file by file: for each file what makes its detections, in any order and in threads.

    A piece holds all detections of its images, and no image stands in two. The list of a file is empty again when
    the next one is asked for; warnings of the file come then.

    What is in memory is a file, and those detections of earlier files whose image stands in a later one, too; so it
    is best where shards are made by image. Which images those are takes a first pass over the ids.

    >>> import tempfile
    >>> from wildbox.formats.storage import write_detections
    >>> file, cat = Path(tempfile.mkdtemp()) / "found.csv", Vocabulary(("cat",))
    >>> write_detections(Detections(cat, ("a",), image=[0], boxes=[[0, 0, 1, 1]], label=[0], score=[1]), file)
    >>> [piece().image_ids for pieces in read_detection_parts(file, vocabulary=cat) for piece in pieces]
    [('a',)]
    """
    known = None if image_ids is None or more_images else set(image_ids)
    found = path if isinstance(path, DetectionFiles) else DetectionFiles(path)
    last = _last_files(found.files)
    waiting: list[Detections] = []
    for number, file in enumerate(found.files):
        odd: list[Oddities] = []
        made = partial(_made, vocabulary=vocabulary, known=known, relative=relative, odd=odd)
        if last:
            some = made(partial(read_rows, file, classes=vocabulary.ids, relative=relative))
            some = concatenate_detections([*waiting, some])
            later = np.array([last.get(id_, -1) > number for id_ in some.image_ids], bool)
            waiting = [some.select(np.flatnonzero(later))]
            pieces: list[Piece] = [partial(some.select, np.flatnonzero(~later))]
            del some
        else:
            table = found.table(file)
            whole = [partial(read_rows, file, classes=vocabulary.ids, relative=relative)]
            rows = whole if table is None else table.pieces(classes=vocabulary.ids, relative=bool(relative))
            pieces = [partial(made, read) for read in rows]
            del rows, table
        yield pieces
        pieces.clear()
        tell_oddities(odd, path=file)


def _made(
    read: Callable[[], LabelledRows],
    *,
    vocabulary: Vocabulary,
    known: set[str] | None,
    relative: bool | None,
    odd: list[Oddities],
) -> Detections:
    """Detections of some rows, on the images that these have; what is odd about them is added to `odd`."""
    rows = read()
    images, (image_of_run,) = number_runs([rows], None)
    unknown = None if known is None else next((id_ for id_ in images if id_ not in known), None)
    if known is not None and unknown is not None:
        rows.refuse("ImageID", unknown, f"expected one of {len(known):,} images")
    score, boxes = rows.values
    label = rows.labels(vocabulary)
    odd.append(oddities(rows, relative=relative))
    if len(images) < len(rows.runs):
        return Detections(vocabulary, images, rows.image(image_of_run), boxes, label, score)
    offsets = np.append(0, np.cumsum(rows.lengths))
    return Detections.of_checked(vocabulary, images, offsets, boxes=boxes, label=label, score=score)


def _last_files(files: Sequence[Path]) -> dict[str, int]:
    """The number of the last file that holds an image, for those that stand in several files."""
    last: dict[str, int] = {}
    several: set[str] = set()
    for number, file in enumerate(files):
        images = ids_in(file, "ImageID") if len(files) > 1 else []
        several.update(id_ for id_ in images if id_ in last)
        last.update(dict.fromkeys(images, number))
    return {id_: last[id_] for id_ in several}
