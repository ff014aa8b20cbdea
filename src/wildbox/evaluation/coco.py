"""COCO's and LVIS' numbers, computed by hotcoco, which gives those of pycocotools and lvis.

Letters: B images, N truth boxes, D detections, C classes.
Source: https://cocodataset.org/#detection-eval, https://www.lvisdataset.org/challenge (federated evaluation)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Annotations, Floats, Ints
from wildbox.detections import Detections
from wildbox.errors import InputError
from wildbox.evaluation.result import EvaluationResult
from wildbox.formats.files import read_json, tell
from wildbox.vocabulary import Vocabulary, check_same_classes

if TYPE_CHECKING:
    from hotcoco import COCO, COCOeval


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


def read_coco_truth(path: str | Path) -> CocoTruth:
    """Truth of a COCO or LVIS file with all that its evaluation looks at: areas of masks, crowds, federated lists.

    The file may be compressed (`.json.gz`, `.json.zst`).

    Raises:
        InputError: no such file, malformed JSON, ids that are not whole numbers below 2**53 or stand twice, no images,
            annotations or categories, an annotation of an image or category that is not there, or without a box.
    Warns:
        InputWarning: counts boxes that are turned around or without area.
    """
    import hotcoco

    packed = Path(path).suffix in (".gz", ".zst")
    source: Any = read_json(path) if packed else str(path)
    try:
        dataset = hotcoco.COCO(source)
    except FileNotFoundError as error:
        raise InputError("cannot be read: No such file or directory", path=path) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"not a COCO file: {error}", path=path) from error
    if not dataset.imgs or not dataset.cats or not dataset.stats()["annotation_count"]:
        message = "expected images, annotations and categories; one of the lists is empty or missing"
        raise InputError(message, path=path)
    _check(dataset, path)
    for id_ in (*dataset.imgs, *dataset.cats):
        if abs(id_) >= 2**53:  # detections are arrays of float64
            raise InputError(f"an id is {id_}, expected whole numbers below 2**53", path=path)
    numbers, categories = np.array(list(dataset.imgs), np.int64), dataset.cats
    ids = tuple(map(str, categories))
    vocabulary = Vocabulary(ids, tuple(str(entry.get("name", id_)) for id_, entry in categories.items()))
    image_ids = tuple(map(str, numbers.tolist()))
    return CocoTruth(dataset, vocabulary, image_ids, numbers, np.array(list(categories), np.int64))


def _check(dataset: COCO, path: str | Path) -> None:
    """Refuse what hotcoco's look at a file calls an error, and count boxes without area."""
    found = dataset.healthcheck()
    for error in found["errors"]:
        raise InputError(f"{error['message']} The first has the id {error['affected_ids'][0]}", path=path)
    empty = [some["affected_ids"] for some in found["warnings"] if some["code"] == "degenerate_bbox"]
    tell({"{n} boxes are turned around or have no area": sum(map(len, empty))}, path=path, stacklevel=4)


def coco_truth(truth: Annotations) -> CocoTruth:
    """The same of a table: areas are those of the boxes, group-of boxes are crowds, and no list is federated."""
    import hotcoco

    sizes = truth.sizes.tolist()
    images = [{"id": i, "width": width, "height": height} for i, (width, height) in enumerate(sizes, start=1)]
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
