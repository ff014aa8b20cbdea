"""Evaluation in training loops: what models put out, and the evaluators of all processes as one.

Letters: P detections of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import index

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from wildbox.annotations import Ints
from wildbox.columns import checked_column
from wildbox.detections import Detections
from wildbox.errors import InputError
from wildbox.evaluation.streaming import StreamingEvaluator
from wildbox.vocabulary import Vocabulary


def batch_detections(
    outputs: Sequence[Mapping[str, Tensor]],
    image_ids: Sequence[str | int],
    vocabulary: Vocabulary,
    *,
    first_label: int = 1,
    class_ids: Sequence[str | int] | None = None,
) -> Detections:
    """Outputs of a torchvision detector as a table, for `StreamingEvaluator.update`.

    Args:
        outputs: of each image `boxes` (P, 4) in the unit of the truth, `labels` (P,), `scores` (P,).
        image_ids: of the images, one each; numbers, as COCO has them, become texts.
        first_label: the label of the vocabulary's first class; torchvision keeps 0 for the background.
        class_ids: in its place, the id of the class that each label stands for, where labels are not in the order of
            the vocabulary: `range(91)` for torchvision's own weights of COCO, whose labels are COCO's ids.
    Raises:
        InputError: as many outputs as images are not there, or other rows in one column of an output than in another;
            a label that is no class; and as `Detections`.

    >>> found = {"boxes": torch.ones(1, 4), "labels": torch.tensor([1]), "scores": torch.tensor([0.5])}
    >>> batch_detections([found], ["a"], Vocabulary(("cat",))).label.tolist()
    [0]
    """
    ids = tuple(map(_text, image_ids))
    if len(outputs) != len(ids):
        raise InputError(f"{len(outputs)} outputs of {len(ids)} images, expected one of each")
    counts = [len(output["labels"]) for output in outputs]
    for id_, count, output in zip(ids, counts, outputs, strict=True):
        if not len(output["boxes"]) == len(output["scores"]) == count:
            told = ", ".join(f"{len(output[name])} {name}" for name in ("boxes", "labels", "scores"))
            raise InputError(f"image {id_!r}: {told}, expected as many of each")
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    boxes, labels, scores = (
        torch.cat([output[name].detach().cpu() for output in (none, *outputs)]) for name in none
    )
    image = np.repeat(np.arange(len(outputs)), counts)
    given = checked_column(labels, np.int64, "labels", len(labels))
    label = _classes(first_label, class_ids, vocabulary, given)
    if (label < 0).any():
        row = int(np.argmax(label < 0))
        expected = "one that class_ids give a class of the vocabulary"
        if class_ids is None:
            last = first_label + len(vocabulary) - 1
            expected = (
                f"{first_label}..{last}; where the model counts otherwise, say first_label or class_ids"
            )
        raise InputError(f"image {ids[image[row]]!r}: label {given[row]}, expected {expected}")
    # numpy knows no bfloat16
    return Detections(vocabulary, ids, image, boxes.double().numpy(), label, scores.double().numpy())


def _text(id_: str | int) -> str:
    return str(index(id_)) if hasattr(id_, "__index__") else id_


def _classes(first: int, class_ids: Sequence[str | int] | None, vocabulary: Vocabulary, labels: Ints) -> Ints:
    """(P,) the class that each label stands for; -1: none."""
    table = [*range(len(vocabulary))]
    if class_ids is not None:
        table = [vocabulary.index(id_) if id_ in vocabulary else -1 for id_ in map(_text, class_ids)]
    place = labels - (first if class_ids is None else 0)
    is_inside = (place >= 0) & (place < len(table))
    return np.array([*table, -1])[np.where(is_inside, place, -1)]


def gather_evaluator(evaluator: StreamingEvaluator) -> StreamingEvaluator:
    """The evaluators of all processes of torch.distributed as one, on every process; without it, the same one.

    An image that several processes saw, as where a sampler fills up its last batch, counts once. That of this process
    refuses its images from now on, as after `compute`, until its `reset`.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return evaluator
    everyone: list[StreamingEvaluator | None] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, evaluator)
    evaluator.told = frozenset(id_ for part in evaluator.parts for id_ in part.image_ids)
    whole = StreamingEvaluator(evaluator.protocol, evaluator.hierarchy)
    for one in everyone:
        if one is not None:
            whole.merge(one)
    return whole
