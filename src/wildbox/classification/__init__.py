"""Classification rules: each a pair of a loss on logits and the scores that belong to it.

Each is there as two functions and as a module that has both and holds the settings. When to use which:
docs/classification.md.
"""

from wildbox.classification.concurrent_softmax import (
    ConcurrentSoftmax,
    concurrent_softmax_loss,
    concurrent_softmax_scores,
)
from wildbox.classification.equalization import Equalization, equalization_loss, equalization_scores
from wildbox.classification.federated import (
    Federated,
    federated_classes,
    federated_loss,
    federated_scores,
)
from wildbox.classification.focal import Focal, focal_loss, focal_scores
from wildbox.classification.rule import Reduction, Rule, Targets
from wildbox.classification.seesaw import Seesaw, seesaw_loss, seesaw_scores
from wildbox.classification.sigmoid import Sigmoid, sigmoid_loss, sigmoid_scores
from wildbox.classification.softmax import Softmax, softmax_loss, softmax_scores

__all__ = [
    "ConcurrentSoftmax",
    "Equalization",
    "Federated",
    "Focal",
    "Reduction",
    "Rule",
    "Seesaw",
    "Sigmoid",
    "Softmax",
    "Targets",
    "concurrent_softmax_loss",
    "concurrent_softmax_scores",
    "equalization_loss",
    "equalization_scores",
    "federated_classes",
    "federated_loss",
    "federated_scores",
    "focal_loss",
    "focal_scores",
    "seesaw_loss",
    "seesaw_scores",
    "sigmoid_loss",
    "sigmoid_scores",
    "softmax_loss",
    "softmax_scores",
]
