"""Batches, parts and processes give what all images at once give."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from evaluation.small_tables import EDGES, draw, found_of, hierarchies, random_boxes, tables, truth_of
from hypothesis import given
from hypothesis import strategies as st

from wildbox.annotations import Annotations
from wildbox.detections import Detections, expand_detections
from wildbox.errors import ConfigError, InputError, InputWarning
from wildbox.evaluation import EvaluationResult, evaluate, matches, protocol_named
from wildbox.evaluation.streaming import StreamingEvaluator, evaluate_pieces
from wildbox.vocabulary import Hierarchy, Vocabulary

NAMES = ["open-images-challenge", "open-images-v2", "voc"]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        yield


def batch(detections: Detections, truth: Annotations, images: list[int]) -> tuple[Detections, Annotations]:
    """Detections and truth of some images, by their number in the truth."""
    ids = [truth.image_ids[i] for i in images]
    here = np.isin(np.array(detections.image_ids)[detections.image], ids)
    number = [ids.index(detections.image_ids[i]) for i in detections.image[here]]
    columns = (detections.boxes[here], detections.label[here], detections.score[here])
    return found_of(detections.vocabulary, tuple(ids), number, *columns), truth.select(images)


def assert_same(a: EvaluationResult, b: EvaluationResult) -> None:
    np.testing.assert_array_equal(a.ap, b.ap)
    for name, column in a.columns.items():
        np.testing.assert_array_equal(column, b.columns[name])


@pytest.fixture(scope="module", params=[1, 20, 2**22])
def many(request: pytest.FixtureRequest) -> Iterator[int]:
    """How many detections are put together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matches, "MANY", request.param)
        yield request.param


@given(tables(), hierarchies(), st.sampled_from(NAMES), st.permutations(range(3)), st.integers(0, 3))
def test_batches_give_what_all_at_once_gives(
    many: int,
    pair: tuple[Detections, Annotations],
    tree: Hierarchy | None,
    name: str,
    order: list[int],
    cut: int,
) -> None:
    whole = evaluate(*pair, protocol=name, hierarchy=tree)
    one, other = (StreamingEvaluator(protocol_named(name), tree) for _ in range(2))
    for b in order[:cut]:
        one.update(*batch(*pair, [b]))
    other.update(*batch(*pair, order[cut:]))
    one = pickle.loads(pickle.dumps(one))
    other.merge(one)
    assert_same(whole, other.compute())
    other.merge(one)  # as where a sampler fills up the last batch with images that others have
    assert_same(whole, other.compute())
    pieces = [partial(batch, *pair, part) for part in (order[cut:], order[:cut])]
    first, second = ([lambda piece=piece: piece()[0]] for piece in pieces)
    rules = protocol_named(name)
    for groups in ([first, second], [first + second]):  # one after the other, or at once
        assert_same(whole, evaluate_pieces(groups, pair[1], protocol=rules, hierarchy=tree))
    few = evaluate(first[0](), pair[1], protocol=name, hierarchy=tree)  # images without detections count, too
    assert_same(few, evaluate_pieces([first], pair[1], protocol=rules, hierarchy=tree))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("most", [1, 4, 10, 100, 1000])
def test_parts_that_are_put_together_lose_nothing(
    monkeypatch: pytest.MonkeyPatch, most: int, name: str
) -> None:
    """However often they are: 60 images one by one, of 0 to 9 detections each."""
    monkeypatch.setattr(matches, "MANY", most)
    rng, vocabulary, ids = (
        np.random.default_rng(5),
        Vocabulary(tuple("wxyz")),
        tuple(f"{i:02}" for i in range(60)),
    )
    image = np.repeat(np.arange(60), rng.integers(0, 10, 60))
    n = len(image)
    box = random_boxes(rng, n, cells=4)
    truth = truth_of(vocabulary, ids, image, box, rng.integers(0, 4, n), rng.random(n) < 0.1)
    found = found_of(
        vocabulary, ids, image, box[rng.permutation(n)], rng.permutation(truth.label), rng.random(n)
    )
    whole, evaluator = evaluate(found, truth, protocol=name), StreamingEvaluator(protocol_named(name))
    singles = [batch(found, truth, [b]) for b in range(60)]
    for single in singles:
        evaluator.update(*single)
    pieces = [partial(lambda some: some, some) for some, _ in singles]
    some = batch(found, truth, np.unique(image).tolist())[0]
    assert len(some.image_ids) < 60
    results = [evaluator.compute()]
    for groups in ([[piece] for piece in pieces], [pieces], [pieces[::-1]], [[lambda: some]]):
        results.append(evaluate_pieces(groups, truth, protocol=protocol_named(name)))
    for result in results:
        assert result.matches is not None
        assert len(result.matches) == n
        assert result.matches.image_ids == ids
        assert_same(whole, result)


def test_images_that_come_twice_are_told(many: int) -> None:
    pair = draw(np.random.default_rng(3), levels=9, group_of=0)
    evaluator = StreamingEvaluator(protocol_named("voc"))
    with pytest.raises(InputError, match="no images"):
        evaluator.compute()
    evaluator.update(*pair)
    evaluator.update(*batch(*pair, [1]))
    with pytest.warns(InputWarning, match="1 images came more than once"):
        evaluator.compute()
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        evaluator.compute()  # once is enough
    with pytest.raises(InputError, match=r"image 'a' is in a result already: call reset\(\)"):
        evaluator.update(*pair)
    evaluator.reset()
    evaluator.update(*pair)
    evaluator.compute()
    evaluator.reset()
    with pytest.raises(InputError, match="no images"):
        evaluator.compute()
    with pytest.raises(InputError, match="image 'c' stands in two pieces"):
        evaluate_pieces([[lambda: pair[0]] * 2], pair[1], protocol=protocol_named("voc"))


def test_image_labels_of_any_part_are_image_labels() -> None:
    both, box, none = Vocabulary(("cat", "dog")), [[0, 0, 4, 4]], np.zeros((0, 4))
    one, other = (StreamingEvaluator(protocol_named("open-images-challenge")) for _ in range(2))
    one.update(found_of(both, ("a",), [0], box, [1], [0.5]), truth_of(both, ("a",), [0], box, [0]))
    labels = ((0, 0, True),)
    other.update(found_of(both, (), [], none, [], []), truth_of(both, ("b",), [], none, [], [], labels))
    with pytest.warns(InputWarning, match="the truth has no image labels"):
        one.compute()
    one.merge(other)
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        one.compute()


def test_other_settings_do_not_merge() -> None:
    half, most = (StreamingEvaluator(protocol_named("voc", iou=iou)) for iou in (0.5, 0.75))
    with pytest.raises(ConfigError, match=r"iou=0\.5.* and .*iou=0\.75.* do not merge"):
        half.merge(most)
    flat, deep = (StreamingEvaluator(protocol_named("voc"), tree) for tree in (None, Hierarchy(2, [(0, 1)])))
    with pytest.raises(ConfigError, match="different hierarchies do not merge"):
        flat.merge(deep)


@given(tables())
def test_detections_are_expanded_upwards(pair: tuple[Detections, Annotations]) -> None:
    tree = Hierarchy(4, EDGES)  # 0 is 1, 2 and 3; 1 is 2
    found = pair[0]
    expanded = expand_detections(found, tree)
    above = {0: [0, 1, 2, 3], 1: [1, 2], 2: [2], 3: [3]}
    literal = [
        (image, label, *box, score)
        for image, own, box, score in zip(
            found.image.tolist(),
            found.label.tolist(),
            found.boxes.tolist(),
            found.score.tolist(),
            strict=True,
        )
        for label in above[own]
    ]
    rows = np.column_stack([expanded.image, expanded.label, expanded.boxes, expanded.score])
    assert list(map(tuple, rows.tolist())) == literal
    with pytest.raises(InputError, match="hierarchy of 2 classes"):
        expand_detections(found, Hierarchy(2, []))


CAT, BOX = Vocabulary(("cat",)), [[0.0, 0.0, 4.0, 4.0]]


def cat_in(image: str) -> Detections:
    return found_of(CAT, (image,), [0], BOX, [0], [0.5])


def test_images_that_the_truth_does_not_know_are_told_of_all_pieces() -> None:
    truth, rules = truth_of(CAT, ("a",), [0], BOX, [0]), protocol_named("open-images-v2")
    pieces = [lambda id_=id_: cat_in(id_) for id_ in ("q", "a", "r")]
    with pytest.warns(
        InputWarning, match=r"2 of 3 detections are on 2 images .*\('q', 'r'\); they are false"
    ):
        result = evaluate_pieces([pieces[:1], pieces[1:]], truth, protocol=rules)
    assert result.columns["false_positives"].tolist() == [2]
    with pytest.raises(InputError, match="image 'q' stands in two pieces"):
        evaluate_pieces([pieces[:1]] * 2, truth, protocol=rules)


def test_pieces_of_one_image_come_once() -> None:
    pair = draw(np.random.default_rng(3), levels=9, group_of=0)
    pieces = [lambda b=b: batch(*pair, [b])[0] for b in range(2)]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*more than once")
        evaluate_pieces([pieces], pair[1], protocol=protocol_named("voc"))


def test_a_truth_without_image_labels_is_told_of_pieces_too() -> None:
    both = Vocabulary(("cat", "dog"))
    truth = truth_of(both, ("a",), [0], BOX, [0])
    pieces = [[lambda: found_of(both, ("a",), [0], BOX, [1], [0.5])]]
    with pytest.warns(InputWarning, match="the truth has no image labels: 1 of 1 detections"):
        evaluate_pieces(pieces, truth, protocol=protocol_named("open-images-challenge"))
