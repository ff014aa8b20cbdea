"""The sheet that pictures are drawn on: inches from the top left, measured text, a legend, an atomic PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from wildbox.formats.files import tell, whole_file
from wildbox.reports.fonts import families, undrawable

Colour = tuple[float, float, float]
"""Red, green, blue in [0, 1]."""

DPI = 150
"""Pixels of one inch. Text is measured at this resolution, for hinting makes its width depend on it."""
_RENDERER: Any = RendererAgg(1, 1, DPI)  # type: ignore[no-untyped-call]


@lru_cache(maxsize=65536)
def text_width(text: str, size: float, *, weight: str = "normal") -> float:
    """Width of one line of text in points.

    >>> text_width("mm", 10) > text_width("ii", 10) > 0
    True
    """
    font = FontProperties(family=families(text), size=size, weight=weight)
    width, _, _ = _RENDERER.get_text_width_height_descent(text, font, ismath=False)
    return float(width) * 72 / DPI


def shortened(text: str, size: float, room: float) -> str:
    """The text, cut to `room` points with an ellipsis where it is longer.

    >>> shortened("abcdefghij", 10, 1000), shortened("abcdefghij", 10, 0)
    ('abcdefghij', '…')
    """
    if text_width(text, size) <= room:
        return text
    while text and text_width(text + "…", size) > room:
        text = text[:-1]
    return text + "…"


class Canvas:
    """A white sheet of `width` x `height` inches; positions are inches from its top left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(self.figure)

    def panel(self, x: float, y: float, width: float, height: float) -> Axes:
        """A framed area; its data coordinates are points from its top left corner."""
        axes = self.axes(x, y, width, height)
        axes.set(xlim=(0, width * 72), ylim=(height * 72, 0), xticks=[], yticks=[])
        axes.spines[:].set(color="#999999", linewidth=0.6)
        return axes

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Ordinary axes in that place."""
        place = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(place)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float,
        room: float,
        rotation: float = 0,
        bold: bool = False,
    ) -> None:
        """One centred line, smaller where it is longer than `room` inches, then cut."""
        weight = "bold" if bold else "normal"
        size = max(5.0, size * min(1.0, room * 72 / max(text_width(text, size, weight=weight), 1e-9)))
        place = (x / self.width, 1 - y / self.height)
        cut = text if bold and size > 5 else shortened(text, size, room * 72 + 0.1)
        style: dict[str, Any] = {"size": size, "weight": weight, "rotation": rotation, "parse_math": False}
        self.figure.text(*place, cut, ha="center", va="center", **style)

    def save(self, path: str | Path) -> None:
        """Write the PNG under a temporary name, then move it to `path`; the same picture, the same bytes.

        An `InputWarning` names the characters that no installed font has.
        """
        texts = {text: text.get_text() for text in self.figure.findobj(Text)}
        for text, told in texts.items():
            text.set_fontfamily(families(told))
        if missing := undrawable(texts.values()):
            more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
            tell(
                {
                    f"no installed font has {missing[:10]}{more}: empty boxes in names, until one is installed": 1
                },
                path=path,
            )
        with whole_file(path) as temporary:
            self.figure.savefig(temporary, format="png", metadata={"Software": None})


class Legend:
    """Names of classes beside their colours, in columns of one width, a note below; `height` in inches."""

    def __init__(
        self, colours: Mapping[int, Colour], names: Sequence[str], *, width: float, note: str = ""
    ) -> None:
        self.size, self.row = 8.0, 0.17
        self.width, self.note = width, note
        self.entries = [(colour, names[label]) for label, colour in colours.items()]
        widest = max((text_width(name, self.size) for _, name in self.entries), default=0.0)
        self.column = min(width, widest / 72 + 0.38)
        self.columns = max(1, int(width / self.column))
        self.rows = math.ceil(len(self.entries) / self.columns)
        self.height = 0.12 + self.rows * self.row + 0.3

    def draw(self, canvas: Canvas, x: float, y: float) -> None:
        """Draw it with its top left corner at (x, y); columns are read downwards."""
        axes = canvas.panel(x, y, self.width, self.height)
        axes.set_axis_off()
        for i, (colour, name) in enumerate(self.entries):
            column, row = divmod(i, max(self.rows, 1))
            left, middle = column * self.column * 72, (0.12 + (row + 0.5) * self.row) * 72
            axes.add_patch(Rectangle((left, middle - 4), 12, 8, facecolor=colour, linewidth=0))
            cut = shortened(name, self.size, self.column * 72 - 16)
            axes.text(left + 16, middle, cut, size=self.size, va="center_baseline", parse_math=False)
        low = (0.12 + self.rows * self.row + 0.15) * 72
        axes.text(0, low, shortened(self.note, 7, self.width * 72), size=7, va="center", color="#444444")
