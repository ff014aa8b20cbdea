"""Confusion pairs and concurrent rates, against plain Python, and the rates' file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from labels.crowded_tables import CLASSES, SIX, TREE, crowded, table, tables
from oracles.concurrency import confusion_counts, matched_counts

from wildbox.annotations import Annotations
from wildbox.errors import ConfigError, InputError
from wildbox.labels.concurrency import (
    Concurrency,
    ConcurrentRates,
    concurrent_rates,
    confusion_pairs,
    count_concurrency,
    wilson_interval,
)
from wildbox.vocabulary import Hierarchy, Vocabulary

UNIT = [0.0, 0.0, 1.0, 1.0]


def nonzero(matrix: np.ndarray) -> Counter[tuple[int, int]]:
    return Counter({(int(i), int(j)): int(matrix[i, j]) for i, j in np.argwhere(matrix)})


def check(truth: Annotations) -> None:
    counted = count_concurrency(truth)
    assert nonzero(counted.confusion) == confusion_counts(truth)
    assert nonzero(counted.matched) == matched_counts(truth)
    assert counted.boxes.tolist() == [int((truth.label == c).sum()) for c in range(CLASSES)]
    assert (counted.confusion == counted.confusion.T).all()
    assert (counted.matched <= counted.boxes[:, None]).all()


@pytest.mark.parametrize("seed", range(8))
def test_counts_are_those_of_the_oracle(seed: int) -> None:
    check(crowded(seed))


@settings(max_examples=100, deadline=None)
@given(tables())
def test_counts_of_arbitrary_boxes(truth: Annotations) -> None:
    check(truth)


def test_parts_add_up() -> None:
    truth = crowded(5)
    both = count_concurrency(truth.select(range(7))) + count_concurrency(truth.select(range(7, 14)))
    whole = count_concurrency(truth)
    for name in ("boxes", "confusion", "matched"):
        assert (getattr(both, name) == getattr(whole, name)).all()


def test_a_box_with_two_partners_is_one_match_and_two_pairs() -> None:
    counted = count_concurrency(table([(0, UNIT, 0), (0, UNIT, 1), (0, UNIT, 1)], images=1))
    assert counted.confusion[0, 1] == counted.confusion[1, 0] == 2
    assert (counted.matched[0, 1], counted.matched[1, 0]) == (1, 2)
    assert confusion_pairs(counted)[0].ratio == 2
    assert concurrent_rates(counted, vocabulary=SIX).values.max() == 1


def counts_of(boxes: list[int], both: int) -> Concurrency:
    matrix = np.array([[0, both], [both, 0]])
    return Concurrency(np.array(boxes), matrix, matrix)


def test_min_ratio_is_strict() -> None:
    two = Vocabulary(("a", "b"))
    assert concurrent_rates(counts_of([10, 9], 1), vocabulary=two).values.tolist() == [[0, 0], [1 / 9, 0]]
    assert [(p.source, p.confusion) for p in confusion_pairs(counts_of([10, 9], 1))] == [(1, 0)]


def test_pairs_are_ranked_and_ties_go_by_index() -> None:
    confusion = np.array([[0, 5, 5], [5, 0, 0], [5, 0, 0]])
    pairs = confusion_pairs(Concurrency(np.array([10, 10, 5]), confusion, confusion))
    assert [(p.source, p.confusion, p.ratio) for p in pairs] == [
        (2, 0, 1.0),
        (0, 1, 0.5),
        (0, 2, 0.5),
        (1, 0, 0.5),
    ]


def test_the_hierarchy_adds_one_for_every_ancestor() -> None:
    counted = count_concurrency(table([(0, UNIT, 0), (0, UNIT, 5)], images=1))
    values = concurrent_rates(counted, vocabulary=SIX, hierarchy=TREE, min_ratio=5).values
    assert (values == TREE.is_ancestor).all()
    values = concurrent_rates(counted, vocabulary=SIX, hierarchy=TREE).values
    assert values[0].tolist() == [0, 0, 1, 1, 0, 1]
    assert values[1].tolist() == [0, 0, 1, 1, 1, 0]  # no boxes: the hierarchy alone


@pytest.mark.parametrize("seed", range(4))
def test_rates_are_shares(seed: int) -> None:
    truth = crowded(seed)
    matched, counts = matched_counts(truth), Counter(truth.label.tolist())
    values = concurrent_rates(count_concurrency(truth), vocabulary=SIX).values
    for i in range(CLASSES):
        for j in range(CLASSES):
            share = matched[i, j] / counts[i] if counts[i] else 0.0
            assert values[i, j] == (share if share > 0.1 else 0.0)


def test_planted_confusion_is_found_within_sampling_error() -> None:
    rng = np.random.default_rng(0)
    images = 4000
    also = rng.random(images) < 0.3
    rows = [(b, UNIT, 0) for b in range(images)] + [(b, UNIT, 5) for b in np.flatnonzero(also).tolist()]
    rates = concurrent_rates(count_concurrency(table(rows, images=images)), vocabulary=SIX)
    assert abs(rates.values[0, 5] - 0.3) < 4 * np.sqrt(0.3 * 0.7 / images)
    assert rates.values[5, 0] == 1


def test_wilson_ends_are_the_roots_of_their_equation() -> None:
    n, p, z = 20, 7 / 20, 1.959963984540054
    for end in map(float, wilson_interval(np.array(7), np.array(20))):
        assert abs(p - end) == pytest.approx(z * np.sqrt(end * (1 - end) / n), rel=1e-9)
    lower, upper = wilson_interval(np.array([0, 0, 3, 0]), np.array([1, 50, 3, 0]))
    assert (lower[[0, 1, 3]].tolist(), upper[[2, 3]].tolist()) == ([0, 0, 0], [1, 1])


def test_wilson_rates_are_cautious_where_support_is_small() -> None:
    two = Vocabulary(("a", "b"))
    rates = concurrent_rates(counts_of([2, 2000], 1), vocabulary=two, bound="wilson", min_ratio=0)
    assert 0 < rates.values[0, 1] < 0.5
    with pytest.raises(ConfigError, match="bound"):
        concurrent_rates(counts_of([2, 2], 1), vocabulary=two, bound="other")  # type: ignore[arg-type]


def test_sizes_and_ratios_are_checked() -> None:
    two = Vocabulary(("a", "b"))
    with pytest.raises(InputError, match="counts of 2 classes, expected 6"):
        concurrent_rates(counts_of([2, 2], 1), vocabulary=SIX)
    with pytest.raises(InputError, match="hierarchy of 3 classes"):
        concurrent_rates(counts_of([2, 2], 1), vocabulary=two, hierarchy=Hierarchy(3, []))
    with pytest.raises(ConfigError, match="min_ratio"):
        confusion_pairs(counts_of([2, 2], 1), min_ratio=float("nan"))


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_rates_outside_are_an_error(bad: float) -> None:
    values = np.zeros((CLASSES, CLASSES))
    values[1, 2] = bad
    with pytest.raises(InputError, match="rate of class 'b' with 'c'"):
        ConcurrentRates(SIX, values, np.zeros(CLASSES, np.int64), np.zeros((CLASSES, CLASSES), np.int64))


def test_rates_of_another_shape_or_diagonal_are_an_error() -> None:
    none = np.zeros((CLASSES, CLASSES), np.int64)
    with pytest.raises(InputError, match=r"shape \(6, 5\)"):
        ConcurrentRates(SIX, np.zeros((6, 5)), none[0], none)
    with pytest.raises(InputError, match="with itself"):
        ConcurrentRates(SIX, np.eye(CLASSES), none[0], none)


def rates_of(seed: int) -> ConcurrentRates:
    return concurrent_rates(count_concurrency(crowded(seed)), vocabulary=SIX, hierarchy=TREE)


def test_background_concurs_with_nothing_and_sharpening_keeps_zeros() -> None:
    rates = rates_of(0)
    padded = rates.with_background()
    assert padded.shape == (7, 7)
    assert not padded[-1].any()
    assert not padded[:, -1].any()
    assert (rates.sharpened(0).values == (rates.values > 0)).all()
    assert np.allclose(rates.sharpened(2).values, rates.values**2)
    assert (rates.sharpened(1).values == rates.values).all()
    assert rates.sharpened(0.5).matched is rates.matched


@pytest.mark.parametrize("gamma", [-0.1, float("nan")])
def test_sharpening_is_by_a_power_of_at_least_0(gamma: float) -> None:
    with pytest.raises(ConfigError, match=f"gamma is {gamma}, expected 0 or more"):
        rates_of(0).sharpened(gamma)


def test_rates_survive_their_file(tmp_path: Path) -> None:
    rates = rates_of(2)
    rates.write(tmp_path / "rates.csv")
    again = ConcurrentRates.read(tmp_path / "rates.csv", SIX)
    assert (again.values == rates.values).all()
    assert (again.matched == np.where(rates.values > 0, rates.matched, 0)).all()
    assert [p.name for p in tmp_path.iterdir()] == ["rates.csv"]


HEADER = "class,other,rate,boxes,matched\n"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", None, "the file is empty"),
        ("a,b\n", 1, "missing column class"),
        ("class,other,boxes,matched\n", 1, "missing column rate"),
        (HEADER + "a,b,0.5,2,1\na,z,0.5,2,1\n", 3, "unknown class 'z'"),
        (HEADER + "a,b,1.5,2,1\n", 2, "rate 1.5"),
        (HEADER + "a,b,nan,2,1\n", 2, "rate nan"),
        (HEADER + "a,b,half,2,1\n", 2, "could not convert"),
        (HEADER + "a,b,0.5,2\n", 2, "4 fields, expected 5"),
        (HEADER + "a,b,0.5,2,1,9\n", 2, "6 fields, expected 5"),
        (HEADER + "a,b,0.5,2,3\n", 2, "3 matched of 2"),
        (HEADER + f"a,b,0.5,{'9' * 30},3\n", 2, "3 matched of 999"),
        (HEADER + "a,a,0.5,2,1\n", 2, "itself"),
        (HEADER + "a,b,0.5,2,1\na,b,0.5,2,1\n", 3, "second time"),
    ],
)
def test_a_bad_rates_file_is_named_with_its_line(
    tmp_path: Path, text: str, line: int | None, message: str
) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        ConcurrentRates.read(path, SIX)
    assert (caught.value.path, caught.value.line) == (path, line)


def test_a_rates_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        ConcurrentRates.read(tmp_path / "absent.csv", SIX)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        ConcurrentRates.read(tmp_path / "binary.csv", SIX)
