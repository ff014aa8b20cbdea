"""The bootstrap against its definition: images that are drawn twice are there twice."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from evaluation.small_tables import draw, found_of, tables, truth_of
from hypothesis import given, settings
from hypothesis import strategies as st

from wildbox.annotations import Annotations
from wildbox.detections import Detections
from wildbox.errors import ConfigError, InputError, InputWarning
from wildbox.evaluation import evaluate, protocol_named
from wildbox.evaluation.bootstrap import Bootstrap, _interval, bootstrap
from wildbox.evaluation.matches import Matches
from wildbox.vocabulary import Vocabulary


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        yield


def drawn_images(
    detections: Detections, truth: Annotations, images: list[int]
) -> tuple[Detections, Annotations]:
    """The tables of some images, each as often as it is named; copies stand beside one another by their ids."""
    ids = tuple(f"{truth.image_ids[i]}#{k}" for k, i in enumerate(images))
    rows = [
        np.flatnonzero(np.array(detections.image_ids)[detections.image] == truth.image_ids[i]) for i in images
    ]
    row = np.concatenate([np.zeros(0, int), *rows])
    number = np.repeat(np.arange(len(images)), [len(part) for part in rows])
    columns = (detections.boxes[row], detections.label[row], detections.score[row])
    boxes = [np.flatnonzero(truth.image == i) for i in images]
    box = np.concatenate([np.zeros(0, int), *boxes])
    at = np.repeat(np.arange(len(images)), [len(part) for part in boxes])
    labels = truth.image_labels
    verified = tuple(
        (k, int(labels.label[v]), bool(labels.is_positive[v]))
        for k, i in enumerate(images)
        for v in np.flatnonzero(labels.image == i)
    )
    table = truth_of(
        truth.vocabulary, ids, at, truth.boxes[box], truth.label[box], truth.is_group_of[box], verified
    )
    return found_of(detections.vocabulary, ids, number, *columns), table


@given(tables(levels=10**9), st.sampled_from(["open-images-challenge", "voc"]), st.integers(0, 99))
@settings(max_examples=40)
def test_a_sample_is_an_evaluation_of_the_drawn_images(
    pair: tuple[Detections, Annotations], name: str, seed: int
) -> None:
    found = bootstrap(protocol_named(name).match(*pair), samples=3, seed=seed)
    np.testing.assert_allclose(found.ap, evaluate(*pair, protocol=name).ap, rtol=0, atol=1e-12)
    for s in range(3):
        images = np.random.default_rng([seed, s]).integers(0, 3, 3)
        ap = evaluate(*drawn_images(*pair, images.tolist()), protocol=name).ap
        np.testing.assert_allclose(found.samples[s], ap, rtol=0, atol=1e-12)


def matches_of(rng: np.random.Generator, images: int, chance: float, *, shift: int = 0) -> Matches:
    """One box an image, found with some chance, else a false positive; scores are random."""
    cat = Vocabulary(("cat",))
    ids = tuple(f"{i + shift:04d}" for i in range(images))
    boxes = np.where(rng.random((images, 1)) < chance, [[0.0, 0, 1, 1]], [[5.0, 5, 6, 6]])
    every, none = np.arange(images), np.zeros(images, int)
    truth = truth_of(cat, ids, every, np.tile([0.0, 0, 1, 1], (images, 1)), none)
    return protocol_named("voc").match(found_of(cat, ids, every, boxes, none, rng.random(images)), truth)


def test_the_interval_covers_about_as_often_as_it_says() -> None:
    # 0.507 is the mean over 200 other sets of 400 such images; precision is 0.7 at every recall up to 0.7, and the
    # envelope adds a little.
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        interval = bootstrap(matches_of(rng, 400, 0.7), samples=200).mean(level=0.9)
        assert interval.low < interval.value < interval.high
        covered += interval.low <= 0.507 <= interval.high
    assert 78 <= covered <= 95


def test_differences_are_taken_sample_by_sample() -> None:
    rng = np.random.default_rng(2)
    low, high = (bootstrap(matches_of(rng, 300, chance), samples=100) for chance in (0.5, 0.8))
    gain = high.minus(low)
    assert gain.mean().value == pytest.approx(high.mean().value - low.mean().value)
    np.testing.assert_allclose(gain.samples, high.samples - low.samples)
    assert gain.mean().low > 0
    nothing = high.minus(high).mean()
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)
    assert gain.of_class(0) == gain.mean()
    with pytest.raises(InputError, match="different images"):
        high.minus(bootstrap(matches_of(rng, 300, 0.5, shift=1), samples=100))
    with pytest.raises(InputError, match="different images"):
        high.minus(bootstrap(matches_of(rng, 300, 0.5), samples=100, seed=1))


def test_the_interval_lies_around_the_number() -> None:
    # Samples lie 0.2 above the number: their deviations from their own mean count.
    few = Bootstrap(np.array([0.5]), np.array([[0.6], [0.7], [0.8]]), (0, 3, ("a",)))
    interval = few.mean(level=0.5)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.5, 0.45, 0.55))


def test_an_interval_ends_where_the_number_does() -> None:
    few = Bootstrap(
        np.array([0.1, 0.9]), np.array([[0.0, 0.6], [0.6, 1.0]]), (0, 2, ("a",))
    )  # +- 0.3, +- 0.2
    low, high = (few.of([c]).mean(level=0.9999) for c in (0, 1))
    assert (low.low, low.high) == pytest.approx((0, 0.4), abs=1e-3)
    assert (high.low, high.high) == pytest.approx((0.7, 1), abs=1e-3)
    assert few.of_class(0, level=0.9999) == low
    other = Bootstrap(few.ap, few.samples[::-1], few.key)
    gain = few.minus(other).of_class(0, level=0.9999)  # may be below 0
    assert (gain.low, gain.high) == pytest.approx((-0.6, 0.6), abs=1e-3)
    assert few.minus(other).of([0]).mean(level=0.9999) == gain
    far = Bootstrap(np.array([1.0]), np.array([[1.0], [0.0]]), few.key).minus(
        Bootstrap(np.array([0.0]), np.array([[0.0], [1.0]]), few.key)
    )
    assert far.of_class(0, level=0.9999).high == 1


def test_same_samples_for_any_order_and_any_threads() -> None:
    pair = draw(np.random.default_rng(4), levels=5, group_of=0.3)
    rules = protocol_named("open-images-challenge")
    one = bootstrap(rules.match(*pair), samples=20)
    other = bootstrap(rules.match(pair[0], pair[1].select([2, 0, 1])), samples=20)
    np.testing.assert_array_equal(one.samples, other.samples)
    assert one.key == other.key


def test_what_cannot_be_sampled() -> None:
    matches = matches_of(np.random.default_rng(0), 5, 0.5)
    with pytest.raises(ConfigError, match="0 samples"):
        bootstrap(matches, samples=0)
    with pytest.raises(ConfigError, match="level"):
        bootstrap(matches, samples=1).mean(level=1)
    cat = Vocabulary(("cat",))
    empty = found_of(cat, (), [], np.zeros((0, 4)), [], []), truth_of(cat, (), [], np.zeros((0, 4)), [])
    with pytest.raises(InputError, match="no images"):
        bootstrap(protocol_named("voc").match(*empty))
    with pytest.raises(InputError, match="eleven"):
        bootstrap(protocol_named("voc-11-point").match(*empty))
    nothing = Bootstrap(np.array([np.nan]), np.full((4, 1), np.nan), (0, 4, ("a",)))
    assert np.isnan(nothing.of_class(0).low)


def test_an_interval_has_the_deviations_from_the_mean_of_the_samples() -> None:
    one = _interval(0.5, np.array([0.0, 0.0, 0.0, 0.0, 1.0]), 0.5, (0, 1))  # mean 0.2, median 0
    assert (one.value, one.low, one.high) == pytest.approx((0.5, 0.3, 0.3))


def test_classes_without_truth_are_in_no_mean() -> None:
    few = Bootstrap(
        np.array([0.5, np.nan, 0.1]), np.array([[0.4, np.nan, 0.2], [np.nan, np.nan, 0.1]]), (0, 2, ("a",))
    )
    interval = few.mean(level=0.5)  # of samples 0.3 and 0.1
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.3, 0.25, 0.35))


def test_samples_without_truth_of_a_class_are_left_out() -> None:
    few = Bootstrap(np.array([0.5]), np.array([[0.4], [np.nan], [0.6]]), (0, 3, ("a",)))
    interval = few.of_class(0, level=0.5)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.5, 0.45, 0.55))


@pytest.mark.parametrize("chosen", [[2, 1], [False, True, True]])
def test_some_classes_keep_their_own_samples(chosen: list[int] | list[bool]) -> None:
    every = Bootstrap(np.array([0.1, 0.2, 0.3]), np.array([[1.0, 2.0, 3.0]]), (0, 1, ("a",)))
    some = every.of(chosen)
    assert (some.ap * 10).tolist() == pytest.approx(some.samples[0].tolist())
    assert sorted(some.samples[0].tolist()) == [2, 3]


def test_a_group_that_was_found_counts_by_its_weight() -> None:
    cat, box, far = Vocabulary(("cat",)), [0.0, 0.0, 4.0, 4.0], [8.0, 8.0, 9.0, 9.0]
    truth = truth_of(cat, ("a",), [0, 0], [box, far], [0, 0], [True, False])
    found = found_of(cat, ("a",), [0, 0, 0], [box, [5.0, 5.0, 6.0, 6.0], far], [0, 0, 0], [0.9, 0.8, 0.7])
    settings: dict[str, Any] = {"verified_only": False, "group_of_weight": 0.5}
    expected = evaluate(found, truth, protocol="open-images-challenge", **settings).ap
    matches = protocol_named("open-images-challenge", **settings).match(found, truth)
    assert bootstrap(matches, samples=1).ap == pytest.approx(expected)


def test_samples_of_other_images_have_no_difference() -> None:
    few = matches_of(np.random.default_rng(5), 4, 0.5)
    more = (*few.image_ids, "z")
    drawn, wider = bootstrap(few, samples=3), bootstrap(few, samples=3, image_ids=more)
    with pytest.raises(InputError, match="different images"):
        drawn.minus(wider)
    other = matches_of(np.random.default_rng(6), 5, 0.5)
    both = {*few.image_ids, *other.image_ids}
    one, two = (bootstrap(matches, samples=3, image_ids=both) for matches in (few, other))
    assert one.minus(two).key == one.key
