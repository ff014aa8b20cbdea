"""The curve of precision over recall and what is read from it: numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import wildbox.threads as threads_module
from wildbox.annotations import Floats
from wildbox.evaluation.average_precision import average_precisions, best_f1, eleven_point
from wildbox.evaluation.curves import curves
from wildbox.evaluation.matches import Matches
from wildbox.evaluation.matching import FALSE, GROUP, IGNORED, TRUE
from wildbox.vocabulary import Vocabulary


def matches_of(
    outcomes: list[int], truth: list[bool], *, score: list[float] | None = None, weight: float = 1.0
) -> Matches:
    """One class in one image: outcomes by falling score, and for each box of the truth whether it is a group."""
    d, n = len(outcomes), len(truth)
    return Matches(
        Vocabulary(("cat",)),
        ("a",),
        "open-images-challenge",
        weight,
        np.array([0, d]),
        np.zeros(d, np.uint16),
        np.linspace(0.9, 0.1, d) if score is None else np.array(score),
        np.array(outcomes, np.int8),
        np.zeros(n, np.int32),
        np.zeros(n, np.uint16),
        np.array(truth, bool),
    )


@pytest.mark.parametrize(
    ("outcomes", "truth", "weight", "expected"),
    [
        ([], [False] * 3, 1, 0.0),
        ([FALSE, FALSE], [False] * 3, 1, 0.0),
        ([TRUE, TRUE], [False] * 2, 1, 1.0),
        ([TRUE, TRUE, FALSE, FALSE], [False] * 2, 1, 1.0),  # what follows the last true one does not matter
        ([FALSE, TRUE], [False], 1, 0.5),
        (
            [TRUE, FALSE, FALSE, TRUE, TRUE],
            [False] * 4,
            1,
            0.25 * 1 + 0.25 * 3 / 5 + 0.25 * 3 / 5,
        ),  # 2/4 raised
        ([GROUP, FALSE, TRUE], [True, False], 0.5, 0.5 / 1.5 * 1 + 1 / 1.5 * 1.5 / 2.5),
        ([IGNORED, FALSE, IGNORED, TRUE], [False], 1, 0.5),
        ([GROUP, TRUE], [True, False], 0, 1.0),
    ],
)
def test_worked_by_hand(outcomes: list[int], truth: list[bool], weight: float, expected: float) -> None:
    ap = average_precisions(curves(matches_of(outcomes, truth, weight=weight)))
    assert ap[0] == pytest.approx(expected, abs=1e-15)


def test_no_truth_no_average_precision() -> None:
    assert np.isnan(average_precisions(curves(matches_of([FALSE], [])))[0])


def test_points_of_the_curve() -> None:
    curve = curves(matches_of([FALSE, TRUE, FALSE, TRUE], [False] * 4))
    assert curve.precision.tolist() == [1 / 2, 2 / 4]
    assert curve.recall.tolist() == [1 / 4, 2 / 4]


def test_equal_scores_stand_in_the_order_of_rows_of_an_image() -> None:
    for outcomes, before in (([TRUE, FALSE, TRUE], [0, 1]), ([FALSE, TRUE, TRUE], [1, 1])):
        curve = curves(matches_of(outcomes, [False] * 2, score=[0.5, 0.5, 0.5]))
        assert curve.false_before.tolist() == before
        assert curve.false_until.tolist() == [1, 1]  # a threshold takes them all


def test_best_f1() -> None:
    # F1 at 0.9, 0.5, 0.3: 2/5, 4/7 (two true, one false of four), 6/9.
    scores = [0.9, 0.5, 0.5, 0.4, 0.3]
    f1, threshold = best_f1(curves(matches_of([TRUE, TRUE, FALSE, FALSE, TRUE], [False] * 4, score=scores)))
    assert (f1[0], threshold[0]) == (6 / 9, 0.3)
    # All of an equal score are taken, so 0.5 gives one true and three false ones.
    tied = matches_of([TRUE, FALSE, FALSE, FALSE, TRUE], [False] * 2, score=[0.5] * 4 + [0.4])
    f1, threshold = best_f1(curves(tied))
    assert (f1[0], threshold[0]) == (4 / 7, 0.4)
    # Of equal F1, 2/3 and 4/6, the highest score.
    f1, threshold = best_f1(curves(matches_of([TRUE, FALSE, FALSE, TRUE], [False] * 2)))
    assert (f1[0], threshold[0]) == (2 / 3, 0.9)
    f1, threshold = best_f1(curves(matches_of([FALSE], [False])))
    assert f1[0] == 0
    assert np.isnan(threshold[0])
    assert np.isnan(best_f1(curves(matches_of([FALSE], [])))[0][0])


def test_eleven_points() -> None:
    assert eleven_point(np.array([1.0, 0.8, 0.9]), np.array([0.2, 0.5, 0.8])) == pytest.approx(
        (3 + 6 * 0.9) / 11
    )
    assert eleven_point(np.zeros(0), np.zeros(0)) == 0.0


SCORES: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "spread": lambda rng, d: rng.random(d),
    "few": lambda rng, d: rng.integers(0, 4, d) / 3,
    "crowded": lambda rng, d: rng.random(d) * 1e-9 + (rng.random(d) < 0.1),
    "one": lambda rng, d: np.full(d, 0.25),
}


@pytest.mark.parametrize(("threads", "many"), [(1, 2**31), (3, 2**31), (3, 0)])
@pytest.mark.parametrize("scores", SCORES)
def test_curves_are_those_of_sorting_everything(
    scores: str, threads: int, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", threads)
    monkeypatch.setattr(threads_module, "WORTH_A_THREAD", 100)
    monkeypatch.setitem(curves.__globals__, "BLOCK", 700)
    monkeypatch.setitem(curves.__globals__, "MANY", many)
    rng = np.random.default_rng(3)
    d, n, classes, images = 5_000, 900, 3, 40
    matches = Matches(
        Vocabulary(tuple("abc")),
        tuple(f"{i:02d}" for i in rng.permutation(images)),  # not in the order of ids
        "open-images-challenge",
        0.5,
        np.concatenate([[0], np.sort(rng.integers(0, d, images - 1)), [d]]),
        rng.integers(0, classes, d).astype(np.uint16),
        SCORES[scores](rng, d),
        rng.choice([FALSE, TRUE, GROUP, IGNORED], d, p=[0.6, 0.2, 0.1, 0.1]).astype(np.int8),
        np.zeros(n, np.int32),
        rng.integers(0, classes, n).astype(np.uint16),
        rng.random(n) < 0.2,
    )
    curve = curves(matches)
    assert curve.false_before.dtype == (np.int64 if many == 0 else np.int32)
    ids = np.repeat(matches.image_ids, np.diff(matches.offsets))
    order = np.lexsort((np.arange(d), ids, -matches.score))
    for c in range(classes):
        rows = [k for k in order if matches.label[k] == c and matches.outcome[k] < IGNORED]
        expected, worth = [], 0.0
        for place, k in enumerate(rows):
            if matches.outcome[k] != FALSE:
                before = sum(matches.outcome[j] == FALSE for j in rows[:place])
                until = sum(
                    matches.outcome[j] == FALSE and matches.score[j] >= matches.score[k] for j in rows
                )
                worth += {TRUE: 1, GROUP: 0.5}[matches.outcome[k]]
                expected.append((matches.score[k], worth, before, until))
        part = slice(curve.offsets[c], curve.offsets[c + 1])
        columns = (curve.score, curve.true_before, curve.false_before, curve.false_until)
        assert list(zip(*(column[part] for column in columns), strict=True)) == expected
