"""Large images cut into overlapping tiles of one size, with their boxes.

Letters: B images, N boxes, M boxes kept. Lengths and places are in pixels, from the top left corner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from wildbox.annotations import Annotations, Floats, Ints
from wildbox.boxes import areas
from wildbox.errors import ConfigError, InputError, WildboxError
from wildbox.formats.files import tell, whole_file
from wildbox.formats.pictures import UNREADABLE, as_rgb


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
    tell({"{n} image labels are not carried over to tiles": len(annotations.image_labels)}, path=out_folder)
    names = annotations.file_names or tuple(f"{id_}.jpg" for id_ in annotations.image_ids)
    origins: list[list[tuple[int, int]]] = []
    scales: list[Floats] = []
    for b, (id_, name) in enumerate(zip(annotations.image_ids, names, strict=True)):
        page = Path(image_folder) / name
        with _opened(page) as pixels:
            scales.append(_pixels_per_unit(pixels, annotations.sizes[b], path=page))
            origins.append(tile_origins(pixels.width, pixels.height, size=size, overlap=overlap))
            tiles = {Path(out_folder) / _file_name(id_, origin): origin for origin in origins[b]}
            _write_tiles(pixels, tiles, size=size, background=background)
        if progress is not None:
            progress(b + 1, len(names))
    return _cropped(annotations, origins, scales=scales, size=size, min_share=min_share)


def _cropped(
    annotations: Annotations,
    origins: list[list[tuple[int, int]]],
    *,
    scales: list[Floats],
    size: int,
    min_share: float,
) -> Annotations:
    """The table of the tiles at `origins` of each image, whose boxes times `scales` are pixels."""
    tiles = [(b, origin) for b, places in enumerate(origins) for origin in places]
    image, rows, boxes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros((0, 4))]
    for tile, (b, origin) in enumerate(tiles):
        first, last = annotations.offsets[b : b + 2]
        of_page = annotations.boxes[first:last] * scales[b]
        kept, cropped = crop_boxes(of_page, origin=origin, size=size, min_share=min_share)
        image.append(np.full(len(kept), tile))
        rows.append(first + kept)
        boxes.append(cropped)
    row = np.concatenate(rows)
    ids = annotations.image_ids
    return Annotations(
        annotations.vocabulary,
        tuple(_tile_id(ids[b], origin) for b, origin in tiles),
        image=np.concatenate(image),
        boxes=np.concatenate(boxes),
        label=annotations.label[row],
        is_group_of=annotations.is_group_of[row],
        sizes=np.full((len(tiles), 2), float(size)),
        file_names=tuple(_file_name(ids[b], origin) for b, origin in tiles),
    )


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as pixels:
            yield pixels
    except WildboxError:  # of the block
        raise
    except UNREADABLE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"the image cannot be read or cut: {reason}", path=path) from error


def _pixels_per_unit(pixels: Image.Image, size: Floats, *, path: Path) -> Floats:
    """(4,) factors from annotated coordinates, relative or pixels, to pixels."""
    if not np.array_equal(size, (1, 1)) and not np.array_equal(size, pixels.size):
        told = f"{size[0]:g} x {size[1]:g}"
        raise InputError(f"the image has {pixels.width} x {pixels.height} pixels, expected {told}", path=path)
    return np.tile(np.array(pixels.size, np.float64) / size, 2)


def _write_tiles(
    pixels: Image.Image,
    tiles: dict[Path, tuple[int, int]],
    *,
    size: int,
    background: tuple[int, int, int],
) -> None:
    """Write those tiles of an image that are not there; it is decoded only then."""
    missing = {path: origin for path, origin in tiles.items() if not _is_tile(path, size)}
    page = _padded(pixels, size=size, background=background) if missing else pixels
    for path, (x, y) in missing.items():
        with whole_file(path) as temporary:
            page.crop((x, y, x + size, y + size)).save(temporary, format="PNG")


def _padded(page: Image.Image, *, size: int, background: tuple[int, int, int]) -> Image.Image:
    """The decoded image, grey or in colour, made at least as large as a tile."""
    decoded = page.convert("L") if page.mode in ("1", "L") else as_rgb(page)
    frame = (max(decoded.width, size), max(decoded.height, size))
    if frame == decoded.size:
        return decoded
    canvas = Image.new("RGB", frame, background).convert(decoded.mode)
    canvas.paste(decoded, (0, 0))
    return canvas


def _tile_id(id_: str, origin: tuple[int, int]) -> str:
    return f"{id_}@{origin[0]},{origin[1]}"


def _file_name(id_: str, origin: tuple[int, int]) -> str:
    return f"{quote(_tile_id(id_, origin), safe=' (),@')}.png"


def _is_tile(path: Path, size: int) -> bool:
    if not path.exists():
        return False
    try:
        with Image.open(path) as tile:
            return tile.size == (size, size)
    except UNREADABLE:
        return False
