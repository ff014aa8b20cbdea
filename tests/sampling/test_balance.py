"""Class probabilities and repeat factors against their formulas, written out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from wildbox.errors import ConfigError, InputError
from wildbox.sampling import class_probabilities, image_weights, repeat_factors, to_csr

HOLDINGS = st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=12).filter(
    lambda rows: {label for row in rows for label in row} != {0, 1}  # might be multi-hot rows
)
"""The labels of each image."""


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=8).filter(any),
    st.sampled_from([0, 0.3, 0.7, 1, 1.5, 8]),
)
def test_probabilities_equal_the_formula(counts: list[int], balance: float) -> None:
    occurring = sum(n > 0 for n in counts)
    products = [(1 / occurring) ** balance * (n / sum(counts)) ** (1 - balance) if n else 0.0 for n in counts]
    expected = np.array(products) / sum(products)
    found = class_probabilities(counts, balance=balance)
    assert_allclose(found, expected, rtol=1e-12)
    assert found.sum() == pytest.approx(1)


def test_named_balances() -> None:
    counts = [900, 90, 0, 10]
    assert_allclose(class_probabilities(counts, balance=0), [0.9, 0.09, 0, 0.01])
    assert_allclose(class_probabilities(counts, balance=1), [1 / 3, 1 / 3, 0, 1 / 3])
    rare_first = class_probabilities(counts, balance=2)
    assert rare_first[3] > rare_first[1] > rare_first[0] > rare_first[2] == 0


@pytest.mark.parametrize("balance", [8, 200])
def test_a_large_balance_does_not_overflow(balance: float) -> None:
    found = class_probabilities([10**9, 2, 0, 1], balance=balance)
    assert_allclose(found.sum(), 1)
    assert_allclose(found[3] / found[1], 2.0 ** (balance - 1), rtol=1e-9)


@pytest.mark.parametrize("balance", [-0.1, math.nan, math.inf])
def test_balance_must_be_a_number_of_at_least_0(balance: float) -> None:
    with pytest.raises(ConfigError, match=r"balance \(lambda\) is .*, expected a number of at least 0"):
        class_probabilities([1, 2], balance=balance)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1, -1], "class 1 has -1.0, expected a count of at least 0"),
        ([1, math.nan], "class 1 has nan"),
        ([0, 0], "no class occurs"),
        ([], "no class occurs"),
        ([[1, 2]], r"images per class: expected \(C,\), got \(1, 2\)"),
    ],
)
def test_counts_must_be_counts(counts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        class_probabilities(counts, balance=0.7)


@settings(max_examples=100, deadline=None)
@given(HOLDINGS, st.sampled_from([0.0, 0.001, 0.4, 1.0]))
def test_repeat_factors_equal_the_formula(holdings: list[list[int]], threshold: float) -> None:
    share = {
        c: sum(c in labels for labels in holdings) / len(holdings) for labels in holdings for c in labels
    }
    expected = [max([1.0, *(math.sqrt(threshold / share[c]) for c in labels)]) for labels in holdings]
    assert_allclose(repeat_factors(*to_csr(holdings), threshold=threshold), expected)


@pytest.mark.parametrize("threshold", [-0.1, math.nan])
def test_threshold_must_be_a_share(threshold: float) -> None:
    with pytest.raises(ConfigError, match="threshold"):
        repeat_factors([0, 1], [0], threshold=threshold)


@settings(max_examples=100, deadline=None)
@given(HOLDINGS.filter(any), st.sampled_from([0, 0.7, 1, 3.5]))
def test_image_weights_equal_the_formula(holdings: list[list[int]], balance: float) -> None:
    held_by = [sum(label in labels for labels in holdings) for label in range(6)]
    by_class = class_probabilities(held_by, balance=balance)
    expected = [sum(by_class[label] / held_by[label] for label in set(labels)) for labels in holdings]
    assert_allclose(image_weights(*to_csr(holdings), balance=balance), expected, rtol=1e-12)


def test_weights_of_frequency_are_numbers_of_labels() -> None:
    found = image_weights(*to_csr([[0], [0, 1, 1], [], [0, 1, 2]]), balance=0)
    assert_allclose(found, np.array([1, 2, 0, 3]) / 6)


def test_classes_beyond_those_named_are_refused() -> None:
    for function in (image_weights, repeat_factors):
        setting = {"balance": 1.0} if function is image_weights else {}
        with pytest.raises(InputError, match=r"entry 2 \(image 1\) is 5, expected 0\.\.4"):
            function([0, 1, 3], [0, 1, 5], classes=5, **setting)
