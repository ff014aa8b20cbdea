"""How much numbers depend on the images that happen to be in the set: the bootstrap over images.

In each sample B images are drawn with replacement, and a class's curve is that of the drawn images, an image that is
drawn twice being there twice. Detections are sorted once; a sample is a weight for each image.

Letters: B images, C classes, S samples, P true and F false positives.
Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 10 (bias) and 13 (percentiles).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wildbox.annotations import Floats, Ints
from wildbox.errors import ConfigError, InputError
from wildbox.evaluation.curves import (
    BLOCK,
    Lookup,
    false_rows,
    places,
    true_positives,
)
from wildbox.evaluation.matches import Found, Matches
from wildbox.threads import in_chunks

Weights = NDArray[np.uint8]
"""(B,) how often each image is there."""
Events = tuple[Ints, NDArray[np.int32], Floats, Ints, NDArray[np.int32]]
"""Of the true positives by class and falling score: offsets of the classes (C + 1,); image and worth (P,); offsets
(P + 1,) of the false positives that stand between it and the one before; of these the images (F,)."""


@dataclass(frozen=True)
class Interval:
    """A number of the whole set, and how far most samples deviate from it.

    Deviations are those of samples from their mean, so that the interval lies around the number. Samples themselves lie
    a little high: an image that is drawn twice makes the curve rougher, and its envelope rises with that. An end that
    lies outside what the number can be, as below an average precision of 0, is drawn in to there.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Average precision of C classes in S samples of the images, and in all images as they are.

    Those of two runs on the same images, with the same seed, are of the same samples: their difference is taken
    sample by sample.
    """

    ap: Floats
    """(C,) of all images; NaN without truth."""
    samples: Floats
    """(S, C) NaN where a sample has no truth of the class."""
    key: tuple[int, int, tuple[str, ...]]
    """Seed, S and the images' ids, sorted."""
    bounds: tuple[float, float] = (0.0, 1.0)
    """What the numbers can be: an average precision, or a difference of two."""

    def mean(self, *, level: float = 0.95) -> Interval:
        """Mean average precision; the interval holds `level` of the samples' deviations, as many on either side."""
        return _interval(_mean(self.ap[None])[0], _mean(self.samples), level, self.bounds)

    def of_class(self, index: int, *, level: float = 0.95) -> Interval:
        """Average precision of a class; samples without truth of it are left out."""
        return _interval(self.ap[index], self.samples[:, index], level, self.bounds)

    def of(self, classes: ArrayLike) -> Bootstrap:
        """The same of some classes, given by indices or as (C,) bool."""
        chosen = np.asarray(classes)
        return replace(self, ap=self.ap[chosen], samples=self.samples[:, chosen])

    def minus(self, other: Bootstrap) -> Bootstrap:
        """What this run has more than another.

        Its mean is over the classes that have an average precision in both.

        Raises:
            InputError: other images, seeds, numbers of samples or of classes.
        """
        if self.key != other.key or self.ap.shape != other.ap.shape:
            raise InputError("runs on different images or classes have no difference sample by sample")
        bounds = self.bounds[0] - other.bounds[1], self.bounds[1] - other.bounds[0]
        return Bootstrap(self.ap - other.ap, self.samples - other.samples, self.key, bounds)


def bootstrap(
    matches: Matches, *, samples: int = 1000, seed: int = 0, image_ids: Iterable[str] | None = None
) -> Bootstrap:
    """Average precision (all points of the curve) in samples of the images.

    The cost is that of running through all true and false positives once a sample. The samples are the same for any
    number of threads, and for any two runs on the same images.

    Args:
        image_ids: those to draw from, in any order; default: those of the matches.
    Raises:
        ConfigError: less than one sample, a seed below 0.
        InputError: no images, or one of the matches' is not among `image_ids`; VOC's eleven points, for which there
            is no compiled loop.

    >>> from wildbox.evaluation import protocol_named
    >>> from wildbox.annotations import Annotations
    >>> from wildbox.detections import Detections
    >>> from wildbox.vocabulary import Vocabulary
    >>> cat, table = Vocabulary(("cat",)), {"image": [0], "boxes": [[0, 0, 1, 1]], "label": [0]}
    >>> found, truth = Detections(cat, ("a",), **table, score=[0.9]), Annotations(cat, ("a",), **table)
    >>> str(bootstrap(protocol_named("voc").match(found, truth)).mean())
    '1.0000 [1.0000, 1.0000]'
    """
    if samples < 1:
        raise ConfigError(f"{samples} samples, expected at least 1")
    if seed < 0:
        raise ConfigError(f"seed is {seed}, expected at least 0")
    if matches.protocol == "voc-11-point":
        raise InputError("there are no intervals for VOC's eleven points; take 0 samples")
    ids = tuple(sorted(set(matches.image_ids if image_ids is None else image_ids)))
    images, position = len(ids), {id_: i for i, id_ in enumerate(ids)}
    if not images or not position.keys() >= set(matches.image_ids):
        raise InputError(
            "there are no images to draw from" if not images else "matches on images not to draw from"
        )
    matches = matches.by_id()
    rank = np.array([position[id_] for id_ in matches.image_ids], np.int64)
    events = _events(matches, rank)
    truth = (rank[matches.truth_image], matches.truth_label.astype(np.int64), matches.truth_weight)

    def run(weights: Weights) -> Floats:
        ap: Floats = _average_precisions(weights, len(matches.vocabulary), *truth, events)
        return ap

    def some(first: int, last: int) -> list[Floats]:
        return [run(_weights(images, seed, s)) for s in range(first, last)]

    parts = in_chunks(some, samples, rows=samples * (len(events[1]) + len(events[4])))
    values = np.array([row for part in parts for row in part])
    return Bootstrap(run(np.ones(images, np.uint8)), values, (seed, samples, ids))


def _weights(images: int, seed: int, sample: int) -> Weights:
    """(B,) how often each image, in the order of ids, is drawn (more than 255 times: never)."""
    drawn = np.random.default_rng([seed, sample]).integers(0, images, images)
    return np.bincount(drawn, minlength=images).astype(np.uint8)


def _events(matches: Matches, rank: Ints) -> Events:
    """Where each true and false positive stands. False ones behind the last true one of their class are left out: they
    change nothing in any sample."""
    true = true_positives(matches)
    offsets, _, rows = true[0]
    columns = matches.found
    slots = np.full(len(matches), -1, np.int64)

    def put(first: int, last: int) -> None:
        for start in range(first, last, BLOCK):
            _place_false(start, min(start + BLOCK, last), columns, true, slots)

    in_chunks(put, len(matches), rows=len(matches), each=1)
    false = np.flatnonzero(slots >= 0)
    false = false[np.argsort(slots[false], kind="stable")]
    counts = np.bincount(slots[false], minlength=len(rows))
    images = np.repeat(rank.astype(np.int32), np.diff(matches.offsets))
    return (
        offsets,
        images[rows],
        matches.worth[matches.outcome[rows]],
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        images[false],
    )


@numba.njit(cache=True, nogil=True)
def _place_false(first: int, last: int, columns: Found, true: Lookup, slots: Ints) -> None:
    """Give false positives the number of the first true positive behind them; where there is none, nothing."""
    offsets = true[0][0]
    class_offsets, rows, scores = false_rows(first, last, len(offsets) - 1, columns)
    for c in range(len(offsets) - 1):
        here = slice(class_offsets[c], class_offsets[c + 1])
        place = places(c, first, rows[here], scores[here], true)
        for k in range(len(place)):
            if offsets[c] + place[k] < offsets[c + 1]:
                slots[first + rows[class_offsets[c] + k]] = offsets[c] + place[k]


@numba.njit(cache=True, nogil=True)
def _average_precisions(
    weights: Weights, classes: int, truth_image: Ints, truth_label: Ints, truth_weight: Floats, events: Events
) -> Floats:
    """(C,) with images counted `weights` times."""
    offsets, image, worth, false_offsets, false_image = events
    truth = np.zeros(classes)
    for t in range(len(truth_image)):
        truth[truth_label[t]] += weights[truth_image[t]] * truth_weight[t]
    ap = np.full(classes, np.nan)
    rise, precision = np.empty(len(image)), np.empty(len(image))
    for c in range(classes):
        if truth[c] == 0:
            continue
        tp, fp = 0.0, 0
        for k in range(offsets[c], offsets[c + 1]):
            for j in range(false_offsets[k], false_offsets[k + 1]):
                fp += weights[false_image[j]]
            rise[k] = weights[image[k]] * worth[k]
            tp += rise[k]
            precision[k] = tp / (tp + fp) if rise[k] > 0 else 0.0
        area, envelope = 0.0, 0.0
        for k in range(offsets[c + 1] - 1, offsets[c] - 1, -1):
            envelope = max(envelope, precision[k])
            area += rise[k] * envelope
        ap[c] = area / truth[c]
    return ap


def _mean(ap: Floats) -> Floats:
    """(S,) means over the classes that are not NaN."""
    known = ~np.isnan(ap)
    with np.errstate(invalid="ignore"):
        means: Floats = np.where(known, ap, 0).sum(axis=1) / known.sum(axis=1)
    return means


def _interval(value: float, samples: Floats, level: float, bounds: tuple[float, float]) -> Interval:
    if not 0 < level < 1:
        raise ConfigError(f"level {level} is outside (0, 1)")
    known = samples[~np.isnan(samples)]
    if not len(known):
        return Interval(float(value), float("nan"), float("nan"))
    ends = value + np.quantile(known, [(1 - level) / 2, (1 + level) / 2]) - known.mean()
    low, high = ends.clip(*bounds)
    return Interval(float(value), float(low), float(high))
