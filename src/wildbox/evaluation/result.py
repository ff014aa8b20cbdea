"""What an evaluation found, class by class: its file, and gains between two.

Letters: C classes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from wildbox.annotations import Floats, Ints
from wildbox.errors import InputError
from wildbox.formats.files import write_csv
from wildbox.vocabulary import Vocabulary

COLUMNS = ("class_id", "class_name", "ap", "truth_boxes", "detections")


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Average precision of C classes.

    >>> letters = Vocabulary(("a", "b", "c"))
    >>> result = EvaluationResult(letters, [0.5, 1.0, np.nan], [4, 1, 0], [9, 1, 0], "voc")
    >>> result.mean_ap, result.by_group(["head", "tail", "tail"])
    (0.75, {'head': 0.5, 'tail': 1.0})
    """

    vocabulary: Vocabulary
    ap: Floats
    """(C,) in [0, 1]; NaN where the class has no truth."""
    truth_boxes: Ints
    """(C,) boxes of the truth that count (after expansion by the hierarchy)."""
    detections: Ints
    """(C,) detections that count: true and false positives, not the ignored."""
    protocol: str = ""
    """Its name; empty where it is not known (a log does not tell)."""

    def __post_init__(self) -> None:
        columns = (("ap", np.float64), ("truth_boxes", np.int64), ("detections", np.int64))
        for name, dtype in columns:
            column = np.array(getattr(self, name), dtype)
            if column.shape != (len(self.vocabulary),):
                raise InputError(
                    f"column {name!r} of shape {column.shape} for {len(self.vocabulary)} classes"
                )
            column.setflags(write=False)
            object.__setattr__(self, name, column)

    @property
    def mean_ap(self) -> float:
        """Mean over the classes that have truth; NaN where none has."""
        return _mean(self.ap)

    def by_group(self, groups: ArrayLike) -> dict[str, float]:
        """Mean average precision of each group of classes, groups in alphabetical order.

        Args:
            groups: (C,) name of each class's group.
        """
        names = np.asarray(groups)
        if names.shape != self.ap.shape:
            raise InputError(f"groups of shape {names.shape} for {len(self.ap)} classes")
        return {str(name): _mean(self.ap[names == name]) for name in np.unique(names)}

    def write(self, path: str | Path) -> None:
        """Write the log: class_id,class_name,ap,truth_boxes,detections; ap empty where there is no truth."""
        columns = (self.ap.tolist(), self.truth_boxes.tolist(), self.detections.tolist())
        rows = zip(self.vocabulary.ids, self.vocabulary.names, *columns, strict=True)
        write_csv(
            path, COLUMNS, ((id_, name, _number(ap), boxes, found) for id_, name, ap, boxes, found in rows)
        )

    @classmethod
    def read(cls, path: str | Path) -> EvaluationResult:
        """Read what `write` wrote; the numbers are the same to the last bit, the protocol is not in the file.

        Raises:
            InputError: no such file, a missing column, or a value that is not a number or outside its range.
            VocabularyError: a class that stands twice.
        """
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
                if missing:
                    raise InputError(
                        f"no column {missing[0]!r}; expected {','.join(COLUMNS)}", path=path, line=1
                    )
                rows = [_parse(row, path, reader.line_num) for row in reader]
        except FileNotFoundError:
            raise InputError("no such file", path=path) from None
        ids, names, ap, boxes, found = zip(*rows, strict=True) if rows else ((),) * 5
        return cls(Vocabulary(ids, names), np.array(ap), np.array(boxes), np.array(found))


@dataclass(frozen=True)
class Gain:
    """One class in two results."""

    class_id: str
    class_name: str
    without: float
    with_: float
    gain: float
    """with_ - without."""


def gains(
    without: EvaluationResult, with_: EvaluationResult, *, classes: Iterable[str] | None = None
) -> list[Gain]:
    """Gain of each class that has an average precision in both, best first, ties by class id.

    Args:
        classes: ids of the classes to compare; default: all.
    Raises:
        InputError: results of different classes.
        VocabularyError: an unknown class among `classes`.

    >>> letters = Vocabulary(("a", "b"))
    >>> old, new = (EvaluationResult(letters, ap, [1, 1], [1, 1]) for ap in ([0.25, 0.5], [0.5, 1.0]))
    >>> [(row.class_id, row.gain) for row in gains(old, new)]
    [('b', 0.5), ('a', 0.25)]
    """
    if without.vocabulary.ids != with_.vocabulary.ids:
        raise InputError("the results to compare are of different classes")
    names = with_.vocabulary
    chosen = range(len(names)) if classes is None else sorted({names.index(id_) for id_ in classes})
    both = ((names.ids[c], names.names[c], float(without.ap[c]), float(with_.ap[c])) for c in chosen)
    rows = [Gain(id_, name, old, new, new - old) for id_, name, old, new in both if not np.isnan(new - old)]
    return sorted(rows, key=lambda row: (-row.gain, row.class_id))


def write_gains(rows: Sequence[Gain], path: str | Path) -> None:
    """Write gains as CSV: class_id,class_name,ap_without,ap_with,gain."""
    values = ((row.class_id, row.class_name, row.without, row.with_, row.gain) for row in rows)
    write_csv(path, ("class_id", "class_name", "ap_without", "ap_with", "gain"), values)


def compare_results(names: Sequence[str], results: Sequence[EvaluationResult], path: str | Path) -> None:
    """Write several results side by side: class_id,class_name,ap_NAME,...,gain of the last over the first.

    Classes without an average precision in any one of them are left out; best gain first, ties by class id.
    Names that repeat are numbered.

    Raises:
        InputError: fewer than two results, or of different classes.
    """
    if len(names) != len(results) or len(results) < 2:
        raise InputError(f"{len(results)} results and {len(names)} names; expected two or more of each")
    if any(result.vocabulary.ids != results[0].vocabulary.ids for result in results):
        raise InputError("the results to compare are of different classes")
    if len(set(names)) < len(names):
        names = [f"{number}_{name}" for number, name in enumerate(names, start=1)]
    ap = np.array([result.ap for result in results])
    complete = np.flatnonzero(~np.isnan(ap).any(axis=0))
    index = results[0].vocabulary.index
    rows = gains(results[0], results[-1], classes=[results[0].vocabulary.ids[c] for c in complete])
    header = ("class_id", "class_name", *(f"ap_{name}" for name in names), "gain")
    write_csv(
        path,
        header,
        ((row.class_id, row.class_name, *ap[:, index(row.class_id)].tolist(), row.gain) for row in rows),
    )


def _mean(ap: Floats) -> float:
    known = ap[~np.isnan(ap)]
    return float(known.mean()) if len(known) else float("nan")


def _number(value: float) -> str:
    return "" if np.isnan(value) else repr(value)


def _parse(row: dict[str, str], path: str | Path, line: int) -> tuple[str, str, float, int, int]:
    try:
        ap = float(row["ap"]) if row["ap"] else float("nan")
        boxes, found = int(row["truth_boxes"]), int(row["detections"])
    except (TypeError, ValueError) as error:
        raise InputError(f"not a number: {error}", path=path, line=line) from None
    if ap < 0 or ap > 1 or boxes < 0 or found < 0:
        raise InputError(f"ap {ap}, {boxes} boxes, {found} detections: out of range", path=path, line=line)
    return row["class_id"], row["class_name"], ap, boxes, found
