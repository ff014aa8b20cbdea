"""The numbers that a study's page leads with, by hand: six classes, four logs of known AP."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wildbox.annotations import Annotations
from wildbox.evaluation import EvaluationResult
from wildbox.labels import audit
from wildbox.labels.files import write_audit
from wildbox.reports import study as report
from wildbox.study import StudyConfig, StudyResult, StudyRun
from wildbox.training.config import DataConfig, ModelConfig
from wildbox.vocabulary import Hierarchy, Vocabulary

LETTERS = Vocabulary(tuple("abcdef"))
AP = {
    "balance_bsl_sm": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
    "balance_bsl_csmconf": [0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
    "balance_cs_sm": [0.3, 0.1, 0.2, 0.9, 0.8, 0.2],
    "balance_cs_csmconf": [0.6, 0.5, 0.9, 0.8, 0.1, 0.3],
}
"""What is trained, then how it is scored."""
EVERY, CONCURRING, LOOK_ALIKE = [0, 1, 2, 3, 4, 5], [0, 1, 2, 3], [0, 1]


@pytest.fixture
def study() -> StudyResult:
    """a is b on 1 of 3 boxes, b is a on 1 of 20 (below 0.1); c is always its parent d; e and f are alone."""
    objects = [(0, 1), (0,), (0,), *[(1,)] * 19, *[(2, 3)] * 10, *[(4,)] * 15, *[(5,)] * 2]
    image, label = np.array([(i, c) for i, labels in enumerate(objects) for c in labels]).T
    images, boxes = (
        tuple(f"i{n}" for n in range(len(objects))),
        np.tile([0.0, 0.0, 1.0, 1.0], (len(image), 1)),
    )
    found = audit(Annotations(LETTERS, images, image, boxes, label), hierarchy=Hierarchy(6, [(2, 3)]))
    data = DataConfig(boxes=Path("b.csv"), images=Path("i"))
    runs = (
        StudyRun(name="softmax", rule="softmax"),
        StudyRun(name="concurrent", rule="concurrent-softmax"),
    )
    config = StudyConfig(title="t", train=data, validation=data, runs=runs)
    one = np.ones(6, int)
    results = {name: EvaluationResult(LETTERS, np.array(ap), one, one) for name, ap in AP.items()}
    validation: Any = SimpleNamespace(annotations=SimpleNamespace(image_ids=()))
    return StudyResult(config, found, validation, results, {})


def mean(log: str, classes: list[int]) -> float:
    return float(np.array(AP[log])[classes].mean())


def test_groups_of_the_summary(study: StudyResult, tmp_path: Path) -> None:
    """By images b has 20, e 15, c and d 10, a 3, f 2."""
    concurring = report.concurring_classes(study.audit)
    assert concurring.every.tolist() == CONCURRING
    assert concurring.look_alike.tolist() == LOOK_ALIKE
    report._write_summary(study, concurring, tmp_path / "summary.csv")
    with (tmp_path / "summary.csv").open(newline="") as stream:
        rows = {(row["run"], row["scored"]): row for row in csv.DictReader(stream)}
    row = rows["concurrent", "concurrent softmax"]
    for name, classes in {
        "map": EVERY,
        "map_concurring": CONCURRING,
        "map_look_alike": LOOK_ALIKE,
        "map_head": [1, 4],
        "map_middle": [2, 3],
        "map_tail": [0, 5],
    }.items():
        assert float(row[name]) == pytest.approx(mean("balance_cs_csmconf", classes)), name


def test_the_gain_is_of_both_over_neither(study: StudyResult) -> None:
    concurring = report.concurring_classes(study.audit)
    told = [(g.class_id, g.without, g.with_) for g in report._gain_of_the_paper(study, concurring)]
    assert told == [("c", 0.3, 0.9), ("a", 0.1, 0.6), ("d", 0.4, 0.8), ("b", 0.2, 0.5)]
    assert "0.250 with softmax, 0.700 with concurrent" in report._lead(study, concurring)


def test_the_four_combinations(study: StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_figure", lambda *_: None)
    section = report._four_section(study, report.concurring_classes(study.audit), tmp_path)
    assert section is not None
    for table, classes in zip(section.tables, (EVERY, CONCURRING, LOOK_ALIKE), strict=True):
        assert [row[0] for row in table.rows] == ["softmax", "concurrent softmax"]
        cells: list[Any] = [cell for row in table.rows for cell in row[1:]]
        assert cells == pytest.approx([mean(log, classes) for log in AP])


def test_the_best_log_of_a_run(study: StudyResult) -> None:
    assert [report._best_log(run) for run in study.config.runs] == ["balance_bsl_sm", "balance_cs_csmconf"]


def with_unknown(study: StudyResult) -> StudyResult:
    """The same where b has no truth and its AP is not known."""
    results = {
        name: EvaluationResult(
            LETTERS, np.array([ap[0], np.nan, *ap[2:]]), np.array([1, 0, 5, 6, 7, 8]), result.detections
        )
        for (name, ap), result in zip(AP.items(), study.results.values(), strict=True)
    }
    return replace(study, results=results)


def test_classes_without_truth_are_in_no_mean(
    study: StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = with_unknown(study)
    concurring = report.concurring_classes(known.audit)
    report._write_summary(known, concurring, tmp_path / "summary.csv")
    with (tmp_path / "summary.csv").open(newline="") as stream:
        row = next(row for row in csv.DictReader(stream) if row["scored"] == "concurrent softmax")
    log = "balance_bsl_csmconf"
    assert float(row["map"]) == pytest.approx(mean(log, [0, 2, 3, 4, 5]))
    assert float(row["map_head"]) == AP[log][4]
    without, with_ = (mean(log, [0, 2, 3]) for log in ("balance_bsl_sm", "balance_cs_csmconf"))
    lead = report._lead(known, concurring)
    assert f"of the 3 classes that concur with another: {without:.3f} with softmax, {with_:.3f} with" in lead
    monkeypatch.setattr(report, "_figure", lambda *_: None)
    section = report._four_section(known, concurring, tmp_path)
    assert section is not None
    assert [table.note for table in section.tables] == [
        "mAP over all classes.",
        "Mean AP of the 3 classes that concur with another.",
        "Mean AP of the 1 look-alike classes.",
    ]


def test_every_class_has_its_numbers(study: StudyResult, tmp_path: Path) -> None:
    known = with_unknown(study)
    (table,) = report._classes_section(known, report.concurring_classes(known.audit), tmp_path).tables
    assert [*table.header] == [
        "class",
        "group",
        "boxes",
        "truth",
        "bsl_sm",
        "bsl_csmconf",
        "cs_sm",
        "cs_csmconf",
    ]
    rows = [[*row] for row in table.rows]
    assert [row[:4] for row in rows] == [
        ["a", "tail", 3, 1], ["b", "head", 20, 0], ["c", "middle", 10, 5],
        ["d", "middle", 10, 6], ["e", "head", 15, 7], ["f", "tail", 2, 8],
    ]  # fmt: skip
    assert rows[4][4:] == [ap[4] for ap in AP.values()]
    assert all(cell != cell for cell in rows[1][4:])


def test_samplings_are_compared_by_the_classes_that_are_not_frequent(
    study: StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("non-balance", "class-aware", "soft-balance")
    more = tuple(StudyRun(name=name, rule="concurrent-softmax") for name in names)
    runs = (
        *study.config.runs,
        *more,
        StudyRun(name="multi", rule="softmax-multihot"),
        StudyRun(name="own", rule="sigmoid"),
    )
    logs = {
        run.log_name(scoring): study.results["balance_bsl_sm"] for run in runs for scoring in run.scorings
    }
    all_runs = replace(study, config=study.config.model_copy(update={"runs": runs}), results=logs)
    concurring = report.concurring_classes(study.audit)
    report._write_summary(all_runs, concurring, tmp_path / "summary.csv")
    drawn: list[Any] = []
    monkeypatch.setattr(report, "_figure", lambda _, columns, classes, *__: drawn.append((columns, classes)))
    section = report._sampling_section(all_runs, concurring, tmp_path)
    assert section is not None
    ((columns, classes),) = drawn
    assert columns == {name: f"{name}_csmconf" for name in names}
    assert classes.tolist() == [0, 2, 3, 5]
    (table,) = section.tables
    assert [(row[0], row[4]) for row in table.rows] == [
        (name, "concurrent softmax") for name in ("concurrent", *names)
    ]
    assert [report._best_log(run) for run in runs[-2:]] == ["multi_sm", "own_own"]
    drawn.clear()
    report._four_section(study, concurring, tmp_path)
    ((columns, classes),) = drawn
    assert list(columns.values()) == list(AP)
    assert classes.tolist() == CONCURRING


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        ({"rate_gamma": 0.5}, "rate_bound = rate, rate_gamma = 0.5."),
        ({"rate_bound": "wilson"}, "rate_bound = wilson, rate_gamma = 1."),
    ],
)
def test_rates_that_the_runs_changed_are_told(
    study: StudyResult, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    (tmp_path / "figures").mkdir()
    write_audit(study.audit, tmp_path / "audit")
    config = study.config.model_copy(update={"model": ModelConfig(**change)})
    concurring = report.concurring_classes(study.audit)
    section = report._audit_section(replace(study, config=config), concurring, tmp_path)
    (caption,) = (f.caption for f in section.figures if f.alt == "Matrix of concurrent rates")
    assert caption.endswith(told)
    assert ("changed" in caption) == bool(told)
