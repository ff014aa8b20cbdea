"""The cases of docs/evaluation.md where evaluators differ: what the reference and pycocotools give."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from evaluation.small_tables import found_of, truth_of
from oracles.open_images_evaluator import evaluate_literally

from wildbox.annotations import Annotations
from wildbox.detections import Detections
from wildbox.errors import InputWarning
from wildbox.evaluation import evaluate
from wildbox.evaluation.coco import coco_truth
from wildbox.vocabulary import Vocabulary

Box = tuple[float, float, float, float]
BOX: Box = (0, 0, 4, 4)
FAR: Box = (8, 8, 9, 9)
LOW: Box = (0, 0, 4, 3)
CAT = Vocabulary(("cat",))
MANY: list[Box] = [(i * 10, 0, i * 10 + 5, 5) for i in range(120)]

CASES: dict[str, tuple[list[Box], list[Box], list[tuple[float, Box]], float, float | None]] = {
    # truth, group-of boxes, detections, the reference's AP, COCO's AP50 (None: it has none)
    "nearest": ([BOX, LOW], [], [(0.9, BOX), (0.8, BOX)], 0.5, 1),
    "twice": ([BOX, BOX], [], [(0.9, BOX), (0.8, BOX)], 0.5, 1),
    "exactly half": ([BOX], [], [(0.9, (0, 0, 4, 2))], 1, 1),
    "one of three": ([BOX, FAR, (20, 20, 24, 24)], [], [(0.9, BOX)], 1 / 3, 34 / 101),
    "two in a group": ([FAR], [BOX], [(0.9, (0, 0, 1, 1)), (0.8, (1, 1, 2, 2)), (0.7, FAR)], 1, 1),
    "group not found": ([FAR], [BOX], [(0.9, FAR)], 0.5, 1),
    "group by score 0": ([FAR], [BOX], [(0.9, FAR), (0.0, (0, 0, 1, 1))], 0.5, 1),
    "two groups": ([], [BOX, BOX], [(0.9, BOX), (0.8, BOX)], 0.5, None),
    "duplicate in a group": ([BOX], [(0, 0, 10, 10)], [(0.9, BOX), (0.8, BOX)], 1, 1),
    "empty box": ([BOX], [], [(0.9, (1, 1, 1, 3)), (0.8, BOX)], 1, 0.5),
    "turned box": ([BOX], [], [(0.9, (3, 3, 1, 1)), (0.8, BOX)], 1, 0.5),
    "rows not by score": ([BOX], [], [(0.3, BOX), (0.8, LOW)], 1, 1),
    "many": (MANY, [], [(1 - i / 200, box) for i, box in enumerate(MANY)], 1, 84 / 101),
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        yield


def tables(case: str) -> tuple[Detections, Annotations]:
    truth, groups, found, _, _ = CASES[case]
    every = [*truth, *groups]
    flags = np.arange(len(every)) >= len(truth)
    table = truth_of(CAT, ("a",), [0] * len(every), every, [0] * len(every), flags, ((0, 0, True),))
    scores, boxes = [score for score, _ in found], [box for _, box in found]
    return found_of(CAT, ("a",), [0] * len(found), boxes, [0] * len(found), scores), table


@pytest.mark.parametrize("case", CASES)
def test_the_reference_and_wildbox(case: str) -> None:
    pair = tables(case)
    assert evaluate(*pair).ap[0] == pytest.approx(CASES[case][3], abs=1e-12)
    assert evaluate_literally(*pair)[0][0] == pytest.approx(CASES[case][3], abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_pycocotools(case: str) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    found, truth = tables(case)
    with contextlib.redirect_stdout(io.StringIO()):
        table = coco.COCO()
        table.dataset = coco_truth(truth).dataset.dataset
        table.createIndex()
        sides = np.hstack([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]])
        rows = np.column_stack([found.image + 1, sides, found.score, found.label + 1])
        run = cocoeval.COCOeval(table, table.loadRes(rows), "bbox")
        run.evaluate()
        run.accumulate()
    values = run.eval["precision"][0, :, 0, 0, -1]
    expected = CASES[case][4]
    assert values.mean() == pytest.approx(-1 if expected is None else expected, abs=1e-9)


def test_an_image_where_nothing_is_verified() -> None:
    truth = truth_of(CAT, ("a", "b"), [0], [BOX], [0], image_labels=((0, 0, True),))
    found = found_of(CAT, ("a", "b"), [0, 1], [BOX, BOX], [0, 0], [0.5, 0.9])
    assert evaluate(found, truth).ap[0] == 1.0
