"""COCO's and LVIS' numbers, computed by hotcoco, which gives those of pycocotools and lvis.

Letters: B images, N truth boxes, D detections, C classes.
Source: https://cocodataset.org/#detection-eval, https://www.lvisdataset.org/challenge (federated evaluation)
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Annotations, Floats, Ints
from wildbox.detections import Detections
from wildbox.errors import InputError
from wildbox.evaluation.result import EvaluationResult
from wildbox.formats.coco import (
    Box,
    Content,
    Entry,
    Id,
    checked_box,
    checked_id,
    columns_of,
    entry_ids,
    index_of,
    is_number,
    naming,
    read_content,
    sizes_of,
    value_of,
    vocabulary_of,
)
from wildbox.formats.files import tell
from wildbox.vocabulary import Vocabulary, check_same_classes

if TYPE_CHECKING:
    from hotcoco import COCO, COCOeval

FEDERATED = ("neg_category_ids", "not_exhaustive_category_ids")
"""Of an image in LVIS: classes that are not in it, and classes of which not every object has a box."""
NUMERAL = re.compile("0|[1-9][0-9]{0,15}")


@dataclass(frozen=True, eq=False)
class CocoTruth:
    """A truth as hotcoco holds it, and the classes and images in the terms of the other tables."""

    dataset: COCO
    vocabulary: Vocabulary
    """Ids of the categories as text."""
    image_ids: tuple[str, ...]
    """Ids of the images as text."""
    image_numbers: NDArray[np.int64]
    """(B,) ids of the images in the dataset."""
    class_numbers: NDArray[np.int64]
    """(C,) ids of the categories in the dataset."""


class _Object(Box, kw_only=True, gc=False):
    """An entry of annotations with what evaluation looks at."""

    id: Id
    area: float | None = None
    """Of the mask; where there is none, that of the box counts."""


def read_coco_truth(path: str | Path) -> CocoTruth:
    """Truth of a COCO or LVIS file with all that its evaluation looks at: areas of masks, crowds, federated lists.

    The file may be compressed, and nothing else of it is looked at: not what tools write of themselves and of
    licenses, nor outlines. Boxes are left as they are. An annotation without `area` has that of its box.

    Raises:
        InputError: no such file, malformed JSON (with its line); otherwise with the entry: a missing key, a value of
            the wrong kind, ids of images or categories that are not whole numbers from 0 to 2**53 - 1, an id that
            stands twice, no images, annotations or categories, an image or category that is not there, an image
            without size.
    Warns:
        InputWarning: counts boxes that are turned around or without area.
    """
    with naming(path):
        truth, empty = _truth(read_content(path, Content[_Object], _checked_object))
    tell({"{n} boxes are turned around or have no area": empty}, path=path)
    return truth


def _checked_object(entry: Entry, place: str) -> _Object:
    box = checked_box(entry, place)
    area = entry.get("area")
    if isinstance(area, float) and math.isnan(area):
        area = None
    if area is not None and not is_number(area):
        raise InputError(f"{place}.area is {area!r}, expected a finite number")
    return _Object(
        box.image_id,
        box.category_id,
        box.bbox,
        box.iscrowd,
        id=checked_id(value_of(entry, "id", place), f"{place}.id"),
        area=None if area is None else float(area),
    )


def _truth(content: Content[_Object]) -> tuple[CocoTruth, int]:
    """Of what is read, and how many boxes have no area."""
    import hotcoco

    image, category = (
        index_of(entry_ids(entries, key), key)
        for entries, key in ((content.images, "images"), (content.categories, "categories"))
    )
    ids = [entry.id for entry in content.annotations]
    if len(set(ids)) < max(len(ids), 1):
        index_of(list(map(str, ids)), "annotations")  # tells which
    sizes_of(content.images)  # looks at them alone: nothing of COCO's depends on a size
    of, label, crowd, sides = columns_of(content.annotations, image, category)
    numbers, classes = _numbers(image, "images"), _numbers(category, "categories")
    vocabulary = vocabulary_of(content.categories, category)
    images = [
        {"id": id_} | {key: entry[key] for key in FEDERATED if entry.get(key)}
        for id_, entry in zip(numbers.tolist(), content.images, strict=True)
    ]
    categories = [
        {"id": id_, "name": name} for id_, name in zip(classes.tolist(), vocabulary.names, strict=True)
    ]
    for entry, group in zip(categories, vocabulary.groups, strict=False):
        entry["frequency"] = group
    boxes = sides[:, 2:].prod(axis=1).tolist()
    areas = [
        box if entry.area is None else entry.area
        for entry, box in zip(content.annotations, boxes, strict=True)
    ]
    try:
        dataset = hotcoco.COCO.from_arrays(
            images, categories, numbers[of], classes[label], sides, area=np.array(areas), iscrowd=crowd
        )
    except (TypeError, ValueError) as error:  # it looks at the federated lists, and names their place
        raise InputError(str(error)) from error
    truth = CocoTruth(dataset, vocabulary, tuple(image), numbers, classes)
    return truth, int((sides[:, 2:] <= 0).any(axis=1).sum())


def _numbers(ids: Collection[str], key: str) -> Ints:
    """Ids as whole numbers that float64 holds, as detections are arrays of it."""
    for i, id_ in enumerate(ids):
        if not NUMERAL.fullmatch(id_) or int(id_) >= 2**53:
            raise InputError(f"{key}[{i}].id is {id_!r}, expected a whole number below 2**53")
    return np.array(list(map(int, ids)), np.int64)


def coco_truth(truth: Annotations) -> CocoTruth:
    """The same of a table: areas are those of the boxes, group-of boxes are crowds, and no list is federated."""
    import hotcoco

    images = [{"id": i} for i in range(1, len(truth.image_ids) + 1)]
    categories = [{"id": i, "name": name} for i, name in enumerate(truth.vocabulary.names, start=1)]
    dataset = hotcoco.COCO.from_arrays(
        images, categories, truth.image + 1, truth.label + 1, _sides(truth.boxes), iscrowd=truth.is_group_of
    )
    numbers = np.arange(1, len(images) + 1), np.arange(1, len(categories) + 1)
    return CocoTruth(dataset, truth.vocabulary, truth.image_ids, *numbers)


def evaluate_coco(detections: Detections | Floats, truth: CocoTruth | Annotations) -> EvaluationResult:
    """COCO's 12 numbers, for all classes and for each.

    `summary` has AP, AP50, AP75, APs, APm, APl (small, medium, large), AR1, AR10, AR100, ARs, ARm, ARl as
    pycocotools gives them: -1 where there is no truth for one. `ap` and the further columns are those of each class,
    NaN where it has no truth. Equal scores stand in the order of images, then of rows, as in pycocotools.

    Args:
        detections: a table, or (D, 7) image id, x, y, width, height, score, category id as a results file has
            them (a table's width is x2 - x1, which may differ in the last bit).
        truth: a table, whose images and classes have the ids from 1 on, or what `read_coco_truth` reads.
    Raises:
        InputError: another vocabulary, an image or a category that the truth does not know, a value that is not
            finite.

    >>> table = {"image": [0], "boxes": [[0, 0, 8, 8]], "label": [0]}
    >>> cat, one = Vocabulary(("1",), ("cat",)), ("7",)
    >>> truth = Annotations(cat, one, **table, sizes=[[16, 16]])
    >>> result = evaluate_coco(Detections(cat, one, **table, score=[0.9]), truth)
    >>> round(result.summary["AP"], 9), result.summary["APl"]
    (1.0, -1.0)
    """
    return _evaluate(detections, truth, lvis=False)


def evaluate_lvis(detections: Detections | Floats, truth: CocoTruth) -> EvaluationResult:
    """LVIS' numbers: AP, AP50, AP75, APs, APm, APl, APr, APc, APf (rare, common, frequent), AR@300 and by size.

    Of an image the 300 best detections count. A detection of a class whose absence nobody verified in the image is
    not counted, nor one without a match where the class was not annotated exhaustively. There are no crowds: as in
    lvis, `iscrowd` is passed over.

    Args, Raises: as `evaluate_coco`; `truth` comes from an LVIS file.
    """
    known = truth.dataset.cats.values()
    if not all("frequency" in entry for entry in known):
        raise InputError("the truth is not LVIS': a category has no 'frequency'")
    if truth.dataset.get_ann_ids(iscrowd=True):
        truth = replace(truth, dataset=_without_crowds(truth.dataset))
    return _evaluate(detections, truth, lvis=True)


def _without_crowds(dataset: COCO) -> COCO:
    import hotcoco

    content = dataset.dataset
    for entry in content["annotations"]:
        entry["iscrowd"] = 0
    return hotcoco.COCO(content)


def _evaluate(
    detections: Detections | Floats, truth: CocoTruth | Annotations, *, lvis: bool
) -> EvaluationResult:
    import hotcoco

    truth = coco_truth(truth) if isinstance(truth, Annotations) else truth
    if isinstance(detections, Detections):
        rows, label = _rows(detections, truth), detections.label
    else:
        rows, label = _checked(detections, truth)
    found = truth.dataset.load_res(rows)
    run = hotcoco.COCOeval(truth.dataset, found, "bbox", lvis_style=lvis)
    run.evaluate()
    run.accumulate()
    run.summary_lines()  # computes, and unlike summarize() does not print
    values = run.get_results()
    counts = {
        entry["id"]: entry["ann_count"] - entry["crowd_count"]
        for entry in truth.dataset.stats()["per_category"]
    }
    columns = _by_class(run, truth)
    return EvaluationResult(
        truth.vocabulary,
        columns.pop("AP"),
        np.array([counts[id_] for id_ in truth.class_numbers.tolist()]),
        np.bincount(label, minlength=len(truth.vocabulary)),
        "lvis" if lvis else "coco",
        summary={name: float(values[name]) for name in run.metric_keys()},
        columns=columns,
    )


def _checked(rows: Floats, truth: CocoTruth) -> tuple[Floats, Ints]:
    """(D, 7) as a caller gives them, and the index (D,) of their classes."""
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2 or rows.shape[1] != 7:
        raise InputError(f"detections: expected (D, 7), got {rows.shape}")
    if (strange := ~np.isfinite(rows).all(axis=1)).any():
        raise InputError(f"detections: row {int(np.argmax(strange))} has a value that is not finite")
    _places(rows[:, 0], truth.image_numbers, "image")
    return rows, _places(rows[:, 6], truth.class_numbers, "category")


def _places(ids: Floats, known: Ints, name: str) -> Ints:
    """(D,) where ids stand among the known ones."""
    order = np.argsort(known, kind="stable")
    at = np.searchsorted(known[order], ids)
    if (strange := np.append(known[order], np.nan)[at] != ids).any():
        row = int(np.argmax(strange))
        raise InputError(f"detections: row {row} has {name} {ids[row]:.17g}, not in the truth")
    return order[at]


def _rows(detections: Detections, truth: CocoTruth) -> Floats:
    """A table as (D, 7): image id, x, y, width, height, score, category id."""
    check_same_classes(
        detections.vocabulary, truth.vocabulary, "detections and truth have different vocabularies"
    )
    number = dict(zip(truth.image_ids, truth.image_numbers.tolist(), strict=True))
    numbers = np.array([number.get(id_, -1) for id_ in detections.image_ids], np.int64)
    image = numbers[detections.image] if len(detections) else detections.image
    if (image < 0).any():
        some = detections.image_ids[detections.image[int(np.argmax(image < 0))]]
        raise InputError(f"images with detections are not in the truth, such as {some!r}")
    label = truth.class_numbers[detections.label]
    return np.column_stack([image, _sides(detections.boxes), detections.score, label])


def _sides(boxes: Floats) -> Floats:
    """x1, y1, width, height."""
    return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])


def _by_class(run: COCOeval, truth: CocoTruth) -> dict[str, Floats]:
    """The numbers that are means over classes, of each class; NaN where there is no truth."""
    tables: dict[str, Any] = run.eval or {}
    parameters = run.params
    column = {id_: k for k, id_ in enumerate(parameters.cat_ids)}
    chosen = [column[id_] for id_ in truth.class_numbers.tolist()]
    found = {}
    for metric in run.metric_defs():
        if metric["freq_group"] is None:
            area = parameters.area_rng_lbl.index(metric["area"])
            limit = parameters.max_dets.index(metric["max_det"])
            values = tables["precision" if metric["ap"] else "recall"][..., chosen, area, limit]
            if metric["iou_thr"] is not None:
                values = values[np.isclose(parameters.iou_thrs, metric["iou_thr"])]
            values = values.reshape(-1, len(chosen))
            known = values > -1
            with np.errstate(invalid="ignore"):
                found[metric["name"]] = np.where(known, values, 0).sum(axis=0) / known.sum(axis=0)
    return found
