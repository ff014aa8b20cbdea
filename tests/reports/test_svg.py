"""Drawings hold every number that they show, and names have room."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from reports.large_audit import large_audit

from wildbox.reports.seriation import MAX_NAMES, concurring_order
from wildbox.reports.svg import imbalance_curve, rates_matrix


def parsed(svg: str) -> tuple[ElementTree.Element, list[str]]:
    root = ElementTree.fromstring(svg)
    return root, [title.text or "" for title in root.iter("title")]


@pytest.mark.parametrize("many", [1, 2, 60, 61, 601])
def test_curve_shows_every_class_at_its_height(many: int) -> None:
    rng = np.random.default_rng(many)
    boxes = np.append(np.maximum(1, rng.pareto(0.5, many)).astype(np.int64), 0)
    images = np.minimum(boxes, rng.integers(1, 50, many + 1))
    names = [f"a <b> & {i}" for i in range(many + 1)]
    root, told = parsed(imbalance_curve(boxes, images, names=names))
    order = np.argsort(-boxes, kind="stable")[:many]
    expected = [
        f"{k + 1}. {names[i]}: {boxes[i]:,} boxes on {images[i]:,} images" for k, i in enumerate(order)
    ]
    assert told == expected
    heights = [float(c.get("cy", 0)) for c in root.iter("circle") if c.get("class") == "boxes"][1:]
    top, low = (float(line.get("y1", 0)) for line in (list(root.iter("line"))[-1], next(root.iter("line"))))
    decades = len(list(root.iter("line"))) - 1
    drawn = 10 ** ((low - np.array(heights)) / (low - top) * decades)
    np.testing.assert_allclose(drawn, boxes[order], rtol=1e-3)
    named = [text for text in root.iter("text") if text.get("class") == "name"]
    assert len(named) == (many if many <= MAX_NAMES else 0)


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
    rows = [float(t.get("y", 0)) for t in root.iter("text") if t.get("class") == "name" and t.get("y")]
    columns = [
        float(re.findall(r"[\d.]+", t.get("transform", ""))[0])
        for t in root.iter("text")
        if t.get("transform")
    ]
    for places in (rows, columns):
        assert len(places) == MAX_NAMES
        assert min(np.diff(places)) >= 12
    cells = [r for r in root.iter("rect") if r.find("title") is not None]
    opaque = [float(cell.get("fill-opacity", 0)) for cell in cells if cell.get("class") == "rate"]
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
    written = [t.text for t in root.iter("text") if "number" in t.get("class", "")]
    assert written == [
        f"{found.rates.values[i, j]:.2f}" for i in order for j in order if found.rates.values[i, j]
    ]
