"""The commands alone, one after the other, on a small world; and errors as one line."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

WORLD = ("--classes", "world/class-descriptions.csv", "--hierarchy", "world/hierarchy.json")
SCORES = ("--scores", "softmax", "--scores", "concurrent", "--scores", "sharp")


def wildbox(*arguments: str, cwd: Path, status: int = 0) -> str:
    """Run the command line; what it answers, then what it says of its work."""
    command = [sys.executable, "-m", "wildbox.cli", *arguments]
    wide = os.environ | {"COLUMNS": "160"}  # so that bars of progress fit
    done = subprocess.run(command, cwd=cwd, env=wide, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return " ".join((done.stdout + done.stderr).split())


def header(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as stream:
        return next(csv.reader(stream))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


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
        "[schedule]\nsteps = 2\nbatch_size = 2\nwarmup_steps = 1\n"
    )
    return folder


def test_brackets_in_messages_stay(folder: Path) -> None:
    (folder / "logged.toml").write_text((folder / "run.toml").read_text() + "[evaluation]\nevery = 1\n")
    said = wildbox("train", "logged.toml", "--out", "logged", cwd=folder, status=2)
    assert said.endswith("add a table [validation]")


def test_a_path_that_cannot_be_is_one_line(folder: Path) -> None:
    said = wildbox("train", "run.toml", "--out", "run.toml", cwd=folder, status=2)
    assert said.endswith("error: run.toml: File exists")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a file that is always full")
@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_standard_output_that_is_full_is_one_line(argument: str) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "wildbox.cli", argument]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr == "error: standard output: No space left on device\n"
    assert done.returncode == 2


def test_names_that_standard_output_has_no_letters_for(folder: Path) -> None:
    classes = (folder / "world" / "class-descriptions.csv").read_text().splitlines()
    (folder / "classes.csv").write_text("".join(f"{line}→日\n" for line in classes), encoding="utf-8")
    command = [sys.executable, "-m", "wildbox.cli", "lambda", "world/train-annotations-bbox.csv"]
    command += ["--classes", "classes.csv", "--draws", "10", "--out", "lambda.csv"]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=folder, env=ascii_only, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert r"\u2192" in done.stdout


def test_audit(folder: Path) -> None:
    (folder / "published.csv").write_text(
        "source,confusion,source_boxes,confusion_boxes\nBlack sun,Weather,10,4\n"
    )
    labels = ("--image-labels", "world/train-annotations-human-imagelabels.csv")
    more = (*WORLD, *labels, "--images", "world/train", "--compare", "published.csv", "--no-group-of")
    said = wildbox("audit", "world/train-annotations-bbox.csv", *more, "--out", "audit", cwd=folder)
    assert "30 images" in said
    assert "| Black sun | Weather | 10 |" in said
    assert "data:image/jpeg" in (folder / "audit" / "report.html").read_text(encoding="utf-8")
    assert header(folder / "audit" / "confusion_pairs.csv") == [
        "source", "confusion", "source_name", "confusion_name",
        "source_boxes", "confusion_boxes", "ratio", "related", "unexplained",
    ]  # fmt: skip
    rates = header(folder / "audit" / "concurrent_rates.csv")
    assert rates == [
        "class",
        "other",
        "rate",
        "boxes",
        "matched",
        "lower",
        "upper",
        "class_name",
        "other_name",
    ]


def test_lambda(folder: Path) -> None:
    boxes = "world/train-annotations-bbox.csv"
    tried = ("--balance", "1", "--balance", "0.2", "--max-repeats", "8", "--rarest", "2")
    said = wildbox("lambda", boxes, *WORLD, "--draws", "120", *tried, "--out", "lambda.csv", cwd=folder)
    assert "all 30 images" in said
    assert "largest lambda" in said
    with (folder / "lambda.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [*dict.fromkeys(row["lambda"] for row in rows)] == ["none", "0.2", "1"]
    assert all(float(row["repeats"]) == 4 for row in rows if row["lambda"] == "none" and row["images"] != "0")
    # the classes of one image each are seen at lambda 1 as often as class-aware sampling draws them, or more
    occurring = sum(row["images"] != "0" for row in rows) / 3
    rare = [row for row in rows if row["lambda"] == "1" and row["images"] == "1"]
    assert rare
    for row in rare:
        assert float(row["seen"]) >= 120 / occurring - 1e-3
        assert row["marked"] == str(int(float(row["seen"]) > 8))
    for option, value, said in (
        ("--balance", "-1", "balance (lambda) is -1.0, expected"),
        ("--rarest", "-3", "Invalid value for '--rarest'"),
        ("--out", "never.md", "--out never.md ends in '.md', expected .csv"),
    ):
        wrong = ("lambda", boxes, "--draws", "120", "--out", "never.csv", option, value)
        assert said in wildbox(*wrong, cwd=folder, status=2)
    assert not (folder / "never.csv").exists()


def test_lambda_of_a_training_that_ignores_groups(folder: Path) -> None:
    """Whose images are also those that only image labels name."""
    boxes, labels = (folder / "world" / f"train-annotations-{n}.csv" for n in ("bbox", "human-imagelabels"))
    rows = rows_of(boxes)
    lonely = labels.read_text(encoding="utf-8") + f"lonely,verification,{rows[0]['LabelName']},1\n"
    (folder / "labels.csv").write_text(lonely, encoding="utf-8")
    for option, flags in (("--group-of", {"0", "1"}), ("--no-group-of", {"0"})):
        given = (str(boxes), "--draws", "9", "--image-labels", "labels.csv", option, "--out", "groups.csv")
        assert "all 31 images" in wildbox("lambda", *given, cwd=folder)
        held = {(row["LabelName"], row["ImageID"]) for row in rows if row["IsGroupOf"] in flags}
        told = {row["class_id"]: int(row["images"]) for row in rows_of(folder / "groups.csv")}
        assert {id_: n for id_, n in told.items() if n} == Counter(label for label, _ in held)
    assert any(row["IsGroupOf"] == "1" for row in rows)


def test_split(folder: Path) -> None:
    boxes = "world/train-annotations-bbox.csv"
    wildbox("split", boxes, "--train", "10", "--val", "5", "--out", "lists", cwd=folder)
    train, val = ((folder / "lists" / f"{n}.txt").read_text().split() for n in ("minitrain", "minival"))
    assert (len(train), len(val)) == (10, 5)
    assert not set(train) & set(val)


@pytest.mark.slow
def test_train_predict_evaluate_compare(folder: Path) -> None:
    said = wildbox("train", "run.toml", "--out", "run", cwd=folder)
    assert re.search(r"2/2 .* loss \d+\.\d+, \d+\.\d images/s, waits \d+%, 0:00:00 left", said)
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
    both = (
        "predict",
        "run/checkpoint.pt",
        "world/validation",
        "--out",
        "shards",
        "--shard",
        "4",
        "--processes",
        "2",
    )
    said = wildbox(*both, "--device", "cpu", *SCORES, cwd=folder)
    assert "6 images: shards/softmax, shards/concurrent, shards/sharp" in said
    assert len(list((folder / "shards" / "sharp").glob("part-*.parquet"))) == 2
    for rule in ("softmax", "concurrent"):
        assert len(list((folder / "shards" / rule).glob("part-*.parquet"))) == 2
        wildbox("evaluate", f"shards/{rule}", *truth, *labels, "--out", f"shards_{rule}.csv", cwd=folder)
        for one, other in zip(
            rows_of(folder / f"shards_{rule}.csv"), rows_of(folder / f"log_{rule}.csv"), strict=True
        ):
            assert one["truth_boxes"] == other["truth_boxes"]
            assert float(one["ap"] or 0) == pytest.approx(float(other["ap"] or 0), abs=0.01)
    assert "made otherwise" in wildbox(*both, "--device", "cpu", "--flip", cwd=folder, status=2)
    assert "processes = 0" in wildbox(*both, "--processes", "0", cwd=folder, status=2)
    wildbox("compare", "log_softmax.csv", "log_concurrent.csv", "--out", "gains.csv", cwd=folder)
    columns = ["class_id", "class_name", "ap_log_softmax", "ap_log_concurrent", "gain"]
    assert header(folder / "gains.csv") == columns


def test_ensemble(tmp_path: Path) -> None:
    columns = "ImageID,LabelName,Score,XMin,XMax,YMin,YMax\n"
    (tmp_path / "a.csv").write_text(columns + "q,star,0.9,0,1,0,1\nq,moon,0.5,0,1,0,1\np,star,0.2,0,1,0,1\n")
    (tmp_path / "b.csv").write_text(columns + "q,star,0.5,0,1,0,1\np,star,0.3,0,1,0,0.3\n")
    log = "class_id,class_name,ap,truth_boxes,detections\n"
    (tmp_path / "a.log.csv").write_text(log + "moon,Moon,0.4,2,2\nstar,Star,0.75,2,2\nsun,Sun,,0,0\n")
    (tmp_path / "b.log.csv").write_text(log + "star,Star,0.25,2,2\nmoon,Moon,0.0,2,2\nsun,Sun,,0,0\n")

    def told(*options: str, status: int = 0) -> str:
        return wildbox("ensemble", "a.csv", "b.csv", *options, "--out", "c.csv", cwd=tmp_path, status=status)

    def rows() -> list[str]:
        return (tmp_path / "c.csv").read_text().splitlines()[1:]

    assert "5 detections of 2 models, 4 together in c.csv" in told()
    assert header(tmp_path / "c.csv") == columns.strip().split(",")
    fused = ["p,star,0.15,0.0,1.0,0.0,0.3", "p,star,0.1,0.0,1.0,0.0,1.0"]
    assert rows() == [*fused, "q,moon,0.25,0.0,1.0,0.0,1.0", "q,star,0.7,0.0,1.0,0.0,1.0"]
    told("--method", "nms", "--iou", "0.2", "--skip-below", "0.3")
    assert [row[:10] for row in rows()] == ["p,star,0.3", "q,moon,0.5", "q,star,0.9"]
    told("--logs", "a.log.csv", "--logs", "b.log.csv", "--skip-below", "0.5")
    scores = [float(row.split(",")[2]) for row in rows()]
    assert scores == pytest.approx([0.5, 0.75 * 0.9 + 0.25 * 0.5])
    assert "2 files of detections but 1 logs" in told("--logs", "a.log.csv", status=2)
    assert "expected one of wbf, nms, soft-nms" in told("--method", "mean", status=2)


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
    assert "1 repeated rows" in wildbox("audit", "twice.csv", "--out", "twice", cwd=folder)
    assert json.loads((folder / "twice" / "summary.json").read_text())["duplicates"] == 1


def test_converted_shards_give_the_same_audit(folder: Path) -> None:
    boxes, labels = "world/train-annotations-bbox.csv", "world/train-annotations-human-imagelabels.csv"
    converted = wildbox(
        "convert", boxes, *WORLD, "--image-labels", labels, "--shards", "3", "--out", "set", cwd=folder
    )
    assert "30 images" in converted
    wildbox("audit", "set", "--images", "world/train", "--out", "of-shards", cwd=folder)
    wildbox("audit", boxes, *WORLD, "--image-labels", labels, "--out", "of-table", cwd=folder)
    for table in sorted((folder / "of-table").glob("*.csv")):
        assert (folder / "of-shards" / table.name).read_bytes() == table.read_bytes(), table.name
    assert "data:image/jpeg" in (folder / "of-shards" / "report.html").read_text(encoding="utf-8")
    assert "takes no --classes" in wildbox("audit", "set", *WORLD, "--out", "never", cwd=folder, status=2)


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
