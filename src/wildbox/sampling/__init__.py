"""Which images training sees: soft-balance, hybrid schedule, repeat factors."""

from wildbox.sampling.balance import class_probabilities, image_weights, repeat_factors
from wildbox.sampling.holdings import to_csr
from wildbox.sampling.sampler import BalancedSampler, DistributedBalancedSampler
from wildbox.sampling.schedule import hybrid_balance

__all__ = [
    "BalancedSampler",
    "DistributedBalancedSampler",
    "class_probabilities",
    "hybrid_balance",
    "image_weights",
    "repeat_factors",
    "to_csr",
]
