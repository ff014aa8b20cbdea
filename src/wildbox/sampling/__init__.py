"""Which images training sees: soft-balance, hybrid schedule, repeat factors."""

from wildbox.sampling.balance import class_probabilities, repeat_factors
from wildbox.sampling.sampler import BalancedSampler
from wildbox.sampling.schedule import hybrid_balance

__all__ = ["BalancedSampler", "class_probabilities", "hybrid_balance", "repeat_factors"]
