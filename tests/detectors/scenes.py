"""Small images with squares to find, and their tables."""

from __future__ import annotations

import torch
from torch import Tensor

from wildbox.annotations import Annotations
from wildbox.vocabulary import Vocabulary

RATES = torch.tensor([[0.0, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
"""Of the three classes and the background."""


def scenes(count: int, *, seed: int = 0) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Grey noise with one red and one blue square each; a red one is also class 1 in every other image."""
    generator = torch.Generator().manual_seed(seed)
    images, targets = [], []
    for number in range(count):
        image = torch.rand(3, 64, 64, generator=generator) * 0.2 + 0.4
        x, y = (int(v) for v in torch.randint(0, 10, (2,), generator=generator))
        red, blue = (x, y, x + 20, y + 20), (x + 30, y + 28, x + 48, y + 52)
        for channel, (x1, y1, x2, y2) in ((0, red), (2, blue)):
            image[:, y1:y2, x1:x2] = 0.0
            image[channel, y1:y2, x1:x2] = 1.0
        multi_hot = torch.tensor([[1, number % 2, 0], [0, 0, 1]], dtype=torch.bool)
        boxes = torch.tensor([red, blue], dtype=torch.float32)
        target = {"boxes": boxes, "labels": torch.tensor([0, 2]), "multi_hot": multi_hot}
        images.append(image)
        targets.append(target | {"image": torch.tensor(number)})
    return images, targets


def table(targets: list[dict[str, Tensor]]) -> Annotations:
    """The targets as annotations in pixels, one row a label."""
    rows = [
        (number, box.tolist(), int(label))
        for number, t in enumerate(targets)
        for box, labels in zip(t["boxes"], t["multi_hot"], strict=True)
        for label in labels.nonzero()
    ]
    return Annotations(
        Vocabulary(("red", "sometimes", "blue")),
        tuple(str(i) for i in range(len(targets))),
        image=[row[0] for row in rows],
        boxes=[row[1] for row in rows],
        label=[row[2] for row in rows],
        sizes=[[64, 64]] * len(targets),
    )
