"""Evaluation of detections in files, one file or many."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from wildbox.annotations import Annotations, Floats, expand
from wildbox.errors import ConfigError
from wildbox.evaluation.average_precision import best_f1
from wildbox.evaluation.coco import CocoTruth, evaluate_coco, evaluate_lvis
from wildbox.evaluation.curves import curves
from wildbox.evaluation.error_kinds import ErrorKinds, error_kinds
from wildbox.evaluation.protocol import Protocol
from wildbox.evaluation.result import EvaluationResult
from wildbox.evaluation.streaming import evaluate_pieces
from wildbox.formats.detection_parts import DetectionFiles, read_detection_parts
from wildbox.formats.files import is_json
from wildbox.formats.storage import detection_files, read_coco_results, read_detections
from wildbox.vocabulary import Hierarchy


def evaluate_files(
    path: str | Path | DetectionFiles,
    truth: Annotations,
    *,
    protocol: Protocol,
    hierarchy: Hierarchy | None = None,
    expand_found: bool = False,
) -> EvaluationResult:
    """As `evaluate`, of a file, a folder of files or a pattern with *, as `read_detections` reads them.

    Several files are evaluated one after the other, in the memory of one and about 16 bytes a detection, of which 11
    are kept of each.

    Args:
        path: or what `open_beside` opened while the truth was read.
        expand_found: detections, too, are expanded by the hierarchy.
    Raises:
        ConfigError: detections to expand and no hierarchy.
        InputError: as `read_detections`; where the truth is relative, so must be the detections.
    Warns:
        InputWarning: as `read_detections` and `evaluate`.
    """
    if expand_found and hierarchy is None:
        raise ConfigError("detections are to be expanded, but there is no hierarchy")
    groups = read_detection_parts(
        path,
        vocabulary=truth.vocabulary,
        image_ids=truth.image_ids,
        more_images=protocol.absorbing,
        relative=bool((truth.sizes == 1).all()),
    )
    return evaluate_pieces(groups, truth, protocol=protocol, hierarchy=hierarchy, expand_found=expand_found)


def errors_in_files(
    path: str | Path,
    truth: Annotations,
    *,
    protocol: Protocol,
    hierarchy: Hierarchy | None = None,
    min_score: float | None = None,
) -> ErrorKinds:
    """As `error_kinds`, of detections in files, all of them together in memory.

    Args:
        hierarchy: the truth is first expanded by it.
        min_score: of detections that are looked at; default: of each class that of its best F1, and of a class of
            which nothing is found the median of the others', or 0.
    """
    found = read_detections(
        path,
        vocabulary=truth.vocabulary,
        image_ids=truth.image_ids,
        more_images=protocol.absorbing,
        relative=bool((truth.sizes == 1).all()),
    )
    truth = truth if hierarchy is None else expand(truth, hierarchy)
    least: float | Floats = 0.0 if min_score is None else min_score
    if min_score is None:
        least = best_f1(curves(protocol.match(found, truth)))[1]
        none = np.isnan(least)  # nothing of them is found: what takes the place of their objects must be seen
        least[none] = 0.0 if none.all() else np.median(least[~none])
    return error_kinds(found, truth, protocol=protocol, min_score=least)


def evaluate_coco_files(path: str | Path, truth: CocoTruth, *, lvis: bool = False) -> EvaluationResult:
    """COCO's or LVIS' numbers of detections in files; COCO results are taken to the last bit.

    Raises, Warns: as `read_detections`, `evaluate_coco` and `evaluate_lvis`.
    """
    files = detection_files(path)
    run = evaluate_lvis if lvis else evaluate_coco
    if all(map(is_json, files)):
        read = partial(read_coco_results, vocabulary=truth.vocabulary, image_ids=truth.image_ids)
        return run(np.concatenate([read(file) for file in files]), truth)
    found = read_detections(path, vocabulary=truth.vocabulary, image_ids=truth.image_ids, relative=False)
    return run(found, truth)
