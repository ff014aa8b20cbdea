"""An audit with more rows in its tables than a page writes as HTML, names that need escaping, and its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from wildbox.annotations import Annotations, ImageLabels
from wildbox.labels.audit import LabelAudit, audit
from wildbox.vocabulary import Hierarchy, Vocabulary

CLASSES, IMAGES = 40, 200
NAMES = ("Bench", "Bench", '<b>"Cat" & dog</b>', *(f"Class {i}" for i in range(3, CLASSES - 1)), "Never")
TREE = Hierarchy(CLASSES, [(i, i // 4) for i in range(4, CLASSES)])


def large_annotations() -> Annotations:
    """Objects with one to three labels, few in the last classes and none in the very last; relative boxes."""
    rng = np.random.default_rng(5)
    odds = 1 / np.arange(1, CLASSES) ** 0.8
    rows = []
    for image in range(IMAGES):
        for _ in range(6):
            x, y = rng.uniform(0, 0.6, 2)
            box = [x, y, x + 0.3, y + 0.2]
            labels = {
                int(label) for label in rng.choice(CLASSES - 1, rng.integers(1, 4), p=odds / odds.sum())
            }
            rows += [(image, box, label) for label in labels]
    image, boxes, label = zip(*rows, strict=True)
    absent = ImageLabels(rng.integers(0, IMAGES, 300), rng.integers(0, CLASSES, 300), np.zeros(300, bool))
    vocabulary = Vocabulary(tuple(f"/m/{i}" for i in range(CLASSES)), NAMES)
    ids = tuple(f"i{b:03d}" for b in range(IMAGES))
    return Annotations(
        vocabulary, ids, np.array(image), np.array(boxes), np.array(label), image_labels=absent
    )


def large_audit() -> LabelAudit:
    """The audit of it, with the hierarchy."""
    return audit(large_annotations(), hierarchy=TREE, min_ratio=0.02)


def draw_images(folder: Path) -> None:
    """Grey images; of the first ten two are missing, and two are not pictures."""
    folder.mkdir()
    for b in range(IMAGES):
        Image.new("RGB", (320, 240), (b, 128, 128)).save(folder / f"i{b:03d}.jpg", quality=60)
    for b in (0, 1):
        (folder / f"i{b:03d}.jpg").unlink()
    (folder / "i002.jpg").write_bytes(b"not a picture")
    whole = (folder / "i003.jpg").read_bytes()
    (folder / "i003.jpg").write_bytes(whole[: len(whole) // 2])
