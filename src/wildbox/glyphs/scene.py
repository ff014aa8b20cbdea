"""One image of the glyph world: what is in it, how it is annotated, how it looks. All from one random generator.

Letters: L leaf classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from wildbox.glyphs.alphabet import Alphabet

Box = tuple[float, float, float, float]
SIDES = tuple(range(20, 61, 4))
"""Font sizes, in pixels."""
ANGLES = tuple(range(-20, 21, 5))
"""Rotations, in degrees."""
JITTER = 0.02
"""Of the second annotator's box, as a share of the sides: IoU stays above 0.92."""


@dataclass(frozen=True)
class Placed:
    """One drawn glyph; the box is that of its ink, in pixels."""

    leaf: int
    side: int
    angle: int
    box: tuple[int, int, int, int]
    colour: tuple[int, int, int]
    blur: float


@dataclass(frozen=True)
class Label:
    """One annotated box, in pixels."""

    label: int
    box: Box
    is_group_of: bool = False
    is_occluded: bool = False


@dataclass(frozen=True)
class Scene:
    """What an image holds and what is said of it."""

    background: tuple[int, int, int]
    placed: tuple[Placed, ...]
    labels: tuple[Label, ...]
    positive: tuple[int, ...] = field(default=())
    """Classes verified to be there: those of the boxes."""
    negative: tuple[int, ...] = field(default=())
    """Classes verified to be absent."""


@dataclass(frozen=True)
class SceneRates:
    """How often things happen in a scene; see `GlyphWorld`."""

    size: int
    most_objects: int
    group_of: float
    vague: float
    negatives: int


@lru_cache(maxsize=64)
def _font(side: int) -> ImageFont.FreeTypeFont:
    import matplotlib  # only for where it keeps its fonts

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), side, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=8192)
def ink(glyph: str, side: int, angle: int) -> Image.Image:
    """The glyph's mask, 8-bit, cut to its ink."""
    canvas = Image.new("L", (2 * side, 2 * side))
    ImageDraw.Draw(canvas).text((side, side), glyph, font=_font(side), fill=255, anchor="mm")
    rotated = canvas.rotate(angle, Image.Resampling.BICUBIC)
    return rotated.crop(rotated.point(lambda v: 255 * (v > 64)).getbbox())


def plan_scene(
    alphabet: Alphabet, frequency: NDArray[np.float64], *, rates: SceneRates, random: np.random.Generator
) -> Scene:
    """Choose objects, places and annotations; nothing is drawn.

    Args:
        frequency: (L,) probability of each leaf, summing to 1.
    """
    background = tuple(int(v) for v in random.integers(50, 206, 3))
    placed: list[Placed] = []
    labels: list[Label] = []
    truth: set[int] = set()
    if random.random() < rates.group_of:
        leaf = int(random.choice(len(frequency), p=frequency))
        cluster = _cluster(alphabet, leaf, background, rates.size, random)
        placed += cluster
        truth.add(leaf)
        labels += _annotate(
            alphabet, leaf, _around([p.box for p in cluster]), rates, random, is_group_of=True
        )
    for _ in range(int(random.integers(1, rates.most_objects + 1))):
        leaf = int(random.choice(len(frequency), p=frequency))
        taken = [p.box for p in placed] + [lab.box for lab in labels if lab.is_group_of]
        glyph = _place(alphabet, leaf, background, rates.size, taken, random)
        if glyph is None:
            continue
        placed.append(glyph)
        truth.add(leaf)
        labels += _annotate(alphabet, leaf, glyph.box, rates, random)
    labels = [_with_occlusion(lab, placed) for lab in labels]
    positive = tuple(sorted({lab.label for lab in labels}))
    negative = _negatives(alphabet, truth | set(positive), rates.negatives, random)
    return Scene(background, tuple(placed), tuple(labels), positive, negative)  # type: ignore[arg-type]


def _place(
    alphabet: Alphabet,
    leaf: int,
    background: Sequence[int],
    size: int,
    taken: Sequence[Box],
    random: np.random.Generator,
) -> Placed | None:
    """A glyph that covers at most a quarter of any other, or None where there is no room for it."""
    sides = [side for side in SIDES if side <= size / 2.5]
    side, angle = int(random.choice(sides)), int(random.choice(ANGLES))
    width, height = ink(alphabet.glyphs[leaf], side, angle).size
    colour, blur = _colour(background, random), float(random.choice((0.0, 0.0, 0.5, 0.8)))
    for _ in range(20):
        x, y = int(random.integers(0, size - width)), int(random.integers(0, size - height))
        box = (x, y, x + width, y + height)
        if all(_cover(box, other) <= 0.25 for other in taken):
            return Placed(leaf, side, angle, box, colour, blur)
    return None


def _cluster(
    alphabet: Alphabet, leaf: int, background: Sequence[int], size: int, random: np.random.Generator
) -> list[Placed]:
    """Six small copies of one glyph, close together."""
    side = SIDES[0]
    width, height = ink(alphabet.glyphs[leaf], side, 0).size
    step_x, step_y = width + 2, height + 2
    x0 = int(random.integers(0, max(1, size - 3 * step_x)))
    y0 = int(random.integers(0, max(1, size - 2 * step_y)))
    colour = _colour(background, random)
    corners = [(x0 + i * step_x, y0 + j * step_y) for j in range(2) for i in range(3)]
    return [Placed(leaf, side, 0, (x, y, x + width, y + height), colour, 0.0) for x, y in corners]


def _colour(background: Sequence[int], random: np.random.Generator) -> tuple[int, int, int]:
    """One that stands out from the background by its mean."""
    while True:
        colour = random.integers(0, 256, 3)
        if abs(float(colour.mean()) - float(np.mean(background))) >= 60:
            return int(colour[0]), int(colour[1]), int(colour[2])


def _annotate(
    alphabet: Alphabet,
    leaf: int,
    box: Box,
    rates: SceneRates,
    random: np.random.Generator,
    *,
    is_group_of: bool = False,
) -> list[Label]:
    """What the annotators write for one object: its leaf, its look-alike, both, or a parent only."""
    parents = alphabet.parents(leaf)
    if parents and random.random() < rates.vague:
        return [Label(int(random.choice(parents)), box, is_group_of)]
    if leaf not in alphabet.look_alikes:
        return [Label(leaf, box, is_group_of)]
    partner, pair = alphabet.look_alikes[leaf]
    chance = random.random()
    if chance < pair.own:
        return [Label(leaf, box, is_group_of)]
    if chance < pair.own + pair.other:
        return [Label(partner, box, is_group_of)]
    return [Label(leaf, box, is_group_of), Label(partner, _jittered(box, rates.size, random), is_group_of)]


def _jittered(box: Box, size: int, random: np.random.Generator) -> Box:
    """The box of a second annotator: still the same object."""
    x1, y1, x2, y2 = box
    dx, dy = (x2 - x1) * JITTER, (y2 - y1) * JITTER
    moved = np.array(box) + random.uniform(-1, 1, 4) * np.array([dx, dy, dx, dy])
    a, b, c, d = np.clip(moved, 0, size)
    return float(a), float(b), float(c), float(d)


def _negatives(
    alphabet: Alphabet, present: set[int], count: int, random: np.random.Generator
) -> tuple[int, ...]:
    """Classes that are surely absent: no kin and no look-alike of what is there."""
    possible = np.ones(len(alphabet.vocabulary), bool)
    for label in present:
        kin = {label, alphabet.look_alikes[label][0]} if label in alphabet.look_alikes else {label}
        for member in kin:
            possible[member] = False
            possible[alphabet.hierarchy.ancestors(member)] = False
            possible[alphabet.hierarchy.descendants(member)] = False
    candidates = np.flatnonzero(possible)
    chosen = random.choice(candidates, min(count, len(candidates)), replace=False)
    return tuple(sorted(int(c) for c in chosen))


def _cover(a: Box, b: Box) -> float:
    """Shared area as a share of the smaller box."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))


def _around(boxes: Sequence[Box]) -> Box:
    return (
        min(b[0] for b in boxes),
        min(b[1] for b in boxes),
        max(b[2] for b in boxes),
        max(b[3] for b in boxes),
    )


def _with_occlusion(label: Label, placed: Sequence[Placed]) -> Label:
    """Marked as occluded where another glyph than its own covers over a tenth of the smaller of glyph and box."""
    covers = sorted((_cover(label.box, p.box) for p in placed), reverse=True)
    occluded = not label.is_group_of and len(covers) > 1 and covers[1] > 0.1
    return Label(label.label, label.box, label.is_group_of, occluded)


def draw_scene(
    scene: Scene, alphabet: Alphabet, *, size: int, texture: float, random: np.random.Generator
) -> Image.Image:
    """The pixels: a textured background, then the glyphs in order, later ones on top."""
    picture = _background(scene.background, size, texture, random)
    for glyph in scene.placed:
        mask = ink(alphabet.glyphs[glyph.leaf], glyph.side, glyph.angle)
        if glyph.blur:
            mask = mask.filter(ImageFilter.GaussianBlur(glyph.blur))
        picture.paste(glyph.colour, glyph.box[:2], mask)
    return picture


def _background(colour: Sequence[int], size: int, texture: float, random: np.random.Generator) -> Image.Image:
    """Soft noise, a gradient, and in a third of the images stripes, around one colour."""
    cells = (
        random.normal(0, texture, (6, 6, 3))
        + random.normal(0, texture, 3) * np.linspace(-1, 1, 6)[:, None, None]
    )
    soft = Image.fromarray(np.clip(128 + cells, 0, 255).astype(np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    pixels = np.asarray(soft, np.float32) - 128 + np.asarray(colour, np.float32)
    if random.random() < 1 / 3:
        direction, period = random.uniform(0, np.pi), random.uniform(6, 24)
        y, x = np.mgrid[0:size, 0:size]
        wave = np.sin(2 * np.pi * (x * np.cos(direction) + y * np.sin(direction)) / period)
        pixels += (wave * texture * 0.7)[..., None].astype(np.float32)
    pixels += random.normal(0, texture / 4, (size, size, 1)).astype(np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
