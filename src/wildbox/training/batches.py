"""The images of each step, a pure function of the seed and the step, whichever process and worker loads them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from wildbox.annotations import Annotations
from wildbox.detectors.dataset import Sample, collate
from wildbox.sampling.sampler import BalancedSampler
from wildbox.sampling.schedule import hybrid_balance
from wildbox.training.config import RunConfig

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


def training_batches(
    dataset: Dataset[Sample],
    truth: Annotations,
    config: RunConfig,
    *,
    step: int,
    rank: int,
    world_size: int,
    pin_memory: bool,
) -> Iterator[Batch]:
    """What a process sees from a step on: `accumulate` batches a step.

    Step s takes the draws s * batch_size to (s + 1) * batch_size of the sampler's one stream, rank r of them those
    that are r modulo `world_size`.

    Args:
        dataset: image index -> sample.
        truth: expanded; whose images and labels the sampler balances.
        step: 0-based, to begin with.
        pin_memory: for a GPU.
    """
    schedule = config.schedule
    sampler = _sampler(truth, config, rank=rank, world_size=world_size)
    first = step * schedule.batch_size
    sampler.start_at(first)
    loader: DataLoader[Sample] = DataLoader(
        _ByDraw(dataset, seed=config.seed),
        batch_size=schedule.batch_size // (world_size * schedule.accumulate),
        sampler=_Draws(sampler, first=first + rank, stride=world_size),
        num_workers=schedule.workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        # an own generator: the loader must not draw from the one that a checkpoint restores
        generator=torch.Generator().manual_seed(config.seed),
    )
    return iter(loader)


def _sampler(truth: Annotations, config: RunConfig, *, rank: int, world_size: int) -> BalancedSampler:
    """One image a draw; which lambda, follows the hybrid schedule by steps."""
    schedule, sampling = config.schedule, config.sampling
    pairs = np.unique(np.stack([truth.image, truth.label], axis=1), axis=0)
    offsets = np.searchsorted(pairs[:, 0], np.arange(len(truth.image_ids) + 1))

    def balance(draw: int) -> float | None:
        step = draw // schedule.batch_size
        return hybrid_balance(
            step, steps=schedule.steps, start=sampling.hybrid_start, balance=sampling.balance
        )

    return BalancedSampler(
        offsets,
        pairs[:, 1],
        seed=config.seed,
        balance=balance,
        length=schedule.steps * schedule.batch_size,
        rank=rank,
        world_size=world_size,
    )


class _Draws(Sampler[tuple[int, int]]):
    """(number of the draw, image) instead of the image alone."""

    def __init__(self, sampler: Sampler[int], *, first: int, stride: int) -> None:
        self.sampler, self.first, self.stride = sampler, first, stride

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for place, image in enumerate(self.sampler):
            yield self.first + place * self.stride, image

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]


class _ByDraw(Dataset[Sample]):
    """(number of the draw, image) -> sample; its random transforms depend on seed and draw alone.

    So they are the same in every worker and after every resume, and take nothing from the stream of the model.
    """

    def __init__(self, dataset: Dataset[Sample], *, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        draw, image = key
        before = torch.get_rng_state()
        # not torch.manual_seed, which would reseed the GPUs as well
        torch.default_generator.manual_seed(seed_of(self.seed, draw))
        try:
            return self.dataset[image]
        finally:
            torch.set_rng_state(before)


def seed_of(seed: int, *parts: int) -> int:
    """A seed of its own for a part of a run, in [0, 2^64).

    >>> seed_of(0, 1) == seed_of(0, 1), seed_of(0, 1) == seed_of(1, 0)
    (True, False)
    """
    return int(np.random.SeedSequence((seed, *parts)).generate_state(1, np.uint64)[0])
