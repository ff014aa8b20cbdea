"""A generated annotation file of the size and layout of LVIS v1's training set, for the benchmarks.

    python benchmarks/lvis_layout.py --out FILE.json [--images 100170] [--boxes 1270141] [--seed 0]

1,203 classes by Zipf's law with their groups, outlines (of which reading boxes has no use, and which are most of the
file), classes verified to be absent, classes whose boxes are not exhaustive. Letters: B images, N boxes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from wildbox.formats.files import whole_file

CLASSES = 1203
OUTLINES = 4096
"""Drawn once and used again: text of the right length that nobody reads."""
BLOCK = 10_000


def categories(boxes: np.ndarray) -> list[dict[str, object]]:
    """Entries of the classes, given how many boxes each has."""
    return [
        {
            "image_count": int(count),
            "synonyms": [f"class_{i}"],
            "def": f"what people call class {i}, as a dictionary tells it",
            "id": i,
            "synset": f"class_{i}.n.01",
            "name": f"class_{i}",
            "frequency": "r" if count <= 10 else "c" if count <= 100 else "f",
            "instance_count": int(count),
        }
        for i, count in enumerate(boxes.tolist(), start=1)
    ]


def _outlines(rng: np.random.Generator) -> list[str]:
    """Polygons as the file has them: most of tens of corners, some of hundreds."""
    corners = np.maximum(rng.lognormal(mean=3.5, sigma=0.8, size=OUTLINES).astype(int), 3)
    return [json.dumps([(rng.random(2 * n) * 640).round(2).tolist()]) for n in corners]


def images(count: int, rng: np.random.Generator) -> Iterator[str]:
    """JSON of each image."""
    sizes = rng.choice([427, 480, 500, 640], (count, 2)).tolist()
    absent = (rng.integers(1, CLASSES + 1, (count, 12))).tolist()
    for i, ((width, height), some) in enumerate(zip(sizes, absent, strict=True), start=1):
        yield json.dumps(
            {
                "date_captured": "2013-11-18 02:53:27",
                "neg_category_ids": sorted(set(some[:10])),
                "id": i,
                "license": 4,
                "height": height,
                "width": width,
                "flickr_url": f"http://farm9.staticflickr.com/8186/{i:010d}_e2c6ffb1f6_z.jpg",
                "coco_url": f"http://images.cocodataset.org/train2017/{i:012d}.jpg",
                "not_exhaustive_category_ids": sorted(set(some[10:])) if i % 4 == 0 else [],
            }
        )


def annotations(image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> Iterator[str]:
    """JSON of each box; one in ten repeats the box before under another class, if that is of the same image."""
    outlines = _outlines(rng)
    boxes = np.hstack([rng.random((len(image), 2)) * 300, 1 + rng.random((len(image), 2)) * 120]).round(2)
    again = np.flatnonzero((rng.random(len(image) - 1) < 0.1) & (image[1:] == image[:-1])) + 1
    boxes[again] = boxes[again - 1]
    outline = rng.integers(0, OUTLINES, len(image)).tolist()
    for i, (x, y, w, h) in enumerate(boxes.tolist()):
        yield (
            f'{{"area": {w * h:.2f}, "id": {i + 1}, "segmentation": {outlines[outline[i]]}, '
            f'"image_id": {image[i]}, "bbox": [{x}, {y}, {w}, {h}], "category_id": {label[i]}}}'
        )


def write(path: Path, *, count: int, boxes: int, seed: int) -> None:
    """Draw and write."""
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, CLASSES + 1) ** 1.1
    label = rng.choice(CLASSES, size=boxes, p=frequency / frequency.sum()) + 1
    share = rng.lognormal(sigma=0.8, size=count)
    image = np.repeat(np.arange(1, count + 1), rng.multinomial(boxes, share / share.sum()))
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write('{"info": {"version": "v1"}, "annotations": [')
        _write_list(stream.write, annotations(image, label, rng))
        stream.write('], "images": [')
        _write_list(stream.write, images(count, rng))
        drawn = categories(np.bincount(label, minlength=CLASSES + 1)[1:])
        stream.write(f'], "licenses": [], "categories": {json.dumps(drawn)}}}')


def _write_list(write: Callable[[str], object], entries: Iterator[str]) -> None:
    for number, entry in enumerate(entries):
        write(f"{', ' if number else ''}{entry}")


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=100_170)
    parser.add_argument("--boxes", type=int, default=1_270_141)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write(given.out, count=given.images, boxes=given.boxes, seed=given.seed)


if __name__ == "__main__":
    main()
