"""The page of an audit holds the numbers of its files, and needs nothing from outside."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from labels.crowded_tables import table
from reports.large_audit import IMAGES, NAMES, draw_images, large_annotations, large_audit
from reports.page_tables import PageTable, page_tables

from wildbox.labels.audit import LabelAudit, audit
from wildbox.labels.files import write_audit
from wildbox.reports import audit as page_module
from wildbox.reports.audit import write_audit_page
from wildbox.reports.crops import images_of
from wildbox.reports.page import WRITTEN_ROWS
from wildbox.reports.tables import Table
from wildbox.vocabulary import Hierarchy

COLUMNS = {
    ("classes", "classes.csv"): {
        "class": "class_name", "id": "class_id", "boxes": "boxes", "images": "images", "group": "group",
        "verified absent": "boxes_verified_absent",
    },
    ("pairs", "confusion_pairs.csv"): {
        "source": "source_name", "confusion": "confusion_name", "source boxes": "source_boxes",
        "confusion boxes": "confusion_boxes", "ratio": "ratio", "related": "related", "unexplained": "unexplained",
    },
    ("rates", "concurrent_rates.csv"): {
        "rate": "rate", "boxes": "boxes", "matched": "matched", "lower": "lower", "upper": "upper",
    },
    ("label-sets", "label_sets.csv"): {"labels": "names", "size": "size", "boxes": "boxes"},
    ("implied", "implied_labels.csv"): {
        "class": "class_name", "ancestor": "ancestor_name", "boxes": "boxes", "with ancestor": "with_ancestor",
        "missing": "missing",
    },
    ("suspects", "suspects.csv"): {
        "rank": "rank", "kind": "kind", "score": "score", "labels": "names", "boxes": "boxes", "why": "why",
        "example": "image_id",
    },
}  # fmt: skip
"""Table and file -> column of the page -> column of the CSV."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, images and the page of one audit."""
    folder = tmp_path_factory.mktemp("audit")
    found = large_audit()
    draw_images(folder / "images")
    write_audit(found, folder)
    source = images_of(large_annotations(), folder / "images")
    assert write_audit_page(found, folder / "page.html", title="All <of> it", images=source).is_file()
    return folder


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "page.html").read_text(encoding="utf-8")


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(("name", "file"), list(COLUMNS))
def test_numbers_are_those_of_the_files(folder: Path, html: str, name: str, file: str) -> None:
    shown, columns, rows = page_tables(html)[name], COLUMNS[name, file], csv_rows(folder / file)
    if name == "suspects":  # the file has a row for each example
        rows = [row for i, row in enumerate(rows) if i == 0 or row["rank"] != rows[i - 1]["rank"]]
    places = [shown.header.index(column) for column in columns]
    ours = [
        tuple(re.sub(r"Bench \(/m/[01]\)", "Bench", row[place]) for place in places) for row in shown.rows
    ]
    theirs = [tuple(row[column] for column in columns.values()) for row in rows]
    assert len(rows) > 10
    assert sorted(ours) == sorted(theirs)


def test_some_tables_are_longer_than_what_is_written(html: str) -> None:
    tables = page_tables(html)
    assert len(tables["pairs"].rows) > WRITTEN_ROWS == len(tables["pairs"].shown)
    assert len(tables["label-sets"].rows) > WRITTEN_ROWS


def test_summary_is_that_of_the_file(folder: Path, html: str) -> None:
    numbers = json.loads((folder / "summary.json").read_text())
    rows = page_tables(html)["numbers"].rows
    assert {name: float(value) for name, value in rows} == {
        k.replace("_", " "): v for k, v in numbers.items()
    }


def test_sentences_tell_the_numbers(folder: Path, html: str) -> None:
    numbers = json.loads((folder / "summary.json").read_text())
    kin, unexplained = (numbers[f"overlapping_pairs_{k}"] for k in ("of_kin", "unexplained"))
    rest = numbers["overlapping_pairs"] - kin - unexplained
    told = re.sub(r"<[^>]+>", " ", html[: html.index('id="section-2"')])
    assert f"{numbers['boxes']:,} boxes on {IMAGES} images; 39 of 40 classes have boxes." in told
    assert f"has {numbers['imbalance']:,.0f} times the boxes of" in told
    assert f"{numbers['multi_label_boxes']:,} boxes mark an object with several labels" in told
    assert f"at most {numbers['most_labels_on_an_object']} on one object" in told
    assert f"{kin:,} are a class and its ancestor, {rest:,} follow from a more specific" in told
    assert f"{unexplained:,} ({100 * unexplained / numbers['overlapping_pairs']:.1f}%) the hierarchy" in told
    assert f"{numbers['duplicates']} rows repeat" in told
    assert f"{numbers['boxes_verified_absent']} boxes lie on an image" in told
    assert f"{100 * numbers['expanded']:.1f}% of the labels that the hierarchy implies are there" in told


def test_look_alikes_come_first(html: str) -> None:
    shown = page_tables(html)["pairs"]
    related, unexplained = (shown.header.index(column) for column in ("related", "unexplained"))
    alike = [row[related] == "false" and int(row[unexplained]) > 0 for row in shown.rows]
    assert 0 < sum(alike) < len(alike)
    assert alike == sorted(alike, reverse=True)
    counts = [int(row[unexplained]) for row in shown.rows[: sum(alike)]]
    assert counts == sorted(counts, reverse=True)


def test_nothing_comes_from_outside(html: str) -> None:
    without = re.sub(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", "", html)
    for outside in ("http", "<link", "@import", "url(", "fetch(", "XMLHttpRequest", "import("):
        assert outside not in without
    assert re.findall(r"(?:src|href)=\"([^\"#]+)", without) == []
    assert "//" not in re.sub(r"\n *// .*", "", without)


def test_names_are_escaped_and_told_apart(html: str) -> None:
    assert "<b>" not in html
    assert "All &lt;of&gt; it" in html
    shown = page_tables(html)["classes"]
    names = [row[shown.header.index("class")] for row in shown.rows]
    assert {"Bench (/m/0)", "Bench (/m/1)", NAMES[2]} <= {*names}
    assert len({*names}) == len(names)


def test_crops_and_what_is_missing(html: str) -> None:
    assert (
        8
        < html.count("data:image/jpeg;base64,")
        <= 4 * (page_module.PAIR_CARDS + 2 * page_module.SUSPECT_CARDS)
    )
    told = re.findall(r"Crops are missing where images were not found or did not open: (\d+) image", html)
    assert told
    assert all(0 < int(count) <= 4 for count in told)
    assert len(html) < 5_000_000


def test_without_images_there_are_no_crops(tmp_path: Path) -> None:
    write_audit_page(large_audit(), tmp_path / "page.html", title="x")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<img" not in html
    assert "Crops are missing" not in html
    gone = images_of(large_annotations(), tmp_path / "nowhere")
    write_audit_page(large_audit(), tmp_path / "page.html", title="x", images=gone)
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<img" not in html
    assert "Crops are missing" in html


def test_published_figures_stand_in_their_own_section(tmp_path: Path) -> None:
    published = Table(("source", "ours", "theirs"), [["Torch", 3, 11]], name="published")
    write_audit_page(large_audit(), tmp_path / "page.html", title="x", published=published)
    tables = page_tables((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert tables["published"].rows == [["Torch", "3", "11"]]


def small_page(found: LabelAudit, folder: Path) -> tuple[str, dict[str, PageTable]]:
    write_audit_page(found, folder / "page.html", title="x")
    html = (folder / "page.html").read_text(encoding="utf-8")
    return html, page_tables(html)


def test_nothing_to_tell(tmp_path: Path) -> None:
    html, _ = small_page(audit(table([], images=2)), tmp_path)
    assert "0 boxes on 2 images" in html
    html, tables = small_page(audit(table([(0, [0.0, 0.0, 1.0, 1.0], 2)], images=1)), tmp_path)
    assert "Every class that occurs has 1 box." in html
    assert "no hierarchy was given" in html
    assert "No class concurs with another." in html
    assert "pairs" not in tables


@pytest.mark.parametrize(
    ("parents", "told"),
    [(5, "are not expanded"), (6, "are half expanded"), (98, "are half expanded"), (99, "are expanded")],
)
def test_whether_it_is_expanded(tmp_path: Path, parents: int, told: str) -> None:
    box = [0.0, 0.0, 1.0, 1.0]
    rows = [(i, box, 0) for i in range(100)] + [(i, box, 1) for i in range(parents)]
    found = audit(table(rows, images=100), hierarchy=Hierarchy(6, [(0, 1)]))
    assert told in small_page(found, tmp_path)[0]


def test_long_tables_name_the_file_with_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "LIMIT", 7)
    html, tables = small_page(large_audit(), tmp_path)
    assert {len(tables[name].rows) for name, _ in COLUMNS} == {7}
    for _, file in COLUMNS:
        assert re.search(rf"The first 7 of [\d,]+ rows; all are in {file}\.", html)


def test_the_page_loads_neither_torch_nor_matplotlib() -> None:
    code = "import wildbox.reports.audit, sys; print(sorted(set(sys.modules) & {'torch', 'matplotlib'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
