"""How often training would see each class and each image, to choose lambda by: expected numbers, without drawing.

Letters: B images, C classes, E entries (image, class), N_i the number of images that hold class i, L the draws of a
training, lambda the balance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wildbox.annotations import Floats
from wildbox.errors import ConfigError, InputError
from wildbox.formats.files import write_csv
from wildbox.sampling.balance import image_weights
from wildbox.sampling.holdings import images_by_class
from wildbox.vocabulary import Vocabulary

Table = tuple[list[str], list[list[str]]]
"""Header and rows, as people read them."""


@dataclass(frozen=True, eq=False)
class Exposure:
    """What L draws at one lambda show, on average."""

    balance: float | None
    """lambda; None: non-balance."""
    max_repeats: float
    """k: more draws of one image than this are too many."""
    images_per_class: NDArray[np.int64]
    """(C,) N."""
    images: Floats
    """(B,) draws of each image."""
    seen: Floats
    """(C,) draws that show the class, whichever class chose the image."""
    most: Floats
    """(C,) draws of that image of the class which is drawn most; 0 for a class that no image holds."""

    @property
    def repeats(self) -> Floats:
        """(C,) draws of an image of the class, on average over its images; 0 where there is none."""
        return np.asarray(self.seen / np.maximum(self.images_per_class, 1))

    @property
    def marked(self) -> NDArray[np.bool_]:
        """(C,) classes whose images repeat more than k times on average."""
        return self.repeats > self.max_repeats

    @property
    def images_marked(self) -> int:
        """Images that repeat more than k times."""
        return int((self.images > self.max_repeats).sum())


def exposure(
    offsets: ArrayLike,
    labels: ArrayLike,
    *,
    balance: float | None,
    draws: int,
    max_repeats: float = 20.0,
    classes: int | None = None,
) -> Exposure:
    """How often `draws` draws would show each class and each image.

    Args:
        offsets: (B + 1,) CSR: the classes of image b are labels[offsets[b]:offsets[b + 1]]; repeats count once.
        labels: (E,) class indices.
        balance: lambda >= 0; None: non-balance, every image L / B times.
        draws: L, steps times batch size over all processes; at least 1.
        max_repeats: k, above 0.
        classes: C, to list classes that no image holds too; None: one more than the largest label.

    Raises:
        InputError, ConfigError: as `image_weights`; no image, or draws or max_repeats out of range.

    >>> rare = exposure([0, 1, 2, 3, 4], [0, 0, 0, 1], balance=1, draws=60)
    >>> rare.seen.tolist(), rare.images.round().tolist(), rare.marked.tolist()
    ([30.0, 30.0], [10.0, 10.0, 10.0, 30.0], [False, True])
    """
    if draws < 1 or not max_repeats > 0:
        raise ConfigError(f"draws = {draws}, max_repeats = {max_repeats}: expected at least 1, and above 0")
    first, image = images_by_class(offsets, labels, classes=classes)
    images = len(np.asarray(offsets)) - 1
    if images == 0:
        raise InputError("offsets: expected those of at least one image")
    if balance is None:
        each = np.full(images, draws / images)
    else:
        each = draws * image_weights(offsets, labels, balance=balance, classes=classes)
    counts = np.diff(first)
    seen, most = np.zeros(len(counts)), np.zeros(len(counts))
    occurs = counts > 0
    if occurs.any():
        seen[occurs] = np.add.reduceat(each[image], first[:-1][occurs])
        most[occurs] = np.maximum.reduceat(each[image], first[:-1][occurs])
    return Exposure(balance, max_repeats, counts, each, seen, most)


def exposure_of_counts(
    images_per_class: ArrayLike, *, balance: float, draws: int, max_repeats: float = 20.0
) -> Exposure:
    """`exposure` where only the numbers of images are known, as if no image held two classes.

    Where images do, `seen` and `repeats` are what the class itself draws: a lower bound.

    Args:
        images_per_class: (C,) N, integers.
        balance, draws, max_repeats: as in `exposure`.

    >>> exposure_of_counts([90, 10, 0], balance=1, draws=600).repeats.round(1).tolist()
    [3.3, 30.0, 0.0]
    """
    counts = np.asarray(images_per_class)
    if counts.ndim != 1 or (counts.size and counts.dtype.kind not in "iu") or (counts < 0).any():
        raise InputError(f"images per class: expected integers (C,) of at least 0, got {images_per_class!r}")
    one_each = np.arange(int(counts.sum()) + 1)
    labels = np.repeat(np.arange(len(counts)), counts)
    return exposure(
        one_each, labels, balance=balance, draws=draws, max_repeats=max_repeats, classes=len(counts)
    )


def largest_balance(exposures: Iterable[Exposure]) -> float | None:
    """The largest lambda among these at which no class is marked; None where each marks one.

    >>> largest_balance(exposure_of_counts([90, 10], balance=b, draws=600) for b in (0, 0.5, 1))
    0.5
    """
    kept = [e.balance for e in exposures if e.balance is not None and not e.marked.any()]
    return max(kept, default=None)


def write_exposures(path: str | Path, exposures: Sequence[Exposure], vocabulary: Vocabulary) -> None:
    """One CSV row for each lambda and class; lambda "none" is non-balance.

    Columns: lambda, class_id, class_name, images, seen, repeats, most_repeats, marked (0 or 1).
    """
    columns = ("lambda", "class_id", "class_name", "images", "seen", "repeats", "most_repeats", "marked")
    rows = (
        (_name(e), id_, name, int(images), f"{seen:.6g}", f"{repeats:.6g}", f"{most:.6g}", int(marked))
        for e in exposures
        for id_, name, images, seen, repeats, most, marked in zip(
            vocabulary.ids,
            vocabulary.names,
            e.images_per_class,
            e.seen,
            e.repeats,
            e.most,
            e.marked,
            strict=True,
        )
    )
    write_csv(path, columns, rows)


def of_rarest(exposures: Sequence[Exposure], vocabulary: Vocabulary, rows: int) -> Table:
    """How often an image of each of the rarest classes is drawn on average, at each lambda; "!" marks too often."""
    counts = exposures[0].images_per_class
    rarest = [i for i in counts.argsort(kind="stable").tolist() if counts[i]][:rows]
    return ["class", "images", *map(_name, exposures)], [
        [
            vocabulary.names[i],
            f"{counts[i]:,}",
            *(f"{e.repeats[i]:.3g}{' !' if e.marked[i] else ''}" for e in exposures),
        ]
        for i in rarest
    ]


def by_balance(exposures: Sequence[Exposure]) -> Table:
    """What each lambda means for all images."""
    header = [
        "lambda",
        "classes marked",
        "images marked",
        "most draws of an image",
        "images drawn less than once",
    ]
    return header, [
        [
            _name(e),
            f"{e.marked.sum():,}",
            f"{e.images_marked:,}",
            f"{e.images.max():.3g}",
            f"{(e.images < 1).mean():.1%}",
        ]
        for e in exposures
    ]


def _name(exposure: Exposure) -> str:
    return "none" if exposure.balance is None else f"{exposure.balance:g}"
