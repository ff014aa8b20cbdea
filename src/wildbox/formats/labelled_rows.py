"""CSV files whose rows have an ImageID, a LabelName and numbers: the ids become indices.

Letters: B images, N rows, R runs of rows of one image, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import polars as pl
from numpy.typing import NDArray

from wildbox.annotations import Ints
from wildbox.columns import UniqueIds
from wildbox.errors import InputError
from wildbox.formats.csv_rows import TEXT, Check, Columns, each_chunk, find_line
from wildbox.formats.files import is_json
from wildbox.formats.texts import all_differ, starts_of_runs
from wildbox.threads import at_once, over_lists
from wildbox.vocabulary import Vocabulary

Arrays = tuple[NDArray[Any], ...]

Place = Callable[[str, str], tuple[str, int | None]]
"""(column, value) -> what an error says of the place of a row: a text, and a line where the file has lines."""

RESULTS_NAMES = {"ImageID": "image_id", "LabelName": "category_id"}
"""What COCO results call them."""
CORNERS = ("XMin", "YMin", "XMax", "YMax")
"""Columns of a box, in the order of the tables."""


def _absent(column: str) -> pl.Expr:
    """Nothing, or the empty text that "" is in a CSV file."""
    return pl.col(column).is_null() | (pl.col(column).str.len_bytes() == 0)


NAMED = Check(_absent("ImageID"), ("ImageID",), "the id of an image")
LABELLED = Check(_absent("LabelName"), ("LabelName",), "the id of a class")


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """N rows in the order of the file. Rows without LabelName are not among them, but their images are."""

    path: str | Path
    runs: pl.Series
    """(R,) the image of each run; one whose rows do not stand together has several."""
    lengths: Ints
    """(R,) rows of each run, which may be 0."""
    classes: tuple[str, ...]
    """What occurs in LabelName, perhaps more: see `part_of`."""
    label: Ints
    """(N,) index in `classes`."""
    values: Arrays
    """What was made of the other columns, N rows each."""
    without_label: int
    left_out: int
    place: Place
    """Of the first row with a value of ImageID or LabelName."""
    first_row: int = 0
    """Where the rows begin in the file."""
    empty: int | None = None
    """Boxes without area, where they have been counted."""

    def __len__(self) -> int:
        return len(self.label)

    def image(self, index: Ints) -> Ints:
        """(N,) the image of each row, given that of each run."""
        offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        image = np.empty(offsets[-1], index.dtype)

        def fill(first: int, last: int) -> None:  # in threads, as `_filled`
            image[offsets[first] : offsets[last]] = np.repeat(index[first:last], self.lengths[first:last])

        over_lists(fill, offsets)
        return image

    def of_classes(self, vocabulary: Vocabulary) -> LabelledRows:
        """Without rows of other classes, given by id or name; their images stay. All rows where no class is known."""
        known = {*vocabulary.ids, *vocabulary.names}
        inside = np.array([name in known for name in self.classes], bool)
        if inside.all() or not inside.any():
            return self
        keep = inside[self.label]
        runs = len(self.lengths)
        lengths = np.bincount(self.image(np.arange(runs))[keep], minlength=runs)
        values = tuple(some[keep] for some in self.values)
        return replace(self, lengths=lengths, label=self.label[keep], values=values, empty=None)

    def labels(self, vocabulary: Vocabulary) -> Ints:
        """(N,) index of each row's class. `InputError` with the line where it is not in the vocabulary.

        The file holds class ids if any of its labels is one, and display names otherwise.
        """
        if self.classes == vocabulary.ids:
            return self.label  # nothing to translate
        named: dict[str, list[int]] = {}
        if not any(name in vocabulary for name in self.classes):
            for i, name in enumerate(vocabulary.names):
                named.setdefault(name, []).append(i)
        if not named.keys() & set(self.classes):
            named = {id_: [i] for i, id_ in enumerate(vocabulary.ids)}
        found = [named.get(name, []) for name in self.classes]
        index = np.array([places[0] if len(places) == 1 else -1 for places in found], np.int64)
        label = index[self.label]
        if len(label) and label.min() < 0:
            wrong = self.label[np.argmax(label < 0)]
            self._refuse_label(self.classes[wrong], [vocabulary.ids[i] for i in found[wrong]], list(named))
        return label

    def _refuse_label(self, name: str, ids: list[str], known: list[str]) -> NoReturn:
        if ids:
            self.refuse(
                "LabelName", name, f"the name of several classes: {', '.join(ids)}; expected their ids"
            )
        some = ", ".join(known[:3])
        self.refuse("LabelName", name, f"expected one of {len(known):,} classes, such as {some}")

    def refuse(self, column: str, value: str, why: str) -> NoReturn:
        """Raise for the first row with a value of ImageID or LabelName."""
        place, line = self.place(column, value)
        named = RESULTS_NAMES[column] if is_json(Path(self.path)) else column
        raise InputError(f"{place}{named} is {value!r}, {why}", path=self.path, line=line)


@dataclass(frozen=True, eq=False)
class Part:
    """`LabelledRows` of some rows."""

    runs: pl.Series
    lengths: Ints
    classes: pl.Enum
    codes: NDArray[np.unsignedinteger[Any]]
    values: Arrays
    without_label: int
    left_out: int


def read_labelled_rows(
    path: str | Path,
    columns: Columns,
    values: Callable[[pl.DataFrame], Arrays],
    *,
    optional: Sequence[str] = (),
    checks: Sequence[Check] = (),
    leave_out: pl.Expr | None = None,
    likely: pl.Enum | None = None,
) -> LabelledRows:
    """Read a CSV file with ImageID and LabelName; errors and warnings are those of `each_chunk`.

    Args:
        columns: those beside ImageID and LabelName.
        values: makes arrays of n rows from a table of n rows; runs in threads.
        leave_out: rows to leave out, and their images.
        likely: see `part_of`.
    """
    known = likely

    def part(table: pl.DataFrame) -> Part:
        nonlocal known
        kept = table if leave_out is None else table.filter(~leave_out)
        found = part_of(kept, values, left_out=len(table) - len(kept), likely=known)
        if found.classes is not known:  # most parts after this one hold no others than those seen so far
            before = [] if known is None or known is likely else [known.categories]
            known = pl.Enum(pl.concat([*before, found.classes.categories]).unique(maintain_order=True))
        return found

    wanted = {"ImageID": TEXT, "LabelName": TEXT, **columns}
    parts = each_chunk(path, wanted, part, optional=optional, checks=(NAMED, *checks))
    return join_parts(parts, path, lambda column, value: ("", find_line(path, column, value)))


def part_of(
    table: pl.DataFrame,
    values: Callable[[pl.DataFrame], Arrays],
    *,
    left_out: int = 0,
    likely: pl.Enum | None = None,
) -> Part:
    """The rows of a table with ImageID, LabelName, and what `values` makes arrays of.

    Args:
        likely: classes; where they are all that occur, the part says that all of them do, and is made faster.
    """
    image = table["ImageID"]
    starts = starts_of_runs(image)
    bounds = np.append(starts, len(table))
    without_label = table["LabelName"].null_count()
    if without_label:
        labelled = table["LabelName"].is_not_null()
        bounds = np.concatenate([[0], np.cumsum(labelled.to_numpy())])[bounds]
        table = table.filter(labelled)
    classes, codes = _codes(table["LabelName"], likely)
    return Part(
        image.gather(starts),
        np.diff(bounds),
        classes,
        codes,
        values(table),
        without_label,
        left_out,
    )


def _codes(labels: pl.Series, likely: pl.Enum | None) -> tuple[pl.Enum, NDArray[np.unsignedinteger[Any]]]:
    """Classes, and the place of each label among them."""
    if likely is not None and len(labels):
        coded = labels.cast(likely, strict=False)
        if not coded.null_count():
            return likely, coded.to_physical().to_numpy()
    classes = pl.Enum(labels.unique())
    return classes, labels.cast(classes).to_physical().to_numpy()


def join_parts(parts: Iterable[Part], path: str | Path, place: Place) -> LabelledRows:
    """The rows of all parts, of which there is at least one."""
    parts = list(parts)
    classes = tuple(sorted(set().union(*(part.classes.categories for part in parts))))
    index = {name: i for i, name in enumerate(classes)}
    runs = pl.concat([part.runs for part in parts], rechunk=True)
    lengths = np.concatenate([part.lengths for part in parts])
    starts = starts_of_runs(runs)
    if len(starts) < len(runs):  # chunks divide the rows of an image
        runs, lengths = runs.gather(starts), np.add.reduceat(lengths, starts)
    label, values = _filled(parts, index)
    return LabelledRows(
        path,
        runs,
        lengths,
        classes,
        label,
        values,
        sum(part.without_label for part in parts),
        sum(part.left_out for part in parts),
        place,
    )


def _filled(parts: list[Part], index: dict[str, int]) -> tuple[Ints, Arrays]:
    """Labels and values of all parts, in threads: fresh memory takes longer to get than to fill."""
    ends = np.cumsum([len(part.codes) for part in parts])
    label = np.empty(ends[-1], np.int64)
    values = tuple(np.empty((ends[-1], *some.shape[1:]), some.dtype) for some in parts[0].values)

    def fill(part: Part, end: int) -> None:
        rows = slice(end - len(part.codes), end)
        known = np.array([index[name] for name in part.classes.categories], np.int64)
        np.take(known, part.codes, out=label[rows], mode="clip")  # which lets other threads run
        for whole, some in zip(values, part.values, strict=True):
            whole[rows] = some

    at_once([partial(fill, *some) for some in zip(parts, ends.tolist(), strict=True)])
    return label, values


def number_images(
    files: Sequence[LabelledRows], image_ids: Sequence[str] | None, *, more: bool = False
) -> tuple[tuple[str, ...], list[Ints]]:
    """The images, and for each file the (N,) image of each row; see `number_runs`."""
    ids, indices = number_runs(files, image_ids, more=more)
    return ids, [file.image(index) for file, index in zip(files, indices, strict=True)]


def number_runs(
    files: Sequence[LabelledRows], image_ids: Sequence[str] | None, *, more: bool = False
) -> tuple[tuple[str, ...], list[Ints]]:
    """The images, and for each file the (R,) image of each run.

    Args:
        image_ids: the images, in order; another is an error. Default: as they first appear.
        more: another is no error, but added to `image_ids`.
    """
    runs = pl.concat([file.runs for file in files], rechunk=True)
    if image_ids is None:
        images = runs if all_differ(runs) else runs.unique(maintain_order=True)
        ids, index = UniqueIds(images.to_list()), _places(runs, images)
    else:
        ids, images = UniqueIds(image_ids), pl.Series(image_ids, dtype=TEXT)
        if images.n_unique() != len(images):
            raise InputError("an image id stands twice in image_ids")
        index = _places(runs, images)
        if more and np.any(index < 0):
            images = pl.concat([images, runs]).unique(maintain_order=True)
            ids, index = UniqueIds(images.to_list()), _places(runs, images)
    ends = np.cumsum([len(file.runs) for file in files])
    indices = np.split(index, ends[:-1])
    for file, some in zip(files, indices, strict=True):
        if len(some) and some.min() < 0:
            id_ = file.runs[int(np.argmax(some < 0))]
            file.refuse("ImageID", id_, f"expected one of {len(ids):,} images")
    return ids, indices


def _places(runs: pl.Series, images: pl.Series) -> Ints:
    """(R,) which of some different images each is; -1: none."""
    if runs is images:
        return np.arange(len(runs))
    return runs.cast(pl.Enum(images), strict=False).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()


def corners(table: pl.DataFrame) -> NDArray[np.float64]:
    """(n, 4) x1, y1, x2, y2."""
    boxes = np.empty((len(table), 4))
    for i, name in enumerate(CORNERS):
        boxes[:, i] = table[name].to_numpy()
    return boxes


def texts(ids: Sequence[str], index: Ints) -> pl.Series:
    """The id of each index."""
    return pl.Series(ids, dtype=TEXT).gather(index)
