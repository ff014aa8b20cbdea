"""What README promises, as far as a test can try it without network."""

from __future__ import annotations

import ast
import csv
import math
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from wildbox.cli.app import app

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
COMMANDS = re.sub(r"\\\n\s*", "", README)


def test_the_two_commands_set_up_everything() -> None:
    lines = [line.strip() for line in README.splitlines() if line.strip().startswith("python3 -m venv")]
    assert len(lines) == 2
    assert lines[0].endswith(".venv/bin/wildbox demo --out out/demo")
    assert lines[1].endswith(".venv/bin/python -m pytest")
    assert all("pip install" in line for line in lines)


@pytest.mark.parametrize("line", re.findall(r"^    (wildbox .*)$", COMMANDS, flags=re.MULTILINE))
def test_options_of_shown_commands_exist(line: str) -> None:
    words = shlex.split(line)
    shown = CliRunner().invoke(app, [words[1], "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, words[1]
    for word in words[2:]:
        if word.startswith("--"):
            assert word in shown.output, f"{words[1]} {word}"


def test_named_commands_exist() -> None:
    named = re.search(r"lists the rest: (.*?)\.", README, flags=re.DOTALL)
    assert named is not None
    existing = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"`(\w+)`", named[1])) <= existing


def test_imports_of_shown_code_work() -> None:
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        for node in ast.parse(block).body:
            if isinstance(node, ast.ImportFrom):
                exec(compile(ast.Module([node], []), "README.md", "exec"), {})


def test_files_that_readme_links_exist() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README) + re.findall(
        r"wildbox study ([\w/]+\.toml)", README
    )
    assert links
    for link in links:
        assert (REPOSITORY / link).exists(), link


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_numbers_shown_are_those_measured(page: str) -> None:
    """Each row of a table by run is the row of the CSV file that the text above the table names last."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    tables = list(re.finditer(r"^\| run .*?(?=\n\n)", text, flags=re.DOTALL | re.MULTILINE))
    assert tables
    for found in tables:
        name, table = re.findall(r"`(benchmarks/results/\w+\.csv)`", text[: found.start()])[-1], found[0]
        with (REPOSITORY / name).open(encoding="utf-8", newline="") as stream:
            measured = {(row["run"], row["scored"]): row for row in csv.DictReader(stream)}
        header, _, *rows = (
            [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()
        )
        for run, scored, *cells in rows:
            for measure, cell in zip(header[2:], cells, strict=True):
                row = measured[run, scored]
                column = "map" if measure == "all" else f"map_{measure.replace('-', '_')}"
                deviation = float(row.get(column + "_sd", "nan"))  # nan: one seed
                spread = "" if math.isnan(deviation) else f" ± {deviation:.3f}"
                assert cell == f"{float(row[column]):.3f}{spread}", (name, run, scored, measure)
