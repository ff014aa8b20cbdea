"""Classification rules: each a pair of a loss on logits and the scores that belong to it."""

from wildbox.classification.concurrent_softmax import (
    ConcurrentSoftmax,
    concurrent_softmax_loss,
    concurrent_softmax_scores,
)
from wildbox.classification.focal import Focal
from wildbox.classification.rule import Rule
from wildbox.classification.sigmoid import Sigmoid
from wildbox.classification.softmax import Softmax

__all__ = [
    "ConcurrentSoftmax",
    "Focal",
    "Rule",
    "Sigmoid",
    "Softmax",
    "concurrent_softmax_loss",
    "concurrent_softmax_scores",
]
