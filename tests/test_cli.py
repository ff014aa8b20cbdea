"""The commands alone, one after the other, on a small world; and errors as one line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORLD = ("--classes", "world/class-descriptions.csv", "--hierarchy", "world/hierarchy.json")


def wildbox(*arguments: str, cwd: Path, status: int = 0) -> str:
    """Run the command line; its standard error, where it writes everything that people read."""
    command = [sys.executable, "-m", "wildbox.cli", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def header(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as stream:
        return next(csv.reader(stream))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    wildbox(
        "glyphs", "--out", "world", "--images", "30", "--validation-images", "6", "--size", "96", cwd=folder
    )
    (folder / "run.toml").write_text(
        'device = "cpu"\n[data]\nboxes = "world/train-annotations-bbox.csv"\nimages = "world/train"\n'
        'classes = "world/class-descriptions.csv"\nhierarchy = "world/hierarchy.json"\n'
        "[model]\nimage_size = 96\nproposals = 20\nscore_threshold = 0.001\n"
        "[schedule]\nsteps = 2\nbatch_size = 2\n"
    )
    return folder


def test_audit(folder: Path) -> None:
    said = wildbox("audit", "world/train-annotations-bbox.csv", *WORLD, "--out", "audit", cwd=folder)
    assert "30 images" in said
    assert header(folder / "audit" / "confusion_pairs.csv") == [
        "source", "confusion", "source_name", "confusion_name",
        "source_boxes", "confusion_boxes", "ratio", "related",
    ]  # fmt: skip
    assert header(folder / "audit" / "concurrent_rates.csv") == ["class", "other", "rate", "boxes", "matched"]


def test_split(folder: Path) -> None:
    boxes = "world/train-annotations-bbox.csv"
    wildbox("split", boxes, "--train", "10", "--val", "5", "--out", "lists", cwd=folder)
    train, val = ((folder / "lists" / f"{n}.txt").read_text().split() for n in ("minitrain", "minival"))
    assert (len(train), len(val)) == (10, 5)
    assert not set(train) & set(val)


@pytest.mark.slow
def test_train_predict_evaluate_compare(folder: Path) -> None:
    wildbox("train", "run.toml", "--out", "run", cwd=folder)
    assert "give --resume" in wildbox("train", "run.toml", "--out", "run", cwd=folder, status=2)
    wildbox("train", "run.toml", "--out", "run", "--resume", cwd=folder)
    for scores in ("softmax", "concurrent"):
        found, log = f"{scores}.csv", f"log_{scores}.csv"
        predict = ("predict", "run/checkpoint.pt", "world/validation", "--out", found, "--scores", scores)
        wildbox(*predict, cwd=folder)
        assert header(folder / found) == ["ImageID", "LabelName", "Score", "XMin", "XMax", "YMin", "YMax"]
        truth = ("--truth", "world/validation-annotations-bbox.csv", *WORLD)
        labels = ("--image-labels", "world/validation-annotations-human-imagelabels.csv")
        assert "mAP" in wildbox("evaluate", found, *truth, *labels, "--out", log, cwd=folder)
        assert header(folder / log)[:5] == ["class_id", "class_name", "ap", "truth_boxes", "detections"]
    wildbox("compare", "log_softmax.csv", "log_concurrent.csv", "--out", "gains.csv", cwd=folder)
    columns = ["class_id", "class_name", "ap_log_softmax", "ap_log_concurrent", "gain"]
    assert header(folder / "gains.csv") == columns


def test_evaluate(folder: Path) -> None:
    rows = (folder / "world" / "validation-annotations-bbox.csv").read_text().splitlines()
    names = rows[0].split(",")
    with (folder / "found.csv").open("w") as stream:  # the truth itself, each box by its own label
        stream.write("ImageID,LabelName,Score,XMin,XMax,YMin,YMax\n")
        for row in rows[1:]:
            entry = dict(zip(names, row.split(","), strict=True)) | {"Score": "0.5"}
            columns = ("ImageID", "LabelName", "Score", "XMin", "XMax", "YMin", "YMax")
            stream.write(",".join(entry[name] for name in columns) + "\n")
    evaluate = ("evaluate", "found.csv", "--truth", "world/validation-annotations-bbox.csv", *WORLD)
    labels = ("--image-labels", "world/validation-annotations-human-imagelabels.csv")
    kept = ("--matches", "run.npz", "--curves", "curves.csv")
    expanded = wildbox(*evaluate, *labels, *kept, "--expand-detections", "--out", "log.json", cwd=folder)
    assert "mAP" in expanded
    assert json.loads((folder / "log.json").read_text())["protocol"] == "open-images-challenge"
    assert header(folder / "curves.csv") == ["class_id", "score", "precision", "recall"]
    assert (folder / "run.npz").exists()
    plain = wildbox(
        *evaluate, "--protocol", "open-images-v2", "--group-of-weight", "1", "--out", "x.md", cwd=folder
    )
    assert float(plain.split()[-6]) < float(expanded.split()[-6])  # parents are not found
    said = wildbox(*evaluate, "--protocol", "coco", "--out", "never.csv", cwd=folder, status=2)
    assert "--protocol coco takes only" in said
    said = wildbox(
        "evaluate", "found.csv", "--truth", "a.csv", "--protocol", "lvis", "--out", "x", cwd=folder, status=2
    )
    assert "from a .json file" in said
    assert not (folder / "never.csv").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ImageID,LabelName,XMin,XMax,YMin\na,/g/star,0,1,0\n", "YMax"),
        ("ImageID,LabelName,XMin,XMax,YMin,YMax\na,/g/none,0,1,0,1\n", "bad.csv:2: "),
        ("ImageID,LabelName,XMin,XMax,YMin,YMax\na,/g/star,0.5,0.2,0,1\n", "bad.csv:2: "),
        ("ImageID,LabelName,XMin,XMax,YMin,YMax\na,/g/star,0,1.5,0,1\n", "bad.csv:2: "),
        ("ImageID,LabelName,XMin,XMax,YMin,YMax\na,/g/star,0,nan,0,1\n", "bad.csv:2: "),
        ("", "bad.csv"),
    ],
)
def test_bad_input_is_one_line_with_its_place(folder: Path, text: str, expected: str) -> None:
    (folder / "bad.csv").write_text(text)
    said = wildbox("audit", "bad.csv", *WORLD, "--out", "never", cwd=folder, status=2)
    assert expected in said
    assert not (folder / "never").exists()


def test_a_cycle_in_the_hierarchy(folder: Path) -> None:
    (folder / "cycle.json").write_text(
        '{"LabelName": "/g/star", "Subcategory": [{"LabelName": "/g/heart", '
        '"Subcategory": [{"LabelName": "/g/star"}]}]}'
    )
    arguments = ("--classes", "world/class-descriptions.csv", "--hierarchy", "cycle.json", "--out", "never")
    said = wildbox("audit", "world/train-annotations-bbox.csv", *arguments, cwd=folder, status=2)
    assert "cycle" in said


def test_repeated_rows_are_counted(folder: Path) -> None:
    row = "a,/g/star,0,1,0,1\n"
    (folder / "twice.csv").write_text("ImageID,LabelName,XMin,XMax,YMin,YMax\n" + row * 2)
    said = wildbox("audit", "twice.csv", "--out", "twice", cwd=folder)
    assert "warning" in said
    assert "1 " in said


def test_missing_files_are_named(folder: Path) -> None:
    assert "none.csv" in wildbox("audit", "none.csv", "--out", "never", cwd=folder, status=2)
    assert "none.toml" in wildbox("study", "none.toml", "--out", "never", cwd=folder, status=2)
    assert "none.pt" in wildbox("predict", "none.pt", "world/train", "--out", "x.csv", cwd=folder, status=2)


def test_a_terminated_command_says_how_to_go_on(tmp_path: Path) -> None:
    arguments = ("glyphs", "--out", "world", "--images", "100000", "--processes", "1")
    command = [sys.executable, "-m", "wildbox.cli", *arguments]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
        while not list(tmp_path.glob("world/train/*.jpg")):
            assert running.poll() is None
            time.sleep(0.1)
        running.terminate()
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "start the same command again" in said
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.glob("world/*-bbox.csv"))
