"""Several runs side by side: gains of each class and of groups of classes, with intervals where images are known.

Letters: R runs, C classes, S samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Bools, Floats
from wildbox.errors import InputError
from wildbox.evaluation.bootstrap import Bootstrap, Interval, bootstrap
from wildbox.evaluation.matches import read_matches
from wildbox.evaluation.protocols import protocol_named
from wildbox.evaluation.result import EvaluationResult, check_comparable
from wildbox.formats.files import write_csv
from wildbox.vocabulary import Vocabulary

ALL = "all"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Average precision of C classes in R runs, and what the last has more than the first."""

    names: tuple[str, ...]
    """R different names."""
    vocabulary: Vocabulary
    ap: Floats
    """(R, C)"""
    gain: Bootstrap | None = None
    """Of the last run over the first, sample by sample; none where runs do not tell of single images."""
    groups: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    """Ways to group classes: name -> (C,) group of each class, "" for none."""

    @property
    def complete(self) -> Bools:
        """(C,) classes that have an average precision in all runs; the others are left out of everything."""
        return np.asarray(~np.isnan(self.ap).any(axis=0))

    def means(self) -> Iterator[tuple[str, int, list[float], Interval | float]]:
        """Of all classes, then of each group by name: its name, number of classes, mean AP in each run, and gain."""
        ways = {ALL: np.full(len(self.vocabulary), ALL)} | dict(self.groups)
        for groups in ways.values():
            for name in sorted(set(groups[groups != ""].tolist())):
                chosen = (groups == name) & self.complete
                if chosen.any():
                    means = self.ap[:, chosen].mean(axis=1).tolist()
                    gain = means[-1] - means[0] if self.gain is None else self.gain.of(chosen).mean()
                    yield name, int(chosen.sum()), means, gain

    def write(self, path: str | Path) -> None:
        """Write classes as CSV, best gain first, ties by id: class_id,class_name,ap_NAME,...,gain.

        Then gain_low and gain_high where there are intervals, and a column for each way to group.
        """
        ids, names = self.vocabulary.ids, self.vocabulary.names
        gains = self.ap[-1] - self.ap[0]
        order = sorted(np.flatnonzero(self.complete).tolist(), key=lambda c: (-gains[c], ids[c]))
        header = ["class_id", "class_name", *(f"ap_{name}" for name in self.names), "gain"]
        rows = []
        for c in order:
            row: list[object] = [ids[c], names[c], *self.ap[:, c].tolist(), float(gains[c])]
            if self.gain is not None:
                interval = self.gain.of_class(c)
                row += [interval.low, interval.high]
            rows.append([*row, *(str(groups[c]) for groups in self.groups.values())])
        header += ["gain_low", "gain_high"] * (self.gain is not None)
        write_csv(path, [*header, *self.groups], rows)

    def write_means(self, path: str | Path) -> None:
        """Write means as CSV: group,classes,ap_NAME,...,gain and, where there are intervals, gain_low,gain_high."""
        rows = []
        for group, classes, means, gain in self.means():
            numbers = [gain.value, gain.low, gain.high] if isinstance(gain, Interval) else [gain]
            rows.append([group, classes, *means, *numbers])
        header = ["group", "classes", *(f"ap_{name}" for name in self.names), "gain"]
        write_csv(path, header + ["gain_low", "gain_high"] * (self.gain is not None), rows)


def compare(
    names: Sequence[str],
    results: Sequence[EvaluationResult],
    *,
    groups: Mapping[str, Sequence[str] | NDArray[np.str_]] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Set runs side by side; intervals are of the last over the first, where both know their matches.

    Args:
        names: of the runs; those that repeat are numbered.
        groups: ways to group classes: name -> (C,) group of each class.
        samples: of the bootstrap; 0: no intervals.
    Raises:
        InputError: fewer than two results; results of different classes, truths or protocols; groups of another
            length.

    >>> letters = Vocabulary(("a", "b"))
    >>> old, new = (EvaluationResult(letters, ap, [1, 1], [1, 1]) for ap in ([0.25, 0.5], [0.5, 1.0]))
    >>> [(group, means) for group, _, means, _ in compare(["old", "new"], [old, new]).means()]
    [('all', [0.375, 0.75])]
    """
    if len(names) != len(results) or len(results) < 2:
        raise InputError(f"{len(results)} results and {len(names)} names; expected two or more of each")
    head = results[0]
    for name, result in zip(names, results, strict=True):
        check_comparable(head, result, f"{names[0]} and {name}")
    ways = {name: np.asarray(values, np.str_) for name, values in (groups or {}).items()}
    if any(values.shape != head.ap.shape for values in ways.values()):
        raise InputError(f"groups of another number of classes than {len(head.ap)}")
    if len(set(names)) < len(names):
        names = [f"{number}_{name}" for number, name in enumerate(names, start=1)]
    ends = [matches for matches in (head.matches, results[-1].matches) if matches is not None]
    gain = None
    if len(ends) == 2 and samples:
        images = set(ends[0].image_ids) | set(
            ends[1].image_ids
        )  # one may name some that the truth does not know
        first, last = (bootstrap(matches, samples=samples, seed=seed, image_ids=images) for matches in ends)
        gain = last.minus(first)
    return Comparison(tuple(names), head.vocabulary, np.array([result.ap for result in results]), gain, ways)


def read_run(path: str | Path) -> EvaluationResult:
    """A run as `wildbox evaluate` leaves it: a log (.csv), or matches (.npz), which intervals need.

    Raises:
        InputError: as `EvaluationResult.read` and `read_matches`.
    """
    if Path(path).suffix != ".npz":
        return EvaluationResult.read(path)
    matches = read_matches(path)
    return protocol_named(matches.protocol).result(matches)
