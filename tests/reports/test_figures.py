"""Scenes and charts: files of the right size, one colour per class, telling images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from wildbox.annotations import Annotations
from wildbox.detections import Detections
from wildbox.errors import InputError
from wildbox.evaluation.result import Gain
from wildbox.reports import charts
from wildbox.reports.canvas import DPI, Canvas
from wildbox.reports.figures import (
    LabelledBoxes,
    Row,
    choose_images,
    class_colours,
    figure_from_tables,
    side_by_side,
)
from wildbox.reports.seriation import concurring_order
from wildbox.vocabulary import Vocabulary

CAT, PET, CUP = range(3)
NAMES = ("Cat", "Pet", "Cup $1")
BOX = [0.2, 0.3, 0.5, 0.8]


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return image.size


def blank(_: int) -> NDArray[np.uint8]:
    return np.full((80, 160, 3), 128, np.uint8)


def truth_of(images: list[int], labels: list[int], *, count: int) -> Annotations:
    ids = tuple(f"i{b}" for b in range(count))
    boxes = np.tile(BOX, (len(images), 1))
    return Annotations(Vocabulary(NAMES), ids, np.array(images, np.int64), boxes, np.array(labels, np.int64))


def found(truth: Annotations, images: list[int], labels: list[int], score: float = 0.9) -> Detections:
    boxes = np.tile(BOX, (len(images), 1))
    image, label = np.array(images, np.int64), np.array(labels, np.int64)
    return Detections(truth.vocabulary, truth.image_ids, image, boxes, label, np.full(len(images), score))


def test_colours_depend_on_the_set_of_classes_alone() -> None:
    assert class_colours([5, 2, 5, 9]) == class_colours([9, 2, 5])
    assert len(set(class_colours(range(300)).values())) == 300


def test_figure_has_a_column_per_table_and_a_row_per_image(tmp_path: Path) -> None:
    truth = truth_of([0, 0, 1], [CAT, PET, CUP], count=3)
    tables = {"a": found(truth, [0, 0], [CAT, PET]), "b": found(truth, [], [])}
    figure_from_tables(truth, tables, [0, 2], blank, tmp_path / "two.png")
    figure_from_tables(truth, tables, [0], blank, tmp_path / "one.png")
    figure_from_tables(truth, tables, [0], blank, tmp_path / "again.png")
    assert size(tmp_path / "two.png")[0] == pytest.approx((0.3 + 3 * (3.4 + 0.14)) * DPI, abs=2)
    rows = size(tmp_path / "two.png")[1] - size(tmp_path / "one.png")[1]
    assert rows == pytest.approx((1.7 + 0.14) * DPI, abs=2)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert len(list(tmp_path.iterdir())) == 3


def test_boxes_below_the_threshold_are_not_drawn(tmp_path: Path) -> None:
    boxes, label = np.array([[10.0, 10, 60, 60]]), np.array([CAT])
    for name, score in (("low", 0.49), ("none", None), ("just", 0.5)):
        panel = (
            LabelledBoxes(boxes, label, np.array([score])) if score else LabelledBoxes(boxes[:0], label[:0])
        )
        side_by_side([Row(blank(0), [panel])], ["x"], tmp_path / f"{name}.png", names=NAMES)
    low, none, just = (
        np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) for name in ("low", "none", "just")
    )
    panel_pixels = np.s_[: int(2.1 * DPI)]  # below stands a note, which names the threshold only with scores
    assert np.array_equal(low[panel_pixels], none[panel_pixels])
    assert not np.array_equal(just[panel_pixels], none[panel_pixels])


def test_a_full_panel_says_how_many_names_it_has_no_room_for(tmp_path: Path) -> None:
    corner = np.stack(np.meshgrid(np.arange(0, 150, 5.0), np.arange(0, 70, 5.0)), axis=-1).reshape(-1, 2)
    panel = LabelledBoxes(np.concatenate([corner, corner + 4], axis=1), np.zeros(len(corner), np.int64))
    side_by_side(
        [Row(blank(0), [panel])], ["full"], tmp_path / "full.png", names=["A rather long class name"]
    )
    assert size(tmp_path / "full.png")[0] > 400


def test_panels_and_columns_must_agree(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 panels"):
        side_by_side([Row(blank(0), [])], ["a", "b"], tmp_path / "x.png", names=NAMES)


def test_images_where_columns_differ_on_wanted_classes_come_first() -> None:
    truth = truth_of([0, 1, 2, 3], [CAT, CAT, CUP, PET], count=5)
    columns = {"a": found(truth, [0, 1, 2, 3], [CAT, CAT, CUP, PET]), "b": found(truth, [0], [CAT])}
    assert set(choose_images(truth, columns, count=2, classes=[CAT, PET], seed=0)) == {1, 3}
    assert choose_images(truth, columns, count=4, seed=5) == choose_images(truth, columns, count=4, seed=5)
    assert sorted(choose_images(truth, columns, count=9)) == [0, 1, 2, 3, 4]
    assert choose_images(truth, columns, count=9)[-1] == 4
    weak = {"a": columns["a"], "b": found(truth, [1, 2, 3], [CAT, CUP, PET], score=0.2)}
    assert choose_images(truth, weak, count=1, classes=[CUP]) == [2]
    just = {"a": found(truth, [2], [CUP], score=0.5), "b": found(truth, [], [])}
    assert all(choose_images(truth, just, count=1, threshold=0.5, seed=seed) == [2] for seed in range(5))
    assert choose_images(truth, {}, count=1, classes=[PET]) == [3]


@pytest.mark.parametrize("many", [1, 5, 90])
def test_charts_write_a_file_also_without_content(tmp_path: Path, many: int) -> None:
    names = [f"Class {i} $x" for i in range(many)]
    rates = np.zeros((many, many))
    rates[0, 1:] = 0.5
    charts.rates_matrix(rates, tmp_path / "rates.png", names=names)
    charts.imbalance_curve(np.arange(many), tmp_path / "curve.png", images=np.arange(many), names=names)
    gains = [Gain(name, name, 0.2, 0.5, 0.3) for name in names] + [
        Gain("x", "x", float("nan"), 0.1, float("nan"))
    ]
    charts.gain_dots(gains, tmp_path / "gains.png")
    charts.gain_dots([], tmp_path / "none.png")
    assert all(min(size(path)) > 50 for path in tmp_path.iterdir())


@pytest.fixture
def sheet(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """What charts would have saved."""
    saved: list[Figure] = []
    monkeypatch.setattr(Canvas, "save", lambda canvas, _: saved.append(canvas.figure))
    return saved


def test_the_curve_draws_each_class_with_its_images(sheet: list[Figure]) -> None:
    charts.imbalance_curve([3, 0, 40, 5], "x.png", images=[2, 7, 20, 5], names=["a", "b", "c", "d"])
    (figure,) = sheet
    boxes, images = figure.axes[0].lines
    assert [line.get_ydata().tolist() for line in (boxes, images)] == [[40, 5, 3], [20, 5, 2]]  # type: ignore[union-attr]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["c", "d", "a"]
    assert figure.texts[0].get_text() == "3 classes, the most frequent 13 times the rarest, 1 without boxes"


def test_the_matrix_has_classes_in_rows(sheet: list[Figure]) -> None:
    rates = np.zeros((4, 4))
    rates[0, 2], rates[2, 0] = 0.75, 0.25
    charts.rates_matrix(rates, "x.png", names=["a", "b", "c", "d"])
    rates[3, 1] = 0.125
    charts.rates_matrix(rates, "x.png", names=["a", "b", "c", "d"])
    axes = sheet[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "c"]
    assert [(text.get_position(), text.get_text()) for text in axes.texts] == [
        ((1, 0), "0.75"),
        ((0, 1), "0.25"),
    ]
    shown: Any = np.ma.filled(np.ma.asarray(axes.images[0].get_array()), np.nan)
    np.testing.assert_array_equal(shown, [[np.nan, 0.75], [0.25, np.nan]])
    assert [figure.texts[0].get_text() for figure in sheet] == [
        f"Concurrent rates: {count} classes that share boxes" for count in (2, 4)
    ]


def test_dots_are_without_and_with(sheet: list[Figure]) -> None:
    gains = [
        Gain("a", "a", 0.25, 0.75, 0.5),
        Gain("b", "b", 0.5, 0.125, -0.375),
        Gain("c", "c", 0.5, 0.0, -0.5),
    ]
    charts.gain_dots(gains, "x.png", without="sm", with_="csm", limit=2)
    (figure,) = sheet
    axes = figure.axes[0]
    (_, without, with_) = axes.collections
    assert without.get_offsets().tolist() == [[0.25, 0], [0.5, 1]]  # type: ignore[union-attr]
    assert with_.get_offsets().tolist() == [[0.75, 0], [0.125, 1]]  # type: ignore[union-attr]
    assert [without.get_label(), with_.get_label()] == ["sm", "csm"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert figure.texts[0].get_text() == "AP per class that concurs (the first 2 of 3)"


def test_order_of_rates_puts_groups_side_by_side() -> None:
    rates = np.zeros((6, 6))
    rates[0, 4] = rates[4, 0] = 0.9
    rates[1, 5] = 0.8
    assert concurring_order(rates).tolist() == [0, 4, 1, 5]
    assert concurring_order(rates, limit=2).tolist() == [0, 4]
