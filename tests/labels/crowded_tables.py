"""Annotations in which boxes coincide, nearly coincide, form chains, repeat, and have no area."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from wildbox.annotations import Annotations, ImageLabels
from wildbox.vocabulary import Hierarchy, Vocabulary

CLASSES = 6
SIX = Vocabulary(tuple("abcdef"))
TREE = Hierarchy(CLASSES, [(0, 2), (1, 2), (2, 3), (1, 4)])  # class 1 has two parents; 5 stands alone


def crowded(seed: int, *, images: int = 12) -> Annotations:
    """Random objects with one to five boxes each; class 0 is also called class 5 half of the time."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, list[float], int]] = []
    for image in range(images):
        for _ in range(rng.integers(0, 5)):
            x, y, width, height = rng.uniform(0.05, 0.4, 4)
            base, label = [x, y, x + width, y + height], int(rng.integers(CLASSES))
            rows.append((image, base, label))
            if label == 0 and rng.random() < 0.5:
                rows.append((image, base, 5))
            for step in range(rng.integers(0, 4)):  # a chain: each box overlaps the next, not all of them
                shift = 0.03 * width * (step + 1)
                shifted = [base[0] + shift, base[1], base[2] + shift, base[3]]
                rows.append((image, shifted, int(rng.integers(CLASSES))))
            if rng.random() < 0.3:
                rows.append(rows[-1])
        if rng.random() < 0.2:
            rows += [(image, [0.1, 0.1, 0.1, 0.5], 0)] * 2
    rows += [(images, [0.0, 0.0, 1.0, 1.0], 1)]  # an image of one box; the one after it has none
    order = rng.permutation(len(rows))
    crowd = table([rows[i] for i in order], images=images + 2, is_group_of=rng.random(len(rows)) < 0.2)
    verified = rng.integers(0, [images + 2, CLASSES, 2], (3 * images, 3)).T
    return replace(crowd, image_labels=ImageLabels(verified[0], verified[1], verified[2] == 1))


def table(
    rows: list[tuple[int, list[float], int]], *, images: int, is_group_of: np.ndarray | None = None
) -> Annotations:
    """Annotations over six classes from (image, box, label)."""
    return Annotations(
        SIX,
        tuple(f"i{b}" for b in range(images)),
        image=np.array([image for image, _, _ in rows], np.int64),
        boxes=np.array([box for _, box, _ in rows], np.float64).reshape(-1, 4),
        label=np.array([label for _, _, label in rows], np.int64),
        is_group_of=is_group_of,
    )


@st.composite
def tables(draw: st.DrawFn) -> Annotations:
    """Arbitrary boxes on a coarse grid, where many coincide, and off it."""
    edge = st.one_of(st.integers(0, 20).map(float), st.floats(0, 1e3, allow_subnormal=False))
    rows = []
    for _ in range(draw(st.integers(0, 14))):
        x1, x2 = sorted((draw(edge), draw(edge)))
        y1, y2 = sorted((draw(edge), draw(edge)))
        rows.append((draw(st.integers(0, 2)), [x1, y1, x2, y2], draw(st.integers(0, CLASSES - 1))))
    return table(rows, images=3)
