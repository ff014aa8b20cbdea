"""The whole experiment on a world of a few images: files, numbers, stages that are not repeated."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from wildbox.demo import OTHERS, PAIR, draw_demo_world, world_data
from wildbox.errors import ConfigError
from wildbox.evaluation import EvaluationResult, evaluate
from wildbox.formats.storage import read_detections
from wildbox.glyphs import GlyphWorld
from wildbox.reports.study import write_report
from wildbox.sampling import BalancedSampler
from wildbox.study import StudyConfig, StudyRun, _origin, audit_learned, four_logs, run_study
from wildbox.training.checkpoint import load_checkpoint
from wildbox.training.config import ModelConfig, ScheduleConfig
from wildbox.training.run import train
from wildbox.training.source import load_source
from wildbox.training.trainer import learned_boxes

FOUR = ("balance_bsl_sm", "balance_bsl_csmconf", "balance_cs_sm", "balance_cs_csmconf")


def silent(stage: str, done: int, total: int) -> None:
    """No progress."""


def tiny(world: Path, *, runs: tuple[StudyRun, ...] = PAIR, steps: int = 3) -> StudyConfig:
    return StudyConfig(
        title="tiny <world>",
        train=world_data(world, "train"),
        validation=world_data(world, "validation"),
        model=ModelConfig(image_size=96, proposals=20, score_threshold=0.005),
        schedule=ScheduleConfig(steps=steps, batch_size=2, warmup_steps=1),
        runs=runs,
        figure_images=2,
        processes=1,
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study with all the kinds of runs that the report distinguishes."""
    folder = tmp_path_factory.mktemp("study")
    world = draw_demo_world(folder, GlyphWorld(images=40, validation_images=60), processes=1, progress=silent)
    samplings = tuple(
        r for r in OTHERS if r.name in ("sigmoid", "non-balance", "class-aware", "soft-balance")
    )
    write_report(
        run_study(tiny(world, runs=PAIR + samplings), folder, progress=silent), folder, progress=silent
    )
    return folder


@pytest.mark.slow
def test_everything_is_left_in_the_folder(out: Path) -> None:
    files = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    expected = {
        "audit/classes.csv", "audit/confusion_pairs.csv", "audit/concurrent_rates.csv", "gains.csv", "gains.md",
        "figures/figure1.png", "figures/figure2.png", "report.html", "summary.csv", "study.json",
        *(f"logs/{name}.csv" for name in FOUR), *(f"detections/{name}.csv" for name in FOUR),
        "logs/sigmoid_own.csv", "logs/non-balance_csmconf.csv",
        *(f"runs/{run}/{name}" for run in ("softmax", "concurrent", "sigmoid")
          for name in ("config.json", "checkpoint.pt", "log.jsonl")),
    }  # fmt: skip
    assert expected <= files
    assert not [name for name in files if name.endswith(".tmp")]


@pytest.mark.slow
def test_logs_are_the_evaluation_of_the_detections(out: Path) -> None:
    config = StudyConfig.model_validate(json.loads((out / "study.json").read_text()))
    truth = load_source(config.validation)
    for name in FOUR:
        found = read_detections(out / "detections" / f"{name}.csv", vocabulary=truth.annotations.vocabulary)
        again = evaluate(found, truth.annotations, hierarchy=truth.hierarchy)
        np.testing.assert_array_equal(EvaluationResult.read(out / "logs" / f"{name}.csv").ap, again.ap)


@pytest.mark.slow
def test_numbers_of_the_page_are_those_of_the_files(out: Path) -> None:
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "tiny &lt;world&gt;" in page
    written = re.sub(r"base64,[\w+/=]+", "", page)  # in the bytes of a picture anything may stand
    assert "http" not in written.replace("http-equiv", "")
    with (out / "summary.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["run"] for row in rows} >= {"softmax", "concurrent", "sigmoid", "non-balance"}
    for row in rows:
        log = {"softmax": "balance_bsl", "concurrent": "balance_cs"}.get(row["run"], row["run"])
        scored = {"softmax": "sm", "concurrent softmax": "csmconf", "its own rule": "own"}[row["scored"]]
        result = EvaluationResult.read(out / "logs" / f"{log}_{scored}.csv")
        assert float(row["map"]) == pytest.approx(result.mean_ap, abs=1e-12)
        assert f'data-value="{row["map"]}"' in page


@pytest.mark.slow
def test_finished_stages_are_not_repeated(out: Path) -> None:
    config = StudyConfig.model_validate(json.loads((out / "study.json").read_text()))
    checkpoints = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/checkpoint.pt")}
    (out / "stages" / "run-sigmoid.json").unlink()
    (out / "runs" / "sigmoid" / "checkpoint.pt").unlink()
    run_study(config, out, progress=silent)
    changed = {p.parent.name for p, time in checkpoints.items() if p.stat().st_mtime_ns != time}
    assert changed == {"sigmoid"}


@pytest.mark.slow
def test_an_error_in_a_run_names_the_run(tmp_path: Path) -> None:
    world = draw_demo_world(
        tmp_path, GlyphWorld(images=8, validation_images=20), processes=1, progress=silent
    )
    next((world / "train").glob("*.jpg")).write_bytes(b"not a picture")
    with pytest.raises(ValueError, match="the image does not open") as error:
        run_study(tiny(world, runs=PAIR[:1], steps=8), tmp_path, progress=silent)
    assert "softmax" in str(error.value.__notes__)


@pytest.mark.parametrize("group_of", ["train", "ignore"])
def test_the_audit_is_of_the_boxes_that_runs_learn(group_of: str, tmp_path: Path) -> None:
    """Its rates are theirs, its images those that the sampler counts; every other box here is a group."""
    world = draw_demo_world(
        tmp_path, GlyphWorld(images=40, validation_images=2), processes=1, progress=silent
    )
    data = world_data(world, "train")
    lines = data.boxes.read_text().splitlines()
    flags = lines[0].split(",").index("IsGroupOf")
    rows = [line.split(",") for line in lines]
    for number, row in enumerate(rows[1:]):
        row[flags] = str(number % 2)
    data.boxes.write_text("".join(",".join(row) + "\n" for row in rows))
    data = data.model_copy(update={"group_of": group_of})
    config = tiny(world, steps=1).model_copy(update={"train": data})
    training = load_source(config.train)
    found, learned = audit_learned(config, training), learned_boxes(training.expanded, config.train)
    saved = load_checkpoint(train(config.run_config(PAIR[1]), tmp_path / "run", source=training))
    np.testing.assert_array_equal(found.rates.with_background().astype(np.float32), saved.rates)
    sampler = BalancedSampler(
        learned.offsets, learned.label, seed=0, balance=1.0, classes=len(found.vocabulary)
    )
    np.testing.assert_array_equal(found.counts.images, sampler.images_per_class)


def test_other_files_are_another_origin(tmp_path: Path) -> None:
    names = ("boxes", "classes", "hierarchy", "image_labels", "only", "without")
    config = tiny(tmp_path, runs=PAIR)
    files = {name: tmp_path / f"{name}.txt" for name in names}
    for file in files.values():
        file.write_text("a")
    data = config.validation.model_copy(update=files)
    config = config.model_copy(update={"train": data, "validation": data})
    for file in files.values():
        before = _origin(config, PAIR[0])
        assert before == _origin(config, PAIR[0])
        file.write_text("another")
        assert before != _origin(config, PAIR[0])


def test_settings_of_a_study_that_cannot_be(tmp_path: Path) -> None:
    for update, said in (({"seed": -1}, "seed"), ({"runs": ()}, "runs")):
        with pytest.raises(ValueError, match=said):
            StudyConfig.model_validate(tiny(tmp_path, runs=PAIR).model_dump() | update)
    alone = StudyRun(name="concurrent", rule="sigmoid")  # scored by its own rule alone
    assert four_logs([alone]) == []


def test_two_runs_of_one_name(tmp_path: Path) -> None:
    config = tiny(tmp_path, runs=(PAIR[0], PAIR[0]))
    with pytest.raises(ConfigError, match="two runs have one name"):
        run_study(config, tmp_path, progress=silent)
