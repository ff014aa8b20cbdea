"""The Open Images Challenge: average precision where not everything in an image was annotated.

It gives the numbers of the TensorFlow Object Detection API's `OpenImagesChallengeEvaluator`
(`object_detection_evaluation.py`, `per_image_evaluation.py`, `metrics.py`). Two of its traits are left out:
among equal scores it follows an unstable sort, here the order is fixed (see `Matches`); and it drops
detections beyond 10,000 of one class in one image.

Letters: B images, D detections, C classes.
"""

from __future__ import annotations

import math
import warnings

import numba
import numpy as np

from wildbox.annotations import Annotations, Bools, Ints
from wildbox.detections import Detections
from wildbox.errors import ConfigError, InputWarning
from wildbox.evaluation.average_precision import class_average_precisions
from wildbox.evaluation.matching import match
from wildbox.evaluation.result import EvaluationResult


def evaluate_open_images_challenge(
    detections: Detections, truth: Annotations, *, group_of_weight: float = 1.0, iou: float = 0.5
) -> EvaluationResult:
    """Average precision of each class; the truth is expanded already where a hierarchy is in use.

    - A detection counts only where its class is verified in its image: a box of the class is there, or a
      positive or negative image label. In an image where people verified its absence it is a false positive.
    - A detection box without area, or turned around, is dropped.
    - Ordinary boxes are matched first, then group-of boxes, as `match` says (absorbing).
    - A group-of box weighs `group_of_weight` in the truth, whether found or not, and its detections together
      are one true positive of that weight at the best of their scores. With weight 0 they are ignored.

    The result's `truth_boxes` leaves group-of boxes out where they weigh nothing; `detections` counts true
    and false positives: not the ignored, and those that a group-of box absorbs as one.

    Raises:
        ConfigError: a negative or infinite weight, or iou outside (0, 1].
        InputError: an image that the truth does not know, or another vocabulary.
    Warns:
        InputWarning: detections without area; a truth without any image label.
    """
    if not 0 <= group_of_weight < math.inf:
        raise ConfigError(f"group_of_weight {group_of_weight} is not a finite number from 0 on")
    detections = detections.aligned(truth)
    box = detections.boxes
    has_area = (box[:, 0] < box[:, 2]) & (box[:, 1] < box[:, 3])
    verified = is_verified(detections, truth)
    if not has_area.all():
        count = int(np.sum(~has_area))
        message = f"{count} of {len(box)} detections have no area or are turned around; they are dropped"
        warnings.warn(message, InputWarning, stacklevel=2)
    if not (len(truth.image_labels) or verified.all()):
        count = int(np.sum(~verified))
        message = (
            f"the truth has no image labels: {count} of {len(box)} detections are ignored, being of a class "
            "that has no box in their image"
        )
        warnings.warn(message, InputWarning, stacklevel=2)
    matches = match(detections, truth, take_part=has_area & verified, absorbing=True, iou=iou)
    classes = len(truth.vocabulary)
    ordinary = np.bincount(truth.label[~truth.is_group_of], minlength=classes)
    groups = np.bincount(truth.label[truth.is_group_of], minlength=classes)
    ap, counted = class_average_precisions(
        matches, ordinary + group_of_weight * groups, group_of_weight=group_of_weight
    )
    boxes = ordinary + groups * (group_of_weight > 0)
    return EvaluationResult(truth.vocabulary, ap, boxes, counted, "open-images-challenge")


def is_verified(detections: Detections, truth: Annotations) -> Bools:
    """Whether somebody looked for the detection's class in its image, (D,): it has a box or an image label.

    The images of both tables are the same in the same order.
    """
    labels = truth.image_labels
    order = np.argsort(labels.image, kind="stable")
    label_offsets = np.searchsorted(labels.image[order], np.arange(len(truth.image_ids) + 1)).astype(np.int64)
    verified: Bools = _is_verified(
        detections.offsets,
        detections.label,
        truth.offsets,
        truth.label,
        label_offsets,
        labels.label[order],
        len(truth.vocabulary),
    )
    return verified


@numba.njit(cache=True)
def _is_verified(
    offsets: Ints,
    label: Ints,
    box_offsets: Ints,
    box_label: Ints,
    label_offsets: Ints,
    image_label: Ints,
    classes: int,
) -> Bools:
    verified = np.empty(len(label), np.bool_)
    seen_in = np.full(classes, -1, np.int64)  # the latest image in which the class is verified
    for b in range(len(offsets) - 1):
        for i in range(box_offsets[b], box_offsets[b + 1]):
            seen_in[box_label[i]] = b
        for i in range(label_offsets[b], label_offsets[b + 1]):
            seen_in[image_label[i]] = b
        for d in range(offsets[b], offsets[b + 1]):
            verified[d] = seen_in[label[d]] == b
    return verified
