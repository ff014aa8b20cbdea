"""Open Images: average precision where not everything in an image was annotated.

The numbers are those of the TensorFlow Object Detection API's `OpenImagesDetectionChallengeEvaluator` and
`OpenImagesDetectionEvaluator` (V2), in `object_detection_evaluation.py`, `per_image_evaluation.py`, `metrics.py`. One
trait is left out: among equal scores it follows an unstable sort; here their order is fixed (see `Matches`).
"""

from __future__ import annotations

from wildbox.evaluation.protocol import Protocol

LIMIT = 10_000
"""Detections of one class in one image that the reference looks at: `nms_max_output_boxes`."""


def open_images_challenge(
    *, group_of_weight: float = 1.0, verified_only: bool = True, iou: float = 0.5
) -> Protocol:
    """The Challenge's protocol; the truth is expanded already where a hierarchy is in use.

    - A detection counts only where its class is verified in its image: a box of the class is there, or a
      positive or negative image label. In an image where people verified its absence it is a false positive.
    - A detection box without area, or turned around, is dropped; then all but the first 10,000 of a class in an
      image are.
    - Ordinary boxes are matched first, then group-of boxes, as `match` says (absorbing).
    - A group-of box weighs `group_of_weight` in the truth, whether found or not, and its detections together
      are one true positive of that weight at the best of their scores. With weight 0 they are ignored.
    - A class without truth has no average precision and is not in the mean; one with truth and without
      detections has 0.
    - Images that the detections alone name are taken as images where nothing is verified.

    A result's `truth_boxes` leaves group-of boxes out where they weigh nothing; `detections` counts true
    and false positives: not the ignored, and those that a group-of box absorbs as one.

    Args:
        verified_only: false lets all detections count, as in V2.
    Raises:
        ConfigError: a negative or infinite weight, or iou outside (0, 1].
    """
    return Protocol("open-images-challenge", True, group_of_weight, verified_only, LIMIT, iou)


def open_images_v2(
    *, group_of_weight: float = 0.0, verified_only: bool = False, iou: float = 0.5
) -> Protocol:
    """As the Challenge, but every detection counts, and group-of boxes weigh nothing unless told otherwise.

    A detection of a class that nobody looked for in its image is a false positive, as is one on an image that the
    truth does not know.
    """
    return Protocol("open-images-v2", True, group_of_weight, verified_only, LIMIT, iou)
