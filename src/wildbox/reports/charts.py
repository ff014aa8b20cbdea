"""Charts of the statistics, as PNG files. Letters: C classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from wildbox.errors import InputError
from wildbox.evaluation.result import Gain
from wildbox.reports.canvas import Canvas, shortened, text_width
from wildbox.reports.seriation import MAX_NAMES, concurring_order

BLUE, ORANGE, GREY = "#1f5fa8", "#d9701a", "#9aa0a6"
_NAME_SIZE, _NAME_ROOM = 7.0, 130.0


def _names(names: Sequence[str]) -> tuple[list[str], float]:
    """Names cut to a length that axes can hold, and the inches that the longest takes."""
    cut = [shortened(name, _NAME_SIZE, _NAME_ROOM).replace("$", r"\$") for name in names]
    longest = max((text_width(name, _NAME_SIZE) for name in cut), default=0.0)
    return cut, longest / 72 + 0.12


def imbalance_curve(
    boxes: ArrayLike,
    path: str | Path,
    *,
    images: ArrayLike | None = None,
    names: Sequence[str] = (),
) -> None:
    """Boxes per class (C,), most frequent first, on a logarithmic scale; images per class beside them.

    Classes without boxes are left out and counted in the title. Up to 60 classes are named below the axis.
    """
    count = np.asarray(boxes, np.int64)
    order = np.argsort(-count, kind="stable")
    order = order[count[order] > 0]
    named = bool(names) and len(order) <= MAX_NAMES
    labels, room = _names([names[i] for i in order]) if named else ([], 0.3)
    width = 8.0 if not named else max(5.0, 0.17 * len(order) + 1.2)
    canvas = Canvas(width, 3.2 + room)
    axes = canvas.axes(0.75, 0.4, width - 0.9, 2.6)
    rank = np.arange(1, len(order) + 1)
    mark: dict[str, Any] = {"marker": "o", "markersize": 3, "linewidth": 1.2}
    axes.plot(rank, count[order], color=BLUE, label="boxes", **mark)
    if images is not None:
        axes.plot(rank, np.asarray(images, np.int64)[order], color=ORANGE, label="images", **mark)
    axes.set_yscale("log")
    axes.set_ylabel("per class", size=8)
    axes.set_xlim(0.3, len(order) + 0.7)
    axes.tick_params(which="both", labelsize=8)  # on a short axis the minor ticks are named too
    if named:
        axes.set_xticks(rank, labels, rotation=90, size=_NAME_SIZE)
    else:
        axes.set_xlabel("rank of the class", size=8)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.legend(fontsize=8, frameon=False, loc="upper right")
    ratio = (
        f", the most frequent {count[order[0]] / count[order[-1]]:,.0f} times the rarest"
        if len(order)
        else ""
    )
    absent = f", {len(count) - len(order)} without boxes" if len(order) < len(count) else ""
    canvas.text(width / 2, 0.2, f"{len(order)} classes{ratio}{absent}", size=9, room=width - 0.2)
    canvas.save(path)


def rates_matrix(rates: ArrayLike, path: str | Path, *, names: Sequence[str]) -> None:
    """Heat map of the concurrent rates (C, C): a row is a class, a column the other label of its boxes.

    Only classes that concur with another are drawn, at most the 60 strongest; the title says how many of how
    many. Up to 20 classes the rates stand in the cells.
    """
    values = np.asarray(rates, np.float64)
    if values.shape != (len(names), len(names)):
        raise InputError(f"rates of shape {values.shape} for {len(names)} names")
    order, every = concurring_order(values), int(((values + values.T) > 0).any(axis=1).sum())
    labels, room = _names([names[i] for i in order])
    side = (
        0.2 if not every else max(2.4, 0.155 * len(order)) if len(order) > 20 else max(2.4, 0.3 * len(order))
    )
    canvas = Canvas(max(3.0, room + side + 1.0), room + side + 0.7)
    shown = f"the {len(order)} strongest of {every}" if len(order) < every else f"{every}"
    title = (
        f"Concurrent rates: {shown} classes that share boxes" if every else "No class concurs with another"
    )
    canvas.text(canvas.width / 2, 0.2, title, size=9, room=canvas.width - 0.2)
    if every:
        axes = canvas.axes(room + 0.1, 0.45, side, side)
        _heat(axes, values[np.ix_(order, order)], labels, canvas.axes(room + side + 0.25, 0.45, 0.12, side))
    canvas.save(path)


def _heat(axes: Axes, values: NDArray[np.float64], labels: Sequence[str], bar: Axes) -> None:
    image = axes.imshow(np.where(values > 0, values, np.nan), cmap="viridis_r", vmin=0, vmax=1, aspect="auto")
    ticks = np.arange(len(labels))
    axes.set_xticks(ticks, labels, rotation=90, size=_NAME_SIZE)
    axes.set_yticks(ticks, labels, size=_NAME_SIZE)
    axes.set_xticks(ticks[:-1] + 0.5, minor=True)
    axes.set_yticks(ticks[:-1] + 0.5, minor=True)
    axes.grid(which="minor", color="#e4e4e4", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    bar.figure.colorbar(image, cax=bar)
    bar.tick_params(labelsize=7)
    if len(labels) <= 20:
        for i, j in np.argwhere(values > 0):
            ink = "white" if values[i, j] > 0.5 else "black"
            axes.text(j, i, f"{values[i, j]:.2f}", size=6, color=ink, ha="center", va="center")


def gain_dots(
    gains: Sequence[Gain],
    path: str | Path,
    *,
    without: str = "without",
    with_: str = "with",
    limit: int = MAX_NAMES,
) -> None:
    """AP without and with, two dots and a line per class, in the given order (best gain first) from the top.

    Classes without both values have no line; beyond `limit` classes the rest is left out and counted.
    """
    drawn = list(gains)[:limit]
    labels, room = _names([g.class_name for g in drawn])
    height = max(1.0, 0.19 * len(drawn) + 0.2)
    canvas = Canvas(room + 6.0, height + 1.15)
    axes = canvas.axes(room + 0.1, 0.65, 5.6, height)
    y = np.arange(len(drawn))
    low, high = np.array([[g.without, g.with_] for g in drawn], np.float64).reshape(-1, 2).T
    axes.hlines(y, low, high, color=np.where(high >= low, BLUE, ORANGE), linewidth=2, alpha=0.45)
    axes.scatter(low, y, s=22, facecolor="white", edgecolor=GREY, linewidth=1.4, zorder=3, label=without)
    axes.scatter(high, y, s=22, color=BLUE, zorder=4, label=with_)
    axes.set_yticks(y, labels, size=_NAME_SIZE)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(drawn) - 0.4, -0.6))
    axes.set_xlabel("average precision", size=8)
    axes.tick_params(labelsize=_NAME_SIZE)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    place: dict[str, Any] = {
        "loc": "lower right",
        "bbox_to_anchor": (1, 1),
        "ncols": 2,
        "frameon": False,
        "fontsize": 8,
    }
    axes.legend(**place, borderaxespad=0.2)
    rest = f" (the first {len(drawn)} of {len(gains)})" if len(drawn) < len(gains) else ""
    canvas.text(canvas.width / 2, 0.18, f"AP per class that concurs{rest}", size=9, room=canvas.width - 0.2)
    canvas.save(path)
