"""The glyph world as files: images, and Open Images' own annotation files.

Letters: L leaf classes.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildbox.errors import ConfigError
from wildbox.formats.files import read_json, whole_file, write_json
from wildbox.glyphs.alphabet import MAX_LEAVES, Alphabet, build_alphabet
from wildbox.glyphs.scene import Scene, SceneRates, draw_scene, plan_scene

TRAIN, VALIDATION = "train", "validation"
BOX_COLUMNS = (
    "ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax",
    "IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside",
)  # fmt: skip
LABEL_COLUMNS = ("ImageID", "Source", "LabelName", "Confidence")
CHUNK = 64
"""Images that one process draws at a time."""

Row = tuple[object, ...]


@dataclass(frozen=True)
class GlyphWorld:
    """What the world is like. Same settings, same bytes, whatever the number of processes."""

    images: int = 2500
    """Training images."""
    validation_images: int = 400
    classes: int = 49
    """Leaf classes, 2 to 500; their parents come on top."""
    size: int = 160
    """Side of an image, in pixels."""
    seed: int = 0
    most_objects: int = 6
    """An image has 1 to this many objects, as far as there is room."""
    imbalance: float = 300.0
    """Expected objects of the most frequent leaf over those of the rarest, in training (a power law)."""
    validation_imbalance: float = 6.0
    """The same in validation, flatter, so that rare classes have truth enough to be measured."""
    group_of: float = 0.04
    """Share of the images with a cluster under one group-of box."""
    vague: float = 0.05
    """Share of the objects that annotators give a parent's label only, where there is a parent."""
    negatives: int = 8
    """Verified absent classes an image."""
    texture: float = 10.0
    """Strength of the background's texture, in grey levels."""

    def __post_init__(self) -> None:
        limits = {
            "images": (0, 10**7), "validation_images": (0, 10**7), "classes": (2, MAX_LEAVES), "size": (96, 4096),
            "most_objects": (1, 100), "imbalance": (1, 1e6), "validation_imbalance": (1, 1e6), "group_of": (0, 1),
            "vague": (0, 1), "negatives": (0, MAX_LEAVES), "texture": (0, 60), "seed": (0, 2**63),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"glyph world: {name} is {value}, expected {low} to {high}")

    def frequency(self, split: str) -> NDArray[np.float64]:
        """(L,) probability of each leaf: a power law from first to last class."""
        ratio = self.imbalance if split == TRAIN else self.validation_imbalance
        weights = np.arange(1, self.classes + 1) ** -(np.log(ratio) / np.log(self.classes))
        return np.asarray(weights / weights.sum())

    @property
    def rates(self) -> SceneRates:
        """What `plan_scene` needs."""
        return SceneRates(self.size, self.most_objects, self.group_of, self.vague, self.negatives)


@lru_cache(maxsize=4)
def _alphabet(leaves: int) -> Alphabet:
    return build_alphabet(leaves)


def scene_of(settings: GlyphWorld, split: str, index: int) -> Scene:
    """The plan of one image: a pure function of its arguments."""
    random = np.random.default_rng((settings.seed, split == TRAIN, index, 0))
    return plan_scene(
        _alphabet(settings.classes), settings.frequency(split), rates=settings.rates, random=random
    )


def image_id(split: str, index: int) -> str:
    """Unique over both splits."""
    return f"{'t' if split == TRAIN else 'v'}{index:07d}"


def planted_rates(settings: GlyphWorld) -> Iterator[tuple[int, int, float]]:
    """(class, look-alike, expected concurrent rate) in training.

    Of leaves a and b with frequencies f_a and f_b, both drawn with `both`: boxes of label a are
    f_a (own + both) + f_b (other + both), of which (f_a + f_b) both have a box of b.
    """
    f = settings.frequency(TRAIN)
    for a, (b, pair) in _alphabet(settings.classes).look_alikes.items():
        boxes = f[a] * (pair.own + pair.both) + f[b] * (pair.other + pair.both)
        yield a, b, float((f[a] + f[b]) * pair.both / boxes)


def draw_world(
    folder: str | Path,
    *,
    settings: GlyphWorld,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the world: `train/` and `validation/` (JPEG), and beside them Open Images' files.

    `{split}-annotations-bbox.csv` (leaf labels, not expanded), `{split}-annotations-human-imagelabels.csv`,
    `class-descriptions.csv`, `hierarchy.json`, and `planted.csv`: the concurrent rates of look-alikes that an
    audit should find; and `settings.json`. An image that is there already is not drawn again; the tables are
    renamed when complete.

    Args:
        processes: that draw at the same time.
        progress: called with images done and all.
    Raises:
        ConfigError: the folder holds a world of other settings (the numbers of images may differ).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, settings)
    _write_classes(folder, settings)
    total, done = settings.images + settings.validation_images, 0
    for split, count in ((TRAIN, settings.images), (VALIDATION, settings.validation_images)):
        (folder / split).mkdir(exist_ok=True)
        with (
            _table(folder / f"{split}-annotations-bbox.csv", BOX_COLUMNS) as boxes,
            _table(folder / f"{split}-annotations-human-imagelabels.csv", LABEL_COLUMNS) as labels,
        ):
            for drawn, box_rows, label_rows in _chunks(folder, settings, split, count, processes):
                boxes(box_rows)
                labels(label_rows)
                done += drawn
                if progress is not None:
                    progress(done, total)


@contextmanager
def _table(path: Path, columns: Sequence[str]) -> Iterator[Callable[[Iterable[Row]], None]]:
    """A function that adds rows to a CSV file, which is there when the block ends well."""
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        yield writer.writerows


def _claim(folder: Path, settings: GlyphWorld) -> None:
    """Record the settings in `settings.json`; images of other settings must not pass for this world's.

    The numbers of images may change: an image does not depend on them.
    """
    path, wanted = folder / "settings.json", asdict(settings)
    if path.exists():
        held = read_json(path)
        held = held if isinstance(held, dict) else {}
        for name in sorted(wanted.keys() - {"images", "validation_images"}):
            if held.get(name) != wanted[name]:
                raise ConfigError(
                    f"{folder} holds another glyph world: {name} is {held.get(name)}, wanted {wanted[name]}; "
                    "choose another folder or delete this one"
                )
    write_json(wanted, path)


def _chunks(
    folder: Path, settings: GlyphWorld, split: str, count: int, processes: int
) -> Iterator[tuple[int, list[Row], list[Row]]]:
    """Draw all images of a split, in order; a bounded number of chunks is under way at a time."""
    starts = iter(range(0, count, CHUNK))
    if processes <= 1:
        for start in starts:
            yield _draw_chunk(folder, settings, split, start, min(start + CHUNK, count))
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:

        def submit(number: int) -> list[object]:
            return [
                pool.submit(_draw_chunk, folder, settings, split, start, min(start + CHUNK, count))
                for start in islice(starts, number)
            ]

        waiting = submit(4 * processes)
        while waiting:
            yield waiting.pop(0).result()  # type: ignore[attr-defined]
            waiting += submit(1)


def _draw_chunk(
    folder: Path, settings: GlyphWorld, split: str, start: int, stop: int
) -> tuple[int, list[Row], list[Row]]:
    """Draw some images; their number, box rows and image-label rows."""
    alphabet = _alphabet(settings.classes)
    boxes: list[Row] = []
    labels: list[Row] = []
    ids = alphabet.vocabulary.ids
    for index in range(start, stop):
        scene, name = scene_of(settings, split, index), image_id(split, index)
        for lab in scene.labels:
            x1, y1, x2, y2 = (f"{v / settings.size:.6f}" for v in lab.box)
            flags = (int(lab.is_occluded), 0, int(lab.is_group_of), 0, 0)
            boxes.append((name, "xclick", ids[lab.label], 1, x1, x2, y1, y2, *flags))
        for verified, members in ((1, scene.positive), (0, scene.negative)):
            labels += [(name, "verification", ids[label], verified) for label in members]
        path = folder / split / f"{name}.jpg"
        if not path.exists():
            random = np.random.default_rng((settings.seed, split == TRAIN, index, 1))
            picture = draw_scene(scene, alphabet, size=settings.size, texture=settings.texture, random=random)
            with whole_file(path) as temporary:
                picture.save(temporary, format="JPEG", quality=90)
    return stop - start, boxes, labels


def _write_classes(folder: Path, settings: GlyphWorld) -> None:
    """Class descriptions, hierarchy and planted rates."""
    alphabet = _alphabet(settings.classes)
    ids, names = alphabet.vocabulary.ids, alphabet.vocabulary.names
    children: dict[int, list[int]] = {}
    for child, parent in alphabet.hierarchy.edges:
        children.setdefault(parent, []).append(child)
    roots = sorted(set(range(len(ids))) - {child for child, _ in alphabet.hierarchy.edges})

    def tree(index: int) -> dict[str, object]:
        below = [tree(child) for child in children.get(index, ())]
        return {"LabelName": ids[index]} | ({"Subcategory": below} if below else {})

    root = {"LabelName": "/g/entity", "Subcategory": [tree(index) for index in roots]}
    planted = "".join(f"{ids[a]},{ids[b]},{rate!r}\n" for a, b, rate in planted_rates(settings))
    for name, text in (
        ("class-descriptions.csv", "".join(f"{i},{n}\n" for i, n in zip(ids, names, strict=True))),
        ("hierarchy.json", json.dumps(root, indent=1) + "\n"),
        ("planted.csv", "class,other,rate\n" + planted),
    ):
        with whole_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
