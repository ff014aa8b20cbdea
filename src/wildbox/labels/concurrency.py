"""Confusion pairs and the matrix of concurrent rates (METHOD section 2). Letters: C classes, s source, t other."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Annotations
from wildbox.errors import InputError
from wildbox.labels.objects import same_object_pairs
from wildbox.vocabulary import Hierarchy, Vocabulary

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Concurrency:
    """What the rates are made of: sums over images, so two shards add up."""

    boxes: Ints
    """(C,) boxes of each class."""
    confusion: Ints
    """(C, C) pairs (box of s, box of t) on one object, s != t; symmetric, zero diagonal."""
    matched: Ints
    """(C, C) boxes of s that have at least one box of t on the same object; zero diagonal."""

    def __add__(self, other: Concurrency) -> Concurrency:
        return Concurrency(
            self.boxes + other.boxes, self.confusion + other.confusion, self.matched + other.matched
        )


def count_concurrency(
    annotations: Annotations, *, iou: float = 0.9, include_group_of: bool = True
) -> Concurrency:
    """Count the pairs of boxes with IoU > `iou` by their classes.

    Args:
        include_group_of: count group-of boxes like the others; else as if they were not there.

    >>> two = Vocabulary(("a", "b"))
    >>> truth = Annotations(two, ("x",), image=[0, 0], boxes=[[0, 0, 1, 1]] * 2, label=[0, 1])
    >>> count_concurrency(truth).confusion.tolist()
    [[0, 1], [1, 0]]
    """
    classes = len(annotations.vocabulary)
    label, counted = annotations.label, np.ones(len(annotations), bool)
    pairs = same_object_pairs(annotations, iou=iou)
    if not include_group_of:
        counted = ~annotations.is_group_of
        pairs = pairs[counted[pairs].all(axis=1)]
    pairs = pairs[label[pairs[:, 0]] != label[pairs[:, 1]]]
    box = np.concatenate([pairs[:, 0], pairs[:, 1]])
    other = label[np.concatenate([pairs[:, 1], pairs[:, 0]])]

    def table(box: Ints, other: Ints) -> Ints:
        flat = np.bincount(label[box] * classes + other, minlength=classes * classes)
        return flat.reshape(classes, classes).astype(np.int64)

    once = np.unique(box * max(classes, 1) + other)
    return Concurrency(
        np.bincount(label[counted], minlength=classes).astype(np.int64),
        table(box, other),
        table(once // max(classes, 1), once % max(classes, 1)),
    )


@dataclass(frozen=True)
class ConfusionPair:
    """A row of the supplement's Table 2, by class indices."""

    source: int
    confusion: int
    source_boxes: int
    confusion_boxes: int
    ratio: float
    """confusion_boxes / source_boxes; above 1 where boxes have several partners."""


def confusion_pairs(concurrency: Concurrency, *, min_ratio: float = 0.1) -> list[ConfusionPair]:
    """Ordered pairs (s, t), s != t, with ratio > `min_ratio` (strict); largest ratio first, ties by index."""
    pairs = []
    for source, other in np.argwhere(concurrency.confusion > 0):
        boxes, both = int(concurrency.boxes[source]), int(concurrency.confusion[source, other])
        if both / boxes > min_ratio:
            pairs.append(ConfusionPair(int(source), int(other), boxes, both, both / boxes))
    return sorted(pairs, key=lambda pair: (-pair.ratio, pair.source, pair.confusion))


@dataclass(frozen=True, eq=False)
class ConcurrentRates:
    """r[i, j]: the share of the boxes of class i that are also class j.

    Raises:
        InputError: another shape than the vocabulary's, a rate outside [0, 1], a diagonal that is not zero.
    """

    vocabulary: Vocabulary
    values: Floats
    """(C, C) in [0, 1], zero diagonal, not symmetric."""
    boxes: Ints
    """(C,) boxes of each class: the support of its row."""
    matched: Ints
    """(C, C) of these, how many are also the other class; 0 where the rate comes from the hierarchy alone."""

    def __post_init__(self) -> None:
        classes = len(self.vocabulary)
        if self.values.shape != (classes, classes):
            raise InputError(f"rates have shape {self.values.shape}, expected {(classes, classes)}")
        if not ((self.values >= 0) & (self.values <= 1)).all() or np.diagonal(self.values).any():
            raise InputError("rates must lie in [0, 1], with a diagonal of 0")

    def with_background(self) -> Floats:
        """(C + 1, C + 1): the background, which concurs with nothing, as last row and column."""
        return np.pad(self.values, (0, 1))

    def sharpened(self, gamma: float) -> ConcurrentRates:
        """Each rate above 0 to the power gamma: 1 leaves it, 0 makes it 1."""
        sharp = np.where(self.values > 0, self.values**gamma, 0.0)
        return ConcurrentRates(self.vocabulary, sharp, self.boxes, self.matched)

    def write(self, path: str | Path) -> None:
        """CSV class, other, rate, boxes, matched: the rates above 0, by class ids."""
        path = Path(path)
        temporary = path.with_name(path.name + ".tmp")
        ids = self.vocabulary.ids
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(RATE_COLUMNS)
            for i, j in np.argwhere(self.values > 0):
                rate = float(self.values[i, j])
                writer.writerow([ids[i], ids[j], rate, int(self.boxes[i]), int(self.matched[i, j])])
        os.replace(temporary, path)

    @classmethod
    def read(cls, path: str | Path, vocabulary: Vocabulary) -> ConcurrentRates:
        """The file that `write` leaves; `InputError` names file and line of what is wrong."""
        classes = len(vocabulary)
        values, boxes = np.zeros((classes, classes)), np.zeros(classes, np.int64)
        matched = np.zeros((classes, classes), np.int64)
        try:
            stream = open(path, newline="", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", path=path) from error
        with stream:
            rows = csv.DictReader(stream)
            missing = set(RATE_COLUMNS) - set(rows.fieldnames or ())
            if missing:
                raise InputError(f"column {min(missing)!r} is missing", path=path, line=1)
            for row in rows:
                try:
                    i, j = vocabulary.index(row["class"]), vocabulary.index(row["other"])
                    values[i, j], boxes[i] = float(row["rate"]), int(row["boxes"])
                    matched[i, j] = int(row["matched"])
                    if not 0 <= values[i, j] <= 1 or i == j:
                        raise InputError(f"rate {row['rate']}: expected [0, 1] between two classes")
                except (TypeError, ValueError) as error:
                    raise InputError(str(error), path=path, line=rows.line_num) from error
        return cls(vocabulary, values, boxes, matched)


RATE_COLUMNS = ("class", "other", "rate", "boxes", "matched")


def concurrent_rates(
    concurrency: Concurrency,
    *,
    vocabulary: Vocabulary,
    hierarchy: Hierarchy | None = None,
    min_ratio: float = 0.1,
    bound: Literal["rate", "wilson"] = "rate",
) -> ConcurrentRates:
    """The rates, from counts.

    Args:
        hierarchy: adds r[i, a] = 1 for every ancestor a of i.
        min_ratio: counted rates at or below it are 0.
        bound: "rate", the plain share; "wilson", the lower end of its 95 % Wilson interval (before the cut).
    """
    support = np.maximum(concurrency.boxes, 1)[:, None]
    values = concurrency.matched / support
    if bound == "wilson":
        values = wilson_lower(concurrency.matched, np.broadcast_to(support, values.shape))
    values = np.where(values > min_ratio, values, 0.0)
    if hierarchy is not None:
        values = np.where(hierarchy.is_ancestor, 1.0, values)
    return ConcurrentRates(vocabulary, values, concurrency.boxes, concurrency.matched)


def wilson_lower(successes: Ints, trials: Ints, *, z: float = 1.959963984540054) -> Floats:
    """Lower end of the Wilson score interval of a share; z is the normal quantile (default: 95 %, two-sided).

    >>> round(float(wilson_lower(np.array(5), np.array(10))), 4)
    0.2366
    """
    n, p = trials.astype(np.float64), successes / trials
    centre = p + z * z / (2 * n)
    spread = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    lower = (centre - spread) / (1 + z * z / n)
    return np.where(successes > 0, np.clip(lower, 0.0, 1.0), 0.0)
