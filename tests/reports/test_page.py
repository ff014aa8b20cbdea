"""The page holds the numbers exactly, needs nothing from outside and escapes what it is given."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from reports.page_tables import page_tables

from wildbox.errors import InputError
from wildbox.reports.charts import imbalance_curve
from wildbox.reports.page import WRITTEN_ROWS, Picture, Section, write_page
from wildbox.reports.tables import Cell, Table


def page(folder: Path, *sections: Section) -> str:
    write_page(folder / "report.html", title="A <b>title</b>", sections=sections)
    assert [p.name for p in folder.iterdir() if p.suffix != ".png"] == ["report.html"]
    return (folder / "report.html").read_text(encoding="utf-8")


def test_full_values_stand_beside_the_rounded_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = [*rng.random(20).tolist(), np.float64(0.1) + 0.2, float("nan"), None, np.int64(12345)]
    html = page(tmp_path, Section("S", "", [Table(["v"], [[value] for value in values])]))
    cells = re.findall(r'<td data-value="([^"]*)"[^>]*>([^<]*)</td>', html)
    assert [full for full, _ in cells] == [*(repr(float(v)) for v in values[:21]), "", "", "12345"]
    assert [shown for _, shown in cells] == [*(f"{v:.3f}" for v in values[:21]), "–", "–", "12,345"]
    assert 'type="search"' in html


def test_rows_beyond_the_first_are_kept_as_json(tmp_path: Path) -> None:
    nan = float("nan")
    rows: list[list[Cell]] = [[i, i / 7, "</script><b>"] for i in range(WRITTEN_ROWS)]
    rows += [[7, np.float64(0.1) + 0.2, "</script><!--"], [None, nan, "x"], [8, float("inf"), "y"]]
    table = page_tables(page(tmp_path, Section("S", "", [Table(["a", "b", "c"], rows)])))["table-1-1"]
    assert table.header == ["a", "b", "c"]
    assert table.rows[WRITTEN_ROWS - 1] == [
        str(WRITTEN_ROWS - 1),
        repr((WRITTEN_ROWS - 1) / 7),
        "</script><b>",
    ]
    assert table.rows[WRITTEN_ROWS:] == [
        ["7", repr(0.1 + 0.2), "</script><!--"],
        ["", "", "x"],
        ["8", "inf", "y"],
    ]


def test_nothing_comes_from_outside(tmp_path: Path) -> None:
    imbalance_curve([3, 2, 1], tmp_path / "curve.png")
    html = page(tmp_path, Section("S", "text", [], [Picture(tmp_path / "curve.png", "a curve", "caption")]))
    without = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", html)
    assert "http" not in without
    assert "//" not in re.sub(r"\n *// .*", "", without)
    assert "<link" not in without
    assert "@import" not in without
    assert "url(" not in without
    width, height = re.findall(r'<img [^>]*width="(\d+)" height="(\d+)"', html)[0]
    assert int(width) > int(height) > 100


def test_everything_is_escaped(tmp_path: Path) -> None:
    nasty = "<script>alert('x')</script>\"&"
    html = page(tmp_path, Section(nasty, nasty, [Table([nasty], [[nasty]], nasty)]))
    assert "<script>alert" not in html
    assert "<b>" not in html
    assert html.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&#34;&amp;") == 6


def test_missing_or_false_figure_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the figure"):
        page(tmp_path, Section("S", figures=[Picture(tmp_path / "none.png", "none")]))
    (tmp_path / "false.png").write_bytes(b"GIF89a")
    with pytest.raises(InputError, match="not a PNG"):
        page(tmp_path, Section("S", figures=[Picture(tmp_path / "false.png", "false")]))
