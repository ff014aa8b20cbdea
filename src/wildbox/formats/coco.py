"""COCO and LVIS JSON to the tables and back.

Letters: B images, N boxes, C classes. A place in a file reads "annotations[17]": the 18th entry of that list.
Source: https://cocodataset.org/#format-data, https://www.lvisdataset.org/dataset
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wildbox.annotations import Annotations, Floats, ImageLabels
from wildbox.boxes import areas
from wildbox.errors import InputError, VocabularyError
from wildbox.formats.files import read_json, tell, write_json
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
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError("expected an object with images, annotations and categories", path=path)
    try:
        return _table(content, path=path)
    except InputError as error:
        if error.path is not None:
            raise
        raise type(error)(str(error), path=path) from error


def _table(content: Entry, *, path: str | Path) -> Annotations:
    categories = _entries(content, "categories")
    images = _entries(content, "images")
    annotations = _entries(content, "annotations", may_be_empty=True)
    category = _index(categories, "categories")
    image = _index(images, "images")
    names = tuple(str(entry.get("name", entry["id"])) for entry in categories)
    groups = [entry.get("frequency") for entry in categories]
    sizes = np.array([_size(entry, f"images[{i}]") for i, entry in enumerate(images)], np.float64)
    rows = [_row(entry, f"annotations[{i}]", image, category) for i, entry in enumerate(annotations)]
    columns = np.array(rows, np.float64).reshape(-1, 7)
    of = columns[:, 0].astype(np.int64)
    boxes, stick_out = _inside(columns[:, 3:], sizes[of], of)
    tell(
        {
            "{n} boxes stick out of their image; they are clipped": stick_out,
            "{n} boxes have no area; they are kept": int((areas(boxes) == 0).sum()),
            "{n} boxes repeat an earlier box of the same class; they are kept": len(rows) - len(set(rows)),
        },
        path=path,
        stacklevel=4,
    )
    file_names = [_file_name(entry) for entry in images]
    return Annotations(
        Vocabulary(tuple(map(str, category)), names, tuple(map(str, groups)) if None not in groups else ()),
        tuple(map(str, image)),
        image=of,
        boxes=boxes,
        label=columns[:, 1].astype(np.int64),
        is_group_of=columns[:, 2] == 1,
        sizes=sizes,
        image_labels=_image_labels(images, category),
        file_names=tuple(name or "" for name in file_names) if None not in file_names else (),
    )


def _file_name(entry: Entry) -> str | None:
    name, url = entry.get("file_name"), entry.get("coco_url")
    if name is None and url is not None:
        return "/".join(str(url).split("/")[-2:])
    return None if name is None else str(name)


def _entries(content: Entry, key: str, *, may_be_empty: bool = False) -> list[Entry]:
    if key not in content:
        raise InputError(f"missing key {key!r}; the file has {', '.join(map(repr, content)) or 'none'}")
    entries = content[key]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{key}: expected a list of objects")
    if not entries and not may_be_empty:
        raise InputError(f"{key}: the list is empty")
    return entries


def _value(entry: Entry, key: str, place: str) -> Any:
    try:
        return entry[key]
    except KeyError:
        raise InputError(f"{place}: missing key {key!r}; it has {', '.join(map(repr, entry))}") from None


def _id(value: object, place: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError(f"{place} is {value!r}, expected a whole number or a text")
    return str(value)


def _index(entries: list[Entry], key: str) -> dict[str, int]:
    """Id -> position."""
    index: dict[str, int] = {}
    for i, entry in enumerate(entries):
        id_ = _id(_value(entry, "id", f"{key}[{i}]"), f"{key}[{i}].id")
        if id_ in index:
            error = VocabularyError if key == "categories" else InputError
            raise error(f"{key}[{i}].id {id_!r} is that of {key}[{index[id_]}] already")
        index[id_] = i
    return index


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _size(entry: Entry, place: str) -> list[float]:
    size = [_value(entry, key, place) for key in ("width", "height")]
    for key, value in zip(("width", "height"), size, strict=True):
        if not _is_number(value) or value <= 0:
            raise InputError(f"{place}.{key} is {value!r}, expected a positive number of pixels")
    return size


def _row(
    entry: Entry, place: str, image: dict[str, int], category: dict[str, int]
) -> tuple[int, int, int, float, float, float, float]:
    """Image, label, crowd, x1, y1, x2, y2."""
    found = []
    for key, known in (("image_id", image), ("category_id", category)):
        id_ = _id(_value(entry, key, place), f"{place}.{key}")
        if id_ not in known:
            raise InputError(f"{place}.{key} is {id_!r}, which is none of the {len(known):,} in the file")
        found.append(known[id_])
    box = _value(entry, "bbox", place)
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise InputError(f"{place}.bbox is {box!r}, expected four finite numbers: x, y, width, height")
    x, y, width, height = box
    if width < 0 or height < 0:
        raise InputError(f"{place}.bbox is {box!r}, expected a width and a height of at least 0")
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise InputError(f"{place}.iscrowd is {crowd!r}, expected 0 or 1")
    return found[0], found[1], int(crowd), x, y, x + width, y + height


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
    corner, size = annotations.boxes[:, :2], annotations.boxes[:, 2:] - annotations.boxes[:, :2]
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
