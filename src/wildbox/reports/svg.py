"""Charts drawn into the page: they take its colours, light or dark, and tell what lies under the pointer.

Letters: C classes. Lengths are pixels. What a shape tells is its `<title>`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import ArrayLike

from wildbox.annotations import Bools, Floats, Ints
from wildbox.reports.seriation import MAX_NAMES

LETTER, MAX_LETTERS = 6.9, 26
"""Room for a letter at 11 pixels, wide ones too; names that are longer are cut."""


def _add(parent: Element, tag: str, text: str = "", /, **attributes: object) -> Element:
    """A new element; names of attributes lose the underscore that keeps them from Python's own words."""
    named = {
        key.strip("_").replace("_", "-"): f"{value:.6g}" if isinstance(value, float) else str(value)
        for key, value in attributes.items()
    }
    element = ElementTree.SubElement(parent, tag, named)
    element.text = text or None
    return element


def _sheet(width: float, height: float) -> Element:
    size = {"width": f"{width:.0f}", "height": f"{height:.0f}", "viewBox": f"0 0 {width:.0f} {height:.0f}"}
    return Element("svg", size)


def _written(sheet: Element) -> str:
    return ElementTree.tostring(sheet, encoding="unicode")


def _short(name: str) -> str:
    return name if len(name) <= MAX_LETTERS else name[: MAX_LETTERS - 1] + "…"


def _room(names: Sequence[str]) -> float:
    """Pixels that the longest name takes."""
    return LETTER * max((len(_short(name)) for name in names), default=0) + 14


def imbalance_curve(boxes: ArrayLike, images: ArrayLike, *, names: Sequence[str]) -> str:
    """Boxes per class (C,), most frequent first, on a logarithmic scale, and a dot for its images.

    Classes without boxes are left out. Up to 60 classes are named below the axis. At least one class has boxes.

    >>> imbalance_curve([9, 1, 0], [5, 1, 0], names=["cat", "dog", "ox"]).count("<title")
    2
    """
    count, held = np.asarray(boxes, np.int64), np.asarray(images, np.int64)
    order = np.argsort(-count, kind="stable")
    order = order[count[order] > 0]
    named = len(order) <= MAX_NAMES
    low = _room([names[i] for i in order]) if named else 40.0
    width, high, left, top = 1040.0, 280.0, 76.0, 34.0
    step = (width - left - 10) / len(order)
    decades = max(1, math.ceil(math.log10(count[order[0]])))
    sheet = _sheet(width, top + high + low)

    def y(value: float) -> float:
        return top + high * (1 - math.log10(value) / decades)

    for decade in range(decades + 1):
        _add(sheet, "line", x1=left, x2=width - 10, y1=y(10**decade), y2=y(10**decade), class_="grid")
        _add(sheet, "text", f"{10**decade:,}", x=left - 8, y=y(10**decade) + 4, text_anchor="end")
    line = " ".join(f"{left + (k + 0.5) * step:.1f},{y(count[i]):.1f}" for k, i in enumerate(order))
    _add(sheet, "polyline", points=line, class_="curve")
    for x, kind, text in ((left + 6, "boxes", "boxes"), (left + 76, "images", "images of the class")):
        _add(sheet, "circle", cx=x, cy=14.0, r=4, class_=kind)
        _add(sheet, "text", text, x=x + 9, y=18.0)
    radius = min(3.5, max(1.5, step / 3))
    for k, i in enumerate(order.tolist()):
        x = left + (k + 0.5) * step
        _add(sheet, "circle", cx=x, cy=y(held[i]), r=radius, class_="images")
        _add(sheet, "circle", cx=x, cy=y(count[i]), r=radius, class_="boxes")
        target = _add(sheet, "rect", x=x - step / 2, y=top, width=step, height=high + low, class_="target")
        _add(target, "title", f"{k + 1}. {names[i]}: {count[i]:,} boxes on {held[i]:,} images")
        if named:
            _turned(sheet, _short(names[i]), x + 4, top + high + 8, anchor="end")
    if not named:
        _ranks(sheet, len(order), left=left, step=step, y=top + high + 18)
    return _written(sheet)


def _turned(sheet: Element, text: str, x: float, y: float, *, anchor: str) -> None:
    """A line that is read upwards."""
    place = f"translate({x:.1f} {y:.1f}) rotate(-90)"
    _add(sheet, "text", text, transform=place, text_anchor=anchor, class_="name")


def _ranks(sheet: Element, count: int, *, left: float, step: float, y: float) -> None:
    every = 10 ** max(1, math.ceil(math.log10(count)) - 1)
    every = every if count / every >= 4 else every // 2
    for rank in (1, *range(every, count + 1, every)):
        _add(sheet, "text", f"{rank:,}", x=left + (rank - 0.5) * step, y=y, text_anchor="middle")
    _add(sheet, "text", "rank of the class", x=left + count * step / 2, y=y + 16, text_anchor="middle")


def rates_matrix(
    rates: Floats,
    order: Ints,
    *,
    names: Sequence[str],
    matched: Ints,
    boxes: Ints,
    by_hierarchy: Bools,
) -> str:
    """The concurrent rates (C, C) of some classes: a row is a class, a column the other label of its boxes.

    The stronger the colour, the higher the rate; rates of 1 that the hierarchy sets are grey.

    Args:
        order: which classes, in this order; at least one.
        matched, boxes, by_hierarchy: (C, C), (C,), (C, C); what each cell tells.

    >>> rates = np.array([[0, 0.5], [0, 0]])
    >>> both = {"matched": np.array([[0, 2], [0, 0]]), "boxes": np.array([4, 9]), "by_hierarchy": rates > 1}
    >>> "torch → flashlight: 0.500 (2 of 4 boxes)" in rates_matrix(
    ...     rates, np.array([0, 1]), names=["torch", "flashlight"], **both)
    True
    """
    shown = [names[i] for i in order.tolist()]
    few = len(shown) <= 24
    cell, room = 34.0 if few else max(15.0, 840 // len(shown)), _room(shown)
    side = cell * len(shown)
    sheet = _sheet(max(room + side + cell, 330), room + side + 44)
    for k, name in enumerate(shown):
        middle = room + (k + 0.5) * cell + 4
        _add(sheet, "text", _short(name), x=room - 6, y=middle, text_anchor="end", class_="name")
        _turned(sheet, _short(name), middle, room - 6, anchor="start")
    _grid(sheet, len(shown), cell=cell, room=room)
    for row, i in enumerate(order.tolist()):
        for column, j in enumerate(order.tolist()):
            rate = float(rates[i, j])
            if not rate:
                continue
            kin = bool(by_hierarchy[i, j])
            x, y = room + column * cell, room + row * cell
            shape = {"x": x + 0.5, "y": y + 0.5, "width": cell - 1, "height": cell - 1}
            style = {"class_": "kin"} if kin else {"class_": "rate", "fill_opacity": 0.1 + 0.9 * rate}
            target = _add(sheet, "rect", **shape, **style)
            by = ", by the hierarchy" if kin else ""
            share = f"{matched[i, j]:,} of {boxes[i]:,} boxes"
            _add(target, "title", f"{names[i]} → {names[j]}: {rate:.3f}{by} ({share})")
            if few:
                ink = "number strong" if rate > 0.5 and not kin else "number"
                place = {"x": x + cell / 2, "y": y + cell / 2 + 4, "text_anchor": "middle"}
                _add(sheet, "text", f"{rate:.2f}", **place, class_=ink)
    _scale(sheet, x=max(room, 120.0), y=room + side + 14, kin=bool(by_hierarchy[np.ix_(order, order)].any()))
    return _written(sheet)


def _grid(sheet: Element, count: int, *, cell: float, room: float) -> None:
    """Lines between the cells; those of a class with itself are marked."""
    end = room + count * cell
    at = [room + k * cell for k in range(count + 1)]
    own = "".join(f"M{p:.1f} {p:.1f}h{cell:.1f}v{cell:.1f}h{-cell:.1f}z" for p in at[:-1])
    _add(sheet, "path", d=own, class_="own")
    path = "".join(f"M{room:.1f} {p:.1f}H{end:.1f}M{p:.1f} {room:.1f}V{end:.1f}" for p in at)
    _add(sheet, "path", d=path, class_="grid")


def _scale(sheet: Element, *, x: float, y: float, kin: bool) -> None:
    """What the colours mean."""
    _add(sheet, "text", "rate 0", x=x, y=y + 11, text_anchor="end")
    for k in range(10):
        box = {"x": x + 6 + k * 10, "y": y, "width": 10, "height": 14}
        _add(sheet, "rect", **box, class_="rate", fill_opacity=0.1 + 0.9 * (k + 0.5) / 10)
    _add(sheet, "text", "1", x=x + 112, y=y + 11)
    if kin:
        _add(sheet, "rect", x=x + 132, y=y, width=14, height=14, class_="kin")
        _add(sheet, "text", "by the hierarchy", x=x + 152, y=y + 11)
