"""Speed and memory of evaluation beside its peers, all in one run.

    python benchmarks/evaluation.py --out benchmarks/results/evaluation.csv

Cases: `arrays`, from arrays in memory to average precision of each class, beside hotcoco's Open Images mode; `coco`,
the same for COCO's numbers, beside pycocotools; `csv` and `parquet`, from files to the written log, beside polars
reading the files; `scale`, more and more detections; `shards`, Parquet files one after the other. Memory is the peak of
what the process holds beyond its libraries, in bytes a detection. hotcoco takes group-of flags from dictionaries only,
so it runs without them. All detections count, as with hotcoco: the Challenge's protocol leaves out those of a class
that nobody looked for, which is less work.

Letters: B images, N truth boxes, D detections, C classes.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import io
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

THREADS = "2"
for variable in ("NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(variable, THREADS)  # before the libraries are loaded

import hotcoco  # noqa: E402
import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
from environment import append  # noqa: E402

from wildbox import Annotations, Detections, InputWarning, Vocabulary, evaluate, read_open_images  # noqa: E402
from wildbox.annotations import Floats  # noqa: E402
from wildbox.evaluation import protocol_named  # noqa: E402
from wildbox.evaluation.files import evaluate_files  # noqa: E402
from wildbox.formats.detection_parts import open_beside  # noqa: E402
from wildbox.formats.open_images import write_open_images  # noqa: E402
from wildbox.formats.storage import write_detections  # noqa: E402

Row = dict[str, object]
PROTOCOL, GROUP_OF_WEIGHT = "open-images-v2", 1.0
PACKAGES = ("hotcoco", "pycocotools", "polars", "numba", "numpy")


@dataclass(frozen=True)
class World:
    """Truth and detections as plain arrays; images are in order, coordinates relative."""

    truth: tuple[np.ndarray, ...]
    """image (N,), label (N,), boxes (N, 4), is_group_of (N,)."""
    found: tuple[np.ndarray, ...]
    """image (D,), label (D,), boxes (D, 4), score (D,)."""
    images: int
    classes: int

    @property
    def ids(self) -> tuple[str, ...]:
        """(B,)"""
        return tuple(f"{i:016x}" for i in range(self.images))

    @property
    def vocabulary(self) -> Vocabulary:
        """C classes."""
        return Vocabulary(tuple(f"/m/{c:05x}" for c in range(self.classes)))

    def annotations(self) -> Annotations:
        """The truth as a table."""
        image, label, box, is_group_of = self.truth
        return Annotations(self.vocabulary, self.ids, image, box, label, is_group_of)

    def detections(self) -> Detections:
        """The detections as a table."""
        image, label, box, score = self.found
        return Detections(self.vocabulary, self.ids, image, box, label, score)

    def results(self, side: float = 1.0) -> Floats:
        """(D, 7) as hotcoco and pycocotools take them: image, x, y, width, height, score, category."""
        image, label, box, score = self.found
        return np.column_stack([image, sides(box) * side, score, label])


def draw_world(images: int, *, classes: int = 500, boxes: int = 12, found: int = 100, seed: int = 0) -> World:
    """A long-tailed truth, one box in 20 a group; about 40 of 100 detections lie on a box of their class."""
    blocks = [
        _draw_block(min(20_000, images - first), classes, boxes, found, np.random.default_rng([seed, first]))
        for first in range(0, images, 20_000)
    ]
    for number, (truth, detections) in enumerate(blocks):
        truth[0][:] += 20_000 * number
        detections[0][:] += 20_000 * number
    sides_of = zip(*blocks, strict=True)
    truth, detections = (tuple(map(np.concatenate, zip(*tables, strict=True))) for tables in sides_of)
    return World(truth, detections, images, classes)


def _draw_block(
    images: int, classes: int, boxes: int, found: int, rng: np.random.Generator
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    frequency = 1 / np.arange(1, classes + 1)
    frequency /= frequency.sum()
    counts = np.maximum(rng.poisson(boxes, images), 1)
    image, n, d = np.repeat(np.arange(images), counts), int(counts.sum()), images * found
    label, box = rng.choice(classes, n, p=frequency), random_boxes(rng, n)
    found_image = np.repeat(np.arange(images), found)
    first = np.cumsum(counts) - counts
    source = first[found_image] + (rng.random(d) * counts[found_image]).astype(int)
    near = rng.random(d) < 0.6
    right = near & (rng.random(d) < 0.7)
    jittered = np.clip(box[source] + rng.normal(0, 0.03, (d, 4)), 0, 1)
    corners = np.sort(jittered.reshape(d, 2, 2), axis=1).reshape(d, 4)
    found_box = np.where(near[:, None], corners, random_boxes(rng, d))
    found_label = np.where(right, label[source], rng.choice(classes, d, p=frequency))
    score = np.where(right, rng.beta(2, 2, d), rng.beta(1, 4, d))
    return (image, label, box, rng.random(n) < 0.05), (found_image, found_label, found_box, score)


def random_boxes(rng: np.random.Generator, count: int) -> Floats:
    """Boxes (count, 4) with sides of 0.02 to 0.42, cut at the frame."""
    corner, side = rng.random((count, 2)) * 0.8, 0.02 + rng.random((count, 2)) * 0.4
    return np.hstack([corner, np.minimum(corner + side, 1)])


def sides(box: Floats) -> Floats:
    """x1, y1, width, height."""
    return np.hstack([box[:, :2], box[:, 2:] - box[:, :2]])


def ours(world: World) -> float:
    """Tables and evaluation, from arrays."""
    return evaluate(
        world.detections(), world.annotations(), protocol=PROTOCOL, group_of_weight=GROUP_OF_WEIGHT
    ).mean_ap


def peer_truth(world: World, side: float = 1.0) -> hotcoco.COCO:
    """The truth as hotcoco holds it."""
    image, label, box, is_group_of = world.truth
    images = [{"id": i, "width": side, "height": side} for i in range(world.images)]
    categories = [{"id": c, "name": str(c)} for c in range(world.classes)]
    return hotcoco.COCO.from_arrays(images, categories, image, label, sides(box) * side, iscrowd=is_group_of)


def peer(world: World, results: Floats, *, open_images: bool, side: float = 1.0) -> None:
    """hotcoco: load and run, from arrays."""
    truth = peer_truth(world, side)
    run = hotcoco.COCOeval(truth, truth.load_res(results), "bbox", oid_style=open_images)
    run.evaluate()
    run.accumulate()


def pycocotools(truth: hotcoco.COCO, results: Floats) -> None:
    """pycocotools: load and run, from its own dictionaries."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        table = COCO()
        table.dataset = truth.dataset
        table.createIndex()
        run = COCOeval(table, table.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()


def race(tasks: dict[str, Callable[[], object]], *, repeats: int) -> dict[str, tuple[float, float]]:
    """Wall and processor seconds: the best of some repeats of each, in turn, after a first call that is not counted."""
    best = dict.fromkeys(tasks, (np.inf, np.inf))
    for repeat in range(repeats + 1):
        for name, task in tasks.items():
            wall, cpu = time.perf_counter(), time.process_time()
            task()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if repeat or repeats == 0:
                best[name] = (min(best[name][0], wall), min(best[name][1], cpu))
    return best


def rows_of(case: str, times: dict[str, tuple[float, float]], against: str, count: int) -> list[Row]:
    """One row each, with wall and processor time as multiples of the peer's."""
    wall, cpu = times[against]
    return [
        row_of(case, who, count, *seconds)
        | {"times": f"{seconds[0] / wall:.2f}", "cpu_times": f"{seconds[1] / cpu:.2f}"}
        for who, seconds in times.items()
    ]


def row_of(case: str, who: str, count: int, wall: float, cpu: float, memory: str = "") -> Row:
    """A row without a peer."""
    return {
        "case": case,
        "who": who,
        "detections": count,
        "seconds": f"{wall:.3f}",
        "cpu_seconds": f"{cpu:.3f}",
        "times": "",
        "cpu_times": "",
        "bytes_a_detection": memory,
    }


def arrays(images: int, repeats: int) -> list[Row]:
    """From arrays in memory."""
    world = draw_world(images)
    results = world.results()
    tasks = {"wildbox": lambda: ours(world), "hotcoco": lambda: peer(world, results, open_images=True)}
    return rows_of("arrays", race(tasks, repeats=repeats), "hotcoco", len(results))


def coco(images: int, repeats: int) -> list[Row]:
    """COCO's numbers, of a fortieth of the images in pixels with 80 classes."""
    world = draw_world(max(images // 40, 1), classes=80)
    truth, results = peer_truth(world, 640.0), world.results(640.0)
    tasks = {
        "wildbox": lambda: peer(world, results, open_images=False, side=640.0),
        "pycocotools": lambda: pycocotools(truth, results),
    }
    return rows_of("coco", race(tasks, repeats=min(repeats, 2)), "pycocotools", len(results))


def files(images: int, repeats: int) -> list[Row]:
    """From files to the written log."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        world = draw_world(images)
        boxes, log = Path(folder, "set-annotations-bbox.csv"), Path(folder, "log.csv")
        write_open_images(world.annotations(), folder, prefix="set")
        for ending in ("csv", "parquet"):
            found = Path(folder, f"found.{ending}")
            write_detections(world.detections(), found)

            def run(found: Path = found) -> None:
                opened, truth = open_beside(found, lambda: read_open_images(boxes, classes=world.vocabulary))
                protocol = protocol_named(PROTOCOL, group_of_weight=GROUP_OF_WEIGHT)
                evaluate_files(opened, truth, protocol=protocol).write(log)

            def read(found: Path = found) -> None:
                ids = {"ImageID": pl.String()}
                pl.read_csv(found, schema_overrides=ids) if found.suffix == ".csv" else pl.read_parquet(found)
                pl.read_csv(boxes, schema_overrides=ids)

            times = race({"wildbox": run, "polars, reading alone": read}, repeats=repeats)
            rows += rows_of(ending, times, "polars, reading alone", len(world.found[0]))
    return rows


def held(key: str) -> int:
    """Bytes that the process holds (VmRSS) or held at most since `forget_peak` (VmHWM)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line for line in status.splitlines() if line.startswith(key)).split()[1])


def forget_peak() -> None:
    """Start to measure the peak anew, without what is free already."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def one_size(images: int) -> None:
    """Print seconds and peak memory of one evaluation from arrays; a process of its own."""
    ours(draw_world(100))  # compiles
    libraries = held("VmRSS")
    world = draw_world(images)
    forget_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    ours(world)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(wall, cpu, (held("VmHWM") - libraries) / len(world.found[0]))


def some_shards(images: int, folder: str) -> None:
    """Print seconds and peak memory of an evaluation of the Parquet files in a folder; a process of its own."""
    truth = draw_world(images, found=1).annotations()
    small = Path(folder, "0.parquet")
    evaluate_files(
        small, truth, protocol=protocol_named(PROTOCOL, group_of_weight=GROUP_OF_WEIGHT)
    )  # compiles
    forget_peak()
    before = held("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    result = evaluate_files(
        Path(folder), truth, protocol=protocol_named(PROTOCOL, group_of_weight=GROUP_OF_WEIGHT)
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(wall, cpu, held("VmHWM") - before, 0 if result.matches is None else len(result.matches))


def alone(*arguments: str) -> list[float]:
    """What this script prints with some arguments, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def scale(images: int) -> list[Row]:
    """A quarter, all, four times and twelve and a half times the images."""
    rows: list[Row] = []
    for count in (images // 4, images, 4 * images, 25 * images // 2):
        wall, cpu, memory = alone("--one-size", str(count))
        rows.append(row_of("scale", "wildbox", 100 * count, wall, cpu, f"{memory:.0f}"))
        print(*rows[-1].values(), sep="\t", flush=True)
    return rows


def shards(images: int) -> list[Row]:
    """Files of a million detections each, by image."""
    with tempfile.TemporaryDirectory() as folder:
        world = draw_world(images)
        whole = world.detections()
        for number, first in enumerate(range(0, images, 10_000)):
            rows = slice(whole.offsets[first], whole.offsets[min(first + 10_000, images)])
            columns = (whole.image[rows], whole.boxes[rows], whole.label[rows], whole.score[rows])
            part = Detections(whole.vocabulary, whole.image_ids, *columns)
            write_detections(part, Path(folder, f"{number}.parquet"))
        wall, cpu, memory, counted = alone("--shards", str(images), folder)
        assert counted == len(whole), f"{counted} detections of {len(whole)} were evaluated"
    return [row_of("shards", "wildbox", len(whole), wall, cpu, f"{memory / len(whole):.0f}")]


def main() -> None:
    """Run, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cases", default="arrays,coco,files,scale,shards")
    parser.add_argument("--one-size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--shards", nargs=2, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    warnings.simplefilter("ignore", InputWarning)
    if settings.one_size:
        return one_size(settings.one_size)
    if settings.shards:
        return some_shards(int(settings.shards[0]), settings.shards[1])
    cases: dict[str, Callable[[], list[Row]]] = {
        "arrays": lambda: arrays(settings.images, settings.repeats),
        "coco": lambda: coco(settings.images, settings.repeats),
        "files": lambda: files(settings.images, settings.repeats),
        "scale": lambda: scale(settings.images),
        "shards": lambda: shards(5 * settings.images),
    }
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    for case in settings.cases.split(","):
        for row in cases[case]():
            print(*row.values(), sep="\t", flush=True)
            if settings.out is not None:
                append(settings.out, row | {"threads": THREADS, "versions": versions})
    return None


if __name__ == "__main__":
    main()
