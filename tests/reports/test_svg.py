"""Drawings hold every number that they show, each where its axis says, and names have room."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pytest
from reports.large_audit import large_audit

from wildbox.reports.seriation import MAX_NAMES, concurring_order
from wildbox.reports.svg import imbalance_curve, rates_matrix


def parsed(svg: str) -> tuple[Element, list[str]]:
    root = ElementTree.fromstring(svg)
    return root, [title.text or "" for title in root.iter("title")]


def number(element: Element, name: str) -> float:
    return float(element.get(name, "nan"))


def of_class(root: Element, tag: str, name: str) -> list[Element]:
    return [element for element in root.iter(tag) if name in element.get("class", "").split()]


def turned(root: Element) -> list[tuple[str, float, float]]:
    """Text, x and y of every line that is read upwards."""
    found = []
    for text in root.iter("text"):
        if text.get("transform"):
            x, y = (float(v) for v in re.findall(r"-?[\d.]+", text.get("transform", ""))[:2])
            found.append((text.text or "", x, y))
    return found


def middle_x(rect: Element) -> float:
    return number(rect, "x") + number(rect, "width") / 2


def middle_y(rect: Element) -> float:
    return number(rect, "y") + number(rect, "height") / 2


@pytest.mark.parametrize("many", [1, 2, 60, 61, 601])
def test_curve_shows_every_class_at_its_height(many: int) -> None:
    rng = np.random.default_rng(many)
    boxes = np.append(np.maximum(1, rng.pareto(0.5, many)).astype(np.int64), 0)
    images = np.minimum(boxes, rng.integers(1, 50, many + 1))
    names = [f"a <b> & {i}" for i in range(many + 1)]
    root, told = parsed(imbalance_curve(boxes, images, names=names))
    order = np.argsort(-boxes, kind="stable")[:many]
    assert told == [
        f"{k + 1}. {names[i]}: {boxes[i]:,} boxes on {images[i]:,} images" for k, i in enumerate(order)
    ]
    lines = list(root.iter("line"))
    assert all(number(line, "y1") == number(line, "y2") for line in lines)
    top, low = number(lines[-1], "y1"), number(lines[0], "y1")
    decades = len(lines) - 1
    assert 10**decades >= boxes.max()
    axis = [t.text for t in root.iter("text") if t.get("text-anchor") == "end" and not t.get("transform")]
    assert axis == [f"{10**decade:,}" for decade in range(decades + 1)]
    for kind, counts in (("boxes", boxes), ("images", images)):
        dots = of_class(root, "circle", kind)[1:]  # the first stands in the legend
        drawn = 10 ** ((low - np.array([number(dot, "cy") for dot in dots])) / (low - top) * decades)
        np.testing.assert_allclose(drawn, counts[order], rtol=1e-3)
    named = [text for text, *_ in turned(root)]
    assert named == [names[i] for i in order] * (many <= MAX_NAMES)


@pytest.mark.parametrize("many", [1, 7, 60, 61])
def test_dots_curve_names_and_what_is_told_stand_below_each_other(many: int) -> None:
    counts = np.arange(many, 0, -1)
    names = [f"class {i}" for i in range(many)]
    root, _ = parsed(imbalance_curve(counts, np.ones(many), names=names))
    dots = of_class(root, "circle", "boxes")[1:]
    (curve,) = of_class(root, "polyline", "curve")
    points = np.array([point.split(",") for point in curve.get("points", "").split()], float)
    np.testing.assert_allclose(points, [(number(d, "cx"), number(d, "cy")) for d in dots], atol=0.06)
    targets = of_class(root, "rect", "target")
    middles = np.array([middle_x(target) for target in targets])
    np.testing.assert_allclose(middles, points[:, 0], atol=0.06)
    # side by side, from the axis to the right end
    edges = [number(target, "x") for target in targets]
    np.testing.assert_allclose(edges[1:], [e + number(targets[0], "width") for e in edges[:-1]], atol=0.01)
    line = next(root.iter("line"))
    assert edges[0] == pytest.approx(number(line, "x1"))
    assert edges[-1] + number(targets[-1], "width") == pytest.approx(number(line, "x2"))
    if many <= MAX_NAMES:
        np.testing.assert_allclose([x - 4 for _, x, _ in turned(root)], middles, atol=0.06)


@pytest.mark.parametrize(
    ("many", "ranks"),
    [
        (61, [1, *range(10, 61, 10)]),
        (100, [1, *range(10, 101, 10)]),
        (150, [1, *range(50, 151, 50)]),
        (601, [1, *range(100, 601, 100)]),
    ],
)
def test_ranks_stand_below_their_classes(many: int, ranks: list[int]) -> None:
    root, _ = parsed(imbalance_curve(range(many, 0, -1), range(many, 0, -1), names=["c"] * many))
    middles = [middle_x(target) for target in of_class(root, "rect", "target")]
    below = [t for t in root.iter("text") if t.get("text-anchor") == "middle"]
    assert [t.text for t in below] == [*map(str, ranks), "rank of the class"]
    np.testing.assert_allclose(
        [number(t, "x") for t in below[:-1]], [middles[rank - 1] for rank in ranks], atol=0.01
    )


def test_names_have_room_and_long_ones_are_cut() -> None:
    names = ["m" * 26, "m" * 27, "x"]
    root, _ = parsed(imbalance_curve([3, 2, 1], [1, 1, 1], names=names))
    height = float(root.get("height", 0))
    assert [text for text, *_ in turned(root)] == ["m" * 26, "m" * 25 + "…", "x"]
    for text, _, y in turned(root):
        assert y + 6.9 * len(text) <= height


def matrix(count: int, *, kin: bool = True) -> tuple[Element, dict[str, Element], np.ndarray]:
    """A drawing of `count` of `count` + 3 classes, its cells by what they tell, and the order."""
    rng = np.random.default_rng(count)
    rates = rng.random((count + 3, count + 3))
    np.fill_diagonal(rates, 0)
    order = rng.permutation(count + 3)[:count]
    by_hierarchy = np.zeros_like(rates, bool)
    by_hierarchy[order[0], order[1]] = kin
    outside = np.setdiff1d(np.arange(count + 3), order)
    by_hierarchy[outside[0], outside[1]] = True
    whole = np.ones_like(rates, np.int64)
    root, _ = parsed(
        rates_matrix(
            rates, order, names=[f"c{i}" for i in range(count + 3)], matched=whole,
            boxes=np.ones(count + 3, np.int64), by_hierarchy=by_hierarchy,
        )
    )  # fmt: skip
    cells = {}
    for rect in root.iter("rect"):
        title = rect.find("title")
        if title is not None:
            cells[(title.text or "").split(":")[0]] = rect
    assert len(cells) == count * (count - 1)
    return root, cells, order


@pytest.mark.parametrize("count", [2, 24, 25, 60])
def test_cells_stand_where_the_names_say(count: int) -> None:
    root, cells, order = matrix(count)
    rows = {t.text: number(t, "y") - 4 for t in of_class(root, "text", "name") if t.get("y")}
    columns = {text: x - 4 for text, x, _ in turned(root)}
    assert [*rows] == [*columns] == [f"c{i}" for i in order]
    for told, cell in cells.items():
        row, column = told.split(" → ")
        assert middle_y(cell) == pytest.approx(rows[row], abs=0.06)
        assert middle_x(cell) == pytest.approx(columns[column], abs=0.06)
    own = of_class(root, "path", "own")[0].get("d", "")
    corners = np.array(re.findall(r"M([\d.]+) ([\d.]+)", own), float)
    side = middle_x(next(iter(cells.values()))) - number(next(iter(cells.values())), "x") + 0.5
    np.testing.assert_allclose(
        corners + side, list(zip(columns.values(), rows.values(), strict=True)), atol=0.11
    )
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    assert all(number(c, "x") + number(c, "width") <= width for c in cells.values())
    assert max(number(c, "y") + number(c, "height") for c in cells.values()) <= height - 40
    assert width <= 120 + 34 * max(count, 10)


def written_in(root: Element) -> Iterator[tuple[float, float, Element]]:
    for text in of_class(root, "text", "number"):
        yield number(text, "x"), number(text, "y") - 4, text


def test_up_to_24_classes_have_their_rates_written_in_an_ink_that_is_seen() -> None:
    root, cells, _ = matrix(24)
    assert not [*written_in(matrix(25)[0])]
    written = {(round(x, 1), round(y, 1)): text for x, y, text in written_in(root)}
    assert len(written) == len(cells)
    for cell in cells.values():
        text = written[round(middle_x(cell), 1), round(middle_y(cell), 1)]
        told = cell.find("title")
        assert told is not None
        rate = float(re.findall(r": ([\d.]+)", told.text or "")[0])
        assert float(text.text or "nan") == pytest.approx(rate, abs=0.0051)
        dark = cell.get("class") == "rate" and rate > 0.501
        if abs(rate - 0.5) > 0.001:
            assert ("strong" in text.get("class", "")) == dark


@pytest.mark.parametrize("kin", [True, False])
def test_the_scale_says_what_the_colours_mean(kin: bool) -> None:
    root, _, _ = matrix(5, kin=kin)
    steps = [r for r in of_class(root, "rect", "rate") if r.find("title") is None]
    opaque = [number(step, "fill-opacity") for step in steps]
    np.testing.assert_allclose(opaque, 0.1 + 0.9 * (np.arange(10) + 0.5) / 10, atol=1e-6)
    assert [number(step, "x") for step in steps] == sorted(number(step, "x") for step in steps)
    legend = [r for r in of_class(root, "rect", "kin") if r.find("title") is None]
    assert len(legend) == kin  # of the classes that are shown
    assert ("by the hierarchy" in [t.text for t in root.iter("text")]) == kin
    width = float(root.get("width", 0))
    assert all(number(r, "x") + number(r, "width") <= width for r in [*steps, *legend])


def test_matrix_holds_the_rates_and_is_readable_with_many_classes() -> None:
    rng = np.random.default_rng(0)
    rates = np.where(rng.random((600, 600)) < 0.01, rng.random((600, 600)), 0.0)
    np.fill_diagonal(rates, 0)
    order, kin = concurring_order(rates), rng.random((600, 600)) < 0.3
    names = [f"Class <{i}> with a name" for i in range(600)]
    boxes, matched = rng.integers(1, 10**6, 600), rng.integers(0, 10**6, (600, 600))
    root, told = parsed(
        rates_matrix(rates, order, names=names, matched=matched, boxes=boxes, by_hierarchy=kin)
    )
    expected = {
        f"{names[i]} → {names[j]}: {rates[i, j]:.3f}{', by the hierarchy' if kin[i, j] else ''} "
        f"({matched[i, j]:,} of {boxes[i]:,} boxes)"
        for i in order
        for j in order
        if rates[i, j]
    }
    assert {*told} == expected
    assert len(order) == MAX_NAMES
    rows = [number(t, "y") for t in of_class(root, "text", "name") if t.get("y")]
    columns = [x for _, x, _ in turned(root)]
    for places in (rows, columns):
        assert len(places) == MAX_NAMES
        assert min(np.diff(places)) >= 15
    assert all(y <= 6.9 * 26 + 14 for _, _, y in turned(root))  # names are read upwards from here
    assert all(y >= 6.9 * len(names[0]) for _, _, y in turned(root))
    cells = [r for r in root.iter("rect") if r.find("title") is not None]
    opaque = [number(cell, "fill-opacity") for cell in cells if cell.get("class") == "rate"]
    ordered = [rates[i, j] for i in order for j in order if rates[i, j] and not kin[i, j]]
    np.testing.assert_allclose(opaque, 0.1 + 0.9 * np.array(ordered), rtol=1e-4)


def test_few_classes_have_their_rates_written() -> None:
    found = large_audit()
    order = concurring_order(found.rates.values, limit=10)
    root, _ = parsed(
        rates_matrix(
            found.rates.values, order, names=found.vocabulary.names, matched=found.rates.matched,
            boxes=found.rates.boxes, by_hierarchy=np.zeros_like(found.rates.values, bool),
        )
    )  # fmt: skip
    assert [text.text for *_, text in written_in(root)] == [
        f"{found.rates.values[i, j]:.2f}" for i in order for j in order if found.rates.values[i, j]
    ]
