"""COCO and LVIS JSON to the tables and back.

Most of such a file are outlines (LVIS: 1 GB), of which boxes have no use: msgspec passes over them without making
anything of them. Letters: B images, N boxes, C classes. A place in a file reads "annotations[17]": the 18th entry of
that list.
Source: https://cocodataset.org/#format-data, https://www.lvisdataset.org/dataset
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import msgspec
import numpy as np
import polars as pl

from wildbox.annotations import Annotations, Bools, Floats, ImageLabels, Ints
from wildbox.boxes import areas, count_empty
from wildbox.errors import InputError, VocabularyError
from wildbox.formats.files import BYTE_ORDER_MARK, open_file, read_json, tell, write_json
from wildbox.vocabulary import Vocabulary

ROUNDING = 0.01
"""Pixels: COCO writes two decimals, so a box this little outside its image is rounding, and not counted."""

IMAGE_LABELS = {
    "pos_category_ids": (True, True),
    "neg_category_ids": (False, True),
    "not_exhaustive_category_ids": (True, False),
}
"""Keys of an image, and what they say of a class: it is there; every object of it has a box."""

Entry = dict[str, Any]
Id = int | str


class Box(msgspec.Struct, gc=False):
    """What is read of an entry of annotations."""

    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]
    """x, y, width, height."""
    iscrowd: Literal[0, 1] = 0


Kind = TypeVar("Kind", bound=Box)


class Content(msgspec.Struct, Generic[Kind]):
    """What is read of a file."""

    images: list[Entry]
    annotations: list[Kind]
    categories: list[Entry]


def read_coco(path: str | Path) -> Annotations:
    """Boxes of a COCO or LVIS file, in pixels.

    Ids of images and classes are the file's, as text; classes and images stand in the file's order. `iscrowd`
    becomes `is_group_of`; `file_name` is kept where every image has one (LVIS v1 has none: the end of `coco_url`,
    such as "train2017/000000000009.jpg", stands for it). Of LVIS, `neg_category_ids` become
    negative image labels, `not_exhaustive_category_ids` positive ones that are not exhaustive (and
    `pos_category_ids`, which `write_coco` adds to the format, positive ones that are), and `frequency` the groups of
    the vocabulary where every category has one.

    Raises:
        InputError: malformed JSON (with its line); otherwise with the entry: a missing key, a value of the wrong
            kind, an image or class that is not there or there twice, a box that is not four finite numbers, has
            a negative size, or lies wholly outside its image; no images or no categories.
    Warns:
        InputWarning: counts boxes clipped because they stick out of their image, and what is kept as it is:
            boxes without area, boxes that repeat an earlier one.
    """
    with naming(path):
        return _table(read_content(path, Content[Box], checked_box), path=path)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Errors of the block that name no file get this one."""
    try:
        yield
    except InputError as error:
        if error.path is not None:
            raise
        raise type(error)(str(error), path=path) from error


def read_content(
    path: str | Path, kind: type[Content[Kind]], checked: Callable[[Entry, str], Kind]
) -> Content[Kind]:
    """Entries of a file, of images and categories as they are, of annotations what their kind holds.

    Args:
        checked: makes one of the kind of an entry of annotations, given its place: for what msgspec does not take.
    Raises:
        InputError: malformed JSON (with its line), a missing list, what `checked` raises.
    """
    with open_file(path) as stream:
        data = stream.read()
    try:
        return msgspec.json.decode(data.removeprefix(BYTE_ORDER_MARK), type=kind)
    except (ValueError, RecursionError):
        pass  # Python takes more for JSON, such as NaN, and what is wrong is told with its place: read it with care
    del data
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError("expected an object with images, annotations and categories", path=path)
    categories, images, annotations = (
        _entries(content, key) for key in ("categories", "images", "annotations")
    )
    boxes = [checked(entry, f"annotations[{i}]") for i, entry in enumerate(annotations)]
    return Content(images, boxes, categories)


def _table(content: Content[Box], *, path: str | Path) -> Annotations:
    category = index_of(entry_ids(content.categories, "categories"), "categories")
    image = index_of(entry_ids(content.images, "images"), "images")
    sizes = sizes_of(content.images)
    of, label, crowd, sides = columns_of(content.annotations, image, category)
    given = _corners(sides)
    boxes, stick_out = _inside(given, sizes[of], of)
    rows = pl.DataFrame([of, label, crowd, *given.T])
    tell(
        {
            "{n} boxes stick out of their image; they are clipped": stick_out,
            "{n} boxes have no area; they are kept": count_empty(boxes),
            "{n} boxes repeat an earlier box of the same class; they are kept": len(rows) - rows.n_unique(),
        },
        path=path,
        stacklevel=4,
    )
    file_names = [_file_name(entry) for entry in content.images]
    return Annotations(
        vocabulary_of(content.categories, category),
        tuple(image),
        image=of,
        boxes=boxes,
        label=label,
        is_group_of=crowd,
        sizes=sizes,
        image_labels=_image_labels(content.images, category),
        file_names=tuple(name or "" for name in file_names) if None not in file_names else (),
    )


def vocabulary_of(categories: list[Entry], ids: Iterable[str]) -> Vocabulary:
    """Classes of the categories; one without a name goes by its id."""
    ids = tuple(ids)
    names = tuple(str(entry.get("name", id_)) for id_, entry in zip(ids, categories, strict=True))
    groups = [entry.get("frequency") for entry in categories]
    return Vocabulary(ids, names, tuple(map(str, groups)) if None not in groups else ())


def _file_name(entry: Entry) -> str | None:
    name, url = entry.get("file_name"), entry.get("coco_url")
    if name is None and url is not None:
        return "/".join(str(url).split("/")[-2:])
    return None if name is None else str(name)


def _entries(content: Entry, key: str) -> list[Entry]:
    if key not in content:
        raise InputError(f"missing key {key!r}; the file has {', '.join(map(repr, content)) or 'none'}")
    entries = content[key]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{key}: expected a list of objects")
    return entries


def value_of(entry: Entry, key: str, place: str) -> Any:
    """The value of a key; `InputError` where it is missing."""
    try:
        return entry[key]
    except KeyError:
        raise InputError(f"{place}: missing key {key!r}; it has {', '.join(map(repr, entry))}") from None


def checked_id(value: object, place: str) -> str:
    """An id as text: of a text or a whole number, be it written 7.0, as data frames do; else `InputError`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError(f"{place} is {value!r}, expected a whole number or a text")
    return str(value)


def entry_ids(entries: list[Entry], key: str) -> list[str]:
    """Ids of entries, as text; `InputError` where one is missing or none."""
    return [
        checked_id(value_of(entry, "id", f"{key}[{i}]"), f"{key}[{i}].id") for i, entry in enumerate(entries)
    ]


def index_of(ids: Sequence[str], key: str) -> dict[str, int]:
    """Id -> position; `InputError` where there is none, or one stands twice."""
    if not ids:
        raise InputError(f"{key}: the list is empty")
    index: dict[str, int] = {}
    for i, id_ in enumerate(ids):
        if id_ in index:
            error = VocabularyError if key == "categories" else InputError
            raise error(f"{key}[{i}].id {id_!r} is that of {key}[{index[id_]}] already")
        index[id_] = i
    return index


def is_number(value: object) -> bool:
    """Whether it is one that float64 holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def sizes_of(images: list[Entry]) -> Floats:
    """(B, 2) width and height; `InputError` where one is missing or no positive number."""
    return np.array([_size(entry, f"images[{i}]") for i, entry in enumerate(images)], np.float64)


def _size(entry: Entry, place: str) -> list[float]:
    size = [value_of(entry, key, place) for key in ("width", "height")]
    for key, value in zip(("width", "height"), size, strict=True):
        if not is_number(value) or value <= 0:
            raise InputError(f"{place}.{key} is {value!r}, expected a positive number of pixels")
    return size


def checked_box(entry: Entry, place: str) -> Box:
    """An entry of annotations; `InputError` for a missing key or a value of the wrong kind."""
    image, category = (
        checked_id(value_of(entry, key, place), f"{place}.{key}") for key in ("image_id", "category_id")
    )
    box = value_of(entry, "bbox", place)
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        raise InputError(f"{place}.bbox is {box!r}, expected four finite numbers: x, y, width, height")
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise InputError(f"{place}.iscrowd is {crowd!r}, expected 0 or 1")
    x, y, width, height = map(float, box)
    return Box(image, category, (x, y, width, height), 1 if crowd else 0)


def columns_of(
    boxes: Sequence[Box], image: dict[str, int], category: dict[str, int]
) -> tuple[Ints, Ints, Bools, Floats]:
    """Of each box the image, the label, whether it is a crowd, and x, y, width, height.

    Raises:
        InputError: an image or a category that is not there.
    """
    n = len(boxes)
    of = _positions([str(box.image_id) for box in boxes], image, "image_id")
    label = _positions([str(box.category_id) for box in boxes], category, "category_id")
    crowd = np.fromiter((box.iscrowd for box in boxes), bool, n)
    sides = np.fromiter(chain.from_iterable(box.bbox for box in boxes), np.float64, 4 * n).reshape(n, 4)
    return of, label, crowd, sides


def _corners(sides: Floats) -> Floats:
    """x1, y1, x2, y2."""
    turned = np.flatnonzero((sides[:, 2:] < 0).any(axis=1))
    if len(turned):
        row = turned[0]
        given = sides[row].tolist()
        raise InputError(f"annotations[{row}].bbox is {given}, expected a width and a height of at least 0")
    return np.hstack([sides[:, :2], _sums(sides[:, :2], sides[:, 2:])])


def _sums(left: Floats, right: Floats) -> Floats:
    """Sums as those of the decimals in the file, of up to 9 places, and not of the binary numbers next to them: 0.3 and
    not 0.30000000000000004 of 0.1 and 0.2. So an IoU that is exactly a threshold is one."""
    total = left + right
    decimal = total.round(9)
    short = (left == left.round(9)) & (right == right.round(9))
    return np.where(short & (np.abs(decimal - total) <= 2 * np.spacing(np.abs(total))), decimal, total)


def _positions(ids: list[str], known: dict[str, int], key: str) -> Ints:
    found = np.fromiter((known.get(id_, -1) for id_ in ids), np.int64, len(ids))
    unknown = np.flatnonzero(found < 0)
    if len(unknown):
        row = unknown[0]
        raise InputError(
            f"annotations[{row}].{key} is {ids[row]!r}, which is none of the {len(known):,} in the file"
        )
    return found


def _inside(boxes: Floats, sizes: Floats, image: np.ndarray[Any, Any]) -> tuple[Floats, int]:
    """Boxes clipped to their images, and how many stuck out."""
    outside = (boxes[:, 2:] < 0).any(axis=1) | (boxes[:, :2] > sizes).any(axis=1)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise InputError(
            f"annotations[{row}].bbox: the box {boxes[row].tolist()} (x1, y1, x2, y2) lies outside its image "
            f"images[{image[row]}] of {sizes[row, 0]:g} x {sizes[row, 1]:g} pixels"
        )
    clipped = np.clip(boxes, 0.0, np.tile(sizes, 2))
    return clipped, int((np.abs(clipped - boxes) > ROUNDING).any(axis=1).sum())


def _image_labels(images: list[Entry], category: dict[str, int]) -> ImageLabels:
    rows = []
    for i, entry in enumerate(images):
        for key, (is_positive, is_exhaustive) in IMAGE_LABELS.items():
            ids = entry.get(key, [])
            if not isinstance(ids, list):
                raise InputError(f"images[{i}].{key} is {ids!r}, expected a list of category ids")
            for id_ in ids:
                if str(id_) not in category:
                    raise InputError(f"images[{i}].{key} names {id_!r}, which is none of the categories")
                rows.append((i, category[str(id_)], is_positive, is_exhaustive))
    columns = np.array(rows, np.int64).reshape(-1, 4)
    return ImageLabels(columns[:, 0], columns[:, 1], columns[:, 2] == 1, columns[:, 3] == 1)


def write_coco(annotations: Annotations, path: str | Path) -> None:
    """Write a COCO file that `read_coco` reads back; x2 and y2 to one rounding, as the format holds x2 - x1.

    Ids are whole numbers where all of them are numerals, and texts otherwise. Image labels are written as
    `neg_category_ids` and `not_exhaustive_category_ids` (LVIS) and `pos_category_ids` (not in either format, other
    readers pass over it).

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "instances.json"
    >>> box = {"image": [0], "boxes": [[0, 0, 2, 2]], "label": [0], "sizes": [[4, 3]]}
    >>> write_coco(Annotations(Vocabulary(("1",), ("cat",)), ("7",), **box), file)
    >>> read_coco(file).boxes.tolist()
    [[0.0, 0.0, 2.0, 2.0]]
    """
    image_ids, class_ids = _numbers(annotations.image_ids), _numbers(annotations.vocabulary.ids)
    images: list[Entry] = [
        {"id": id_, "width": width, "height": height}
        for id_, (width, height) in zip(image_ids, _plain(annotations.sizes), strict=True)
    ]
    for entry, name in zip(images, annotations.file_names, strict=False):
        entry["file_name"] = name
    labels = annotations.image_labels
    keys = {said: key for key, said in IMAGE_LABELS.items()} | {(False, False): "neg_category_ids"}
    said = zip(labels.is_positive.tolist(), labels.is_exhaustive.tolist(), strict=True)
    for image, label, how in zip(labels.image, labels.label, said, strict=True):
        images[image].setdefault(keys[how], []).append(class_ids[label])
    corner, size = annotations.boxes[:, :2], _sums(annotations.boxes[:, 2:], -annotations.boxes[:, :2])
    rows = zip(
        annotations.image,
        annotations.label,
        _plain(np.hstack([corner, size])),
        areas(annotations.boxes).tolist(),
        annotations.is_group_of,
        strict=True,
    )
    content: dict[str, list[Entry]] = {
        "images": images,
        "annotations": [
            {
                "id": i,
                "image_id": image_ids[image],
                "category_id": class_ids[label],
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for i, (image, label, box, area, crowd) in enumerate(rows, start=1)
        ],
        "categories": [
            {"id": id_, "name": name}
            for id_, name in zip(class_ids, annotations.vocabulary.names, strict=True)
        ],
    }
    for category, group in zip(content["categories"], annotations.vocabulary.groups, strict=False):
        category["frequency"] = group
    write_json(content, path)


def _numbers(ids: Sequence[str]) -> list[int] | list[str]:
    plain = all(id_.isdecimal() and id_.isascii() and str(int(id_)) == id_ for id_ in ids)
    return [int(id_) for id_ in ids] if plain else list(ids)


def _plain(rows: Floats) -> list[list[float]]:
    """Rows as lists, whole numbers without a point."""
    return [[int(x) if x.is_integer() else x for x in row] for row in rows.tolist()]
