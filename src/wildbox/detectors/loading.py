"""Batches of images for a training loop, with the failures of files and processes named.

Letters: B images of the set.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from wildbox.annotations import Annotations
from wildbox.detectors.batches import in_order
from wildbox.detectors.dataset import DetectionDataset, Draw, Sample, collate, load_image
from wildbox.errors import ConfigError, InputError, InputWarning, WildboxError

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]
SHARED_MEMORY = "</torch_"
"""So torch names a piece of it, in what it says of one that it cannot have."""


class BatchLoader:
    """The batches of a `DetectionDataset`, loaded by this process or by `workers` others ahead of time.

    What is loaded does not depend on `workers`, nor is torch's generator drawn from.

    Args:
        batches: lists of draws, such as `DrawBatches`, or of indices of images.
        workers: processes that load images; 0 loads here.
        pin_memory: put images where a GPU fetches them faster.
        max_corrupt_share: of the B images, that may fail to open before an error ends it; each is told once
            by an `InputWarning`. Above 0 the dataset must have been made with `replace_corrupt`.
    Raises:
        InputError: from iterating, an image that does not open, or too many of them.
        WildboxError: from iterating, a loading process that died, with the images that were being loaded, or had no
            room in the memory that it shares with this one.
        ConfigError: `max_corrupt_share` does not fit the dataset.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        batches: Iterable[Sequence[int | Draw]],
        *,
        workers: int = 0,
        pin_memory: bool = False,
        max_corrupt_share: float = 0.0,
    ) -> None:
        if (max_corrupt_share > 0) != dataset.replace_corrupt:
            raise ConfigError(
                f"max_corrupt_share is {max_corrupt_share}, and replace_corrupt {dataset.replace_corrupt}"
            )
        self.dataset, self.max_corrupt_share = dataset, max_corrupt_share
        self.corrupt: set[int] = set()
        """Indices of the images that did not open so far."""
        if workers:
            dataset.in_hand = torch.full((workers,), -1).share_memory_()
        self._loader: DataLoader[Sample] = DataLoader(
            dataset,
            batch_sampler=batches,  # type: ignore[arg-type]  # any sequences will do
            num_workers=workers,
            collate_fn=collate,
            pin_memory=pin_memory,
            # an own generator: the loader must not draw from the one that a checkpoint restores
            generator=torch.Generator().manual_seed(0),
        )

    def __iter__(self) -> Iterator[Batch]:
        with self._failures_named():
            for batch in self._loader:
                self._count(batch[1])
                yield batch

    def _count(self, targets: Sequence[dict[str, Tensor]]) -> None:
        for target in targets:
            for index in target["corrupt"].tolist() if self.max_corrupt_share else ():
                if index not in self.corrupt:
                    self.corrupt.add(index)
                    warnings.warn(self._why(index), InputWarning, stacklevel=3)
        images = len(self.dataset)
        if len(self.corrupt) > self.max_corrupt_share * images:
            raise InputError(
                f"{len(self.corrupt)} of {images} images do not open, more than the share "
                f"{self.max_corrupt_share} that is allowed; such as {self._why(min(self.corrupt))}",
                path=self.dataset.folder,
            )

    def _why(self, index: int) -> str:
        try:
            load_image(self.dataset.path(index))
        except InputError as error:
            return str(error)
        return f"{self.dataset.path(index)}: did not open before, but does now"

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            if "Original Traceback" not in str(error):
                raise
            last_line = str(error).rstrip().splitlines()[-1]  # of a worker's report: type and message
            raise InputError(last_line.split(": ", 1)[1]) from error
        except RuntimeError as error:
            if SHARED_MEMORY in str(error):
                last_line = str(error).rstrip().splitlines()[-1].removeprefix("RuntimeError: ")
                raise WildboxError(
                    f"{last_line}. Processes hand over images in shared memory: enlarge /dev/shm where it is full "
                    "(docker run --shm-size=8g), or use fewer workers or smaller batches"
                ) from error
            if not str(error).startswith("DataLoader worker"):
                raise
            hands = () if self.dataset.in_hand is None else self.dataset.in_hand.tolist()
            names = ", ".join(str(self.dataset.path(index)) for index in hands if index >= 0)
            raise WildboxError(
                f"a process that loads images died ({error}). It may have had too little memory (fewer workers "
                f"need less), or one of these images ended it: {names}"
            ) from error


def images_in_order(
    images: Annotations,
    folder: str | Path,
    *,
    batch_size: int,
    chosen: Sequence[range] | None = None,
    workers: int = 0,
    pin_memory: bool = False,
    max_corrupt_share: float = 0.0,
) -> BatchLoader:
    """Batches to predict: images as they are, as bytes, in their order.

    Args:
        chosen: indices of the images to take, in ranges that share no batch; None is all.
        others: as in `BatchLoader`.
    """
    dataset = DetectionDataset(
        images, folder, objects=None, replace_corrupt=max_corrupt_share > 0, as_bytes=True
    )
    ranges = [range(len(dataset))] if chosen is None else chosen
    return BatchLoader(
        dataset,
        [rows[batch.start : batch.stop] for rows in ranges for batch in in_order(len(rows), batch_size)],
        workers=workers,
        pin_memory=pin_memory,
        max_corrupt_share=max_corrupt_share,
    )
