"""Which images training sees: soft-balance, hybrid schedule, repeat factors."""

from wildbox.sampling.balance import class_probabilities, image_weights, repeat_factors
from wildbox.sampling.exposure import Exposure, exposure, exposure_of_counts, largest_balance
from wildbox.sampling.holdings import to_csr
from wildbox.sampling.sampler import BalancedSampler, DistributedBalancedSampler
from wildbox.sampling.schedule import hybrid_balance

__all__ = [
    "BalancedSampler",
    "DistributedBalancedSampler",
    "Exposure",
    "class_probabilities",
    "exposure",
    "exposure_of_counts",
    "hybrid_balance",
    "image_weights",
    "largest_balance",
    "repeat_factors",
    "to_csr",
]
