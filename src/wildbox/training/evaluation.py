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
) -> Detections:
    """Outputs of a torchvision detector as a table, for `StreamingEvaluator.update`.

    Args:
        outputs: of each image `boxes` (P, 4) in the unit of the truth, `labels` (P,), `scores` (P,).
        image_ids: of the images, one each; numbers, as COCO has them, become texts.
        first_label: the label of the vocabulary's first class; torchvision keeps 0 for the background.
    Raises:
        InputError: as many outputs as images are not there, or other rows in one column of an output than in another;
            and as `Detections`.

    >>> found = {"boxes": torch.ones(1, 4), "labels": torch.tensor([1]), "scores": torch.tensor([0.5])}
    >>> batch_detections([found], ["a"], Vocabulary(("cat",))).label.tolist()
    [0]
    """
    ids = tuple(str(index(id_)) if hasattr(id_, "__index__") else id_ for id_ in image_ids)
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
    return Detections(
        vocabulary,
        ids,
        np.repeat(np.arange(len(outputs)), counts),
        boxes.double().numpy(),  # numpy knows no bfloat16
        labels.numpy() - first_label,
        scores.double().numpy(),
    )


def gather_evaluator(evaluator: StreamingEvaluator) -> StreamingEvaluator:
    """The evaluators of all processes of torch.distributed as one, on every process; without it, the same one.

    An image that several processes saw, as where a sampler fills up its last batch, counts once.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return evaluator
    everyone: list[StreamingEvaluator | None] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, evaluator)
    whole = StreamingEvaluator(evaluator.protocol, evaluator.hierarchy)
    for one in everyone:
        if one is not None:
            whole.merge(one)
    return whole
