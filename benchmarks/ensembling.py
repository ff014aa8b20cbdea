"""Ensembling against ensemble-boxes (ZFTurbo), on drawn detections of several models.

    pip install ensemble-boxes==1.0.9
    python benchmarks/ensembling.py [--images 5000] [--models 3] [--each 100] [--classes 50] [--repeat 3]

Both start from what they take: ours `Detections`, the library lists of arrays for each image. Both fuse all images,
the library one call an image as it offers. Results are compared first: how many detections, how many of them have
a partner (same image and class) within 1e-6 in box and score. Appends to `benchmarks/results/ensembling.csv`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import ensemble_boxes
import numba
import numpy as np
from environment import append

from wildbox.detections import Detections
from wildbox.ensembling import nms, soft_nms, weighted_boxes_fusion
from wildbox.vocabulary import Vocabulary

RESULTS = Path(__file__).parent / "results" / "ensembling.csv"
Lists = list[tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]]
Table = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""image, label, score, box."""


def draw(images: int, models: int, each: int, classes: int) -> list[Detections]:
    """Models that find most of the same objects, a little displaced, and some things that are not there."""
    rng = np.random.default_rng(0)
    ids, vocabulary = tuple(f"{i:06d}" for i in range(images)), Vocabulary(tuple(map(str, range(classes))))
    objects = each * 7 // 10
    shape = (images, objects)
    share = 1 / np.arange(1, classes + 1)
    label = rng.choice(classes, shape, p=share / share.sum())
    corner, size = rng.uniform(0, 0.7, (*shape, 2)), rng.uniform(0.02, 0.3, (*shape, 2))
    result = []
    for _ in range(models):
        jitter = rng.normal(0, 0.05, (*shape, 4)) * np.concatenate([size, size], axis=-1)
        box = np.clip(np.concatenate([corner, corner + size], axis=-1) + jitter, 0, 1)
        extra = (images, each - objects)
        low, side = rng.uniform(0, 0.7, (*extra, 2)), rng.uniform(0.02, 0.3, (*extra, 2))
        box = np.concatenate([box, np.concatenate([low, low + side], axis=-1)], axis=1).reshape(-1, 4)
        labels = np.concatenate([label, rng.integers(0, classes, extra)], axis=1).ravel()
        score = np.concatenate([rng.beta(3, 2, shape), rng.beta(1, 5, extra)], axis=1).ravel()
        keep = (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])
        image = np.repeat(np.arange(images), each)
        result.append(Detections(vocabulary, ids, image[keep], box[keep], labels[keep], score[keep]))
    return result


def as_lists(models: list[Detections]) -> Lists:
    """Boxes, scores and labels of each model, image by image."""
    result: Lists = []
    for b in range(len(models[0].image_ids)):
        rows = [slice(model.offsets[b], model.offsets[b + 1]) for model in models]
        pairs = list(zip(models, rows, strict=True))
        result.append(
            ([m.boxes[r] for m, r in pairs], [m.score[r] for m, r in pairs], [m.label[r] for m, r in pairs])
        )
    return result


def theirs(lists: Lists, method: Callable[..., Table]) -> Table:
    """What the library gives, image by image."""
    found = [method(*image) for image in lists]
    image = np.repeat(np.arange(len(found)), [len(score) for _, score, _ in found])
    box, score, label = (np.concatenate(column) for column in zip(*found, strict=True))
    return image, label.astype(np.int64), score, box


def partners(ours: Detections, peer: Table, *, columns: int) -> int:
    """How many of ours are, within 1e-6, the peer's of the same place in the order of class, box and score.

    Args:
        columns: 5 to compare box and score, 4 the box alone.
    """
    matched = 0
    rows = [
        np.column_stack([ours.label, ours.boxes, ours.score]),
        np.column_stack([peer[1], peer[3], peer[2]]),
    ]
    bounds = [np.searchsorted(image, np.arange(len(ours.image_ids) + 1)) for image in (ours.image, peer[0])]
    for b in range(len(ours.image_ids)):
        a, other = (table[bound[b] : bound[b + 1]] for table, bound in zip(rows, bounds, strict=True))
        same = (a[:, None, 0] == other[None, :, 0]) & (
            np.abs(a[:, None, 1 : columns + 1] - other[None, :, 1 : columns + 1]).max(axis=2) <= 1e-6
        )
        matched += int(same.any(axis=1).sum())
    return matched


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """How long a call takes, and how long processors worked on it, all threads together."""
    start, worked = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, time.process_time() - worked


def main() -> None:
    """Compare and time each method; alternate the two, print and keep the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, default in (("images", 5000), ("models", 3), ("each", 100), ("classes", 50), ("repeat", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    models = draw(arguments.images, arguments.models, arguments.each, arguments.classes)
    lists = as_lists(models)
    methods: dict[str, tuple[Callable[..., Detections], Callable[..., Table]]] = {
        "wbf": (
            weighted_boxes_fusion,
            partial(ensemble_boxes.weighted_boxes_fusion, iou_thr=0.55, skip_box_thr=0.0),
        ),
        "nms": (nms, partial(ensemble_boxes.nms, iou_thr=0.5)),
        "soft-nms": (soft_nms, partial(ensemble_boxes.soft_nms, method=2, sigma=0.5, thresh=0.001)),
    }
    for name, (own, peer) in methods.items():
        found, reference = own(models), theirs(lists, peer)
        # the library's Soft-NMS gives back the scores as they were before: only boxes can be compared
        same = partners(found, reference, columns=4 if name == "soft-nms" else 5)
        took = [
            (*seconds(partial(own, models)), *seconds(partial(theirs, lists, peer)))
            for _ in range(arguments.repeat)
        ]
        a, worked, b, peer_worked = (statistics.median(column) for column in zip(*took, strict=True))
        print(
            f"{name}: ours {a:.3f} s, ensemble-boxes {b:.2f} s, {b / a:.0f} times ({peer_worked / worked:.0f} by "
            f"processor time); {len(found):,} and {len(reference[0]):,} detections, {same:,} the same",
            flush=True,
        )
        row = {"method": name, "detections": sum(map(len, models)), "peer": "ensemble-boxes 1.0.9"}
        times = {
            "seconds": round(a, 3),
            "peer_seconds": round(b, 2),
            "ratio": round(b / a, 1),
            "cpu_seconds": round(worked, 3),
            "peer_cpu_seconds": round(peer_worked, 2),
            "cpu_ratio": round(peer_worked / worked, 1),
        }
        counts = {"found": len(found), "peer_found": len(reference[0]), "same": same}
        append(RESULTS, row | times | counts | {"threads": numba.get_num_threads()})


if __name__ == "__main__":
    main()
