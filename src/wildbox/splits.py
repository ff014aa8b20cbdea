"""Smaller sets of images to try things on: disjoint, seeded, the same on any machine, with every class.

Letters: B images, C classes.
"""

from __future__ import annotations

import hashlib
import warnings

import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Annotations, Ints
from wildbox.errors import ConfigError, InputWarning

REST, TRAIN, VAL = 0, 1, 2


def split(annotations: Annotations, *, seed: int, train: int, val: int) -> tuple[list[int], list[int]]:
    """Choose `train` and `val` images at random: two ascending lists of indices without a common image.

    A class that has boxes on one image is in train, on two or more in both. From the rarest class on (ties by
    id), the first free image that holds it is taken; the rest is filled in the order of the images, which is
    that of sha256("{seed}:{image id}"): it depends on the seed and the ids alone, not on the order of images,
    classes or rows. For a class that is then missing somewhere, two images change places where that loses no
    other class. What still is missing, because the sets are too small or because classes share their few
    images, an `InputWarning` counts.

    Raises:
        ConfigError: a negative number of images, or more than there are.

    >>> from wildbox.vocabulary import Vocabulary
    >>> cats = Annotations(Vocabulary(("cat",)), tuple("abcdef"), image=[2, 4], boxes=[[0, 0, 1, 1]] * 2, label=[0, 0])
    >>> train, val = split(cats, seed=0, train=2, val=1)
    >>> (2 in train) != (2 in val), (4 in train) != (4 in val)
    (True, True)
    """
    images = len(annotations.image_ids)
    if min(train, val) < 0 or train + val > images:
        raise ConfigError(f"train={train} and val={val} images cannot be chosen from {images}")
    order = np.array(sorted(range(images), key=lambda b: _digest(seed, annotations.image_ids[b])), np.int64)
    holders = _images_of_classes(annotations, order)
    side = np.full(images, REST, np.int8)
    room = {TRAIN: train, VAL: val}
    for held in holders.values():
        for which in _wanted(held):
            if not (side[held] == which).any() and room[which]:
                free = held[side[held] == REST]
                if len(free):
                    side[free[0]] = which
                    room[which] -= 1
    for which in (TRAIN, VAL):
        side[order[side[order] == REST][: room[which]]] = which
    _exchange(side, order, holders)
    _tell_lost(annotations, side, holders)
    return np.flatnonzero(side == TRAIN).tolist(), np.flatnonzero(side == VAL).tolist()


def _digest(seed: int, id_: str) -> bytes:
    return hashlib.sha256(f"{seed}:{id_}".encode()).digest()


def _wanted(held: Ints) -> tuple[int, ...]:
    return (TRAIN, VAL) if len(held) > 1 else (TRAIN,)


def _images_of_classes(annotations: Annotations, order: Ints) -> dict[int, Ints]:
    """Class -> its images in the given order; the rarest class first, ties by id."""
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    pairs = np.unique(np.column_stack([annotations.label, rank[annotations.image]]), axis=0)
    ends = np.searchsorted(pairs[:, 0], np.arange(len(annotations.vocabulary) + 1))
    held = {c: order[pairs[ends[c] : ends[c + 1], 1]] for c in range(len(annotations.vocabulary))}
    ids = annotations.vocabulary.ids
    return {c: held[c] for c in sorted(held, key=lambda c: (len(held[c]), ids[c])) if len(held[c])}


def _exchange(side: NDArray[np.int8], order: Ints, holders: dict[int, Ints]) -> None:
    """Bring missing classes to a side by exchanging two images, as long as no class gets lost by that."""
    image = np.concatenate([np.zeros(0, np.int64), *holders.values()])
    label = np.repeat(list(holders), [len(held) for held in holders.values()]).astype(np.int64)
    classes = max(holders, default=-1) + 1
    single = np.bincount(label, minlength=classes) == 1

    def needed(which: int) -> NDArray[np.bool_]:
        """(classes,) which of them have their last image there."""
        last: NDArray[np.bool_] = np.bincount(label[side[image] == which], minlength=classes) == 1
        return last & ~single if which == VAL else last

    def partner(x: int, which: int) -> int | None:
        """An image of that side whose place x can take."""
        mine = np.zeros(classes, bool)
        mine[label[image == x]] = True
        bound = np.zeros(len(side), bool)
        bound[image[(needed(which) & ~mine)[label]]] = True
        must = mine & needed(int(side[x])) if side[x] != REST else np.zeros(classes, bool)
        has = np.bincount(image[must[label]], minlength=len(side)) == must.sum()
        fit = order[((side == which) & ~bound & has)[order]]
        return int(fit[0]) if len(fit) else None

    for which in (TRAIN, VAL):
        for held in holders.values():
            if which in _wanted(held) and not (side[held] == which).any():
                for x in held:
                    y = partner(x, which)
                    if y is not None:
                        side[x], side[y] = which, side[x]
                        break


def _tell_lost(annotations: Annotations, side: NDArray[np.int8], holders: dict[int, Ints]) -> None:
    names = annotations.vocabulary.names
    for which, told in ((TRAIN, "train"), (VAL, "val")):
        lost = [
            c for c, held in holders.items() if which in _wanted(held) and not (side[held] == which).any()
        ]
        if lost:
            some = ", ".join(names[c] for c in lost[:3]) + (" ..." if len(lost) > 3 else "")
            message = f"{told} holds {(side == which).sum()} images and none of {len(lost)} classes: {some}"
            warnings.warn(message, InputWarning, stacklevel=3)
