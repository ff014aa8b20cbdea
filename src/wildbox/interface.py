"""The names that stand in `wildbox` itself: tables, readers, audit, evaluation."""

from wildbox.annotations import Annotations, ImageLabels, expand
from wildbox.detections import Detections
from wildbox.errors import ConfigError, InputError, InputWarning, WildboxError
from wildbox.evaluation import EvaluationResult, evaluate
from wildbox.formats.coco import read_coco, write_coco
from wildbox.formats.open_images import read_classes, read_hierarchy, read_open_images, write_open_images
from wildbox.formats.storage import read_detections, write_detections
from wildbox.labels import ConcurrentRates, LabelAudit, audit
from wildbox.splits import split
from wildbox.vocabulary import Hierarchy, Vocabulary

__all__ = [
    "Annotations",
    "ConcurrentRates",
    "ConfigError",
    "Detections",
    "EvaluationResult",
    "Hierarchy",
    "ImageLabels",
    "InputError",
    "InputWarning",
    "LabelAudit",
    "Vocabulary",
    "WildboxError",
    "audit",
    "evaluate",
    "expand",
    "read_classes",
    "read_coco",
    "read_detections",
    "read_hierarchy",
    "read_open_images",
    "split",
    "write_coco",
    "write_detections",
    "write_open_images",
]
