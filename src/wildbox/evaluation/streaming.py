"""Evaluation batch by batch, on one process or many: in training loops, and where detections do not fit in memory.

Letters: D detections.
"""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from wildbox.annotations import Annotations, Ints, expand
from wildbox.detections import Detections, expand_detections
from wildbox.errors import ConfigError, InputError, InputWarning
from wildbox.evaluation.matches import Matches, Room, merge
from wildbox.evaluation.protocol import Protocol, with_images
from wildbox.evaluation.result import EvaluationResult
from wildbox.formats.detection_parts import Piece
from wildbox.threads import at_once
from wildbox.vocabulary import Hierarchy, Vocabulary


@dataclass(eq=False)
class StreamingEvaluator:
    """Matches each batch at once and keeps 11 bytes a detection (score, class, outcome).

    It gives the numbers of `evaluate` on all batches together, whatever the batches and their order. It can be
    pickled; `wildbox.training.evaluation.gather_evaluator` merges those of all processes. What it was given stays: call
    `reset` before the images come anew, as in the next epoch.

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
    room: Room = field(default_factory=Room, repr=False)
    """Where the parts are kept."""
    told: Collection[str] = field(default=(), repr=False)
    """Images of which a result was made."""

    def update(self, detections: Detections, truth: Annotations) -> None:
        """Add images: all their detections, and all their truth (also images without either).

        Raises:
            InputError: an image of which a result was made, as where `reset` was forgotten; as `Protocol.match`.
        Warns:
            InputWarning: as `Protocol.match`.
        """
        self.told = frozenset(self.told)  # once: it is one from then on
        if again := self.told.intersection(truth.image_ids):
            raise InputError(
                f"image {min(again)!r} is in a result already: call reset() before images come anew"
            )
        if self.hierarchy is not None:
            truth = expand(truth, self.hierarchy)
        self.image_labels += len(truth.image_labels)
        self.add([self.protocol.match(detections, truth)])

    def add(self, parts: list[Matches]) -> None:
        """Add images that are matched already, as `merge` takes them; what is kept of them is a copy."""
        self.images += sum(len(part.image_ids) for part in parts)
        self.parts.append(merge(parts, self.room))

    def merge(self, other: StreamingEvaluator) -> None:
        """Add the images of another evaluator, as of another process.

        Raises:
            ConfigError: another protocol, or the same with other settings.
        """
        if other.protocol != self.protocol:
            raise ConfigError(f"evaluators of {self.protocol} and {other.protocol} do not merge")
        if other.hierarchy != self.hierarchy:
            raise ConfigError("evaluators with different hierarchies do not merge")
        self.parts += other.parts
        self.image_labels += other.image_labels
        self.images += other.images

    def compute(self) -> EvaluationResult:
        """The numbers of all images so far; an image that came more than once counts once, and no more from now on.

        Raises:
            InputError: no images, or parts of different classes or protocols.
        Warns:
            InputWarning: images that came more than once; and as `Protocol.result`.
        """
        matches = merge(self.parts)
        repeated = self.images - len(matches.image_ids)
        self.parts, self.images, self.told = [matches], len(matches.image_ids), matches.image_ids
        if repeated:
            warnings.warn(
                f"{repeated:,} images came more than once; each counts once, as it came first",
                InputWarning,
                stacklevel=2,
            )
        return self.protocol.result(matches, has_image_labels=self.image_labels > 0)

    def reset(self) -> None:
        """Forget all images."""
        self.parts, self.image_labels, self.images, self.room, self.told = [], 0, 0, Room(), ()


def evaluate_pieces(
    groups: Iterable[Sequence[Piece]],
    truth: Annotations,
    *,
    protocol: Protocol,
    hierarchy: Hierarchy | None = None,
    expand_found: bool = False,
) -> EvaluationResult:
    """As `evaluate`, where detections come in pieces, each with all those of its images.

    One group of pieces comes after the other; those of a group are made and matched in threads. Memory: the pieces at
    hand and 11 bytes for each detection so far.

    Args:
        expand_found: detections, too, are expanded by the hierarchy.
    Raises:
        InputError: an image that stands in two pieces; as `Protocol.match`.
    Warns:
        InputWarning: as `evaluate`, once for all pieces.
    """
    truth = truth if hierarchy is None else expand(truth, hierarchy)
    upward = hierarchy if expand_found else None
    evaluator = StreamingEvaluator(protocol, image_labels=len(truth.image_labels))
    places = _Places(truth.image_ids)
    unknown: dict[str, int] = {}

    def matched(piece: Piece) -> tuple[Ints, dict[str, int], Matches]:
        found = piece() if upward is None else expand_detections(piece(), upward)
        images = places.of(found.image_ids)
        here = truth.select(images)
        strange = protocol.unknown_images(found, here)
        here = with_images(here, strange) if strange else here
        found = found.aligned(here)
        return images, strange, protocol.kept(found, here, *protocol.outcomes(found, here))

    is_seen = np.zeros(len(truth.image_ids), bool)
    for pieces in groups:
        parts: list[Matches] = []
        for images, strange, matches in at_once([partial(matched, piece) for piece in pieces]):
            twice = [truth.image_ids[i] for i in images[is_seen[images]]]
            twice += [id_ for id_ in strange if id_ in unknown]
            if twice:
                raise InputError(f"image {twice[0]!r} stands in two pieces of the detections")
            is_seen[images] = True
            unknown |= strange
            parts.append(matches)
        if parts:
            evaluator.add(parts)
    if unknown:
        protocol.tell_unknown(unknown, sum(map(len, evaluator.parts)))
    rest = truth.select(np.flatnonzero(~is_seen))
    evaluator.add([protocol.match(_no_detections(truth.vocabulary), rest)])
    return evaluator.compute()


@dataclass(frozen=True)
class _Places:
    """Where images stand among all."""

    ids: tuple[str, ...]

    @cached_property
    def by_id(self) -> dict[str, int]:
        return {id_: i for i, id_ in enumerate(self.ids)}

    def of(self, some: tuple[str, ...]) -> Ints:
        """Of those that are there; quickly where all are sorted and these follow one another, as they mostly do."""
        first = bisect_left(self.ids, some[0]) if some else 0
        if self.ids[first : first + len(some)] == some:
            return np.arange(first, first + len(some))
        return np.array([self.by_id[id_] for id_ in some if id_ in self.by_id], np.int64)


def _no_detections(vocabulary: Vocabulary) -> Detections:
    none = np.zeros(0, np.int64)
    return Detections(vocabulary, (), none, np.zeros((0, 4)), none, np.zeros(0))
