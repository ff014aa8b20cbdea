"""Which draws make a batch: a pure function of the stream of draws, so that a run resumes by a number alone.

Letters: B images, N images of a batch, W batches of a window over all ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch.utils.data import Sampler

from wildbox.annotations import Annotations
from wildbox.detectors.dataset import Draw, image_path
from wildbox.errors import ConfigError, InputError
from wildbox.formats.pictures import UNREADABLE

ORDER = 3
"""Random stream of a seed: the order of a window's batches. 0 and 1 are the sampler's, 2 is the augmentation's."""

Draws = Callable[[int, int], NDArray[np.integer]]
"""(start, stop) -> the images of the draws start <= n < stop, as `BalancedSampler.draws` gives them."""


class DrawBatches(Sampler[list[Draw]]):
    """Batches of draws for a `DetectionDataset`, in the stream's order or of images of like aspect.

    A batch is padded to its largest height and width; where wide and tall images meet, a third of it is padding.
    With `aspects`, the draws of `window` batches of all ranks are sorted by width / height and cut into batches,
    which come in random order: every draw is in a batch, at most a window from its place in the stream. So a
    hybrid schedule is followed up to a window, and step s of rank r is a function of the seed, s and r.

    Without, rank r takes the draws n with n mod world_size = r, as `BalancedSampler` deals them.

    Args:
        draws: the images of a range of draws, such as `BalancedSampler.draws`.
        steps: batches of each rank.
        batch_size: N, of one rank.
        aspects: (B,) width / height of the images, see `image_aspects`.
        window: batches of one rank that are sorted together.
        seed: of the order of batches, where there are `aspects`.
        rank, world_size: this process's share.
    Raises:
        ConfigError: a number out of its range.

    >>> batches = DrawBatches(lambda a, b: np.arange(a, b) % 4, steps=2, batch_size=2, aspects=[1, 2, 1, 2])
    >>> sorted(batches)
    [[(0, 0), (2, 2)], [(1, 1), (3, 3)]]
    """

    def __init__(
        self,
        draws: Draws,
        *,
        steps: int,
        batch_size: int,
        aspects: ArrayLike | None = None,
        window: int = 16,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if min(steps, batch_size, window, world_size) < 1 or seed < 0 or not 0 <= rank < world_size:
            raise ConfigError(
                f"steps {steps}, batch_size {batch_size}, window {window}, rank {rank} of {world_size}, seed {seed}: "
                "expected at least 1, and a rank below world_size"
            )
        self._draws, self._steps, self._size = draws, steps, batch_size
        self._aspects = None if aspects is None else np.asarray(aspects, np.float64)
        self._window = 1 if aspects is None else window
        self._seed, self._rank, self._world = seed, rank, world_size
        self._position = 0

    def start_at(self, step: int) -> None:
        """Continue as if the first `step` batches of each rank had been taken."""
        self._position = step

    def __len__(self) -> int:
        """Batches that are left."""
        return max(0, self._steps - self._position)

    def __iter__(self) -> Iterator[list[Draw]]:
        while self._position < self._steps:
            number, first = divmod(self._position, self._window)
            for batch in self._of_window(number)[first:]:
                self._position += 1
                yield batch

    def _of_window(self, number: int) -> list[list[Draw]]:
        """This rank's batches of a window, in order."""
        per_step = self._size * self._world
        begin = number * self._window
        steps = min(self._window, self._steps - begin)
        start = begin * per_step
        images = np.asarray(self._draws(start, start + steps * per_step))
        numbers = np.arange(start, start + steps * per_step)
        if self._aspects is None:
            mine = np.arange(self._rank, per_step, self._world)[None]
        else:
            order = np.argsort(self._aspects[images], kind="stable").reshape(steps, self._world, self._size)
            seed = np.random.SeedSequence((self._seed, ORDER, number))
            shuffled = np.random.Generator(np.random.Philox(seed)).permutation(steps)
            mine = order[shuffled, self._rank]
        return [list(zip(images[rows].tolist(), numbers[rows].tolist(), strict=True)) for rows in mine]


def in_order(images: int, batch_size: int) -> list[range]:
    """All indices, ascending, in batches; the last may be smaller.

    >>> in_order(5, 2)
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}, expected at least 1")
    return [range(first, min(first + batch_size, images)) for first in range(0, images, batch_size)]


def image_aspects(annotations: Annotations, folder: str | Path) -> NDArray[np.float64]:
    """(B,) width / height of the images.

    From the table where it has sizes in pixels; where coordinates are relative, from the files' headers; 1 for a
    file that does not open.

    Raises:
        InputError: a size of 0.
    """
    sizes = annotations.sizes
    if (sizes == 1).all():
        sizes = np.array([_header(image_path(annotations, b, Path(folder))) for b in range(len(sizes))])
        sizes = sizes.reshape(-1, 2)
    if len(flat := np.flatnonzero((sizes <= 0).any(axis=1))):
        raise InputError(f"image {annotations.image_ids[flat[0]]!r}: its size is {sizes[flat[0]].tolist()}")
    return np.asarray(sizes[:, 0] / sizes[:, 1])


def _header(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except UNREADABLE:
        return 1, 1
