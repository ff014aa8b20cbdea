"""Detections of several models as one table, in the order in which boxes are taken.

Letters: M models, B images, D detections, C classes, G groups: the detections of one class in one image.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from wildbox.annotations import Bools, Floats, Ints
from wildbox.detections import Detections
from wildbox.ensembling.lists import offsets_of, sort_rows
from wildbox.ensembling.weights import relative_weights
from wildbox.errors import ConfigError, InputError, InputWarning
from wildbox.threads import over_lists
from wildbox.vocabulary import Vocabulary, check_same_classes


@dataclass(frozen=True, eq=False)
class PooledDetections:
    """D detections of all models, sorted by image, class, falling score, and box.

    The order among equal scores is that of the corners x1, y1, x2, y2, so it does not depend on the order of rows.
    """

    vocabulary: Vocabulary
    image_ids: tuple[str, ...]
    image: Ints
    boxes: Floats
    label: Ints
    score: Floats
    """(D,) the model's score times its weight; in [0, 1]."""
    weight: Floats
    """(D,) of the model that made the detection, for its class; the largest of a class is 1."""
    class_weight: Floats
    """(C,) sum of the weights of all models."""
    groups: Ints
    """(G + 1,) group g is rows groups[g] to groups[g + 1]."""

    def over_groups(self, task: Callable[[int, int], None]) -> None:
        """Call task(first, last) on ranges of groups, side by side where there are many rows."""
        over_lists(task, self.groups)

    def result(self, boxes: Floats, score: Floats, keep: Bools) -> Detections:
        """What came of the rows, in the same order; within a class the best first."""
        rows = np.flatnonzero(keep)
        image = self.image[rows]
        sort_rows(rows, offsets_of(image, len(self.image_ids)), self.label, score, boxes)
        return Detections(self.vocabulary, self.image_ids, image, boxes[rows], self.label[rows], score[rows])


def check_threshold(iou: float) -> None:
    """`ConfigError` unless in [0, 1): boxes match *above* it, so that at 1 none would."""
    if not 0 <= iou < 1:
        raise ConfigError(f"iou is {iou}, expected a threshold in [0, 1)")


def pool(
    models: Sequence[Detections], *, weights: ArrayLike | None = None, skip_below: float = 0.0
) -> PooledDetections:
    """The detections of several models on the same images as one table.

    Args:
        weights: none, (M,) or (M, C), see `relative_weights`; what weighs 0 is left out.
        skip_below: detections of which the model's own score is below it are left out; in [0, 1].
    Raises:
        ConfigError: no models, a setting outside its range.
        InputError: models of different classes or images, a coordinate that is not finite.
    Warns:
        InputWarning: counts boxes without area, or turned around, which are left out.
    """
    if not models:
        raise ConfigError("an ensemble needs at least one model")
    if not 0 <= skip_below <= 1:
        raise ConfigError(f"skip_below is {skip_below}, expected a score in [0, 1]")
    vocabulary, image_ids = models[0].vocabulary, models[0].image_ids
    table = relative_weights(weights, models=len(models), classes=len(vocabulary))
    positions = [_positions(models[0], other, number) for number, other in enumerate(models, start=1)]
    image = np.concatenate([p[m.image] for p, m in zip(positions, models, strict=True)])
    label = np.concatenate([model.label for model in models])
    boxes = np.concatenate([model.boxes for model in models])
    score = np.concatenate([model.score for model in models])
    weight = np.concatenate([row[model.label] for row, model in zip(table, models, strict=True)])
    if not np.isfinite(boxes).all():
        raise InputError("a detection box has a coordinate that is not finite")
    has_area = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    if not has_area.all():
        message = f"{int(np.sum(~has_area))} of {len(boxes)} detections have no area or are turned around"
        warnings.warn(f"{message}; they are left out", InputWarning, stacklevel=3)
    rows = np.flatnonzero(has_area & (weight > 0) & (score >= skip_below))
    rows = rows[np.argsort(image[rows], kind="stable")]
    score *= weight
    sort_rows(rows, offsets_of(image[rows], len(image_ids)), label, score, boxes)
    image, label = image[rows], label[rows]
    changes = np.flatnonzero((np.diff(image) != 0) | (np.diff(label) != 0)) + 1
    groups = np.concatenate([[0], changes, [len(rows)]]) if len(rows) else np.zeros(1, np.int64)
    return PooledDetections(
        vocabulary, image_ids, image, boxes[rows], label, score[rows], weight[rows], table.sum(axis=0), groups
    )


def on_same_images(models: Sequence[Detections], *, names: Sequence[str] | None = None) -> list[Detections]:
    """The same detections on the images of all models, sorted by id.

    For detections from files, which do not tell the images where a model found nothing.

    Args:
        names: what messages call the models; default: "model 1" and so on.
    Raises:
        InputError: a model that shares no image with any other, both having detections.
    Warns:
        InputWarning: counts the images where a model found nothing and another did.

    >>> cat = Vocabulary(("cat",))
    >>> columns = {"boxes": [[0, 0, 1, 1]], "label": [0], "score": [0.9]}
    >>> a, b = (Detections(cat, ids, image=[len(ids) - 1], **columns) for ids in (("x",), ("y", "x")))
    >>> [model.image_ids for model in on_same_images([a, b])]
    [('x', 'y'), ('x', 'y')]
    """
    names = [f"model {number}" for number in range(1, len(models) + 1)] if names is None else names
    images = tuple(sorted({id_ for model in models for id_ in model.image_ids}))
    position = {id_: i for i, id_ in enumerate(images)}
    result = []
    for model in models:
        place = np.array([position[id_] for id_ in model.image_ids], np.int64)
        columns = (place[model.image], model.boxes, model.label, model.score)
        result.append(Detections(model.vocabulary, images, *columns))
    found = np.zeros((len(models), len(images)), np.bool_)
    for own, model in zip(found, result, strict=True):
        own[model.image] = True
    by_how_many = found.sum(axis=0)
    for own, name in zip(found, names, strict=True):
        others = np.any(by_how_many > own)
        if own.any() and others and not np.any(by_how_many[own] > 1):
            some = images[np.flatnonzero(own)[0]]
            raise InputError(f"{name} shares no image with the other models; one of its images is {some!r}")
        missed = int(np.sum((by_how_many > 0) & ~own))
        if missed:
            message = f"{name} found nothing on {missed:,} of {int(np.sum(by_how_many > 0)):,} images"
            warnings.warn(f"{message} where other models found something", InputWarning, stacklevel=2)
    return result


def _positions(first: Detections, other: Detections, number: int) -> Ints:
    """Where the images of a model stand among those of the first."""
    check_same_classes(first.vocabulary, other.vocabulary, f"model {number} has other classes than model 1")
    if other.image_ids == first.image_ids:
        return np.arange(len(first.image_ids))
    position = {id_: i for i, id_ in enumerate(first.image_ids)}
    odd = sorted(set(other.image_ids) ^ set(first.image_ids))
    if odd:
        raise InputError(
            f"model {number} has other images than model 1: {len(odd)} are of one only, such as {odd[0]!r}; "
            "bring them together with on_same_images"
        )
    return np.array([position[id_] for id_ in other.image_ids], np.int64)
