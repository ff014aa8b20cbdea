"""Average precision of each class: Open Images' way, Pascal VOC's, COCO's and LVIS'; no torch.

>>> import numpy as np
>>> from wildbox.annotations import Annotations
>>> from wildbox.vocabulary import Vocabulary
>>> cat, box = Vocabulary(("cat",)), [[0.0, 0.0, 0.5, 0.5]]
>>> truth = Annotations(cat, ("a",), image=[0], boxes=box, label=[0])
>>> evaluate(Detections(cat, ("a",), image=[0], boxes=box, label=[0], score=[0.9]), truth).mean_ap
1.0
"""

from __future__ import annotations

from wildbox.annotations import Annotations, expand
from wildbox.detections import Detections
from wildbox.errors import ConfigError
from wildbox.evaluation.coco import CocoTruth, evaluate_coco, evaluate_lvis, read_coco_truth
from wildbox.evaluation.comparison import Comparison, compare
from wildbox.evaluation.protocol import Protocol
from wildbox.evaluation.protocols import protocol_named
from wildbox.evaluation.result import EvaluationResult, Gain, gains, write_gains
from wildbox.vocabulary import Hierarchy

__all__ = [
    "CocoTruth",
    "Comparison",
    "EvaluationResult",
    "Gain",
    "Protocol",
    "compare",
    "evaluate",
    "evaluate_coco",
    "evaluate_lvis",
    "gains",
    "protocol_named",
    "read_coco_truth",
    "write_gains",
]


def evaluate(
    detections: Detections,
    truth: Annotations | CocoTruth,
    *,
    protocol: str = "open-images-challenge",
    hierarchy: Hierarchy | None = None,
    group_of_weight: float | None = None,
    verified_only: bool | None = None,
    iou: float | None = None,
) -> EvaluationResult:
    """Average precision of each class by a protocol's name.

    Images of the truth without detections count as such. Neither the order of the detections nor that of images
    has an influence: see `Matches` for equal scores. (That of the truth's rows has one where a detection has exactly
    the same IoU with two boxes: it takes the first, as the reference does. COCO's and LVIS' references take equal
    scores in the order of rows.)

    Args:
        truth: for `lvis`, and for `coco` where areas are those of masks, what `read_coco_truth` reads.
        protocol: open-images-challenge, open-images-v2, coco, lvis, voc or voc-11-point; their rules stand at
            `open_images_challenge`, `open_images_v2`, `evaluate_coco`, `evaluate_lvis` and `voc`.
        hierarchy: the truth is first expanded by it; detections never are.
        group_of_weight: what a found group-of box is worth; default 1 for the Challenge, 0 for V2.
        verified_only: whether detections are ignored where nobody looked for their class; default true for the
            Challenge, false for V2.
        iou: least overlap of a match, in (0, 1], inclusive; default 0.5.
    Raises:
        ConfigError: an unknown protocol, a value outside its range, one that the protocol does not have.
        InputError: another vocabulary; except for Open Images, an image that the truth does not know.
    Warns:
        InputWarning: for Open Images, detections without area, or on images that the truth does not know; a truth
            without any image label where they matter.

    >>> from wildbox.vocabulary import Vocabulary
    >>> cat, box = Vocabulary(("cat",)), {"image": [0], "boxes": [[0, 0, 0.5, 0.5]], "label": [0]}
    >>> found = Detections(cat, ("a",), **box, score=[0.9])
    >>> evaluate(found, Annotations(cat, ("a",), **box), protocol="voc").mean_ap
    1.0
    """
    given = {
        "hierarchy": hierarchy, "group_of_weight": group_of_weight, "verified_only": verified_only, "iou": iou,
    }  # fmt: skip
    if protocol in ("coco", "lvis"):
        useless = [name for name, value in given.items() if value is not None]
        if useless:
            raise ConfigError(f"protocol {protocol} takes no {useless[0]}")
        if protocol == "coco":
            return evaluate_coco(detections, truth)
        if isinstance(truth, CocoTruth):
            return evaluate_lvis(detections, truth)
        raise ConfigError("protocol lvis needs more than a table: read the truth with `read_coco_truth`")
    if isinstance(truth, CocoTruth):
        raise ConfigError(f"protocol {protocol} takes a table of annotations, as `read_coco` gives it")
    least = 0.5 if iou is None else iou
    rules = protocol_named(protocol, group_of_weight=group_of_weight, verified_only=verified_only, iou=least)
    if hierarchy is not None:
        truth = expand(truth, hierarchy)
    return rules.result(rules.match(detections, truth), has_image_labels=len(truth.image_labels) > 0)
