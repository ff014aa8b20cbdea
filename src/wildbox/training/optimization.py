"""What learns, how fast, and the average of it: learning rates, frozen layers, optimizers, averaged weights."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from wildbox.errors import ConfigError
from wildbox.training.config import ScheduleConfig

Tensors = tuple[Tensor, ...] | list[Tensor]


def learning_rate_share(step: int, schedule: ScheduleConfig) -> float:
    """Share of the full learning rate at a step, 0-based: linear warm-up, then a cosine or steps down.

    >>> [round(learning_rate_share(s, ScheduleConfig(steps=200, warmup_steps=100)), 2) for s in (49, 99, 199)]
    [0.5, 1.0, 0.02]
    >>> falling = ScheduleConfig(steps=9, warmup_steps=0, decay="step", decay_at=(4, 8))
    >>> [round(learning_rate_share(s, falling), 3) for s in (0, 3, 4, 8)]
    [1.0, 1.0, 0.1, 0.01]
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    if schedule.decay == "step":
        return schedule.decay_factor ** sum(step >= at for at in schedule.decay_at)
    progress = (step + 1 - schedule.warmup_steps) / max(schedule.steps - schedule.warmup_steps, 1)
    low = schedule.final_rate
    return low + (1 - low) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Stop the parameters of these names from learning.

    Args:
        patterns: of names as in `model.named_parameters()`; `*` stands for any characters.
    Returns:
        the batch normalizations that are frozen as a whole, which must stay in eval mode so that their running
        statistics do not change either.
    Raises:
        ConfigError: a pattern that no name matches, or nothing left to learn.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    >>> freeze(model, ["1.*"]) == [model[1]], [name for name, p in model.named_parameters() if p.requires_grad]
    (True, ['0.weight', '0.bias'])
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, n=1, cutoff=0.4) or names[:1]
            raise ConfigError(f"schedule.freeze: {pattern!r} matches no parameter; there is {near[0]!r}")
    for name, parameter in model.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"schedule.freeze = {list(patterns)} leaves nothing to learn")
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return [norm for norm in norms if norm.affine and not any(p.requires_grad for p in norm.parameters())]


def build_optimizer(model: nn.Module, schedule: ScheduleConfig) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum 0.9, over all that learns; fused: a pass over the weights, not one an operation."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    rate, decay = schedule.learning_rate, schedule.weight_decay
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
    return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay, fused=True)


def averaged_weights(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of the model that holds the exponential moving average of its weights; buffers are the latest.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that the random first weights are soon forgotten.
    """

    @torch.no_grad()
    def average(averaged: Tensors, current: Tensors, updates: Tensor | int) -> None:
        n = float(updates)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return AveragedModel(model, multi_avg_fn=average)
