"""Evaluation batch by batch, on one process or many: in training loops, and where detections do not fit in memory.

Letters: D detections.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np

from wildbox.annotations import Annotations, expand
from wildbox.detections import Detections
from wildbox.errors import ConfigError, InputError, InputWarning
from wildbox.evaluation.matches import Matches, merge
from wildbox.evaluation.protocol import Protocol
from wildbox.evaluation.result import EvaluationResult
from wildbox.vocabulary import Hierarchy

MANY = 2**22
"""Detections whose matches are put together: in large pieces memory does not fall into parts that nothing else fits."""


@dataclass(eq=False)
class StreamingEvaluator:
    """Matches each batch at once and keeps 11 bytes a detection (score, class, outcome).

    It gives the numbers of `evaluate` on all batches together, whatever the batches and their order. It can be
    pickled; `wildbox.training.evaluation.gather_evaluator` merges those of all processes.

    Args:
        protocol: see `protocol_named`.
        hierarchy: the truth of each batch is expanded by it.

    >>> from wildbox.evaluation import protocol_named
    >>> from wildbox.vocabulary import Vocabulary
    >>> cat, table = Vocabulary(("cat",)), {"image": [0], "boxes": [[0, 0, 1, 1]], "label": [0]}
    >>> evaluator = StreamingEvaluator(protocol_named("open-images-challenge"))
    >>> evaluator.update(Detections(cat, ("a",), **table, score=[0.9]), Annotations(cat, ("a",), **table))
    >>> evaluator.compute().mean_ap
    1.0
    """

    protocol: Protocol
    hierarchy: Hierarchy | None = None
    parts: list[Matches] = field(default_factory=list)
    """Matches of the batches so far."""
    image_labels: int = 0
    """How many verified image labels their truth had."""
    images: int = 0
    """How many images came, each time that one did."""

    def update(self, detections: Detections, truth: Annotations) -> None:
        """Add images: all their detections, and all their truth (also images without either).

        Raises, Warns: as `Protocol.match`.
        """
        if self.hierarchy is not None:
            truth = expand(truth, self.hierarchy)
        self.parts.append(self.protocol.match(detections, truth))
        self.image_labels += len(truth.image_labels)
        self.images += len(self.parts[-1].image_ids)
        few = list(takewhile(lambda part: len(part) < MANY, reversed(self.parts)))[::-1]
        if sum(map(len, few)) >= MANY:
            self.parts[-len(few) :] = [merge(few)]

    def merge(self, other: StreamingEvaluator) -> None:
        """Add the images of another evaluator, as of another process.

        Raises:
            ConfigError: another protocol, or the same with other settings.
        """
        if other.protocol != self.protocol:
            raise ConfigError(f"evaluators of {self.protocol} and {other.protocol} do not merge")
        self.parts += other.parts
        self.image_labels += other.image_labels
        self.images += other.images

    def compute(self) -> EvaluationResult:
        """The numbers of all images so far; an image that came more than once counts once.

        Raises:
            InputError: no images, or parts of different classes or protocols.
        Warns:
            InputWarning: images that came more than once; and as `Protocol.result`.
        """
        matches = merge(self.parts)
        repeated = self.images - len(matches.image_ids)
        self.parts, self.images = [matches], len(matches.image_ids)
        if repeated:
            warnings.warn(
                f"{repeated:,} images came more than once; each counts once", InputWarning, stacklevel=2
            )
        return self.protocol.result(matches, has_image_labels=self.image_labels > 0)

    def reset(self) -> None:
        """Forget all images."""
        self.parts, self.image_labels, self.images = [], 0, 0


def evaluate_parts(
    parts: Iterable[Detections], truth: Annotations, *, protocol: Protocol, hierarchy: Hierarchy | None = None
) -> EvaluationResult:
    """As `evaluate`, where detections come in parts, each with all those of its images.

    Memory: the part at hand and 11 bytes for each detection so far.

    Raises:
        InputError: an image that stands in two parts.
    """
    evaluator = StreamingEvaluator(protocol, hierarchy)
    position = {id_: i for i, id_ in enumerate(truth.image_ids)}
    seen: set[str] = set()
    for part in parts:
        twice = next((id_ for id_ in part.image_ids if id_ in seen), None)
        if twice is not None:
            raise InputError(f"image {twice!r} stands in two parts of the detections")
        seen.update(part.image_ids)
        evaluator.update(part, truth.select([position[id_] for id_ in part.image_ids if id_ in position]))
    rest = truth.select([i for id_, i in position.items() if id_ not in seen])
    nothing = Detections(
        truth.vocabulary, (), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0)
    )
    evaluator.update(nothing, rest)
    return evaluator.compute()
