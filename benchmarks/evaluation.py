"""Speed of evaluation beside its peers, all in one run: arrays in memory to average precision of each class.

    python benchmarks/evaluation.py --out benchmarks/results/evaluation.csv

Letters: B images, N truth boxes, D detections, C classes.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

THREADS = 2
for variable in ("NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(variable, str(THREADS))  # before the libraries are loaded

import hotcoco  # noqa: E402
import numpy as np  # noqa: E402

from wildbox import Annotations, Detections, InputWarning, Vocabulary, evaluate  # noqa: E402
from wildbox.annotations import Floats  # noqa: E402
from wildbox.formats.files import write_csv  # noqa: E402

COLUMNS = ("case", "detections", "seconds", "cpu_seconds", "ratio", "against")


@dataclass(frozen=True)
class World:
    """Truth and detections as plain arrays."""

    truth: tuple[np.ndarray, ...]
    """image (N,), label (N,), boxes (N, 4), is_group_of (N,)."""
    found: tuple[np.ndarray, ...]
    """image (D,), label (D,), boxes (D, 4), score (D,)."""
    images: int
    classes: int


def draw_world(images: int, *, classes: int = 500, boxes: int = 12, found: int = 100, seed: int = 0) -> World:
    """A long-tailed truth, one box in 20 a group, and detections of which about 40 in 100 lie on a box of their class.

    Coordinates are relative; images are in order.
    """
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, classes + 1)
    frequency /= frequency.sum()
    counts = rng.poisson(boxes, images)
    image, n, d = np.repeat(np.arange(images), counts), int(counts.sum()), images * found
    label, box = rng.choice(classes, n, p=frequency), random_boxes(rng, n)
    found_image = np.repeat(np.arange(images), found)
    first = np.concatenate([[0], np.cumsum(counts)])
    source = np.minimum(first[found_image] + (rng.random(d) * counts[found_image]).astype(int), n - 1)
    near = (rng.random(d) < 0.6) & (counts[found_image] > 0)
    right = near & (rng.random(d) < 0.7)
    jittered = np.clip(box[source] + rng.normal(0, 0.03, (d, 4)), 0, 1)
    corners = np.sort(jittered.reshape(d, 2, 2), axis=1).reshape(d, 4)
    found_box = np.where(near[:, None], corners, random_boxes(rng, d))
    found_label = np.where(right, label[source], rng.choice(classes, d, p=frequency))
    score = np.where(right, rng.beta(2, 2, d), rng.beta(1, 4, d))
    truth = (image, label, box, rng.random(n) < 0.05)
    return World(truth, (found_image, found_label, found_box, score), images, classes)


def random_boxes(rng: np.random.Generator, count: int) -> Floats:
    """Boxes (count, 4) with sides of 0.02 to 0.42, cut at the frame."""
    corner, side = rng.random((count, 2)) * 0.8, 0.02 + rng.random((count, 2)) * 0.4
    return np.hstack([corner, np.minimum(corner + side, 1)])


def ours(world: World) -> float:
    """Tables and evaluation, from arrays; mAP."""
    vocabulary = Vocabulary(tuple(map(str, range(world.classes))))
    ids = tuple(f"{i:016x}" for i in range(world.images))
    image, label, box, is_group_of = world.truth
    truth = Annotations(vocabulary, ids, image, box, label, is_group_of)
    image, label, box, score = world.found
    return evaluate(Detections(vocabulary, ids, image, box, label, score), truth).mean_ap


def hotcoco_open_images(world: World) -> float:
    """hotcoco's Open Images mode: load and run, from arrays (those of its own form are made by `peer_arrays`)."""
    image, label, box, is_group_of = world.truth
    images = [{"id": i, "width": 1, "height": 1} for i in range(world.images)]
    categories = [{"id": c, "name": str(c)} for c in range(world.classes)]
    truth = hotcoco.COCO.from_arrays(images, categories, image, label, sides(box), iscrowd=is_group_of)
    run = hotcoco.COCOeval(truth, truth.load_res(peer_arrays(world)), "bbox", oid_style=True)
    run.evaluate()
    run.accumulate()
    return float("nan") if run.eval is None else float(run.eval["precision"].shape[0])


PREPARED: dict[int, np.ndarray] = {}


def peer_arrays(world: World) -> np.ndarray:
    """Detections as hotcoco takes them, (D, 7); made once and not timed."""
    if id(world) not in PREPARED:
        image, label, box, score = world.found
        PREPARED[id(world)] = np.column_stack([image, sides(box), score, label])
    return PREPARED[id(world)]


def sides(box: Floats) -> Floats:
    """x1, y1, width, height."""
    return np.hstack([box[:, :2], box[:, 2:] - box[:, :2]])


def timed(task: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one call: wall, and processor time of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    task()
    return time.perf_counter() - wall, time.process_time() - cpu


def race(tasks: dict[str, Callable[[], object]], *, repeats: int) -> dict[str, tuple[float, float]]:
    """The best of some repeats of each, taken in turn, after a first call that compiles and is not counted."""
    best = dict.fromkeys(tasks, (np.inf, np.inf))
    for repeat in range(repeats + 1):
        for name, task in tasks.items():
            wall, cpu = timed(task)
            if repeat:
                best[name] = (min(best[name][0], wall), min(best[name][1], cpu))
    return best


def main() -> None:
    """Run, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--repeats", type=int, default=5)
    settings = parser.parse_args()
    warnings.simplefilter("ignore", InputWarning)
    world = draw_world(settings.images)
    peer_arrays(world)
    times = race(
        {"wildbox": lambda: ours(world), "hotcoco oid_style": lambda: hotcoco_open_images(world)},
        repeats=settings.repeats,
    )
    against = "hotcoco oid_style"
    rows = [
        (
            name,
            len(world.found[0]),
            *map("{:.3f}".format, seconds),
            f"{seconds[0] / times[against][0]:.3f}",
            against,
        )
        for name, seconds in times.items()
    ]
    for row in rows:
        print(*row, sep="\t")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{memory:.2f} GB at most; {platform.processor() or platform.machine()}, {THREADS} threads")
    write_csv(settings.out, COLUMNS, rows)


if __name__ == "__main__":
    main()
