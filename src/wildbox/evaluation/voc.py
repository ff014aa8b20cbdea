"""Pascal VOC's average precision, as its devkit computes it since 2010: over all points of the curve."""

from __future__ import annotations

import numpy as np

from wildbox.annotations import Annotations
from wildbox.detections import Detections
from wildbox.evaluation.average_precision import class_average_precisions
from wildbox.evaluation.matching import match
from wildbox.evaluation.result import EvaluationResult


def evaluate_voc(detections: Detections, truth: Annotations, *, iou: float = 0.5) -> EvaluationResult:
    """Average precision of each class, every image taken as annotated in full.

    - Image labels are not looked at: a detection of a class that the image lacks is a false positive.
    - A detection is matched with its box of largest IoU; where that reaches `iou` (inclusive, as in the
      devkit) and the box was found before, it is a false positive.
    - Group-of boxes are what VOC calls difficult: no part of the truth, and whoever finds one is ignored.
    - A detection box without area is a false positive.
    - Areas are (x2 - x1)(y2 - y1), without the devkit's "+ 1" of whole pixels.

    The result's `truth_boxes` counts ordinary boxes, its `detections` true and false positives.

    Raises:
        ConfigError: iou outside (0, 1].
        InputError: an image that the truth does not know, or another vocabulary.
    Source: VOC2012 devkit, `VOCevaldet.m`, `VOCap.m`.
    """
    matches = match(detections.aligned(truth), truth, absorbing=False, iou=iou)
    boxes = np.bincount(truth.label[~truth.is_group_of], minlength=len(truth.vocabulary))
    ap, counted = class_average_precisions(matches, boxes.astype(np.float64))
    return EvaluationResult(truth.vocabulary, ap, boxes, counted, "voc")
