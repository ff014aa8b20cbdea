"""The page of an audit: what is uneven and ambiguous in the labels, and what to look at first.

Letters: C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from wildbox.annotations import Bools
from wildbox.labels.audit import LabelAudit
from wildbox.labels.concurrency import ConfusionPair, wilson_interval
from wildbox.labels.examples import Examples
from wildbox.labels.suspects import Suspect, suspects
from wildbox.reports import svg
from wildbox.reports.crops import Group, ImageSource, cards
from wildbox.reports.page import Drawing, Section, write_page
from wildbox.reports.seriation import concurring_order
from wildbox.reports.summary import counted, share, size_of, summary_points
from wildbox.reports.tables import LIMIT, Cell, Table, first_rows

PAIR_CARDS, SUSPECT_CARDS = 24, 6
"""Pairs with crops; suspects with crops, of each kind that pairs do not show."""

KINDS = {
    "interchangeable": "Two classes used for one another: perhaps one class.",
    "nearly-always": "A class whose boxes nearly all carry another label: perhaps a subclass of it.",
    "unlikely-labels": "An object with labels that hardly ever stand together, or without one that always does.",
    "verified-absent": "Boxes of a class on images where people verified that there is none.",
}
"""What the kinds of suspects are."""


def write_audit_page(
    audit: LabelAudit,
    path: str | Path,
    *,
    title: str,
    images: ImageSource | None = None,
    published: Table | None = None,
) -> Path:
    """Write what `write_audit` writes as CSV as one page, with charts, and with crops where images are at hand.

    Args:
        images: shows boxes of the foremost pairs and suspects; see `reports.crops.images_of`.
        published: other figures beside these, shown in a section of their own.
    Returns:
        the page's path.

    >>> import tempfile
    >>> from wildbox import Annotations, Vocabulary, audit
    >>> truth = Annotations(Vocabulary(("a",)), ("x",), image=[0], boxes=[[0, 0, 1, 1]], label=[0])
    >>> write_audit_page(audit(truth), tempfile.mkdtemp() + "/audit.html", title="One box").name
    'audit.html'
    """
    path, found, names = Path(path), suspects(audit), _names(audit)
    sections = [
        Section("In short", points=summary_points(audit, found, names)),
        _imbalance(audit, names),
        _suspects(audit, found, names, images),
        _pairs(audit, names, images),
        *([Section("Beside published figures", tables=[published])] if published is not None else []),
        _rates(audit, names),
        _label_sets(audit, names),
        _classes(audit, names),
        *([_implied(audit, names)] if audit.implied else []),
        Section("All numbers", tables=[_numbers(audit)]),
    ]
    write_page(path, title=title, lead=size_of(audit), sections=sections)
    return path


def _names(audit: LabelAudit) -> list[str]:
    """Display names, with the id where two classes share one."""
    vocabulary = audit.vocabulary
    times = Counter(vocabulary.names)
    both = zip(vocabulary.ids, vocabulary.names, strict=True)
    return [name if times[name] == 1 else f"{name} ({id_})" for id_, name in both]


def _together(labels: Sequence[int], names: Sequence[str]) -> str:
    return " + ".join(names[i] for i in labels)


def _imbalance(audit: LabelAudit, names: Sequence[str]) -> Section:
    counts = audit.counts
    absent = [name for name, boxes in zip(names, counts.boxes, strict=True) if not boxes]
    more = (f"{counted(len(absent), 'class', 'classes')} without boxes", absent) if absent else None
    if not counts.boxes.any():
        return Section("Imbalance", "No class has boxes.", more=more)
    drawing = Drawing(
        svg.imbalance_curve(counts.boxes, counts.images, names=names),
        "Boxes and images of each class, most frequent first, on a logarithmic scale",
        "Boxes of each class, most frequent first, and on how many images they are.",
    )
    return Section("Imbalance", figures=[drawing], more=more)


def _suspects(
    audit: LabelAudit, found: Sequence[Suspect], names: Sequence[str], images: ImageSource | None
) -> Section:
    all_rows: list[list[Cell]] = [
        [
            *(rank, one.kind, _together(one.labels, names), one.boxes, one.score, one.why),
            one.examples[0].image_id if one.examples else None,
        ]
        for rank, one in enumerate(found, start=1)
    ]
    rows, rest = first_rows(all_rows, limit=LIMIT, file="suspects.csv")
    header = ("rank", "kind", "labels", "boxes", "score", "why", "example")
    kinds = [kind for kind in KINDS if any(one.kind == kind for one in found)]
    note = f"Example: the image with such a box; suspects.csv has the boxes. {rest}".strip()
    table = Table(header, rows, note, name="suspects", choices=["kind"])
    groups = [
        Group(_together(one.labels, names), one.why, one.examples)
        for kind in ("unlikely-labels", "verified-absent")
        for one in [one for one in found if one.kind == kind][:SUSPECT_CARDS]
    ]
    made, failed = cards(groups, images) if images is not None else ([], set())
    text = (
        "What to look at first. In all tables here a click on a heading sorts; the filter takes words, and conditions "
        "such as boxes>100; both are kept in the address, so that a link shows what you see."
    )
    return Section(
        "Likely wrong",
        (text if found else "Nothing stands out.") + _unread(failed),
        [table] if found else [],
        points=[(kind, KINDS[kind]) for kind in kinds],
        cards=made,
    )


def _unread(failed: set[str]) -> str:
    """A paragraph about images without which crops are missing."""
    if not failed:
        return ""
    images = f"{counted(len(failed), 'image', 'images')} (such as {min(failed)})"
    return f"\n\nCrops are missing where images were not found or did not open: {images}."


def _pairs(audit: LabelAudit, names: Sequence[str], images: ImageSource | None) -> Section:
    pairs = sorted(audit.pairs, key=lambda pair: _alikeness(audit, pair))
    all_rows: list[list[Cell]] = [
        [
            names[pair.source],
            names[pair.confusion],
            pair.source_boxes,
            pair.confusion_boxes,
            pair.ratio,
            str(audit.related(pair.source, pair.confusion)).lower(),
            int(audit.unexplained[pair.source, pair.confusion]),
        ]
        for pair in pairs
    ]
    rows, rest = first_rows(all_rows, limit=LIMIT, file="confusion_pairs.csv")
    header = ("source", "confusion", "source boxes", "confusion boxes", "ratio", "related", "unexplained")
    note = (
        "Confusion boxes: pairs of a box of the source and one of the confusion on one object; ratio: that number "
        "per box of the source. Related: one is an ancestor of the other. Unexplained: pairs that neither the "
        f"hierarchy nor a more specific label on the object explains. Look-alikes first. {rest}"
    )
    views = {
        "look-alikes": {"related": "false", "filter": "unexplained>0", "sort": "-unexplained"},
        "by ratio": {"sort": "-ratio"},
    }
    table = Table(header, rows, note.strip(), name="pairs", choices=["related"], views=views)
    made, failed = cards(_pair_groups(audit, pairs, names), images) if images is not None else ([], set())
    text = (
        f"Pairs of classes with boxes on one object (IoU above {audit.settings.iou:g}), in both directions, where the "
        f"ratio is above {audit.settings.min_ratio:g}."
    )
    if not rows:
        return Section("Confusion pairs", f"{text} There is none.")
    if made:
        text += f" Below the table: boxes of {counted(len(made), 'pair', 'pairs')}."
    return Section("Confusion pairs", text + _unread(failed), [table], cards=made)


def _alikeness(audit: LabelAudit, pair: ConfusionPair) -> tuple[bool, int, float]:
    """Sorts look-alikes (unexplained, not related) first, those of the most overlaps before; then by ratio."""
    unexplained = int(audit.unexplained[pair.source, pair.confusion])
    alike = unexplained > 0 and not audit.related(pair.source, pair.confusion)
    return (not alike, -unexplained if alike else 0, -pair.ratio)


def _pair_groups(audit: LabelAudit, pairs: Iterable[ConfusionPair], names: Sequence[str]) -> list[Group]:
    """The first pairs, each once."""
    once: dict[frozenset[int], ConfusionPair] = {}
    for pair in pairs:
        once.setdefault(frozenset((pair.source, pair.confusion)), pair)
    boxes, matched = audit.counts.boxes, audit.concurrency.matched
    groups = []
    for pair in islice(once.values(), PAIR_CARDS):
        s, t = pair.source, pair.confusion
        overlaps = counted(pair.confusion_boxes, "overlap", "overlaps")
        unexplained = "" if audit.hierarchy is None else f", {audit.unexplained[s, t]:,} unexplained"
        text = (
            f"{overlaps}{unexplained}. {share(matched[s, t], boxes[s])} of {names[s]} are also {names[t]}, "
            f"{share(matched[t, s], boxes[t])} the other way."
        )
        groups.append(Group(f"{names[s]} / {names[t]}", text, _examples(audit, s, t)))
    return groups


def _examples(audit: LabelAudit, s: int, t: int) -> Examples:
    """Boxes of objects that carry both labels: of the smallest label sets first, which show nothing else."""
    sets = [one for one in audit.label_sets.sets if {s, t} <= {*one.labels}]
    kept = [example for one in sorted(sets, key=lambda one: len(one.labels)) for example in one.examples]
    return tuple(kept[: audit.label_sets.drawn.count])


def _rates(audit: LabelAudit, names: Sequence[str]) -> Section:
    rates = audit.rates
    none = np.zeros_like(rates.values, bool)
    is_kin: Bools = none if audit.hierarchy is None else audit.hierarchy.is_ancestor
    linked = np.flatnonzero(((rates.values > 0) | (rates.values.T > 0)).any(axis=1))
    text = "The concurrent rate: which share of the boxes of a class also carry another label."
    if not len(linked):
        return Section("Concurrent rates", f"{text} No class concurs with another.")
    # what the hierarchy explains would fill the matrix; without anything else it may
    own = np.where(audit.unexplained > 0, rates.values, 0.0)
    drawn = own if own.any() else rates.values
    order = concurring_order(drawn)
    within = drawn[np.ix_(order, order)]
    order = order[((within > 0) | (within.T > 0)).any(axis=1)]  # without those whose partners are left out
    out = [names[i] for i in linked[~np.isin(linked, order)].tolist()]
    explained = " that the hierarchy does not explain" if audit.hierarchy is not None and own.any() else ""
    text += (
        f" Drawn are the {len(order)} classes with the strongest rates{explained}"
        if out
        else " Drawn are all classes that have one"
    )
    text += f", of {len(linked)} that have any" if out else ""
    text += "; those that concur stand side by side."
    matrix = svg.rates_matrix(
        rates.values, order, names=names, matched=rates.matched, boxes=rates.boxes, by_hierarchy=is_kin
    )
    drawing = Drawing(
        matrix, "Matrix of concurrent rates", "Row: a class. Column: the label that its boxes also carry."
    )
    more = (f"{counted(len(out), 'class', 'classes')} left out of the drawing", out) if out else None
    return Section("Concurrent rates", text, [_rates_table(audit, names, is_kin)], [drawing], more=more)


def _rates_table(audit: LabelAudit, names: Sequence[str], is_kin: Bools) -> Table:
    rates = audit.rates
    lower, upper = wilson_interval(rates.matched, rates.boxes[:, None])
    i, j = np.nonzero(rates.values)
    order = np.lexsort((-rates.matched[i, j], -rates.values[i, j], is_kin[i, j]))
    all_rows: list[list[Cell]] = [
        [
            *(names[i], names[j], float(rates.values[i, j]), int(rates.boxes[i]), int(rates.matched[i, j])),
            *(float(lower[i, j]), float(upper[i, j]), str(bool(is_kin[i, j])).lower()),
        ]
        for i, j in zip(i[order].tolist(), j[order].tolist(), strict=True)
    ]
    rows, rest = first_rows(all_rows, limit=LIMIT, file="concurrent_rates.csv")
    note = (
        "Matched: boxes of the class that also carry the other label. Lower and upper: 95% Wilson interval of "
        f"matched / boxes. By hierarchy: a rate of 1 from a class to its ancestor, whatever was counted. {rest}"
    )
    header = ("class", "other", "rate", "boxes", "matched", "lower", "upper", "by hierarchy")
    return Table(header, rows, note.strip(), name="rates", choices=["by hierarchy"])


def _label_sets(audit: LabelAudit, names: Sequence[str]) -> Section:
    found = audit.label_sets.sets
    sets: Iterator[list[Cell]] = ([_together(one.labels, names), len(one.labels), one.boxes] for one in found)
    rows, rest = first_rows(sets, limit=LIMIT, file="label_sets.csv")
    table = Table(
        ("labels", "size", "boxes"),
        rows,
        rest,
        name="label-sets",
        views={"several labels": {"filter": "size>1"}},
    )
    return Section("Label sets", "Which labels objects carry together, and on how many boxes.", [table])


def _classes(audit: LabelAudit, names: Sequence[str]) -> Section:
    counts = audit.counts
    columns = (counts.boxes.tolist(), counts.images.tolist(), counts.groups().tolist())
    absent = audit.contradictions.boxes.tolist()
    columns_of_rows = zip(names, audit.vocabulary.ids, *columns, absent, strict=True)
    by_boxes = sorted(map(list, columns_of_rows), key=lambda row: -row[2])
    rows, rest = first_rows(by_boxes, limit=LIMIT, file="classes.csv")
    note = (
        "Group: thirds of the classes by images. Verified absent: boxes on images where people verified that there "
        f"is no object of the class. {rest}"
    )
    header = ("class", "id", "boxes", "images", "group", "verified absent")
    return Section("Classes", tables=[Table(header, rows, note.strip(), name="classes", choices=["group"])])


def _implied(audit: LabelAudit, names: Sequence[str]) -> Section:
    all_rows: list[list[Cell]] = [
        [names[i], names[a], boxes, found, boxes - found, found / boxes]
        for i, a, boxes, found in audit.implied
    ]
    all_rows.sort(key=lambda row: -int(row[4] or 0))
    rows, rest = first_rows(all_rows, limit=LIMIT, file="implied_labels.csv")
    header = ("class", "ancestor", "boxes", "with ancestor", "missing", "share")
    views = {"half expanded": {"filter": "missing>0 with_ancestor>0", "sort": "-missing"}}
    return Section(
        "Implied labels",
        "How many boxes of a class carry the label of each of its ancestors. All or none is a choice; anything "
        "between is a set that is half expanded.",
        [Table(header, rows, rest, name="implied", views=views)],
    )


def _numbers(audit: LabelAudit) -> Table:
    rows: list[list[Cell]] = [[name.replace("_", " "), value] for name, value in audit.summary().items()]
    return Table(("number", "value"), rows, "What summary.json holds.", name="numbers")
