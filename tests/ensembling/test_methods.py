"""Fusion, NMS and Soft-NMS against their literal forms, torchvision, and cases worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from ensembling.several_models import CLASSES, IMAGES, VOCABULARY, draw, model_of, relative, rows_of, several
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import ensembling as oracle
from torchvision.ops import batched_nms

from wildbox.detections import Detections
from wildbox.ensembling import nms, soft_nms, weighted_boxes_fusion
from wildbox.errors import ConfigError, InputError, InputWarning
from wildbox.vocabulary import Vocabulary

METHODS: tuple[Callable[..., Detections], ...] = (weighted_boxes_fusion, nms, soft_nms)
UNIT = (0.0, 0.0, 1.0, 1.0)
THRESHOLDS = st.sampled_from([0.0, 0.5, 0.55, 0.9])
SKIPS = st.sampled_from([0.0, 0.25, 0.6])
SEEDS = st.integers(0, 2**32 - 1)
quiet = pytest.mark.filterwarnings("ignore:.*turned around:wildbox.errors.InputWarning")


def assert_same(found: Detections, expected: list[tuple[str, int, float, list[float]]]) -> None:
    """The same rows to 1e-12."""
    rows = rows_of(found)
    assert [row[:2] for row in rows] == [row[:2] for row in expected]
    for (_, _, score, box), (_, _, expected_score, expected_box) in zip(rows, expected, strict=True):
        assert [score, *box] == pytest.approx([expected_score, *expected_box], rel=1e-12, abs=1e-15)


@quiet
@settings(max_examples=200)
@given(several(), THRESHOLDS, SKIPS, SEEDS)
def test_fusion_is_the_literal_one(models: list[Detections], iou: float, skip: float, seed: int) -> None:
    weights = relative(np.random.default_rng(seed), models=len(models))
    found = weighted_boxes_fusion(models, weights=weights, iou=iou, skip_below=skip)
    assert_same(found, oracle.ensemble(models, oracle.fusion(iou), weights=weights, skip_below=skip))


@quiet
@settings(max_examples=200)
@given(several(), THRESHOLDS, SKIPS, SEEDS)
def test_suppression_is_the_literal_one(models: list[Detections], iou: float, skip: float, seed: int) -> None:
    weights = relative(np.random.default_rng(seed), models=len(models))
    found = nms(models, weights=weights, iou=iou, skip_below=skip)
    assert rows_of(found) == oracle.ensemble(
        models, oracle.suppression(iou), weights=weights, skip_below=skip
    )


@quiet
@settings(max_examples=200)
@given(several(), st.sampled_from([0.1, 0.5]), st.none() | THRESHOLDS, st.sampled_from([0.0, 0.05]), SEEDS)
def test_soft_suppression_is_the_literal_one(
    models: list[Detections], sigma: float, iou: float | None, drop: float, seed: int
) -> None:
    weights = relative(np.random.default_rng(seed), models=len(models))
    found = soft_nms(models, weights=weights, sigma=sigma if iou is None else None, iou=iou, drop_below=drop)
    decay = oracle.gaussian(sigma) if iou is None else oracle.linear(iou)
    assert_same(
        found, oracle.ensemble(models, oracle.soft_suppression(decay, drop_below=drop), weights=weights)
    )


@pytest.mark.parametrize("seed", range(5))
def test_suppression_is_torchvisions(seed: int) -> None:
    models = draw(np.random.default_rng(seed), models=3, grid=None, levels=None)
    ids = {id_: i for i, id_ in enumerate(IMAGES)}
    rows = [
        row for model in models for row in rows_of(model) if row[3][0] < row[3][2] and row[3][1] < row[3][3]
    ]
    group = torch.tensor([ids[image] * CLASSES + label for image, label, _, _ in rows])
    boxes = torch.tensor([box for *_, box in rows], dtype=torch.float64)
    scores = torch.tensor([score for _, _, score, _ in rows], dtype=torch.float64)
    kept = batched_nms(boxes, scores, group, iou_threshold=0.45).tolist()
    assert 0 < len(kept) < len(rows)
    assert rows_of(nms(models, iou=0.45)) == sorted(rows[i] for i in kept)


@quiet
@pytest.mark.parametrize("method", METHODS)
@given(several(), SEEDS)
def test_order_has_no_influence(
    method: Callable[..., Detections], models: list[Detections], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weights = relative(rng, models=len(models))
    mixed = []
    for model in models:
        rows, images = rng.permutation(len(model)), rng.permutation(3)
        ids = tuple(model.image_ids[i] for i in images)
        columns = (
            np.argsort(images)[model.image[rows]],
            model.boxes[rows],
            model.label[rows],
            model.score[rows],
        )
        mixed.append(Detections(VOCABULARY, ids, *columns))
    found = rows_of(method(models, weights=weights))
    assert rows_of(method(mixed, weights=weights)) == found
    order = rng.permutation(len(models))
    others = method([models[i] for i in order], weights=weights[order])
    assert len(others) == len(found)
    assert np.sort(others.score) == pytest.approx(np.sort([row[2] for row in found]), abs=1e-12)


@quiet
@pytest.mark.parametrize("method", METHODS)
@given(several())
def test_rows_come_by_class_and_the_best_first_with_scores_in_range(
    method: Callable[..., Detections], models: list[Detections]
) -> None:
    found = method(models)
    assert found.image_ids == models[0].image_ids
    assert ((found.score >= 0) & (found.score <= 1)).all()
    keys = list(zip(found.image.tolist(), found.label.tolist(), (-found.score).tolist(), strict=True))
    assert keys == sorted(keys)


@quiet
@given(several(), SEEDS, st.floats(1e-6, 1e6))
def test_only_ratios_of_weights_count(models: list[Detections], seed: int, factor: float) -> None:
    weights = relative(np.random.default_rng(seed), models=len(models))
    for method in METHODS:
        a, b = (method(models, weights=w) for w in (weights, weights * factor))
        assert len(a) == len(b)
        assert a.score == pytest.approx(b.score, abs=1e-9)


@quiet
@given(several(), SEEDS)
def test_a_model_of_weight_0_is_as_if_it_were_not_there(models: list[Detections], seed: int) -> None:
    weights = relative(np.random.default_rng(seed), models=len(models))
    nobody = np.zeros((1, CLASSES))
    for method in METHODS:
        found = method([*models, models[0]], weights=np.vstack([weights, nobody]))
        assert rows_of(found) == rows_of(method(models, weights=weights))


def test_many_rows_in_threads_give_what_few_give() -> None:
    rng = np.random.default_rng(0)
    images = tuple(str(i) for i in range(900))
    image, label = np.sort(rng.integers(0, 900, 60_000)), rng.integers(0, CLASSES, 60_000)
    low = rng.integers(0, 30, (60_000, 2)) / 40
    all_ = Detections(VOCABULARY, images, image, np.hstack([low, low + 0.25]), label, rng.random(60_000))
    parts = []
    for first in range(0, 900, 100):
        rows = (image >= first) & (image < first + 100)
        columns = (image[rows] - first, all_.boxes[rows], label[rows], all_.score[rows])
        parts.append(Detections(VOCABULARY, images[first : first + 100], *columns))
    for method in METHODS:
        together = sorted(row for part in parts for row in rows_of(method([part])))
        assert rows_of(method([all_])) == together


def test_agreement_raises_a_score() -> None:
    """The paper's example of M = 3 models: the mean score times min(T, M) / M."""
    lone, pair = model_of([(0, 0, 0.9, UNIT)]), model_of([(0, 0, 0.9, UNIT), (1, 0, 0.6, UNIT)])
    nothing = model_of([])
    assert weighted_boxes_fusion([lone, nothing, nothing]).score.tolist() == pytest.approx([0.3])
    assert weighted_boxes_fusion([pair, lone, nothing]).score.tolist() == pytest.approx([0.6, 0.2])
    # four boxes of one cluster: no more than their mean
    twice = model_of([(0, 0, 0.9, UNIT), (0, 0, 0.5, UNIT)])
    assert weighted_boxes_fusion([twice, twice]).score.tolist() == pytest.approx([0.7])
    # where another implementation gives 4 / 3
    sure = model_of([(0, 0, 1.0, UNIT), (0, 0, 1.0, UNIT)])
    assert weighted_boxes_fusion([sure, nothing], weights=[2, 1]).score.tolist() == [1.0]


def test_boxes_are_averaged_by_weighted_score() -> None:
    a, b = model_of([(0, 0, 0.8, UNIT)]), model_of([(0, 0, 0.4, (0.0, 0.0, 0.8, 1.0))])
    found = weighted_boxes_fusion([a, b], weights=np.array([[1, 1, 1], [0.5, 1, 1]]))
    assert found.boxes[0] == pytest.approx([0, 0, (0.8 * 1 + 0.2 * 0.8) / 1.0, 1])
    assert found.score[0] == pytest.approx((0.8 + 0.2) / 1.5)


def test_a_cluster_of_scores_0_keeps_its_first_box() -> None:
    lower, upper = (0.0, 0.0, 1.0, 0.9), (0.0, 0.0, 1.0, 1.0)
    for score in (0.0, 5e-324):
        found = weighted_boxes_fusion([model_of([(0, 0, score, upper)]), model_of([(0, 0, score, lower)])])
        assert found.boxes.tolist() == [list(lower)]


def test_thresholds_are_strict() -> None:
    half = model_of([(0, 0, 0.9, UNIT), (0, 0, 0.8, (0.0, 0.0, 1.0, 0.5))])
    below = math.nextafter(0.5, 0)
    for method in (weighted_boxes_fusion, nms):
        assert len(method([half], iou=0.5)) == 2
        assert len(method([half], iou=below)) == 1
    assert soft_nms([half], iou=0.5).score.tolist() == [0.9, 0.8]
    assert soft_nms([half], iou=below).score.tolist() == [0.9, 0.4]
    assert len(nms([half], skip_below=0.8)) == 1 + len(nms([half], skip_below=0.81))
    assert len(soft_nms([half], iou=below, drop_below=0.4)) == 2


def test_classes_and_images_do_not_meet() -> None:
    model = model_of([(0, 0, 0.9, UNIT), (0, 1, 0.8, UNIT), (1, 0, 0.7, UNIT)])
    for method in METHODS:
        assert rows_of(method([model])) == rows_of(model)


def test_nothing_gives_nothing() -> None:
    for method in METHODS:
        assert len(method([model_of([]), model_of([])])) == 0
        assert method([model_of([], images=())]).image_ids == ()
        assert len(method([model_of([(0, 0, 0.5, UNIT)])], weights=[0])) == 0


def test_boxes_without_area_are_left_out_and_counted() -> None:
    flat, turned = (0.2, 0.0, 0.2, 1.0), (0.5, 0.0, 0.2, 1.0)
    model = model_of([(0, 0, 0.9, flat), (0, 0, 0.9, turned), (0, 0, 0.5, UNIT)])
    for method in METHODS:
        with pytest.warns(InputWarning, match="2 of 3 detections have no area"):
            assert rows_of(method([model])) == [("a", 0, 0.5, list(UNIT))]


def test_models_of_other_classes_or_images_are_errors() -> None:
    model = model_of([])
    other = model_of([], vocabulary=Vocabulary(("x", "y", "w")))
    turned = model_of([], vocabulary=Vocabulary(("z", "y", "x")))
    for method in METHODS:
        with pytest.raises(InputError, match="model 2 has other classes than model 1: for example 'w'"):
            method([model, other])
        with pytest.raises(InputError, match="the same in another order"):
            method([model, turned])
        with pytest.raises(InputError, match=r"model 3 has other images than model 1: 2 .* 'c'"):
            method([model, model, model_of([], images=("a", "b", "d"))])
        with pytest.raises(InputError, match="not finite"):
            method([model_of([(0, 0, 0.5, (0.0, 0.0, math.inf, 1.0))])])


def test_settings_outside_their_range_are_errors() -> None:
    model = model_of([])
    for method in METHODS:
        with pytest.raises(ConfigError, match="at least one model"):
            method([])
        for iou in (-0.1, 1.0, math.nan):
            with pytest.raises(ConfigError, match="iou"):
                method([model], iou=iou)
        for skip in (-0.1, 1.1, math.nan):
            with pytest.raises(ConfigError, match="skip_below"):
                method([model], skip_below=skip)
        for weights in ([1, 1], [[1, 1]], [-1], [math.inf], [math.nan], 1.0):
            with pytest.raises(ConfigError, match="weight"):
                method([model], weights=weights)
    for sigma in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match="sigma"):
            soft_nms([model], sigma=sigma)
    with pytest.raises(ConfigError, match="drop_below"):
        soft_nms([model], drop_below=2.0)
    with pytest.raises(ConfigError, match="give one of them"):
        soft_nms([model], sigma=0.5, iou=0.3)


def test_weights_of_one_class_do_not_lower_another() -> None:
    model = model_of([(0, 0, 0.9, UNIT), (0, 1, 0.8, UNIT)])
    for method in (weighted_boxes_fusion, nms, soft_nms):
        assert method([model], weights=[[0.25, 0.5, 4.0]]).score == pytest.approx([0.9, 0.8])


def beside(share: float, *, second: float = 0.4) -> list[Detections]:
    """Two boxes of one class whose IoU is `share`."""
    return [model_of([(0, 0, 0.8, UNIT), (0, 0, second, (0.0, 0.0, 1.0, share))])]


def test_settings_that_nobody_gave() -> None:
    assert [len(weighted_boxes_fusion(beside(share))) for share in (0.54, 0.56)] == [2, 1]
    assert [len(nms(beside(share))) for share in (0.49, 0.51)] == [2, 1]
    assert soft_nms(beside(0.5)).score == pytest.approx([0.8, 0.4 * math.exp(-0.25 / 0.5)])
    assert [len(soft_nms(beside(0.5, second=second))) for second in (0.0016, 0.0017)] == [1, 2]
