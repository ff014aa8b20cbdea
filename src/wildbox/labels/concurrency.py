"""Confusion pairs and the matrix of concurrent rates.

Source: the paper's section 3 and the supplement's Table 2. Letters: N boxes, M pairs, C classes, s source, t other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numba
import numpy as np

from wildbox.annotations import Annotations, Floats, Ints
from wildbox.errors import ConfigError, InputError
from wildbox.formats.csv_rows import named_rows
from wildbox.formats.files import write_csv
from wildbox.labels.objects import ObjectLabels, object_labels, same_object_pairs
from wildbox.labels.parts import sum_over_parts
from wildbox.vocabulary import Hierarchy, Vocabulary


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


def count_concurrency(annotations: Annotations, *, iou: float = 0.9) -> Concurrency:
    """Count the pairs of boxes with IoU > `iou` by their classes. Group-of boxes count like the others.

    >>> two = Vocabulary(("a", "b"))
    >>> truth = Annotations(two, ("x",), image=[0, 0], boxes=[[0, 0, 1, 1]] * 2, label=[0, 1])
    >>> count_concurrency(truth).confusion.tolist()
    [[0, 1], [1, 0]]
    """

    def of_part(part: Annotations) -> Concurrency:
        pairs = same_object_pairs(part, iou=iou)
        objects = object_labels(part, pairs=pairs)
        return concurrency_of_pairs(part.label, pairs, objects, classes=len(part.vocabulary))

    return sum_over_parts(of_part, annotations)


def concurrency_of_pairs(label: Ints, pairs: Ints, objects: ObjectLabels, *, classes: int) -> Concurrency:
    """The same, where labels (N,), `same_object_pairs` and `object_labels` of the boxes are at hand."""
    return Concurrency(
        np.bincount(label, minlength=classes),
        pairs_of_classes(label, pairs, classes),
        _matched(label[objects.rows], objects.offsets, objects.labels, classes),
    )


@numba.njit(cache=True, nogil=True)
def pairs_of_classes(label, pairs, classes):  # type: ignore[no-untyped-def]
    """(C, C) symmetric: how many pairs of boxes (M, 2) are of two classes; 0 on the diagonal."""
    counts = np.zeros((classes, classes), np.int64)
    for m in range(len(pairs)):
        a, b = label[pairs[m, 0]], label[pairs[m, 1]]
        if a != b:
            counts[a, b] += 1
            counts[b, a] += 1
    return counts


@numba.njit(cache=True, nogil=True)
def _matched(label, offsets, labels, classes):  # type: ignore[no-untyped-def]
    counts = np.zeros((classes, classes), np.int64)
    for box in range(len(label)):
        for k in range(offsets[box], offsets[box + 1]):
            if labels[k] != label[box]:
                counts[label[box], labels[k]] += 1
    return counts


@dataclass(frozen=True)
class ConfusionPair:
    """Class s and a class t that its boxes also carry, as class indices: a row of the supplement's Table 2."""

    source: int
    confusion: int
    source_boxes: int
    confusion_boxes: int
    ratio: float
    """confusion_boxes / source_boxes; above 1 where boxes have several partners."""


def confusion_pairs(concurrency: Concurrency, *, min_ratio: float = 0.1) -> list[ConfusionPair]:
    """Ordered pairs (s, t), s != t, with ratio > `min_ratio` (strict); largest ratio first, ties by index.

    >>> counted = Concurrency(np.array([4, 40]), np.array([[0, 2], [2, 0]]), np.array([[0, 2], [2, 0]]))
    >>> [(pair.source, pair.confusion, pair.ratio) for pair in confusion_pairs(counted)]
    [(0, 1, 0.5)]
    """
    check_min_ratio(min_ratio)
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
        for name, dtype, shape in (
            ("values", np.float64, (classes, classes)),
            ("boxes", np.int64, (classes,)),
            ("matched", np.int64, (classes, classes)),
        ):
            column = np.asarray(getattr(self, name), dtype)
            if column.shape != shape:
                raise InputError(f"{name} of the rates: shape {column.shape}, expected {shape}")
            object.__setattr__(self, name, column)
        bad = np.argwhere(~((self.values >= 0) & (self.values <= 1)) | (np.eye(classes) * self.values != 0))
        if len(bad):
            i, j = bad[0]
            raise InputError(
                f"rate of class {self.vocabulary.ids[i]!r} with {self.vocabulary.ids[j]!r} is "
                f"{self.values[i, j]}, expected 0 to 1, and 0 of a class with itself"
            )

    def __repr__(self) -> str:
        return f"ConcurrentRates({len(self.vocabulary):,} classes, {np.count_nonzero(self.values):,} rates above 0)"

    def with_background(self) -> Floats:
        """(C + 1, C + 1): the background, which concurs with nothing, as last row and column."""
        return np.pad(self.values, (0, 1))

    def sharpened(self, gamma: float) -> ConcurrentRates:
        """Each rate above 0 to the power gamma: 1 leaves it, 0 makes it 1, what lies between raises it (ours).

        A rate is read as r = q p: a share q of the objects of class i truly are j too, and annotators wrote j on a
        share p of those. Only r is counted. p = r ** (1 - gamma) says the more often two labels stand together,
        the more reliably they are written, and leaves q = r ** gamma as the rate. gamma = 1: all is written (p = 1,
        the paper's rates). gamma = 0: what concurs at all always does, as synonyms would (q = 1), and only
        exclusive classes compete. Rates of 1, those of the hierarchy, stay whatever gamma is.

        Raises:
            ConfigError: gamma below 0.

        >>> rates = ConcurrentRates(Vocabulary(("torch", "flashlight")), [[0, 0.25], [0, 0]], [4, 40], [[0, 1], [1, 0]])
        >>> rates.sharpened(0.5).values.tolist(), rates.sharpened(0).values.tolist()
        ([[0.0, 0.5], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]])
        """
        if not gamma >= 0:
            raise ConfigError(f"gamma is {gamma}, expected 0 or more")
        sharp = np.where(self.values > 0, self.values**gamma, 0.0)
        return ConcurrentRates(self.vocabulary, sharp, self.boxes, self.matched)

    def write(self, path: str | Path) -> None:
        """CSV class, other, rate, boxes, matched, lower, upper, class_name, other_name: the rates above 0.

        class and other are ids. lower and upper are the 95 % Wilson interval of matched / boxes, which the hierarchy
        may have overruled.
        """
        ids, names = self.vocabulary.ids, self.vocabulary.names
        lower, upper = wilson_interval(self.matched, self.boxes[:, None])
        columns = (self.values, np.broadcast_to(self.boxes[:, None], lower.shape), self.matched, lower, upper)
        rows = (
            (ids[i], ids[j], *(column[i, j].item() for column in columns), names[i], names[j])
            for i, j in np.argwhere(self.values > 0)
        )
        write_csv(path, (*RATE_COLUMNS, "lower", "upper", "class_name", "other_name"), rows)

    @classmethod
    def read(cls, path: str | Path, vocabulary: Vocabulary) -> ConcurrentRates:
        """The file that `write` leaves. It holds no support of classes without rates: their `boxes` are 0.

        Raises:
            InputError: a missing column, an unknown class, a rate outside [0, 1], a pair that stands twice, a
                class that concurs with itself; with file and line. Classes of other names (where it has names).
        """
        classes = len(vocabulary)
        values, boxes = np.zeros((classes, classes)), np.zeros(classes, np.int64)
        matched = np.zeros((classes, classes), np.int64)
        names: dict[str, str] = {}
        for line, row in named_rows(path, RATE_COLUMNS)[1]:
            try:
                i, j, rate, support, both = _parsed(row, vocabulary)
            except ValueError as error:
                raise InputError(str(error), path=path, line=line) from error
            if values[i, j]:
                told = f"{row['class']!r} with {row['other']!r} stands here for the second time"
                raise InputError(told, path=path, line=line)
            values[i, j], boxes[i], matched[i, j] = rate, support, both
            names |= {row[key]: row.get(f"{key}_name") or row[key] for key in ("class", "other")}
        if told := Vocabulary(tuple(names), tuple(names.values())).contradiction(vocabulary):
            raise InputError(f"rates of other classes: {told}", path=path)
        return cls(vocabulary, values, boxes, matched)


RATE_COLUMNS = ("class", "other", "rate", "boxes", "matched")


def _parsed(row: dict[str, str], vocabulary: Vocabulary) -> tuple[int, int, float, int, int]:
    """A line of the rates file; `ValueError` says what is wrong with it."""
    i, j, rate = vocabulary.index(row["class"]), vocabulary.index(row["other"]), float(row["rate"])
    support, both = int(row["boxes"]), int(row["matched"])
    if not 0 < rate <= 1:
        raise InputError(f"rate {row['rate']}, expected above 0 and at most 1")
    if i == j:
        raise InputError(f"class {row['class']!r} concurs with itself")
    if not 0 <= both <= support < 2**63:
        raise InputError(f"{both} matched of {support} boxes, expected 0 <= matched <= boxes")
    return i, j, rate, support, both


def concurrent_rates(
    concurrency: Concurrency,
    *,
    vocabulary: Vocabulary,
    hierarchy: Hierarchy | None = None,
    min_ratio: float = 0.1,
    bound: Literal["rate", "wilson"] = "rate",
) -> ConcurrentRates:
    """The rates, from counts. A class without boxes has the rates of the hierarchy alone.

    Args:
        hierarchy: adds r[i, a] = 1 for every ancestor a of i, whatever was counted.
        min_ratio: rates at or below it are 0.
        bound: "rate", the plain share; "wilson", the lower end of its 95 % Wilson interval (kept if that is
            above `min_ratio`).
    Raises:
        InputError: counts or hierarchy of another size than the vocabulary.

    >>> counted = Concurrency(np.array([4, 40]), np.array([[0, 2], [2, 0]]), np.array([[0, 2], [2, 0]]))
    >>> concurrent_rates(counted, vocabulary=Vocabulary(("torch", "flashlight"))).values.tolist()
    [[0.0, 0.5], [0.0, 0.0]]
    """
    check_min_ratio(min_ratio)
    if bound not in ("rate", "wilson"):
        raise ConfigError(f"bound is {bound!r}, expected 'rate' or 'wilson'")
    for what, classes in (("counts", len(concurrency.boxes)), ("hierarchy", len(hierarchy or vocabulary))):
        if classes != len(vocabulary):
            raise InputError(f"{what} of {classes} classes, expected {len(vocabulary)}")
    support = concurrency.boxes[:, None]
    values = concurrency.matched / np.maximum(support, 1)
    if bound == "wilson":
        values = wilson_interval(concurrency.matched, support)[0]
    values = np.where(values > min_ratio, values, 0.0)
    if hierarchy is not None:
        values = np.where(hierarchy.is_ancestor, 1.0, values)
    return ConcurrentRates(vocabulary, values, concurrency.boxes, concurrency.matched)


def wilson_interval(successes: Ints, trials: Ints, *, z: float = 1.959963984540054) -> tuple[Floats, Floats]:
    """Both ends of the Wilson score interval of a share; z is the normal quantile (default: 95 %, two-sided).

    Args:
        successes, trials: of shapes that broadcast. Without trials the interval is (0, 1).

    >>> [round(float(end), 4) for end in wilson_interval(np.array(5), np.array(10))]
    [0.2366, 0.7634]
    """
    n = np.maximum(trials, 1).astype(np.float64)
    p = successes / n
    centre = p + z * z / (2 * n)
    spread = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    lower = np.where(successes > 0, np.clip((centre - spread) / scale, 0, 1), 0.0)
    upper = np.where(successes < trials, np.clip((centre + spread) / scale, 0, 1), 1.0)
    return lower, upper


def check_min_ratio(min_ratio: float) -> None:
    """`ConfigError` where the least ratio is not a number from 0 up."""
    if not min_ratio >= 0:
        raise ConfigError(f"min_ratio is {min_ratio}, expected 0 or more")
