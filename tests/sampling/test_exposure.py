"""What training would see, against what the sampler draws and against sums over lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from wildbox.errors import ConfigError, InputError
from wildbox.sampling import (
    BalancedSampler,
    class_probabilities,
    exposure,
    exposure_of_counts,
    largest_balance,
    to_csr,
)
from wildbox.sampling.exposure import Exposure, by_balance, of_rarest, write_exposures
from wildbox.vocabulary import Vocabulary

HOLDINGS = [[0]] * 40 + [[0, 1]] * 12 + [[1, 2, 2]] * 3 + [[4]] + [[]] * 4
ROWS = to_csr(HOLDINGS)


@pytest.mark.parametrize("balance", [None, 0.0, 0.7, 1.3])
def test_is_what_the_sampler_draws(balance: float | None) -> None:
    draws = 60_000
    found = exposure(*ROWS, balance=balance, draws=draws)
    drawn = BalancedSampler(*ROWS, seed=0, balance=balance).draws(0, draws)
    each = np.bincount(drawn, minlength=60)
    seen = np.array([each[[label in held for held in HOLDINGS]].sum() for label in range(5)])
    # five standard deviations of a binomial count
    assert (abs(each - found.images) <= 5 * np.sqrt(found.images)).all()
    assert (abs(seen - found.seen) <= 5 * np.sqrt(found.seen)).all()
    assert found.images.sum() == pytest.approx(draws)


@given(st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=12))
def test_sums_over_the_images_of_a_class(holdings: list[list[int]]) -> None:
    holdings.append([6])  # rows of 0 and 1 alone may be multi-hot ones, which are refused
    found = exposure(*to_csr(holdings), balance=0.7, draws=1000, max_repeats=100, classes=7)
    for label in range(7):
        own = [found.images[b] for b, held in enumerate(holdings) if label in held]
        assert found.images_per_class[label] == len(own)
        assert_allclose(found.seen[label], sum(own))
        assert_allclose(found.most[label], max(own, default=0))
        assert_allclose(found.repeats[label], sum(own) / max(len(own), 1))
        assert found.marked[label] == (found.repeats[label] > 100)
    assert found.images_marked == sum(draws > 100 for draws in found.images)


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any), st.sampled_from([0.0, 0.5, 1.0, 2.0])
)
def test_of_counts_is_the_formula(counts: list[int], balance: float) -> None:
    found = exposure_of_counts(counts, balance=balance, draws=500)
    assert_allclose(found.seen, 500 * class_probabilities(counts, balance=balance))
    assert found.images_per_class.tolist() == counts


def test_counts_alone_are_a_lower_bound() -> None:
    counts = exposure(*ROWS, balance=0.7, draws=100).images_per_class
    assert (
        exposure_of_counts(counts, balance=0.7, draws=100).seen
        <= exposure(*ROWS, balance=0.7, draws=100).seen + 1e-9
    ).all()


def test_more_balance_repeats_rare_images_more() -> None:
    several = [exposure(*ROWS, balance=b, draws=300, max_repeats=20) for b in (0, 0.4, 0.8, 1.2)]
    rarest = [e.repeats[4] for e in several]
    assert rarest == sorted(rarest)
    assert [bool(e.marked[4]) for e in several] == [False, False, True, True]
    assert largest_balance(several) == 0.4
    assert largest_balance(several[2:]) is None
    assert largest_balance([exposure(*ROWS, balance=None, draws=300)]) is None


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"draws": 0}, ConfigError, "draws = 0"),
        ({"max_repeats": 0.0}, ConfigError, "max_repeats = 0.0"),
        ({"max_repeats": float("nan")}, ConfigError, "max_repeats = nan"),
        ({"balance": -1.0}, ConfigError, "lambda"),
        ({"classes": 3}, InputError, r"is 4, expected 0\.\.2"),
    ],
)
def test_refuses(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        exposure(*ROWS, **{"balance": 0.7, "draws": 10, **given})


def test_refuses_no_image_and_what_are_no_counts() -> None:
    with pytest.raises(InputError, match="at least one image"):
        exposure([0], [], balance=None, draws=10)
    for counts in ([1.5], [-1], [[1]]):
        with pytest.raises(InputError, match="images per class"):
            exposure_of_counts(counts, balance=1.0, draws=10)


def test_as_many_repeats_as_allowed_are_not_marked() -> None:
    one = exposure([0, 1, 2], [0, 1], balance=None, draws=40, max_repeats=20)
    assert one.repeats.tolist() == [20, 20]
    assert not one.marked.any()
    assert one.images_marked == 0


NAMED = Vocabulary(("/c", "/b", "/a"), ("cup", "box", "axe"))


def three_classes() -> list[Exposure]:
    """Boxes on three of four images, on the last of these the cup too; no axe."""
    offsets, labels = [0, 1, 2, 4, 4], [1, 1, 1, 0]
    return [exposure(offsets, labels, balance=b, draws=4, max_repeats=2, classes=3) for b in (None, 1)]


def test_what_people_read_of_the_rarest_classes_and_of_all_images() -> None:
    header, rows = of_rarest(three_classes(), NAMED, 2)
    assert header == ["class", "images", "none", "1"]
    assert rows == [["cup", "1", "1", "2.67 !"], ["box", "3", "1", "1.33"]]
    assert of_rarest(three_classes(), NAMED, 1)[1] == rows[:1]
    # the images of boxes alone are drawn two thirds of a time, the last one never; exactly once is not less
    assert by_balance(three_classes())[1] == [
        ["none", "0", "0", "1", "0.0%"],
        ["1", "1", "1", "2.67", "75.0%"],
    ]


def test_rows_of_a_file_of_exposures(tmp_path: Path) -> None:
    write_exposures(tmp_path / "lambda.csv", three_classes(), NAMED)
    assert (tmp_path / "lambda.csv").read_text(encoding="utf-8").splitlines() == [
        "lambda,class_id,class_name,images,seen,repeats,most_repeats,marked",
        "none,/c,cup,1,1,1,1,0",
        "none,/b,box,3,3,1,1,0",
        "none,/a,axe,0,0,0,0,0",
        "1,/c,cup,1,2.66667,2.66667,2.66667,1",
        "1,/b,box,3,4,1.33333,2.66667,0",
        "1,/a,axe,0,0,0,0,0",
    ]


def test_lambda_0_is_a_lambda() -> None:
    assert largest_balance([exposure_of_counts([1, 9], balance=0, draws=10)]) == 0


def test_more_than_20_repeats_are_too_many_unless_told_otherwise() -> None:
    assert [exposure([0, 1], [0], balance=None, draws=draws).marked[0] for draws in (20, 21)] == [False, True]
    assert [exposure_of_counts([1], balance=1, draws=draws).marked[0] for draws in (20, 21)] == [False, True]
    told = [exposure_of_counts([1], balance=1, draws=draws, max_repeats=4).marked[0] for draws in (4, 5)]
    assert told == [False, True]
