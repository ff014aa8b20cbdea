"""The images of each step, a pure function of the seed and the step, whichever process and worker loads them."""

from __future__ import annotations

from collections.abc import Iterator

from wildbox.annotations import Annotations
from wildbox.detectors.batches import DrawBatches, image_aspects
from wildbox.detectors.dataset import DetectionDataset
from wildbox.detectors.loading import Batch, BatchLoader
from wildbox.sampling.schedule import hybrid_balance
from wildbox.sampling.stream import DrawStream
from wildbox.training.config import RunConfig


def training_batches(
    dataset: DetectionDataset,
    learned: Annotations,
    config: RunConfig,
    *,
    step: int,
    rank: int,
    world_size: int,
    pin_memory: bool,
) -> Iterator[Batch]:
    """What a process sees from a step on: `accumulate` batches a step.

    Step s takes the draws s * batch_size to (s + 1) * batch_size of the one stream, rank r of them those that are r
    modulo `world_size`; with `sampling.aspect_batches`, some of the draws at most a window away, see `DrawBatches`.

    Args:
        learned: the boxes that are trained on, expanded; by their labels the stream balances.
        step: 0-based, to begin with.
        pin_memory: for a GPU.
    Raises:
        as `BatchLoader`.
    """
    schedule = config.schedule
    batches = DrawBatches(
        _stream(learned, config).draws,
        steps=schedule.steps * schedule.accumulate,
        batch_size=schedule.batch_size // (world_size * schedule.accumulate),
        aspects=image_aspects(learned, dataset.folder) if config.sampling.aspect_batches else None,
        seed=config.seed,
        rank=rank,
        world_size=world_size,
    )
    batches.start_at(step * schedule.accumulate)
    loader = BatchLoader(
        dataset,
        batches,
        workers=schedule.workers,
        pin_memory=pin_memory,
        max_corrupt_share=config.data.max_corrupt_share,
    )
    return iter(loader)


def _stream(learned: Annotations, config: RunConfig) -> DrawStream:
    """One image a draw; which lambda, follows the hybrid schedule by steps."""
    schedule, sampling = config.schedule, config.sampling

    def balance(draw: int) -> float | None:
        step = draw // schedule.batch_size
        return hybrid_balance(
            step, steps=schedule.steps, start=sampling.hybrid_start, balance=sampling.balance
        )

    classes = len(learned.vocabulary)
    return DrawStream(learned.offsets, learned.label, seed=config.seed, balance=balance, classes=classes)
