"""Scenes with labelled boxes, side by side, as PNG files.

Letters: B images, N boxes, C classes. Lengths are inches (of the whole) or points (of a panel), y growing
downwards.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from wildbox.annotations import Annotations, Bools, Floats, Ints
from wildbox.boxes import clip
from wildbox.detections import Detections
from wildbox.errors import InputError
from wildbox.reports.canvas import Canvas, Colour, Legend, text_width
from wildbox.reports.placement import distances, group_boxes, leader, place_labels

# Sasha Trubetskoy's "20 simple, distinct colors" without the palest ones.
PALETTE = (
    *("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#2fc4c4", "#f032e6", "#9a6324", "#ffe119"),
    *("#000075", "#808000", "#008080", "#800000", "#bcf60c", "#808080", "#c9a3ff", "#5fd38d"),
)
FONT_SIZES = (6.5, 5.5, 4.7, 4.0)
"""Points; a panel takes the first at which every name finds room."""
GROUP_MARK = " (group)"


@dataclass(frozen=True)
class LabelledBoxes:
    """What one panel shows: boxes (N, 4) in pixels of the image, classes (N,), scores (N,) or none."""

    boxes: Floats
    label: Ints
    score: Floats | None = None
    is_group_of: Bools | None = None


@dataclass(frozen=True)
class Row:
    """One image (H, W, 3) uint8, a panel for each column of the figure, and a name for its left side."""

    image: NDArray[np.uint8]
    panels: Sequence[LabelledBoxes]
    title: str = ""


def class_colours(labels: Iterable[int]) -> dict[int, Colour]:
    """One colour (red, green, blue in [0, 1]) for each class that occurs; depends on the set of classes only.

    >>> class_colours([7, 3, 7]) == class_colours([3, 7]), len(set(class_colours(range(90)).values()))
    (True, 90)
    """
    colours = [to_rgb(colour) for colour in PALETTE]
    classes = sorted({int(label) for label in labels})
    for i in range(len(classes) - len(colours)):
        hue, lightness = (0.07 + i * 0.618034) % 1, (0.38, 0.62, 0.26)[i % 3]
        colours.append(colorsys.hls_to_rgb(hue, lightness, (0.85, 0.6)[i // 3 % 2]))
    return dict(zip(classes, colours, strict=False))


def side_by_side(
    rows: Sequence[Row],
    columns: Sequence[str],
    path: str | Path,
    *,
    names: Sequence[str],
    threshold: float = 0.5,
    same_object: float = 0.9,
    panel_inches: float = 3.4,
) -> None:
    """Write a PNG: one image a row, one set of boxes a column, one colour per class, a legend below.

    Boxes of one panel with IoU > `same_object` are one outline, dashed in the colours of its classes, with
    one line of text per class, best score first. Names never overlap: where a panel is full they get smaller,
    and names for which no room is left are counted below the panel's corner.

    Args:
        names: display name of each class index.
        threshold: boxes with a lower score are left out; boxes without scores all stay.
        panel_inches: width of a panel; its height follows from the image.
    """
    if not rows or any(len(row.panels) != len(columns) for row in rows):
        raise InputError(f"expected one row at least and {len(columns)} panels in each")
    kept = [[_confident(panel, threshold) for panel in row.panels] for row in rows]
    colours = class_colours([label for row in kept for panel in row for label in panel.label])
    heights = [panel_inches * row.image.shape[0] / row.image.shape[1] for row in rows]
    left, gap, top = 0.3, 0.14, 0.42
    width = left + len(columns) * (panel_inches + gap)
    note = f"One outline for boxes with IoU > {same_object:g}, dashed where it has several classes."
    if any(panel.score is not None for row in kept for panel in row):
        note += f" Scores of at least {threshold:g}."
    legend = Legend(colours, names, width=width - left - gap, note=note)
    canvas = Canvas(width, top + sum(heights) + gap * len(rows) + legend.height)
    for j, title in enumerate(columns):
        middle = left + j * (panel_inches + gap) + panel_inches / 2
        canvas.text(middle, top / 2, title, size=11, room=panel_inches, bold=True)
    y = top
    for row, panels, panel_height in zip(rows, kept, heights, strict=True):
        canvas.text(left / 2, y + panel_height / 2, row.title, size=8, room=panel_height, rotation=90)
        for j, panel in enumerate(panels):
            axes = canvas.panel(left + j * (panel_inches + gap), y, panel_inches, panel_height)
            axes.imshow(row.image, extent=(0, panel_inches * 72, panel_height * 72, 0), aspect="auto")
            _draw_boxes(axes, panel, panel_inches * 72 / row.image.shape[1], colours, names, same_object)
        y += panel_height + gap
    legend.draw(canvas, left, y)
    canvas.save(path)


def figure_from_tables(
    truth: Annotations,
    detections: Mapping[str, Detections],
    images: Sequence[int],
    load_image: Callable[[int], NDArray[np.uint8]],
    path: str | Path,
    *,
    threshold: float = 0.5,
) -> None:
    """`side_by_side` of the ground truth and, column by column, what each model found.

    Args:
        truth: with the ancestors' rows where they are to be shown (`annotations.expand`).
        detections: column title -> detections, on images and classes of `truth`, in its unit.
        images: which images, one a row, as indices into `truth`.
        load_image: index of an image -> its pixels (H, W, 3), uint8.
    """
    aligned = [found.aligned(truth) for found in detections.values()]
    rows = []
    for b in images:
        pixels = load_image(b)
        size = (float(pixels.shape[1]), float(pixels.shape[0]))
        panels = []
        tables: list[Annotations | Detections] = [truth, *aligned]
        for table in tables:
            part = slice(table.offsets[b], table.offsets[b + 1])
            boxes = table.boxes[part] / np.tile(truth.sizes[b], 2) * np.tile(size, 2)
            boxes = clip(boxes, width=size[0], height=size[1])
            score = table.score[part] if isinstance(table, Detections) else None
            group_of = table.is_group_of[part] if isinstance(table, Annotations) else None
            panels.append(LabelledBoxes(boxes, table.label[part], score, group_of))
        rows.append(Row(pixels, panels, truth.image_ids[b]))
    columns = ["Ground truth", *detections]
    side_by_side(rows, columns, path, names=truth.vocabulary.names, threshold=threshold)


def choose_images(
    truth: Annotations,
    detections: Mapping[str, Detections],
    *,
    count: int,
    classes: Sequence[int] | None = None,
    threshold: float = 0.5,
    seed: int = 0,
) -> list[int]:
    """Indices of `count` images (or all there are) that tell the columns apart, the most telling first.

    A class tells in an image where the truth has it and the columns find it a different number of times
    (scores of at least `threshold`; more than the truth holds counts as all). With less than two columns
    every class of the truth tells. Each next image is the one with the most telling classes that no image
    before it showed (each class shown already counts a tenth), divided by the square root of its number of
    objects, for crowds are hard to read. Ties are broken by `seed`.

    Args:
        classes: only these class indices count, e.g. those that concur with another; default all.
    """
    c, b = len(truth.vocabulary), len(truth.image_ids)
    wanted = np.isin(np.arange(c), np.arange(c) if classes is None else np.asarray(classes, np.int64))
    keys, held = np.unique(truth.image * c + truth.label, return_counts=True)
    hits = []
    for found in (found.aligned(truth) for found in detections.values()):
        sure = found.score >= threshold
        found_keys, times = np.unique(found.image[sure] * c + found.label[sure], return_counts=True)
        at = np.searchsorted(found_keys, keys)
        at_key = np.append(found_keys, -1)[at] == keys
        hits.append(np.minimum(np.where(at_key, np.append(times, 0)[at], 0), held))
    telling = np.ptp(hits, axis=0) > 0 if len(hits) > 1 else np.ones(len(keys), bool)
    telling &= wanted[keys % c]
    image, label = keys[telling] // c, keys[telling] % c
    crowd = np.sqrt(np.maximum(np.diff(truth.offsets), 1))
    ties = 1e-9 * np.random.default_rng(seed).permutation(b) / max(b, 1)
    weight, chosen = np.ones(c), np.zeros(b, bool)
    picked: list[int] = []
    for _ in range(min(count, b)):
        value = np.bincount(image, weights=weight[label], minlength=b) / crowd + ties
        value += 1e-6 * (np.diff(truth.offsets) > 0)  # an empty image only where nothing else is left
        picked.append(int(np.argmax(np.where(chosen, -1.0, value))))
        chosen[picked[-1]] = True
        weight[label[image == picked[-1]]] = 0.1
    return picked


def _confident(panel: LabelledBoxes, threshold: float) -> LabelledBoxes:
    if panel.score is None:
        return panel
    keep = panel.score >= threshold
    group_of = None if panel.is_group_of is None else panel.is_group_of[keep]
    return LabelledBoxes(panel.boxes[keep], panel.label[keep], panel.score[keep], group_of)


def _lines(panel: LabelledBoxes, rows: Sequence[int], names: Sequence[str]) -> list[tuple[int, str]]:
    """(class, text) of one object, each class once: the first, which has the best score."""
    lines: dict[int, str] = {}
    for row in rows:
        name = names[panel.label[row]]
        name = name if len(name) <= 26 else name[:25] + "…"
        group = GROUP_MARK if panel.is_group_of is not None and panel.is_group_of[row] else ""
        score = "" if panel.score is None else f" {panel.score[row]:.2f}"
        lines.setdefault(int(panel.label[row]), f"{name}{group}{score}")
    return list(lines.items())


def _draw_boxes(
    axes: Axes,
    panel: LabelledBoxes,
    scale: float,
    colours: Mapping[int, Colour],
    names: Sequence[str],
    same_object: float,
) -> None:
    width, height = axes.get_xlim()[1], axes.get_ylim()[0]
    boxes = np.asarray(panel.boxes, np.float64).reshape(-1, 4) * scale
    order = -np.arange(len(boxes), dtype=np.float64) if panel.score is None else panel.score
    groups = group_boxes(boxes, order=order, same_object=same_object)
    blocks = [_lines(panel, rows, names) for rows in groups]
    outlines = boxes[[rows[0] for rows in groups]].reshape(-1, 4)
    for size in FONT_SIZES:
        sizes = np.array([_block_size(block, size) for block in blocks]).reshape(-1, 2)
        corners = place_labels(outlines, sizes, width=width, height=height)
        if not np.isnan(corners).any():
            break
    for box, block, corner, extent in zip(outlines, blocks, corners, sizes, strict=True):
        _draw_outline(axes, box, [colours[label] for label, _ in block])
        if not np.isnan(corner).any():
            _draw_block(axes, box, np.concatenate([corner, corner + extent]), block, colours, size)
    if hidden := int(np.isnan(corners[:, 0]).sum()):
        note = f"{hidden} more without room for a name"
        axes.text(width, height + 1, note, size=6, ha="right", va="top", color="#444444")


def _block_size(block: Sequence[tuple[int, str]], size: float) -> tuple[float, float]:
    return max(text_width(text, size) for _, text in block) + 4, 1.3 * size * len(block)


def _draw_outline(axes: Axes, box: Floats, colours: Sequence[Colour]) -> None:
    x1, y1, x2, y2 = box
    frame: dict[str, Any] = {"xy": (x1, y1), "width": x2 - x1, "height": y2 - y1, "fill": False}
    axes.add_patch(Rectangle(**frame, edgecolor="white", linewidth=2.6, alpha=0.8, zorder=2))
    # Dashes are multiples of the line width: each class has every k-th dash of three widths.
    k = len(colours)
    for i, colour in enumerate(colours):
        style: Any = "solid" if k == 1 else (-3.0 * i, (3.0, 3.0 * (k - 1)))
        edge: dict[str, Any] = {"edgecolor": colour, "linestyle": style, "linewidth": 1.5, "capstyle": "butt"}
        axes.add_patch(Rectangle(**frame, **edge, zorder=3))


def _draw_block(
    axes: Axes,
    box: Floats,
    rect: Floats,
    block: Sequence[tuple[int, str]],
    colours: Mapping[int, Colour],
    size: float,
) -> None:
    if distances(rect[None], box)[0] > 1:
        (x1, y1), (x2, y2) = leader(rect, box)
        for colour, width in (("white", 2.0), (colours[block[0][0]], 0.9)):
            axes.add_line(Line2D([x1, x2], [y1, y2], color=colour, linewidth=width, zorder=4))
    step = (rect[3] - rect[1]) / len(block)
    for i, (label, text) in enumerate(block):
        y = rect[1] + i * step
        colour = colours[label]
        axes.add_patch(
            Rectangle((rect[0], y), rect[2] - rect[0], step, facecolor=colour, linewidth=0, zorder=5)
        )
        ink = "black" if np.dot(colour, (0.299, 0.587, 0.114)) > 0.55 else "white"
        baseline = y + step / 2 + 0.36 * size
        axes.text(
            rect[0] + 2, baseline, text, size=size, color=ink, va="baseline", parse_math=False, zorder=6
        )
