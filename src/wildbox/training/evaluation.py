"""Evaluation in training loops: what models put out, and the evaluators of all processes as one.

Letters: P detections of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from wildbox.detections import Detections
from wildbox.evaluation.streaming import StreamingEvaluator
from wildbox.vocabulary import Vocabulary


def batch_detections(
    outputs: Sequence[Mapping[str, Tensor]],
    image_ids: Sequence[str],
    vocabulary: Vocabulary,
    *,
    first_label: int = 1,
) -> Detections:
    """Outputs of a torchvision detector as a table, for `StreamingEvaluator.update`.

    Args:
        outputs: of each image `boxes` (P, 4) in the unit of the truth, `labels` (P,), `scores` (P,).
        image_ids: of the images, one each.
        first_label: the label of the vocabulary's first class; torchvision keeps 0 for the background.

    >>> found = {"boxes": torch.ones(1, 4), "labels": torch.tensor([1]), "scores": torch.tensor([0.5])}
    >>> batch_detections([found], ["a"], Vocabulary(("cat",))).label.tolist()
    [0]
    """
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    columns = {
        name: np.concatenate([output[name].detach().cpu().numpy() for output in (none, *outputs)])
        for name in none
    }
    image = np.repeat(np.arange(len(outputs)), [len(output["labels"]) for output in outputs])
    label, score = columns["labels"] - first_label, columns["scores"].astype(np.float64)
    return Detections(vocabulary, tuple(image_ids), image, columns["boxes"].astype(np.float64), label, score)


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
