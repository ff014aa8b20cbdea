"""Pascal VOC's average precision: over all points of the curve, as its devkit since 2010, or eleven."""

from __future__ import annotations

from wildbox.evaluation.average_precision import area_under, eleven_point
from wildbox.evaluation.protocol import Protocol


def voc(*, eleven: bool = False, iou: float = 0.5) -> Protocol:
    """Pascal VOC's protocol, every image taken as annotated in full.

    - Image labels are not looked at: a detection of a class that the image lacks is a false positive. A detection on
      an image that the truth does not know is an error.
    - A detection is matched with its box of largest IoU; where that reaches `iou` (inclusive, as in the
      devkit) and the box was found before, it is a false positive.
    - Group-of boxes are what VOC calls difficult: no part of the truth, and whoever finds one is ignored.
    - A detection box without area is a false positive.
    - Areas are (x2 - x1)(y2 - y1), without the devkit's "+ 1" of whole pixels.

    A result's `truth_boxes` counts ordinary boxes, its `detections` true and false positives.

    Args:
        eleven: average precision by eleven points (`eleven_point`), as VOC had it until 2009.
    Raises:
        ConfigError: iou outside (0, 1].
    Source: VOC2012 devkit, `VOCevaldet.m`, `VOCap.m`.
    """
    name, area = ("voc-11-point", eleven_point) if eleven else ("voc", area_under)
    return Protocol(name, absorbing=False, iou=iou, area=area)
