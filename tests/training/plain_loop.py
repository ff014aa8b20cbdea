"""The training loop of one process and no options, written out: what every published number was trained with."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from wildbox.detectors.dataset import DetectionDataset, Sample, collate
from wildbox.labels.concurrency import concurrent_rates, count_concurrency
from wildbox.labels.objects import object_labels
from wildbox.sampling.sampler import BalancedSampler
from wildbox.training.config import RunConfig
from wildbox.training.model import build_model
from wildbox.training.source import load_source


def train_plainly(config: RunConfig) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """The losses of every step, and the weights at the end."""
    torch.set_num_threads(config.threads)
    source, schedule = load_source(config.data), config.schedule
    truth = source.expanded
    counted = concurrent_rates(
        count_concurrency(truth),
        vocabulary=truth.vocabulary,
        hierarchy=source.hierarchy,
        min_ratio=config.model.rate_threshold,
    )
    torch.manual_seed(config.seed)
    rates = torch.from_numpy(counted.with_background()).float()
    model = build_model(config.model, classes=len(truth.vocabulary), rates=rates).train()
    optimizer: torch.optim.Optimizer
    if schedule.optimizer == "adamw":
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=schedule.weight_decay, fused=True)
    else:
        optimizer = torch.optim.SGD(
            model.parameters(), momentum=0.9, weight_decay=schedule.weight_decay, fused=True
        )
    steps = []
    for step, (images, targets) in enumerate(_batches(config)):
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * _share(step, config)
        losses = model(images, targets)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), schedule.clip_norm)
        optimizer.step()
        steps.append({name: loss.item() for name, loss in losses.items()})
    return steps, model.state_dict()


def _batches(config: RunConfig) -> DataLoader[Sample]:
    source, schedule, sampling = load_source(config.data), config.schedule, config.sampling
    truth = source.expanded
    pairs = np.unique(np.stack([truth.image, truth.label], axis=1), axis=0)

    def balance(draw: int) -> float | None:
        step = draw // schedule.batch_size
        balanced = sampling.hybrid_start < 1 and step >= round(sampling.hybrid_start * schedule.steps)
        return sampling.balance if balanced else None

    sampler = BalancedSampler(
        np.searchsorted(pairs[:, 0], np.arange(len(truth.image_ids) + 1)),
        pairs[:, 1],
        seed=config.seed,
        balance=balance,
        length=schedule.steps * schedule.batch_size,
    )
    objects = None if config.model.rule == "softmax" else object_labels(truth)
    dataset = DetectionDataset(truth, source.folder, objects=objects)
    # an own generator: what the loader draws must not come from the stream of the model
    own = torch.Generator()
    return DataLoader(
        dataset, batch_size=schedule.batch_size, sampler=sampler, collate_fn=collate, generator=own
    )


def _share(step: int, config: RunConfig) -> float:
    """Linear warm-up, then a cosine down to `final_rate`."""
    schedule = config.schedule
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    progress = (step + 1 - schedule.warmup_steps) / (schedule.steps - schedule.warmup_steps)
    low = schedule.final_rate
    return low + (1 - low) * (1 + math.cos(math.pi * progress)) / 2
