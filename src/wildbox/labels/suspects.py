"""What in the labels is likely to be wrong, most suspicious first.

Letters: C classes, S a set of labels, n boxes of a class, m those of them that also carry another label.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Floats
from wildbox.labels.concurrency import wilson_interval
from wildbox.labels.examples import Examples

if TYPE_CHECKING:
    from wildbox.labels.audit import LabelAudit


Kind = Literal["interchangeable", "nearly-always", "unlikely-labels", "verified-absent"]

INTERCHANGEABLE = 1 / 3
"""Two classes whose boxes carry each other's label at least so often (Wilson's lower end) may be one."""
NEARLY_ALWAYS = 0.8
"""A class whose boxes carry another label at least so often (Wilson's lower end) may belong below it."""
BITS = 7.0
"""A label set is listed when what is unexpected in it has odds below 1 : 2^BITS."""


@dataclass(frozen=True)
class Suspect:
    """One thing to look at.

    Kinds, and what `score` is:
    - `interchangeable`: two classes that are used for one another; of the two concurrent rates' lower Wilson ends
      the smaller;
    - `nearly-always`: a class, then the other one that nearly all its boxes carry; the rate's lower Wilson end;
    - `unlikely-labels`: a label set that the rates make unlikely; bits, see `surprises`;
    - `verified-absent`: boxes of a class on images where people verified that there is none; how many.
    """

    kind: Kind
    score: float
    labels: tuple[int, ...]
    """Class indices."""
    boxes: int
    """How many boxes it concerns."""
    why: str
    examples: Examples


def suspects(audit: LabelAudit) -> list[Suspect]:
    """All suspects, by kind, then score, highest first, then ids of the classes.

    A pair of a class and its ancestor is never one; nor is, among the first two kinds, a pair that a third, more
    specific label of the same objects explains.
    """
    ids = audit.vocabulary.ids
    every = [*_pairs(audit), *_unlikely(audit), *_absent(audit)]
    return sorted(every, key=lambda one: (one.kind, -one.score, [ids[i] for i in one.labels]))


def _kin(audit: LabelAudit) -> NDArray[np.bool_]:
    if audit.hierarchy is None:
        return np.zeros((len(audit.vocabulary),) * 2, bool)
    return audit.hierarchy.is_ancestor | audit.hierarchy.is_ancestor.T


def _pairs(audit: LabelAudit) -> Iterator[Suspect]:
    """Interchangeable classes, and classes that nearly always carry another label."""
    names = audit.vocabulary.names
    n, m = audit.concurrency.boxes, audit.concurrency.matched
    share = m / np.maximum(n, 1)[:, None]
    lower = wilson_interval(m, n[:, None])[0]
    lower[_kin(audit) | (audit.unexplained == 0)] = 0
    both = np.minimum(lower, lower.T)
    for i, j in np.argwhere(np.triu(both >= INTERCHANGEABLE)).tolist():
        why = (
            f"{share[i, j]:.1%} of {n[i]:,} boxes of {names[i]} are also {names[j]}, "
            f"{share[j, i]:.1%} of {n[j]:,} the other way"
        )
        boxes = int(m[i, j] + m[j, i])
        yield Suspect("interchangeable", float(both[i, j]), (i, j), boxes, why, _shared(audit, i, j))
    for i, j in np.argwhere((lower >= NEARLY_ALWAYS) & (both < INTERCHANGEABLE)).tolist():
        why = f"{share[i, j]:.1%} of {n[i]:,} boxes of {names[i]} are also {names[j]}"
        yield Suspect("nearly-always", float(lower[i, j]), (i, j), int(m[i, j]), why, _shared(audit, i, j))


def _shared(audit: LabelAudit, i: int, j: int) -> Examples:
    """Examples of objects that carry both labels, of the most frequent sets first."""
    found = audit.label_sets
    both = (example for one in found.sets if {i, j} <= {*one.labels} for example in one.examples)
    return tuple(islice(both, found.drawn.count))


def log_odds(audit: LabelAudit) -> Floats:
    """(C, C) log2 of the odds against class j on a box of class i, (n - m + 1/2) / (m + 1/2); 0 for kin and itself."""
    n, m = audit.concurrency.boxes[:, None], audit.concurrency.matched
    odds = np.log2((n - m + 0.5) / (m + 0.5))
    odds[_kin(audit)] = 0
    np.fill_diagonal(odds, 0)
    return odds


def surprises(sets: Sequence[Sequence[int]], odds: Floats) -> Floats:
    """(S,) how much less likely each label set is than the likeliest one, in bits; 0 for a likeliest set.

    For a box of class i whose other labels came independently at their concurrent rates, that is the sum of the
    log-odds of whatever is unexpected: a label that is there against the odds, or missing against them. Of the
    classes in the set the one that is least surprised speaks: a class of few boxes cannot accuse.

    Args:
        sets: class indices, at least one each.
        odds: what `log_odds` gives.

    >>> surprises([(0, 1), (0,)], np.array([[0.0, 8.0], [3.0, 0.0]])).tolist()
    [3.0, 0.0]
    """
    missing = np.maximum(-odds, 0).sum(axis=1)
    found = [
        (missing[members := list(labels)] + odds[np.ix_(members, members)].sum(axis=1)).min()
        for labels in sets
    ]
    return np.array(found, np.float64)


def _unlikely(audit: LabelAudit) -> Iterator[Suspect]:
    odds, sets = log_odds(audit), audit.label_sets.sets
    for one, bits in zip(sets, surprises([one.labels for one in sets], odds).tolist(), strict=True):
        if bits >= BITS:
            why = _explained(audit, one.labels, odds)
            yield Suspect("unlikely-labels", bits, one.labels, one.boxes, why, one.examples)


def _explained(audit: LabelAudit, labels: Sequence[int], odds: Floats) -> str:
    """The most unexpected of a set, at most three things, in words."""
    names, n, m = audit.vocabulary.names, audit.concurrency.boxes, audit.concurrency.matched
    found = []
    for i in labels:
        bits = -odds[i]
        bits[list(labels)] *= -1
        for j in np.argsort(-bits, kind="stable")[:3].tolist():
            share = f"{m[i, j]:,} of {n[i]:,} boxes of {names[i]} carry it"
            found.append((bits[j], f"{'' if j in labels else 'no '}{names[j]} ({share})"))
    return "; ".join(text for bits, text in sorted(found, reverse=True)[:3] if bits > 0)


def _absent(audit: LabelAudit) -> Iterator[Suspect]:
    for i in np.flatnonzero(audit.contradictions.boxes).tolist():
        boxes, of = int(audit.contradictions.boxes[i]), int(audit.counts.boxes[i])
        why = f"{boxes:,} of {of:,} boxes of {audit.vocabulary.names[i]} lie on images where it is verified absent"
        examples = audit.contradictions.examples[i]
        yield Suspect("verified-absent", float(boxes), (i,), boxes, why, examples)
