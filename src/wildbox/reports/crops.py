"""Small pictures of boxes, cut out of their images, each with its surroundings and its outline.

Letters: W, H width and height of an image.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from wildbox.annotations import Annotations
from wildbox.formats.pictures import UNREADABLE, as_rgb
from wildbox.labels.examples import Example, Examples
from wildbox.reports.page import Card, Thumbnail

SIDE, MAX_ZOOM = 232, 4.0
"""Pixels of a crop's longer side; how many times smaller boxes are enlarged at most."""
CONTEXT, LEAST_CONTEXT = 0.25, 24.0
"""What a crop shows around the box, as a share of its longer side, and in pixels at least."""

Corners = tuple[float, float, float, float]


class SourceImage(NamedTuple):
    """An image, opened but not necessarily decoded, and its sides in the unit of the boxes."""

    picture: Image.Image
    width: float
    height: float


ImageSource = Callable[[str], SourceImage | None]
"""Image id -> the image, or None where it is not at hand; it may raise `OSError`."""


def images_of(annotations: Annotations, folder: str | Path) -> ImageSource:
    """The images of some annotations, in a folder: by their file names, or as in Open Images, id and `.jpg`.

    >>> from wildbox.vocabulary import Vocabulary
    >>> none = Annotations(Vocabulary(("a",)), ("x",), image=[], boxes=[], label=[])
    >>> images_of(none, "no-such-folder")("x") is None
    True
    """
    index = {image_id: i for i, image_id in enumerate(annotations.image_ids)}

    def source(image_id: str) -> SourceImage | None:
        i = index.get(image_id)
        path = None if i is None else Path(folder) / annotations.file_name(i)
        if i is None or path is None or not path.is_file():
            return None
        width, height = annotations.sizes[i].tolist()
        return SourceImage(Image.open(path), width, height)

    return source


@dataclass(frozen=True)
class Group:
    """Boxes that are shown together, and what they have in common."""

    title: str
    text: str
    examples: Examples


def cards(groups: Iterable[Group], images: ImageSource) -> tuple[list[Card], set[str]]:
    """A card for each group that has a crop, and the ids of the images that were missing or broken."""
    made, failed = [], set()
    for group in groups:
        thumbnails = []
        for example in group.examples:
            thumbnail = _thumbnail(example, images, alt=f"{group.title}, in image {example.image_id}")
            if thumbnail is None:
                failed.add(example.image_id)
            else:
                thumbnails.append(thumbnail)
        if thumbnails:
            made.append(Card(group.title, group.text, thumbnails))
    return made, failed


def _thumbnail(example: Example, images: ImageSource, *, alt: str) -> Thumbnail | None:
    try:
        source = images(example.image_id)
        if source is None:
            return None
        with source.picture:
            picture = crop(source, example.box)
    except UNREADABLE:
        return None
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=80, subsampling=0)
    return Thumbnail(stream.getvalue(), *picture.size, alt=alt, caption=example.image_id)


def crop(source: SourceImage, box: Corners, *, side: int = SIDE) -> Image.Image:
    """The part of an image around a box, RGB, its longer side at most `side` pixels, the box outlined.

    A large JPEG is decoded at the resolution that the crop needs. A box that sticks out of its image is cut.

    >>> page = SourceImage(Image.new("L", (1000, 500), 255), 1.0, 1.0)
    >>> crop(page, (0.0, 0.0, 1.0, 1.0)).size
    (232, 116)
    """
    picture, (width, height) = source.picture, source.picture.size
    x, y = width / source.width, height / source.height
    pixels = (box[0] * x, box[1] * y, box[2] * x, box[3] * y)
    region = _surroundings(pixels, width, height)
    zoom = min(MAX_ZOOM, side / max(region[2] - region[0], region[3] - region[1]))
    if zoom < 1:
        picture.draft(None, (max(1, int(width * zoom)), max(1, int(height * zoom))))
    decoded = picture.size[0] / width, picture.size[1] / height
    cut = picture.crop(tuple(round(c * decoded[k % 2]) for k, c in enumerate(region)))  # type: ignore[arg-type]
    size = (max(1, round((region[2] - region[0]) * zoom)), max(1, round((region[3] - region[1]) * zoom)))
    result = as_rgb(cut).resize(size, Image.Resampling.LANCZOS)
    _outline(result, tuple((c - region[k % 2]) * zoom for k, c in enumerate(pixels)))  # type: ignore[arg-type]
    return result


def _surroundings(box: Corners, width: int, height: int) -> tuple[int, int, int, int]:
    """What to show of a box, in whole pixels of the image: a square, as far as the image reaches."""
    x1, y1, x2, y2 = box
    longer = max(x2 - x1, y2 - y1)
    half = longer / 2 + max(CONTEXT * longer, LEAST_CONTEXT)
    found = []
    for middle, end in (((x1 + x2) / 2, width), ((y1 + y2) / 2, height)):
        first = min(max(int(middle - half), 0), end - 1)
        found.append((first, max(min(int(middle + half) + 1, end), first + 1)))
    (left, right), (top, bottom) = found
    return left, top, right, bottom


def _outline(picture: Image.Image, box: Corners) -> None:
    """Red between white: seen on any ground. It lies around the box, not on it."""
    draw = ImageDraw.Draw(picture)
    right, bottom = picture.width - 1, picture.height - 1
    x1, x2 = (min(max(round(x), 3), right - 3) for x in (box[0], box[2]))
    y1, y2 = (min(max(round(y), 3), bottom - 3) for y in (box[1], box[3]))
    draw.rectangle((x1 - 3, y1 - 3, x2 + 3, y2 + 3), outline="white", width=4)
    draw.rectangle((x1 - 2, y1 - 2, x2 + 2, y2 + 2), outline="#e6194b", width=2)
