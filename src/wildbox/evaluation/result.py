"""What an evaluation found, class by class: its files, and gains between two.

Letters: C classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wildbox.annotations import Floats, Ints
from wildbox.errors import ConfigError, InputError
from wildbox.evaluation.curves import Curves
from wildbox.evaluation.matches import Matches
from wildbox.formats.csv_rows import named_rows
from wildbox.formats.files import whole_file, write_csv
from wildbox.vocabulary import Vocabulary, check_same_classes

COLUMNS = ("class_id", "class_name", "ap", "truth_boxes", "detections")
ENDINGS = (".csv", ".json", ".md")
"""Of the files that `EvaluationResult.write` writes."""


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Average precision of C classes, and what else the protocol tells.

    >>> letters = Vocabulary(("a", "b", "c"))
    >>> result = EvaluationResult(letters, [0.5, 1.0, np.nan], [4, 1, 0], [9, 1, 0], "voc")
    >>> result
    EvaluationResult(mAP 0.7500; 3 classes, voc)
    >>> result.mean_ap, result.by_group(["head", "tail", "tail"])
    (0.75, {'head': 0.5, 'tail': 1.0})
    """

    vocabulary: Vocabulary
    ap: Floats
    """(C,) in [0, 1]; NaN where the class has no truth."""
    truth_boxes: Ints
    """(C,) boxes of the truth that count (after expansion by the hierarchy)."""
    detections: Ints
    """(C,) detections that count: true and false positives, not the ignored; of COCO and LVIS all that were given."""
    protocol: str = ""
    """Its name; empty where it is not known (a log does not tell)."""
    summary: Mapping[str, float] = field(default_factory=dict)
    """The protocol's numbers by name: COCO's 12, LVIS' 13; by default the mean average precision, "mAP"."""
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Further numbers (C,) of each class by name, NaN where there is none. Open Images and VOC: `true_positives`,
    `false_positives`, `ignored`, `best_f1` and `threshold`, the score from which on that F1 is reached."""
    curves: Curves | None = None
    """Precision over recall of each class; none where it was read from a file, or for COCO and LVIS."""
    matches: Matches | None = None
    """What became of each detection, for intervals; none as above."""

    def __post_init__(self) -> None:
        columns = (("ap", np.float64), ("truth_boxes", np.int64), ("detections", np.int64))
        for name, dtype in columns:
            object.__setattr__(self, name, self._column(name, np.array(getattr(self, name), dtype)))
        further = {name: self._column(name, np.array(column)) for name, column in self.columns.items()}
        object.__setattr__(self, "columns", further)
        object.__setattr__(self, "summary", dict(self.summary) or {"mAP": self.mean_ap})

    def _column(self, name: str, column: NDArray[Any]) -> NDArray[Any]:
        if column.shape != (len(self.vocabulary),):
            raise InputError(f"column {name!r} of shape {column.shape} for {len(self.vocabulary)} classes")
        column.setflags(write=False)
        return column

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {value:.4f}" for name, value in self.summary.items())
        return f"EvaluationResult({told}; {len(self.vocabulary):,} classes, {self.protocol or 'protocol not known'})"

    @property
    def mean_ap(self) -> float:
        """Mean over the classes that have truth; NaN where none has."""
        return known_mean(self.ap)

    def by_group(self, groups: ArrayLike) -> dict[str, float]:
        """Mean average precision of each group of classes, groups in alphabetical order.

        Args:
            groups: (C,) name of each class's group.
        """
        names = np.asarray(groups)
        if names.shape != self.ap.shape:
            raise InputError(f"groups of shape {names.shape} for {len(self.ap)} classes")
        return {str(name): known_mean(self.ap[names == name]) for name in np.unique(names)}

    def write(self, path: str | Path) -> None:
        """Write the log: by the ending of `path` .csv, .json, or a table in .md; another is a `ConfigError`.

        CSV: class_id,class_name,ap,truth_boxes,detections and the further columns; a number is empty where there is
        none (JSON: null). JSON also has the protocol and its summary, Markdown the summary.
        """
        ending = log_ending(path)
        if ending == ".json":
            text = json.dumps(self._document(), ensure_ascii=False, indent=1) + "\n"
        elif ending == ".md":
            text = self._markdown()
        else:
            header, rows = self._rows()
            write_csv(path, header, (map(_known, row) for row in rows))  # None is written as nothing
            return
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def _rows(self) -> tuple[tuple[str, ...], Iterable[tuple[Any, ...]]]:
        columns = (self.ap, self.truth_boxes, self.detections, *self.columns.values())
        values = (column.tolist() for column in columns)
        rows = zip(self.vocabulary.ids, self.vocabulary.names, *values, strict=True)
        return (*COLUMNS, *self.columns), rows

    def _document(self) -> dict[str, Any]:
        header, rows = self._rows()
        return {
            "protocol": self.protocol,
            "summary": {name: _known(value) for name, value in self.summary.items()},
            "classes": [dict(zip(header, map(_known, row), strict=True)) for row in rows],
        }

    def _markdown(self) -> str:
        header, rows = self._rows()
        lines = [f"**{name}** {value:.4f}  " for name, value in self.summary.items()]
        lines += ["", f"| {' | '.join(header)} |", f"| :-- | :-- |{' --: |' * (len(header) - 2)}"]
        lines += [f"| {' | '.join(map(_short, row))} |" for row in rows]
        return "\n".join(lines) + "\n"

    @classmethod
    def read(cls, path: str | Path) -> EvaluationResult:
        """Read a CSV that `write` wrote; the numbers are the same to the last bit, the protocol is not in the file.

        Raises:
            InputError: no such file, no text, a missing column, a value that is not a number or outside its range.
            VocabularyError: a class that stands twice.
        """
        header, given = named_rows(path, COLUMNS)
        further = [name for name in header if name not in COLUMNS]
        rows = [_parse(row, further, path, line) for line, row in given]
        ids, names, ap, boxes, found, *others = (
            zip(*rows, strict=True) if rows else ((),) * (len(COLUMNS) + len(further))
        )
        columns = {name: np.array(column) for name, column in zip(further, others, strict=True)}
        vocabulary = Vocabulary(ids, names)
        return cls(vocabulary, np.array(ap), np.array(boxes), np.array(found), columns=columns)


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
        InputError: results of different classes, truths or protocols.
        VocabularyError: an unknown class among `classes`.

    >>> letters = Vocabulary(("a", "b"))
    >>> old, new = (EvaluationResult(letters, ap, [1, 1], [1, 1]) for ap in ([0.25, 0.5], [0.5, 1.0]))
    >>> [(row.class_id, row.gain) for row in gains(old, new)]
    [('b', 0.5), ('a', 0.25)]
    """
    check_comparable(without, with_, "the two")
    names = with_.vocabulary
    chosen = range(len(names)) if classes is None else sorted({names.index(id_) for id_ in classes})
    both = ((names.ids[c], names.names[c], float(without.ap[c]), float(with_.ap[c])) for c in chosen)
    rows = [Gain(id_, name, old, new, new - old) for id_, name, old, new in both if not np.isnan(new - old)]
    return sorted(rows, key=lambda row: (-row.gain, row.class_id))


def check_comparable(one: EvaluationResult, other: EvaluationResult, names: str) -> None:
    """`InputError` where two results are of different classes, truths (by their numbers of boxes) or protocols.

    A log's protocol is not known, but what columns it has is.
    """
    message = f"the results to compare are of different classes: {names}"
    check_same_classes(one.vocabulary, other.vocabulary, message)
    told = one.protocol, other.protocol
    if not all(told) and one.columns and other.columns:
        told = (", ".join(one.columns), ", ".join(other.columns))
    if all(told) and told[0] != told[1]:
        raise InputError(f"the results to compare are of different protocols, {' and '.join(told)}: {names}")
    if one.matches is not None and other.matches is not None:
        for setting, value in one.matches.settings.items():
            if value != (another := other.matches.settings[setting]):
                raise InputError(
                    f"the results to compare are of different {setting}, {value} and {another}: {names}"
                )
    if (odd := one.truth_boxes != other.truth_boxes).any():
        c = int(np.argmax(odd))
        raise InputError(
            f"the results to compare are of different truths: class {one.vocabulary.ids[c]!r} has "
            f"{one.truth_boxes[c]} and {other.truth_boxes[c]} boxes: {names}"
        )


def write_gains(rows: Sequence[Gain], path: str | Path) -> None:
    """Write gains as CSV: class_id,class_name,ap_without,ap_with,gain."""
    values = ((row.class_id, row.class_name, row.without, row.with_, row.gain) for row in rows)
    write_csv(path, ("class_id", "class_name", "ap_without", "ap_with", "gain"), values)


def log_ending(path: str | Path) -> str:
    """What kind of log a name stands for; `ConfigError` where it is none of `ENDINGS`."""
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise ConfigError(f"{path} ends in {ending!r}, expected one of {', '.join(ENDINGS)}")
    return ending


def known_mean(ap: Floats) -> float:
    """Of average precisions the mean of those that are not NaN; NaN where all are."""
    known = ap[~np.isnan(ap)]
    return float(known.mean()) if len(known) else float("nan")


def _known(value: Any) -> Any:
    """None in place of NaN, which JSON does not have."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _short(value: Any) -> str:
    """For people: four decimals, and nothing that breaks a table."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4f}"
    return str(value).replace("|", "\\|")


def _parse(row: dict[str, str], further: Sequence[str], path: str | Path, line: int) -> tuple[Any, ...]:
    try:
        ap = float(row["ap"]) if row["ap"] else math.nan
        boxes, found = int(row["truth_boxes"]), int(row["detections"])
        others = [float(row[name]) if row[name] else math.nan for name in further]
    except (TypeError, ValueError) as error:
        raise InputError(f"not a number: {error}", path=path, line=line) from None
    if ap < 0 or ap > 1 or boxes < 0 or found < 0:
        raise InputError(f"ap {ap}, {boxes} boxes, {found} detections: out of range", path=path, line=line)
    return row["class_id"], row["class_name"], ap, boxes, found, *others
