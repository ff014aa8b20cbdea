"""Runs side by side."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation.small_tables import draw, found_of

from wildbox.annotations import Annotations
from wildbox.detections import Detections
from wildbox.errors import InputError, InputWarning
from wildbox.evaluation import EvaluationResult, compare, evaluate
from wildbox.evaluation.bootstrap import Interval
from wildbox.evaluation.comparison import read_run
from wildbox.evaluation.matches import write_matches
from wildbox.evaluation.result import gains
from wildbox.vocabulary import Vocabulary

LETTERS = Vocabulary(("/m/a", "/m/b", "/m/c", "/m/d"), ("Ant", "Bee, wild", "Cat", "Cat"))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        yield


def result(*ap: float) -> EvaluationResult:
    return EvaluationResult(LETTERS, np.array(ap), np.array([3, 1, 0, 2]), np.array([5, 0, 7, 2]), "voc")


OLD, MIDDLE, NEW = (
    result(0.1, 0.5, np.nan, 1 / 3),
    result(0.2, np.nan, 0.5, 0.3),
    result(0.6, 1.0, np.nan, 0.25),
)


def test_several_runs(tmp_path: Path) -> None:
    compare(["x", "y", "z"], [OLD, MIDDLE, NEW]).write(tmp_path / "all.csv")
    assert (tmp_path / "all.csv").read_text().splitlines() == [
        "class_id,class_name,ap_x,ap_y,ap_z,gain",
        "/m/a,Ant,0.1,0.2,0.6,0.5",
        "/m/d,Cat,0.3333333333333333,0.3,0.25,-0.08333333333333331",
    ]
    compare(["x", "x"], [OLD, NEW]).write(tmp_path / "two.csv")
    lines = (tmp_path / "two.csv").read_text().splitlines()
    assert lines[0] == "class_id,class_name,ap_1_x,ap_2_x,gain"
    assert [line.split(",")[0] for line in lines[1:]] == ["/m/a", "/m/b", "/m/d"]


def test_groups(tmp_path: Path) -> None:
    groups = {"group": ["head", "tail", "tail", "tail"], "concurring": ["yes", "", "no", "no"]}
    found = compare(["x", "z"], [OLD, NEW], groups=groups)
    means = {name: (count, *map(float, ap), gain) for name, count, ap, gain in found.means()}
    assert list(means) == ["all", "head", "tail", "no", "yes"]
    assert means["all"] == pytest.approx(
        (3, (0.1 + 0.5 + 1 / 3) / 3, 1.85 / 3, (1.85 - 0.1 - 0.5 - 1 / 3) / 3)
    )
    assert means["tail"] == pytest.approx((2, (0.5 + 1 / 3) / 2, 0.625, 0.625 - (0.5 + 1 / 3) / 2))
    assert means["no"][0] == 1
    found.write(tmp_path / "gains.csv")
    lines = (tmp_path / "gains.csv").read_text().splitlines()
    assert lines[0] == "class_id,class_name,ap_x,ap_z,gain,group,concurring"
    assert lines[2].endswith("0.5,1.0,0.5,tail,")
    found.write_means(tmp_path / "means.csv")
    assert (tmp_path / "means.csv").read_text().startswith("group,classes,ap_x,ap_z,gain\nall,3,")


def test_runs_that_do_not_compare() -> None:
    other = EvaluationResult(Vocabulary(("x",)), np.zeros(1), np.zeros(1, int), np.zeros(1, int))
    with pytest.raises(InputError, match="different classes"):
        compare(["a", "b"], [OLD, other])
    with pytest.raises(InputError, match="two or more"):
        compare(["x"], [OLD])
    more = replace(OLD, truth_boxes=np.array([3, 2, 0, 2]))
    with pytest.raises(InputError, match=r"different truths: class '/m/b' has 1 and 2 boxes: x and z"):
        compare(["x", "y", "z"], [OLD, NEW, more])
    with pytest.raises(InputError, match=r"different truths.*: the two"):
        gains(OLD, more)
    coco, voc = (replace(OLD, protocol=name) for name in ("coco", "voc"))
    with pytest.raises(InputError, match="different protocols, coco and voc: x and z"):
        compare(["x", "z"], [coco, voc])
    log = replace(OLD, protocol="")  # as it is read
    assert len(compare(["x", "z"], [coco, log]).names) == 2
    small, other = (replace(log, columns={name: np.zeros(4)}) for name in ("AP50", "best_f1"))
    with pytest.raises(InputError, match="different protocols, AP50 and best_f1: x and z"):
        compare(["x", "z"], [small, other])
    with pytest.raises(InputError, match="another number of classes"):
        compare(["x", "z"], [OLD, NEW], groups={"g": ["head"]})


@pytest.mark.parametrize(
    ("setting", "value"), [("verified_only", False), ("iou", 0.75), ("group_of_weight", 0.5)]
)
def test_matches_by_other_settings_do_not_compare(setting: str, value: Any, tmp_path: Path) -> None:
    """Also as they are read again."""
    pair = draw(np.random.default_rng(21), levels=50, group_of=0.0)
    runs = [evaluate(*pair), evaluate(*pair, **{setting: value})]
    for name, run in zip("ab", runs, strict=True):
        assert run.matches is not None
        write_matches(run.matches, tmp_path / f"{name}.npz")
    for ends in (runs, [read_run(tmp_path / "a.npz"), read_run(tmp_path / "b.npz")]):
        with pytest.raises(InputError, match=f"different {setting}, .* and {value}: x and z"):
            compare(["x", "z"], ends)


@pytest.mark.parametrize("weight", [0, 0.5, 1])
def test_matches_keep_the_weight_of_group_of_boxes(tmp_path: Path, weight: float) -> None:
    run = evaluate(*draw(np.random.default_rng(21), levels=50, group_of=0.6), group_of_weight=weight)
    assert run.matches is not None
    write_matches(run.matches, tmp_path / "run.npz")
    again = read_run(tmp_path / "run.npz")
    np.testing.assert_array_equal(again.ap, run.ap)
    for name, column in run.columns.items():
        np.testing.assert_array_equal(again.columns[name], column)


def test_intervals_where_runs_know_their_matches(tmp_path: Path) -> None:
    found, truth = draw(np.random.default_rng(21), levels=50, group_of=0.2)
    everywhere = (*found.image_ids, "unknown")
    keep = np.arange(len(found)) % 3 > 0
    columns = (np.where(keep, found.image, 3), found.boxes, found.label, found.score)
    less = found_of(found.vocabulary, everywhere, *columns)  # a third of them stray to an image of their own
    for name, detections in (("less", less), ("more", found)):
        run = evaluate(detections, truth)
        assert run.matches is not None
        write_matches(run.matches, tmp_path / f"{name}.npz")
        run.write(tmp_path / f"{name}.csv")
    runs = [read_run(tmp_path / f"{name}.npz") for name in ("less", "more")]
    np.testing.assert_array_equal(runs[1].ap, evaluate(found, truth).ap)
    both = compare(["less", "more"], runs, samples=50, groups={"kind": ["a", "a", "b", "b"]})
    for _, count, means, gain in both.means():
        assert isinstance(gain, Interval)
        assert count > 0
        assert gain.value == pytest.approx(means[1] - means[0])
        assert gain.low <= gain.value + 1e-12
        assert gain.high >= gain.value - 1e-12
    both.write(tmp_path / "gains.csv")
    both.write_means(tmp_path / "means.csv")
    assert ",gain,gain_low,gain_high,kind\n" in (tmp_path / "gains.csv").read_text()
    assert (
        (tmp_path / "means.csv")
        .read_text()
        .startswith("group,classes,ap_less,ap_more,gain,gain_low,gain_high\n")
    )
    logs = [read_run(tmp_path / f"{name}.csv") for name in ("less", "more")]
    assert compare(["less", "more"], logs).gain is None
    assert compare(["less", "more"], runs, samples=0).gain is None
    elsewhere = evaluate(found, truth.select([0, 1]))
    with pytest.raises(InputError, match="different truths"):
        compare(["here", "there"], [runs[1], elsewhere])


def test_an_image_that_only_the_last_run_names() -> None:
    cat, boxes = Vocabulary(("cat",)), np.tile([0.0, 0.0, 1.0, 1.0], (2, 1))
    rows, score = (np.arange(2), boxes, np.zeros(2, int)), np.array([0.9, 0.8])
    truth = Annotations(cat, ("a", "b"), *rows)
    runs = [evaluate(Detections(cat, images, *rows, score), truth) for images in (("a", "b"), ("b", "z"))]
    found = compare(["x", "y"], runs, samples=20)
    assert found.gain is not None
    assert found.gain.mean().value == pytest.approx(runs[1].mean_ap - runs[0].mean_ap)


def test_ties_of_gains_go_by_id(tmp_path: Path) -> None:
    letters = Vocabulary(("b", "a"))
    one, two = (
        EvaluationResult(letters, np.full(2, x), np.ones(2, int), np.ones(2, int)) for x in (0.25, 0.5)
    )
    assert [row.class_id for row in gains(one, two)] == ["a", "b"]
    compare(["x", "y"], [one, two]).write(tmp_path / "gains.csv")
    assert [line[0] for line in (tmp_path / "gains.csv").read_text().splitlines()[1:]] == ["a", "b"]
