"""One set of detections out of those of several models; no torch.

>>> from wildbox.detections import Detections
>>> from wildbox.vocabulary import Vocabulary
>>> cat, box = Vocabulary(("cat",)), [[0.0, 0.0, 1.0, 1.0]]
>>> a, b = (Detections(cat, ("x",), image=[0], boxes=box, label=[0], score=[s]) for s in (0.9, 0.3))
>>> weighted_boxes_fusion([a, b], weights=class_weights([[0.8], [0.4]])).score.round(3).tolist()
[0.7]
"""

from wildbox.ensembling.files import read_models
from wildbox.ensembling.fusion import weighted_boxes_fusion
from wildbox.ensembling.pooling import on_same_images
from wildbox.ensembling.suppression import nms, soft_nms
from wildbox.ensembling.weights import class_weights

__all__ = ["class_weights", "nms", "on_same_images", "read_models", "soft_nms", "weighted_boxes_fusion"]
