"""A model and images -> Detections, by several scoring rules in one pass over the images.

Letters: B images, P proposals of an image over all views, C foreground classes, K = C + 1, D detections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wildbox.annotations import Annotations
from wildbox.detections import Detections
from wildbox.detectors.augmentation import mirrored
from wildbox.detectors.detector import Detector
from wildbox.detectors.roi_heads import Candidates, Scoring
from wildbox.errors import ConfigError

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


@dataclass(frozen=True)
class View:
    """How the network is shown an image."""

    image_size: int | None = None
    """Shorter side of the network's input, in pixels; None is the model's own."""
    flipped: bool = False
    """Left and right exchanged."""


def views(sizes: Sequence[int | None] = (None,), *, flip: bool = False) -> tuple[View, ...]:
    """Every size, and with `flip` each of them flipped too.

    >>> len(views((640, 800), flip=True))
    4
    """
    if not sizes or any(size is not None and size < 1 for size in sizes):
        raise ConfigError(f"sizes are {tuple(sizes)}, expected lengths in pixels")
    return tuple(View(size, flipped) for size in sizes for flipped in ((False, True) if flip else (False,)))


@torch.no_grad()
def propose(
    model: Detector, images: list[Tensor], *, shown: Sequence[View] = (View(),)
) -> list[list[Candidates]]:
    """For each image what the second stage makes of it in each view, all boxes in the frame of the first view."""
    found = [_seen(model, images, view) for view in shown]
    return [[_moved(c, of_image[0].frame) for c in of_image] for of_image in zip(*found, strict=True)]


def _seen(model: Detector, images: list[Tensor], view: View) -> list[Candidates]:
    transform = None if view.image_size is None else model.transform.sized(view.image_size)
    if not view.flipped:
        return model.candidates(images, transform=transform)
    found = model.candidates([image.flip(-1) for image in images], transform=transform)
    return [Candidates(mirrored(c.boxes, c.frame[1]), c.logits, c.frame) for c in found]


def _moved(found: Candidates, frame: tuple[int, int]) -> Candidates:
    if found.frame == frame:
        return found
    scale = [frame[1] / found.frame[1], frame[0] / found.frame[0]] * 2
    return Candidates(found.boxes * found.boxes.new_tensor(scale), found.logits, frame)


def _rescale(boxes: Tensor, *, frame: tuple[int, int], size: Tensor) -> Tensor:
    height, width = frame
    return boxes.double().cpu() / torch.tensor([width, height] * 2) * size.repeat(2)


@torch.no_grad()
def predict(
    model: Detector,
    batches: Iterable[Batch],
    images: Annotations,
    *,
    scorings: Mapping[str, Scoring],
    shown: Sequence[View] = (View(),),
    first: int = 0,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Detections]:
    """Detections of every image by every scoring rule; the network runs once a view.

    What several views find is put together before the suppression of each class. Which images share a batch does
    not matter. An image that did not open (`DetectionDataset(replace_corrupt=True)`) has no detections.

    Args:
        model: put into eval mode, its device is used.
        batches: of a loader over a `DetectionDataset`; the target's `image` says which it is.
        images: of that dataset, or consecutive ones of them; the detections take their ids, unit of coordinates and
            vocabulary.
        first: index in the dataset of the first of `images`.
        scorings: name -> function logits (P, K) -> scores (P, K).
        shown: test-time augmentation, see `views`.
        progress: called with the number of images done.
    Returns:
        scoring name -> Detections.
    """
    model.eval()
    device = next(model.parameters()).device
    columns: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in scorings}
    done = 0
    for pixels, targets in batches:
        proposed = propose(model, [image.to(device) for image in pixels], shown=shown)
        for found, target in zip(proposed, targets, strict=True):
            if len(target.get("corrupt", ())):
                continue
            index = int(target["image"]) - first
            size = torch.from_numpy(images.sizes[index].copy())
            boxes = torch.cat([view.boxes for view in found])
            for name, scoring in scorings.items():
                scores = torch.cat([view.scores(scoring) for view in found])
                best = model.roi_heads.select(boxes, scores)
                box = _rescale(best["boxes"], frame=found[0].frame, size=size).numpy()
                label, score = best["labels"].cpu().numpy(), best["scores"].double().cpu().numpy()
                columns[name].append((np.full(len(label), index), box, label, score))
        done += len(pixels)
        if progress is not None:
            progress(done)
    return {name: _table(images, parts) for name, parts in columns.items()}


def _table(images: Annotations, parts: list[tuple[np.ndarray, ...]]) -> Detections:
    empty = (np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))
    image, boxes, label, score = (np.concatenate(column) for column in zip(empty, *parts, strict=True))
    return Detections(images.vocabulary, images.image_ids, image, boxes, label, np.clip(score, 0, 1))
