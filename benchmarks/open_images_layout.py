"""A generated box file of the size and layout of Open Images' training set, for the benchmarks.

    python benchmarks/open_images_layout.py --out FILE.csv [--boxes 14600000] [--seed 0]

8.4 boxes an image on average, as heavy in the tail as the original (about 20 pairs of boxes within an image for
each box); frequencies by Zipf's law; a quarter of the boxes repeat the box before them under a partner class, their
edges moved a little. All 21 columns of V5 and later. Letters: N boxes, B images.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from wildbox.annotations import Annotations
from wildbox.formats.files import whole_file, write_csv
from wildbox.vocabulary import Vocabulary

CLASSES = 600
BLOCK = 1_000_000
VOCABULARY = Vocabulary(
    tuple(f"/m/0{i:05x}" for i in range(CLASSES)), tuple(f"Class {i}" for i in range(CLASSES))
)


def boxes_per_image(boxes: int, rng: np.random.Generator) -> np.ndarray:
    """(B,) at least 1 each, `boxes` in all."""
    images = max(round(boxes / 8.4), 1)
    share = rng.lognormal(sigma=1.33, size=images)
    return 1 + rng.multinomial(boxes - images, share / share.sum())


def draw(boxes: int, *, seed: int = 0) -> Annotations:
    """Annotations with N = `boxes`; coordinates are decimals with six places, as Open Images writes them."""
    rng = np.random.default_rng(seed)
    counts = boxes_per_image(boxes, rng)
    image = np.repeat(np.arange(len(counts)), counts)
    frequency = 1 / np.arange(1, CLASSES + 1) ** 1.1
    label = rng.choice(CLASSES, size=boxes, p=frequency / frequency.sum())
    size = np.minimum(rng.lognormal(mean=-1.8, sigma=0.9, size=(boxes, 2)), 0.98) + 0.005
    corner = rng.random((boxes, 2)) * (1 - size)
    table = np.hstack([corner, corner + size])
    again = np.flatnonzero((rng.random(boxes - 1) < 0.25) & (image[1:] == image[:-1])) + 1
    moved = rng.normal(scale=0.01, size=(len(again), 4)) * np.tile(size[again - 1], 2)
    table[again] = table[again - 1] + moved
    label[again] = label[again - 1] ^ 1
    table = np.clip(table, 0, 1).round(6)
    low, high = np.minimum(table[:, :2], table[:, 2:]), np.maximum(table[:, :2], table[:, 2:])
    ids = tuple(
        f"{number:016x}"
        for number in rng.permutation(len(counts)).astype(np.uint64) * 0x9E3779B97F4A7C15 % 2**63
    )
    return Annotations(
        VOCABULARY,
        ids,
        image=image,
        boxes=np.hstack([low, high]),
        label=label,
        is_group_of=rng.random(boxes) < 0.05,
    )


def _blocks(truth: Annotations, rng: np.random.Generator) -> Iterator[pl.DataFrame]:
    ids, classes = np.array(truth.image_ids, object), np.array(truth.vocabulary.ids, object)
    for first in range(0, len(truth), BLOCK):
        rows = slice(first, first + BLOCK)
        x1, y1, x2, y2 = truth.boxes[rows].T
        flags = (rng.random((len(x1), 4)) < 0.2).astype(np.int8).T
        clicks = (rng.random((8, len(x1)))).round(6)
        yield pl.DataFrame(
            {"ImageID": ids[truth.image[rows]].astype(str), "Source": "xclick"}
            | {"LabelName": classes[truth.label[rows]].astype(str), "Confidence": 1}
            | {
                "XMin": x1,
                "XMax": x2,
                "YMin": y1,
                "YMax": y2,
                "IsOccluded": flags[0],
                "IsTruncated": flags[1],
            }
            | {
                "IsGroupOf": truth.is_group_of[rows].astype(np.int8),
                "IsDepiction": flags[2],
                "IsInside": flags[3],
            }
            | {f"XClick{i % 4 + 1}{'XY'[i // 4]}": clicks[i] for i in range(8)}
        )


def write(truth: Annotations, path: Path) -> None:
    """Write the boxes to `path` and the classes to `classes.csv` beside it."""
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        for number, block in enumerate(_blocks(truth, np.random.default_rng(0))):
            block.write_csv(stream, include_header=number == 0, float_precision=6)
    write_csv(
        path.with_name("classes.csv"),
        ("LabelName", "DisplayName"),
        zip(VOCABULARY.ids, VOCABULARY.names, strict=True),
    )


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--boxes", type=int, default=14_600_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write(draw(arguments.boxes, seed=arguments.seed), arguments.out)


if __name__ == "__main__":
    main()
