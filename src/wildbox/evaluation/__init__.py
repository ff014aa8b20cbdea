"""Average precision of each class: the Open Images Challenge's way and Pascal VOC's; no torch.

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
from wildbox.evaluation.open_images import evaluate_open_images_challenge
from wildbox.evaluation.result import EvaluationResult, Gain, compare_results, gains, write_gains
from wildbox.evaluation.voc import evaluate_voc
from wildbox.vocabulary import Hierarchy

__all__ = [
    "EvaluationResult",
    "Gain",
    "compare_results",
    "evaluate",
    "evaluate_open_images_challenge",
    "evaluate_voc",
    "gains",
    "write_gains",
]


def evaluate(
    detections: Detections,
    truth: Annotations,
    *,
    protocol: str = "open-images-challenge",
    hierarchy: Hierarchy | None = None,
    group_of_weight: float | None = None,
    iou: float = 0.5,
) -> EvaluationResult:
    """Average precision of each class by a protocol's name.

    Images of the truth without detections count as such. Among equal scores the image earlier in the truth
    comes first, then the earlier row; without equal scores the order of rows has no influence.

    Args:
        hierarchy: the truth is first expanded by it; detections never are.
        group_of_weight: what a found group-of box is worth, see `evaluate_open_images_challenge`; default 1.
        iou: least overlap of a match, in (0, 1], inclusive.
    Raises:
        ConfigError: an unknown protocol, a value outside its range, a weight for `voc`, which has none.
        InputError: an image that the truth does not know, or another vocabulary.
    """
    if protocol == "voc" and group_of_weight is not None:
        raise ConfigError("protocol voc ignores group-of boxes: it takes no group_of_weight")
    if protocol not in ("open-images-challenge", "voc"):
        raise ConfigError(f"unknown protocol {protocol!r}; expected open-images-challenge or voc")
    if hierarchy is not None:
        truth = expand(truth, hierarchy)
    if protocol == "voc":
        return evaluate_voc(detections, truth, iou=iou)
    weight = 1.0 if group_of_weight is None else group_of_weight
    return evaluate_open_images_challenge(detections, truth, group_of_weight=weight, iou=iou)
