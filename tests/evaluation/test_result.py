"""The per-class log, gains, groups."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wildbox.errors import ConfigError, InputError, VocabularyError
from wildbox.evaluation import EvaluationResult, gains, write_gains
from wildbox.vocabulary import Vocabulary

LETTERS = Vocabulary(("/m/a", "/m/b", "/m/c", "/m/d"), ("Ant", "Bee, wild", "Cat", "Cat"))

NONE = np.zeros(4, np.int64)


def result(*ap: float) -> EvaluationResult:
    return EvaluationResult(LETTERS, np.array(ap), np.array([3, 1, 0, 2]), np.array([5, 0, 7, 2]), "voc")


OLD, NEW = result(0.1, 0.5, np.nan, 1 / 3), result(0.6, 1.0, np.nan, 0.25)


def test_log_round_trip(tmp_path: Path) -> None:
    OLD.write(tmp_path / "log.csv")
    text = (tmp_path / "log.csv").read_text()
    assert text.splitlines() == [
        "class_id,class_name,ap,truth_boxes,detections",
        "/m/a,Ant,0.1,3,5",
        '/m/b,"Bee, wild",0.5,1,0',
        "/m/c,Cat,,0,7",
        "/m/d,Cat,0.3333333333333333,2,2",
    ]
    again = EvaluationResult.read(tmp_path / "log.csv")
    assert again.vocabulary == LETTERS
    np.testing.assert_array_equal(again.ap, OLD.ap)
    assert again.truth_boxes.tolist() == [3, 1, 0, 2]
    assert again.detections.tolist() == [5, 0, 7, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_further_columns_are_kept(tmp_path: Path) -> None:
    columns = {"best_f1": np.array([0.5, np.nan, 1 / 3, 0]), "ignored": np.array([1, 2, 3, 4])}
    wide = EvaluationResult(LETTERS, OLD.ap, OLD.truth_boxes, OLD.detections, "voc", columns=columns)
    wide.write(tmp_path / "log.csv")
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "class_id,class_name,ap,truth_boxes,detections,best_f1,ignored"
    assert lines[2] == '/m/b,"Bee, wild",0.5,1,0,,2'
    again = EvaluationResult.read(tmp_path / "log.csv")
    np.testing.assert_array_equal(again.columns["best_f1"], columns["best_f1"])
    assert again.columns["ignored"].tolist() == [1, 2, 3, 4]
    with pytest.raises(InputError, match="column 'x'"):
        EvaluationResult(LETTERS, OLD.ap, OLD.truth_boxes, OLD.detections, columns={"x": np.zeros(3)})


def test_json_and_markdown(tmp_path: Path) -> None:
    OLD.write(tmp_path / "log.json")
    document = json.loads((tmp_path / "log.json").read_text())
    assert document["protocol"] == "voc"
    assert document["summary"] == {"mAP": OLD.mean_ap}
    assert document["classes"][2] == {
        "class_id": "/m/c", "class_name": "Cat", "ap": None, "truth_boxes": 0, "detections": 7,
    }  # fmt: skip
    OLD.write(tmp_path / "log.md")
    text = (tmp_path / "log.md").read_text()
    assert "**mAP** 0.3111" in text
    assert "| /m/d | Cat | 0.3333 | 2 | 2 |" in text
    EvaluationResult(Vocabulary(("a|b",)), np.ones(1), NONE[:1], NONE[:1]).write(tmp_path / "log.md")
    assert r"| a\|b | a\|b | 1.0000 |" in (tmp_path / "log.md").read_text()


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"log.parquet ends in '.parquet', expected one of .csv, .json, .md"
    ):
        OLD.write(tmp_path / "log.parquet")
    assert not list(tmp_path.iterdir())


def test_log_without_classes(tmp_path: Path) -> None:
    EvaluationResult(Vocabulary(()), np.zeros(0), NONE[:0], NONE[:0]).write(tmp_path / "log.csv")
    again = EvaluationResult.read(tmp_path / "log.csv")
    assert len(again.vocabulary) == 0
    assert np.isnan(again.mean_ap)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "log.csv: the file is empty"),
        ("a,b\n1,2\n", "log.csv:1: missing column class_id"),
        ("class_id,class_name,truth_boxes,detections\n", "log.csv:1: missing column ap"),
        ("class_id,class_name,ap,truth_boxes,detections\na,A,x,1,1\n", "log.csv:2: not a number"),
        ("class_id,class_name,ap,truth_boxes,detections\na,A,0.5,1\n", "log.csv:2: 4 fields, expected 5"),
        ("class_id,class_name,ap,truth_boxes,detections\na,A,2,1,1\n", "log.csv:2: ap 2.0"),
        ("class_id,class_name,ap,truth_boxes,detections\na,A,1,1,1\na,A,1,1,1\n", "stands twice"),
    ],
)
def test_bad_logs_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        EvaluationResult.read(tmp_path / "log.csv")


def test_missing_log(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        EvaluationResult.read(tmp_path / "log.csv")
    (tmp_path / "log.csv").write_bytes(b"class_id\n\xff")
    with pytest.raises(InputError, match=r"log\.csv:2: not UTF-8 text"):
        EvaluationResult.read(tmp_path / "log.csv")


def test_columns_must_fit_the_vocabulary() -> None:
    with pytest.raises(InputError, match="column 'ap'"):
        EvaluationResult(LETTERS, np.zeros(3), NONE, NONE)


def test_means_leave_out_classes_without_truth() -> None:
    assert NEW.mean_ap == pytest.approx((0.6 + 1.0 + 0.25) / 3)
    groups = NEW.by_group(["head", "head", "absent", "tail"])
    assert groups["head"] == pytest.approx(0.8)
    assert groups["tail"] == 0.25
    assert np.isnan(groups["absent"])
    with pytest.raises(InputError, match="groups"):
        NEW.by_group(["head"])


def test_gains_best_first_ties_by_id(tmp_path: Path) -> None:
    rows = gains(OLD, NEW)
    assert [row.class_id for row in rows] == ["/m/a", "/m/b", "/m/d"]  # 0.5 (0.6 - 0.1 is exact), 0.5, -1/12
    assert [row.gain for row in rows] == pytest.approx([0.5, 0.5, -1 / 12])
    assert [row.class_id for row in gains(OLD, NEW, classes=["/m/d", "/m/c", "/m/b"])] == ["/m/b", "/m/d"]
    with pytest.raises(VocabularyError, match="/m/z"):
        gains(OLD, NEW, classes=["/m/z"])
    write_gains(rows[1:2], tmp_path / "gains.csv")
    assert (tmp_path / "gains.csv").read_text().splitlines() == [
        "class_id,class_name,ap_without,ap_with,gain",
        '/m/b,"Bee, wild",0.5,1.0,0.5',
    ]


def test_gains_need_the_same_classes() -> None:
    other = EvaluationResult(Vocabulary(("x",)), np.zeros(1), NONE[:1], NONE[:1])
    with pytest.raises(InputError, match="different classes"):
        gains(OLD, other)
