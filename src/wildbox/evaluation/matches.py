"""What became of detections, kept small: enough for every number that comes after matching.

Letters: B images, N truth boxes, D detections, C classes.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from operator import lt
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numba
import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Annotations, Bools, Floats, Ints
from wildbox.detections import Detections
from wildbox.errors import InputError
from wildbox.evaluation.matching import FALSE, GROUP, IGNORED, TRUE, Outcomes
from wildbox.formats.files import whole_file
from wildbox.threads import at_once, in_chunks
from wildbox.vocabulary import Vocabulary

Compact = NDArray[np.integer[Any]]
Found = tuple[Compact, Floats, Outcomes]
"""Of detections (D,) label, score and outcome."""
Types = tuple[np.dtype[Any], np.dtype[Any], np.dtype[Any]]
"""Of `Found`."""
Numbers = NDArray[np.int32]
MANY = 2**22
"""Rows of a piece of `Room`: 11 bytes or more each."""
FOUND = ("label", "score", "outcome")
TRUTH = ("truth_image", "truth_label", "truth_is_group_of")
ARRAYS = ("offsets", *FOUND, *TRUTH)
SETTINGS = ("protocol", "group_of_weight", "verified_only", "iou")


@dataclass(frozen=True, eq=False)
class Matches:
    """Outcomes of D detections on B images, and the truth that they were matched with, without boxes.

    A sum over images: parts on different images merge into the whole. 11 bytes a detection up to 65,535 classes.

    Among equal scores of a class, detections stand by the id of their image, then by x1, y1, x2, y2 of their box:
    rows of one image are in that order here wherever it has an influence. So no result depends on the order in
    which images or detections were given.
    """

    vocabulary: Vocabulary
    image_ids: tuple[str, ...]
    protocol: str
    group_of_weight: float
    """What a group-of box is worth in the truth, and its detections together; 0: nothing, they are ignored."""
    offsets: Ints
    """(B + 1,) the detections of image b are rows offsets[b] to offsets[b + 1]."""
    label: Compact
    """(D,)"""
    score: Floats
    """(D,)"""
    outcome: Outcomes
    """(D,) FALSE, TRUE, GROUP, or one of those that do not count."""
    truth_image: NDArray[np.int32]
    """(N,)"""
    truth_label: Compact
    """(N,)"""
    truth_is_group_of: Bools
    """(N,)"""
    verified_only: bool = False
    """Whether detections were ignored where nobody looked for their class."""
    iou: float = 0.5
    """Least overlap of a match."""

    @property
    def settings(self) -> dict[str, str | float | bool]:
        """What they were matched by."""
        return {name: getattr(self, name) for name in SETTINGS}

    def __repr__(self) -> str:
        sizes = f"{len(self.image_ids):,} images, {len(self.vocabulary):,} classes, {self.protocol}"
        return f"Matches({len(self):,} detections and {len(self.truth_label):,} boxes on {sizes})"

    def __len__(self) -> int:
        return len(self.label)

    @property
    def found(self) -> Found:
        """Label, score and outcome."""
        return self.label, self.score, self.outcome

    @property
    def truth_weight(self) -> Floats:
        """(N,) what each box of the truth is worth: 1, or `group_of_weight`."""
        return np.where(self.truth_is_group_of, self.group_of_weight, 1.0)

    @property
    def worth(self) -> Floats:
        """(7,) what a detection of each outcome adds to the true positives; -1: it does not count."""
        worth = np.full(7, -1.0)
        worth[[FALSE, TRUE]] = 0.0, 1.0
        if self.group_of_weight > 0:
            worth[GROUP] = self.group_of_weight
        return worth

    def by_id(self) -> Matches:
        """The same with images in the order of their ids, as text: as `merge` puts them."""
        return self if _ascend(self.image_ids) else merge([self])

    def outcomes_by_class(self) -> Ints:
        """(C, 7) how many detections of each class had each outcome.

        Without a weight the best detection in a group-of box is ignored as the others are.
        """
        parts = in_chunks(
            lambda first, last: _count(
                self.label[first:last], self.outcome[first:last], len(self.vocabulary)
            ),
            len(self),
            rows=len(self),
        )
        counts: Ints = np.sum(parts, axis=0)
        if self.group_of_weight == 0:
            counts[:, IGNORED] += counts[:, GROUP]
            counts[:, GROUP] = 0
        return counts

    @cached_property
    def truth_by_class(self) -> Ints:
        """(C, 2) how many ordinary and how many group-of boxes the truth has of each class."""
        counts: Ints = _count(self.truth_label, self.truth_is_group_of.view(np.int8), len(self.vocabulary))
        return counts[:, :2]


@numba.njit(cache=True, nogil=True)
def _count(label: Compact, outcome: Outcomes, classes: int) -> Ints:
    counts = np.zeros((classes, 7), np.int64)
    for d in range(len(label)):
        counts[label[d], outcome[d]] += 1
    return counts


def kept(
    detections: Detections,
    truth: Annotations,
    outcome: Outcomes,
    tied: Bools,
    *,
    protocol: str,
    group_of_weight: float,
    verified_only: bool,
    iou: float,
) -> Matches:
    """What is kept of a match; see `match` for its outcome and ties. The scores are not copied without need."""
    narrow: type[np.integer[Any]] = np.uint16 if len(truth.vocabulary) <= 2**16 else np.int32
    label, score = detections.label.astype(narrow), detections.score
    if tied.any():
        score, outcome = score.copy(), outcome.copy()
        images = np.flatnonzero(tied)
        in_chunks(
            lambda first, last: _order_images(
                images[first:last], detections.offsets, detections.boxes, label, score, outcome
            ),
            len(images),
            rows=len(detections),
        )
    return Matches(
        truth.vocabulary,
        truth.image_ids,
        protocol,
        group_of_weight,
        detections.offsets,
        label,
        score,
        outcome,
        truth.image.astype(np.int32),
        truth.label.astype(narrow),
        truth.is_group_of,
        verified_only,
        iou,
    )


@numba.njit(cache=True, nogil=True)
def _order_images(
    images: Ints, offsets: Ints, boxes: Floats, label: Compact, score: Floats, outcome: Outcomes
) -> None:
    """Order the rows of some images by box; in place."""
    for b in images:
        first, last = offsets[b], offsets[b + 1]
        order = np.arange(first, last)
        for column in range(3, -1, -1):  # stable sorts, the first key last
            order = order[np.argsort(boxes[order, column], kind="mergesort")]
        label[first:last], score[first:last], outcome[first:last] = label[order], score[order], outcome[order]


class Room:
    """Memory for the columns of many matches, in pieces of `MANY` rows.

    So large a piece goes back to the system once nothing needs it. Small ones do not, and those that are kept while
    others around them are freed leave holes that nothing fits.
    """

    def __init__(self) -> None:
        self._free: Found | None = None

    def take(self, rows: int, types: Types) -> Found:
        """Columns of these types, not filled."""
        free = self._free
        if free is None or len(free[0]) < rows or tuple(column.dtype for column in free) != types:
            free = _columns(max(rows, MANY), types)
        self._free = (free[0][rows:], free[1][rows:], free[2][rows:])
        return free[0][:rows], free[1][:rows], free[2][:rows]

    def __reduce__(self) -> tuple[type[Room], tuple[()]]:
        return Room, ()  # a copy has room of its own


def _columns(rows: int, types: Types) -> Found:
    """Columns in one piece of memory, the widest first."""
    memory, end, columns = np.empty(rows * sum(t.itemsize for t in types), np.uint8), 0, {}
    for i in sorted(range(len(types)), key=lambda i: -types[i].itemsize):
        start, end = end, end + rows * types[i].itemsize
        columns[i] = memory[start:end].view(types[i])
    return columns[0], columns[1], columns[2]


def merge(parts: list[Matches], room: Room | None = None) -> Matches:
    """The matches of several sets of images as one; an image that an earlier part holds is left out.

    The same result comes of any number of parts, in any order, as long as an image that stands in several of them
    has the same detections there (as where samplers fill up their last batch).

    Args:
        parts: taken out of the list, so that their memory is free again as that of the whole fills up.
        room: where the whole is put. Without, rows stay where they are if one part has all of them, in their order.
    Raises:
        InputError: no parts, or parts of different classes or settings; the list is then as it was.
    """
    if not parts:
        raise InputError("nothing to evaluate: no images were given")
    head = parts[0]
    settings = {(part.vocabulary.ids, *part.settings.values()) for part in parts}
    if len(settings) > 1:
        raise InputError("matches of different classes or settings do not merge")
    ids, numbers = _numbered([part.image_ids for part in parts])
    counts = np.zeros(len(ids) + 1, np.int64)
    truth: list[tuple[NDArray[Any], ...]] = []
    for part, number in zip(parts, numbers, strict=True):
        counts[number + 1] = np.diff(part.offsets)
        image = number[part.truth_image]
        given = (image, part.truth_label, part.truth_is_group_of)
        truth.append(given if (number >= 0).all() else tuple(column[image >= 0] for column in given))
    counts[0] = 0  # where those that are left out were put
    offsets = np.cumsum(counts)
    found = None if room else _in_order(numbers, parts)
    if found is None:
        types = (head.label.dtype, head.score.dtype, head.outcome.dtype)
        found = room.take(offsets[-1], types) if room else _columns(offsets[-1], types)
        _fill(found, offsets, numbers, parts)
    parts.clear()
    whole = (offsets, *found, *map(np.concatenate, zip(*truth, strict=True)))
    columns: dict[str, Any] = dict(zip(ARRAYS, whole, strict=True))
    return replace(head, image_ids=ids, **columns)


def _in_order(numbers: Sequence[Numbers], parts: Sequence[Matches]) -> Found | None:
    """The columns of the one part that has rows, if there is one and its images are in order."""
    filled = [some for some in zip(numbers, parts, strict=True) if len(some[1])]
    if len(filled) != 1:
        return None
    ((number, part),) = filled
    with_rows = number[np.diff(part.offsets) > 0]
    return part.found if with_rows[0] >= 0 and (np.diff(with_rows) > 0).all() else None


def _fill(whole: Found, starts: Ints, numbers: Sequence[Numbers], parts: list[Matches]) -> None:
    """Put the rows of all parts, which are taken out of the list, where those of image `number` start."""
    waiting = list(zip(numbers, parts, strict=True))
    parts.clear()

    def put() -> None:
        number, part = waiting.pop()
        _put(number, part.offsets, part.found, starts, whole)

    at_once([put] * len(waiting))


def _ascend(ids: Sequence[str]) -> bool:
    return all(map(lt, ids, islice(ids, 1, None)))


def _numbered(lists: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], list[Numbers]]:
    """The different ids of some lists, sorted; for each list which of them each is, -1 where an earlier list has it."""
    ids = tuple(chain.from_iterable(lists))
    cuts = np.cumsum([len(some) for some in lists])[:-1]
    number = np.arange(len(ids), dtype=np.int32)
    if not _ascend(ids):
        first = {id_: i for i, id_ in reversed(list(enumerate(ids)))}
        ids = tuple(sorted(first))
        number[:] = -1
        number[[first[id_] for id_ in ids]] = np.arange(len(ids))
    return ids, np.split(number, cuts)


@numba.njit(cache=True, nogil=True)
def _put(number: Numbers, offsets: Ints, part: Found, starts: Ints, whole: Found) -> None:
    """Put the rows of a part's images where those of image `number` start, and of -1 nowhere."""
    for i in range(len(number)):
        if number[i] >= 0:
            ahead = starts[number[i]] - offsets[i]
            for d in range(offsets[i], offsets[i + 1]):
                whole[0][d + ahead], whole[1][d + ahead], whole[2][d + ahead] = (
                    part[0][d],
                    part[1][d],
                    part[2][d],
                )


def write_matches(matches: Matches, path: str | Path) -> None:
    """Write matches as a .npz file (about 11 bytes a detection), for comparisons with intervals."""
    columns: dict[str, Any] = matches.settings | {name: getattr(matches, name) for name in ARRAYS}
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            class_ids=np.array(matches.vocabulary.ids, np.str_),
            class_names=np.array(matches.vocabulary.names, np.str_),
            image_ids=np.array(matches.image_ids, np.str_),
            **columns,
        )


def read_matches(path: str | Path) -> Matches:
    """Read what `write_matches` wrote.

    Raises:
        InputError: no such file, or another kind of file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            matches = Matches(
                Vocabulary(tuple(file["class_ids"].tolist()), tuple(file["class_names"].tolist())),
                tuple(file["image_ids"].tolist()),
                **{name: file[name].item() for name in SETTINGS},
                **{name: file[name] for name in ARRAYS},
            )
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path=path) from error
    except (KeyError, ValueError, EOFError, AttributeError, BadZipFile, zlib.error) as error:
        message = "not a file of matches, as `wildbox evaluate --matches` writes it"
        raise InputError(message, path=path) from error
    return matches
