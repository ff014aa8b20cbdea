"""The page in a browser: what one clicks, types or is sent as a link changes the tables as it says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from reports.large_audit import large_audit
from reports.page_tables import PageTable, page_tables

from wildbox.reports.audit import write_audit_page
from wildbox.reports.page import WRITTEN_ROWS, Section, write_page
from wildbox.reports.tables import Cell, Table, show

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=2000"),
)


@pytest.fixture(scope="module")
def browser() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audit_page(
        large_audit(), tmp_path_factory.mktemp("browser") / "audit.html", title="In a browser"
    )


def opened(browser: str, page: Path, address: str = "", *, script: str = "") -> str:
    """The page as the browser has it in the end, after a script has clicked and typed."""
    folder = page.parent
    if script:
        text = page.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>")
        page = folder / "clicked.html"
        page.write_text(text, encoding="utf-8")
    profile = folder / "profile"
    shutil.rmtree(profile, ignore_errors=True)
    command = [browser, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", page.as_uri() + address]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    html = done.stdout.decode("utf-8")
    assert "</html>" in html, done.stderr.decode("utf-8", "replace")[-2000:]
    return html


def column(table: PageTable, name: str) -> list[str]:
    return [row[table.header.index(name)] for row in table.rows[: len(table.shown)]]


def test_a_link_filters_and_sorts(browser: str, page: Path) -> None:
    rows = page_tables(page.read_text(encoding="utf-8"))["pairs"]
    address = "#pairs.related=false&pairs.filter=class+ratio>=0.1+unexplained>3&pairs.sort=source+boxes"
    html = opened(browser, page, address + "&suspects.kind=verified-absent&label-sets.filter=size%3E1")
    tables = page_tables(html)
    shown = tables["pairs"]
    expected = [
        row
        for row in rows.rows
        if row[5] == "false" and float(row[4]) >= 0.1 and int(row[6]) > 3 and "class" in " ".join(row).lower()
    ]
    assert 3 < len(expected) < len(rows.rows)
    assert sorted(shown.rows[: len(shown.shown)]) == sorted(expected)[:100]
    numbers = [int(value) for value in column(shown, "source boxes")]
    assert numbers == sorted(numbers)
    assert f"{len(expected)} of {len(rows.rows):,} rows" in html
    assert {*column(tables["suspects"], "kind")} == {"verified-absent"}
    assert min(int(size) for size in column(tables["label-sets"], "size")) == 2
    assert re.search(r'<th[^>]*aria-sort="ascending"[^>]*><button type="button">source boxes', html)


def test_clicks_and_typing_are_kept_in_the_address(browser: str, page: Path) -> None:
    script = """
    const block = document.getElementById("pairs"), [source, , boxes] = block.querySelectorAll("th button");
    boxes.click();
    const first = row => block.querySelectorAll("tbody tr")[row].cells[2].dataset.value;
    const out = [location.hash, first(0), first(1)];
    boxes.click();
    out.push(location.hash, first(0), first(1));
    const input = block.querySelector("input");
    input.value = 'source="Class 5" ratio>0';
    input.dispatchEvent(new Event("input"));
    out.push(location.hash, [...block.querySelectorAll("tbody tr")].map(row => row.cells[0].textContent).join());
    input.value = "";
    input.dispatchEvent(new Event("input"));
    block.querySelector("select").value = "true";
    block.querySelector("select").dispatchEvent(new Event("change"));
    source.click();
    out.push(location.hash, [...block.querySelectorAll("tbody tr")].map(row => row.cells[5].textContent).join());
    const rows = () => block.querySelectorAll("tbody tr").length, scroll = block.querySelector(".scroll");
    location.hash = "#pairs.sort=-ratio";
    addEventListener("hashchange", () => setTimeout(() => {
      out.push(rows());
      scroll.scrollTop = scroll.scrollHeight;
      scroll.dispatchEvent(new Event("scroll"));
      out.push(rows());
      const target = document.querySelectorAll(".drawing")[1].querySelector(".rate > title").parentElement;
      target.dispatchEvent(new PointerEvent("pointerover", {bubbles: true}));
      out.push(document.querySelectorAll(".tip")[1].textContent);
      document.body.dataset.out = JSON.stringify(out);
    }));
    """
    html = opened(browser, page, script=script)
    found = re.search(r'data-out="([^"]*)"', html)
    assert found is not None
    down, high, next_high, up, low, next_low, typed, sources, chosen, related, few, more, tip = json.loads(
        unescape(found[1])
    )
    assert down == "#pairs.sort=-source+boxes"
    assert int(high) > int(low)
    assert int(high) >= int(next_high)
    assert up == "#pairs.sort=source+boxes"
    assert int(low) <= int(next_low)
    assert typed == "#pairs.sort=source+boxes&pairs.filter=source%3D%22Class+5%22+ratio%3E0"
    assert {*sources.split(",")} == {"Class 5"}
    assert chosen == "#pairs.sort=source&pairs.related=true"
    assert {*related.split(",")} == {"true"}
    total = len(page_tables(page.read_text(encoding="utf-8"))["pairs"].rows)
    assert (few, more) == (min(100, total), min(200, total))
    assert total > 100
    assert re.fullmatch(r".+ → .+: [01]\.\d{3} \([\d,]+ of [\d,]+ boxes\)", tip)


def test_rows_that_the_script_makes_look_like_those_that_are_written(browser: str, tmp_path: Path) -> None:
    """Halves are rounded alike, thousands grouped alike, empty cells stay last however one sorts."""
    values = [k / 32 for k in range(64)] + [1234567.0625, 1e-7, 0.1 + 0.2]
    rows: list[list[Cell]] = [[value, 1000 * i, f"row <{i}>"] for i, value in enumerate(values)]
    filler: list[list[Cell]] = [[0.5, 1, "x"]] * WRITTEN_ROWS
    empty: list[list[Cell]] = [[None, 5, "none"], [float("nan"), 6, "none"]]
    path = tmp_path / "page.html"
    table = Table(("decimal", "whole", "text"), [*filler, *rows, *empty], name="t")
    write_page(path, title="x", sections=[Section("S", tables=[table])])
    shown = page_tables(opened(browser, path, "#t.filter=row"))["t"].shown
    assert shown == [[show(cell) for cell in row] for row in rows]
    listed = page_tables(opened(browser, path, "#t.sort=-decimal&t.filter=o"))["t"].shown
    assert [row[0] for row in listed[-2:]] == ["–", "–"]
    numbers = [float(row[0].replace(",", "")) for row in listed[:-2]]
    assert numbers == sorted(numbers, reverse=True)
    assert len(listed) == len(rows) + 2
