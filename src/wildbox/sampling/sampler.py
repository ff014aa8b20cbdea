"""Which image comes next: a torch sampler whose n-th draw is a pure function of the seed and n.

Letters: B images, C classes, n the number of a draw in the stream that one process alone would see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Sampler

from wildbox.errors import ConfigError, InputError
from wildbox.sampling.balance import class_probabilities, images_by_class

Balance = float | None | Callable[[int], float | None]

BLOCK = 4096
"""Draws that share a random generator, and are made together."""

PASS, DRAW = 0, 1
"""Random streams of one seed: the orders of passes, the balanced draws."""


class BalancedSampler(Sampler[int]):
    """Indices of images by soft-balance: a class, then an image uniformly among those that hold it.

    Where lambda is None (non-balance), draw n is entry n mod B of the n // B-th random order of all images; an
    image without labels occurs there only.

    Draw n depends on the seed and n alone. So ranks are exact shards: rank r takes the draws n with
    n mod world_size = r, and all ranks together take the one-process stream, each draw once. And resuming is
    setting the position. Iterating continues from the position to the end of its epoch, the next time through
    the next epoch, which is other draws; for ranks of equal length let world_size divide `length`.

    A DataLoader with workers fetches ahead: the state counts the draws handed out, not those trained on. After
    an interruption call `start_at(step * batch_size * world_size)` with the steps that were trained.

    Args:
        offsets: (B + 1,) CSR: the classes of image b are labels[offsets[b]:offsets[b + 1]]; repeats count once,
            so the rows of `Annotations` will do.
        labels: (sum,) class indices.
        seed: at least 0; all that is random depends on it, and on no global state.
        balance: lambda >= 0, None, or a pure function from n to either, asked up to `BLOCK` draws ahead.
        length: draws of an epoch over all ranks; None is endless.
        rank, world_size: this process's shard.

    Raises:
        InputError: no image, offsets or labels that are none, no label at all where lambda is a number.
        ConfigError: lambda below 0, a length, seed or rank out of range.

    >>> sampler = BalancedSampler([0, 1, 2], [0, 1], seed=0, length=6)
    >>> sorted(sampler)
    [0, 0, 0, 1, 1, 1]
    """

    def __init__(
        self,
        offsets: ArrayLike,
        labels: ArrayLike,
        *,
        seed: int,
        balance: Balance = None,
        length: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._first, self._images_of = images_by_class(offsets, labels)
        self._images = len(np.asarray(offsets)) - 1
        if self._images == 0:
            raise InputError("offsets: expected those of at least one image")
        if seed < 0:
            raise ConfigError(f"seed is {seed}, expected at least 0")
        if length is not None and length < 1:
            raise ConfigError(f"length is {length}, expected at least 1, or None for an endless sampler")
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank is {rank}, expected 0..{world_size - 1}")
        self._seed, self._balance, self._length = seed, balance, length
        self._rank, self._world_size = rank, world_size
        self._position = 0
        self._order = (-1, np.zeros(0, np.int64))  # number and order of the pass last asked for
        if balance is not None and not callable(balance):
            class_probabilities(self.images_per_class, balance=balance)  # refuse now what would fail later

    @property
    def images_per_class(self) -> NDArray[np.int64]:
        """(C,) how many images hold each class; C is one more than the largest label."""
        return np.diff(self._first)

    def draws(self, start: int, stop: int) -> NDArray[np.int64]:
        """Images of the draws start <= n < stop of the one-process stream; the position stays."""
        by_balance: dict[float | None, list[int]] = {}
        if callable(self._balance):
            for n in range(start, stop):
                by_balance.setdefault(self._balance(n), []).append(n)
        else:
            by_balance[self._balance] = list(range(start, stop))
        images = np.empty(stop - start, np.int64)
        for balance, listed in by_balance.items():
            numbers = np.array(listed, np.int64)
            chosen = self._in_passes(numbers) if balance is None else self._balanced(numbers, balance)
            images[numbers - start] = chosen
        return images

    def start_at(self, draw: int) -> None:
        """Continue as if the first `draw` draws of the one-process stream had been consumed, by all ranks."""
        if draw < 0:
            raise ConfigError(f"draw is {draw}, expected at least 0")
        self._position = draw

    def state_dict(self) -> dict[str, int]:
        """Seed, and draws handed out so far, over all ranks, which may be more or fewer when it is loaded."""
        return {"seed": self._seed, "draw": self._position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue where the state was taken; `ConfigError` where it is of another seed."""
        if state["seed"] != self._seed:
            raise ConfigError(f"the state is of seed {state['seed']}, the sampler has {self._seed}")
        self.start_at(state["draw"])

    def __iter__(self) -> Iterator[int]:
        world, end = self._world_size, self._epoch_end()
        while end is None or self._position < end:
            start = self._position
            stop = (start // BLOCK + 1) * BLOCK
            stop = stop if end is None else min(stop, end)
            images = self.draws(start, stop).tolist()
            for n in self._shard(start, stop):
                # the start of the next round of all ranks, so that the state of one rank is that of all
                following = (n // world + 1) * world
                self._position = following if end is None else min(following, end)
                yield images[n - start]
            self._position = max(self._position, stop)

    def __len__(self) -> int:
        """Draws of this rank in the epoch of the position."""
        end = self._epoch_end()
        if end is None or self._length is None:
            raise TypeError("an endless sampler has no length")
        return len(self._shard(end - self._length, end))

    def _shard(self, start: int, stop: int) -> range:
        return range(start + (self._rank - start) % self._world_size, stop, self._world_size)

    def _epoch_end(self) -> int | None:
        return None if self._length is None else (self._position // self._length + 1) * self._length

    def _balanced(self, n: NDArray[np.int64], balance: float) -> NDArray[np.integer]:
        cumulative = np.cumsum(class_probabilities(self.images_per_class, balance=balance))
        cumulative /= cumulative[-1]  # exactly 1 from the last class that occurs on: no draw falls past it
        uniform = np.empty((len(n), 2))
        for block in np.unique(n // BLOCK):
            inside = n // BLOCK == block
            uniform[inside] = self._generator(DRAW, block).random((BLOCK, 2))[n[inside] % BLOCK]
        label = np.searchsorted(cumulative, uniform[:, 0], side="right")
        place = (uniform[:, 1] * self.images_per_class[label]).astype(np.int64)
        return np.asarray(self._images_of[self._first[label] + place])

    def _in_passes(self, n: NDArray[np.int64]) -> NDArray[np.int64]:
        images = np.empty(len(n), np.int64)
        for number in np.unique(n // self._images):
            if self._order[0] != number:
                self._order = (number, self._generator(PASS, number).permutation(self._images))
            inside = n // self._images == number
            images[inside] = self._order[1][n[inside] % self._images]
        return images

    def _generator(self, stream: int, number: int) -> np.random.Generator:
        return np.random.Generator(
            np.random.Philox(np.random.SeedSequence((self._seed, stream, int(number))))
        )
