"""A model and images -> Detections, by several scoring rules in one pass over the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from wildbox.annotations import Annotations
from wildbox.detections import Detections
from wildbox.detectors.roi_heads import Scoring

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


@torch.no_grad()
def propose(model: FasterRCNN, images: list[Tensor]) -> list[tuple[Tensor, Tensor, tuple[int, int]]]:
    """For each image: refined boxes (P, 4), their logits (P, K), and (height, width) of the boxes' frame.

    The frame is the network's input, after the model's own resizing.
    """
    batch, _ = model.transform(images, None)
    features = model.backbone(batch.tensors)
    if isinstance(features, Tensor):
        features = {"0": features}
    proposals, _ = model.rpn(batch, features, None)
    refined = model.roi_heads.refine(features, proposals, batch.image_sizes)
    return [(*pair, shape) for pair, shape in zip(refined, batch.image_sizes, strict=True)]


def _rescale(boxes: Tensor, *, frame: tuple[int, int], size: Tensor) -> Tensor:
    height, width = frame
    return boxes.double().cpu() / torch.tensor([width, height] * 2) * size.repeat(2)


@torch.no_grad()
def predict(
    model: FasterRCNN,
    batches: Iterable[Batch],
    images: Annotations,
    *,
    scorings: Mapping[str, Scoring],
    progress: Callable[[int], None] | None = None,
) -> dict[str, Detections]:
    """Detections of every image by every scoring rule; the network runs once.

    Args:
        model: put into eval mode, its device is used.
        batches: of a loader over a `DetectionDataset` of `images`; the target's `image` says which it is.
        images: whose ids, unit of coordinates and vocabulary the detections take.
        scorings: name -> function logits (P, K) -> scores (P, K).
        progress: called with the number of images done.
    Returns:
        scoring name -> Detections.
    """
    model.eval()
    device = next(model.parameters()).device
    columns: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in scorings}
    done = 0
    for pixels, targets in batches:
        proposed = propose(model, [image.to(device) for image in pixels])
        for (boxes, logits, frame), target in zip(proposed, targets, strict=True):
            index = int(target["image"])
            size = torch.from_numpy(images.sizes[index].copy())
            for name, scoring in scorings.items():
                found = model.roi_heads.select(boxes, scoring(logits))
                box = _rescale(found["boxes"], frame=frame, size=size).numpy()
                label, score = found["labels"].cpu().numpy(), found["scores"].double().cpu().numpy()
                columns[name].append((np.full(len(label), index), box, label, score))
        done += len(pixels)
        if progress is not None:
            progress(done)
    return {name: _table(images, parts) for name, parts in columns.items()}


def _table(images: Annotations, parts: list[tuple[np.ndarray, ...]]) -> Detections:
    empty = (np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))
    image, boxes, label, score = (np.concatenate(column) for column in zip(empty, *parts, strict=True))
    return Detections(images.vocabulary, images.image_ids, image, boxes, label, np.clip(score, 0, 1))
