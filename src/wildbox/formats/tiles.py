"""Large images cut into overlapping tiles of one size, with their boxes.

Letters: B images, N boxes, M boxes kept. Lengths and places are in pixels, from the top left corner.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image, UnidentifiedImageError

from wildbox.annotations import Annotations, Floats, Ints
from wildbox.boxes import areas
from wildbox.errors import ConfigError, InputError
from wildbox.formats.files import tell, whole_file


def tile_origins(width: int, height: int, *, size: int, overlap: int) -> list[tuple[int, int]]:
    """Top left corners (x, y) of the tiles that cover an image, row by row.

    Neighbours share `overlap` pixels; the last tile of a row or column is moved inward to end with the image, so
    it shares more. An image smaller than a tile has one tile there, at 0.

    Raises:
        ConfigError: unless 0 <= overlap < size.

    >>> tile_origins(10, 4, size=4, overlap=1)
    [(0, 0), (3, 0), (6, 0)]
    """
    if not 0 <= overlap < size:
        raise ConfigError(f"tiles of {size} pixels cannot overlap by {overlap}: expected 0 <= overlap < size")
    x, y = ([*range(0, length - size, size - overlap), max(length - size, 0)] for length in (width, height))
    return [(left, top) for top in y for left in x]


def crop_boxes(
    boxes: Floats, *, origin: tuple[int, int], size: int, min_share: float = 0.5
) -> tuple[Ints, Floats]:
    """Boxes (N, 4) as a tile shows them: rows kept (M,), ascending, and boxes (M, 4) relative to `origin`.

    A box is clipped to the tile and kept where at least `min_share` of its area is left; one that has no area,
    or none in the tile, never is.

    >>> crop_boxes(np.array([[2.0, 0.0, 6.0, 1.0], [3.0, 0.0, 6.0, 1.0]]), origin=(0, 0), size=4)
    (array([0]), array([[2., 0., 4., 1.]]))
    """
    low = np.array([*origin, *origin], np.float64)
    clipped = np.clip(boxes, low, low + size)
    left = areas(clipped)
    rows = np.flatnonzero((left > 0) & (left >= min_share * areas(boxes)))
    return rows, clipped[rows] - low


def cut_tiles(
    annotations: Annotations,
    image_folder: str | Path,
    out_folder: str | Path,
    *,
    size: int,
    overlap: int,
    min_share: float = 0.5,
    background: tuple[int, int, int] = (255, 255, 255),
    progress: Callable[[int, int], None] | None = None,
) -> Annotations:
    """Cut each image into `size` x `size` tiles, written as PNG, and give their annotations.

    A tile of image `id` at (x, y) has the id "id@x,y" and is the file of that name + ".png" (characters that a
    file name cannot hold are written as in an URL). A tile that is there already in the right size is not written
    again: use another folder for other images, or another background. Boxes are those of `crop_boxes`, in
    pixels; a box may be in several tiles. One image is held in memory at a time.

    Image labels are left out, and an `InputWarning` counts them: what holds for a page need not for its tiles.

    Args:
        overlap: pixels that neighbouring tiles share at least.
        min_share: share of its area that a box must keep, in (0, 1].
        background: red, green, blue in 0..255, beyond the right and lower edge of an image smaller than a tile.
        progress: called with images done and all.
    Raises:
        InputError: an image that does not open, or has another size than the annotations say.
        ConfigError: a setting out of its range.
    """
    if not 0 < min_share <= 1:
        raise ConfigError(f"min_share is {min_share}, expected a share in (0, 1]")
    image_folder, out_folder = Path(image_folder), Path(out_folder)
    tell({"{n} image labels are not carried over to tiles": len(annotations.image_labels)}, path=out_folder)
    names = annotations.file_names or tuple(f"{id_}.jpg" for id_ in annotations.image_ids)
    ids: list[str] = []
    image, rows, boxes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros((0, 4))]
    for b, name in enumerate(names):
        first, last = annotations.offsets[b], annotations.offsets[b + 1]
        tiles, scale = _write_tiles(
            image_folder / name,
            out_folder,
            id_=annotations.image_ids[b],
            annotated=annotations.sizes[b],
            size=size,
            overlap=overlap,
            background=background,
        )
        for x, y in tiles:
            kept, cropped = crop_boxes(
                annotations.boxes[first:last] * scale, origin=(x, y), size=size, min_share=min_share
            )
            image.append(np.full(len(kept), len(ids)))
            rows.append(first + kept)
            boxes.append(cropped)
            ids.append(f"{annotations.image_ids[b]}@{x},{y}")
        if progress is not None:
            progress(b + 1, len(names))
    row = np.concatenate(rows)
    return Annotations(
        annotations.vocabulary,
        tuple(ids),
        image=np.concatenate(image),
        boxes=np.concatenate(boxes),
        label=annotations.label[row],
        is_group_of=annotations.is_group_of[row],
        sizes=np.full((len(ids), 2), float(size)),
        file_names=tuple(map(_file_name, ids)),
    )


def _write_tiles(
    source: Path,
    folder: Path,
    *,
    id_: str,
    annotated: Floats,
    size: int,
    overlap: int,
    background: tuple[int, int, int],
) -> tuple[list[tuple[int, int]], Floats]:
    """Write the tiles of one image that are not there; their origins, and (4,) pixels per annotated unit."""
    try:
        with Image.open(source) as file:
            page: Image.Image = file
            pixels = np.array(page.size, np.float64)
            if not np.array_equal(annotated, (1, 1)) and not np.array_equal(annotated, pixels):
                told = " x ".join(f"{x:g}" for x in annotated)
                raise InputError(
                    f"the image has {page.width} x {page.height} pixels, expected {told}", path=source
                )
            origins = tile_origins(page.width, page.height, size=size, overlap=overlap)
            paths = [folder / _file_name(f"{id_}@{x},{y}") for x, y in origins]
            missing = [
                (at, path) for at, path in zip(origins, paths, strict=True) if not _is_tile(path, size)
            ]
            if missing:
                page = _padded(page, size=size, background=background)
            for (x, y), path in missing:
                with whole_file(path) as temporary:
                    page.crop((x, y, x + size, y + size)).save(temporary, format="PNG")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"the image cannot be read or its tiles written: {reason}", path=source) from error
    return origins, np.tile(pixels / annotated, 2)


def _padded(page: Image.Image, *, size: int, background: tuple[int, int, int]) -> Image.Image:
    """The decoded image, grey or in colour, made at least as large as a tile."""
    decoded = page.convert("L" if page.mode in ("1", "L") else "RGB")
    frame = (max(decoded.width, size), max(decoded.height, size))
    if frame == decoded.size:
        return decoded
    canvas = Image.new("RGB", frame, background).convert(decoded.mode)
    canvas.paste(decoded, (0, 0))
    return canvas


def _file_name(tile: str) -> str:
    return f"{quote(tile, safe=' (),@')}.png"


def _is_tile(path: Path, size: int) -> bool:
    if not path.exists():
        return False
    try:
        with Image.open(path) as tile:
            return tile.size == (size, size)
    except (OSError, UnidentifiedImageError):
        return False
