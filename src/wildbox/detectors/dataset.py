"""Annotations and a folder of images as a torch dataset of a detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from wildbox.annotations import Annotations
from wildbox.errors import InputError
from wildbox.labels.objects import ObjectLabels
from wildbox.vocabulary import Vocabulary

Sample = tuple[Tensor, dict[str, Tensor]]


def image_path(annotations: Annotations, index: int, folder: Path) -> Path:
    """Where an image lies."""
    return folder / annotations.file_name(index)


def load_image(path: str | Path) -> Tensor:
    """A decoded image, (3, H, W) uint8. `InputError` with the file where it does not open."""
    try:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        reason = "no such file" if not Path(path).exists() else f"{error}, expected a picture"
        raise InputError(f"the image does not open: {reason}", path=path) from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


class DetectionDataset(Dataset[Sample]):
    """Image i -> (pixels (3, H, W) float in [0, 1], target).

    The target's tensors: `boxes` (n, 4) x1 y1 x2 y2 in pixels, `labels` (n,) each box's own label,
    `multi_hot` (n, C) bool: what the rule is taught, the labels of the box's object (`objects` given) or its
    own label alone (`objects=None`, the baseline), `image` () the index. Boxes without area are left out:
    they match no proposal. Group-of boxes are kept like the others.
    """

    def __init__(self, annotations: Annotations, folder: str | Path, *, objects: ObjectLabels | None) -> None:
        self.annotations = annotations
        self.folder = Path(folder)
        self.objects = objects

    def __len__(self) -> int:
        return len(self.annotations.image_ids)

    def __getitem__(self, index: int) -> Sample:
        table = self.annotations
        pixels = load_image(image_path(table, index, self.folder))
        height, width = pixels.shape[1:]
        first, last = table.offsets[index], table.offsets[index + 1]
        scale = torch.tensor([width, height]) / torch.from_numpy(table.sizes[index].copy())
        boxes = (torch.from_numpy(table.boxes[first:last].copy()) * scale.repeat(2)).float()
        labels = torch.from_numpy(table.label[first:last].copy())
        classes = len(table.vocabulary)
        if self.objects is None:
            multi_hot = torch.nn.functional.one_hot(labels, classes).bool()
        else:
            multi_hot = torch.from_numpy(self.objects.multi_hot(range(first, last), classes))
        solid = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)
        target = {
            "boxes": boxes[solid],
            "labels": labels[solid],
            "multi_hot": multi_hot[solid],
            "image": torch.tensor(index),
        }
        return pixels.float() / 255, target


def images_of(folder: str | Path, vocabulary: Vocabulary, *, relative: bool) -> Annotations:
    """The images of a folder (.jpg, .jpeg, .png, sorted) as a table without boxes; ids are the files' stems.

    Args:
        relative: the unit that detections on them shall have: shares of the image, or pixels.
    """
    folder = Path(folder)
    files = sorted(p for p in folder.glob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if not files:
        raise InputError("no .jpg, .jpeg or .png file in this folder", path=folder)
    sizes = np.ones((len(files), 2))
    if not relative:
        for row, file in enumerate(files):
            try:
                with Image.open(file) as image:
                    sizes[row] = image.size
            except OSError as error:
                raise InputError(f"the image does not open: {error}", path=file) from error
    none = np.zeros(0, np.int64)
    return Annotations(
        vocabulary,
        tuple(file.stem for file in files),
        image=none,
        boxes=np.zeros((0, 4)),
        label=none,
        sizes=sizes,
        file_names=tuple(file.name for file in files),
    )


def collate(batch: Sequence[Sample]) -> tuple[list[Tensor], list[dict[str, Any]]]:
    """Samples of different sizes as two lists."""
    return [image for image, _ in batch], [target for _, target in batch]
