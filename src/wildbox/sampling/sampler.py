"""Which image comes next: a torch sampler whose n-th draw is a pure function of the seed and n.

Letters: B images, C classes, n the number of a draw over all ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Sampler

from wildbox.errors import ConfigError, InputError
from wildbox.sampling.balance import class_probabilities

Balance = float | None | Callable[[int], float | None]

BLOCK = 4096
"""Draws whose random numbers are made together."""

PASS, DRAW = 0, 1
"""Streams of one seed: orders of non-balanced passes, balanced draws."""


class BalancedSampler(Sampler[int]):
    """Indices of images: a class by soft-balance, then an image uniformly among those that hold it.

    Where lambda is None (non-balance), draw n is entry n mod B of the n // B-th random order of all images. An
    image without labels occurs in those passes only.

    Draw n depends on the seed and n alone, so ranks are exact shards (rank r takes draws r, r + world_size, ...,
    their union is the one-process stream) and resuming is setting the position. A DataLoader with workers
    fetches ahead: the state counts draws handed out; after an interruption call `start_at` with the draws that
    were trained on.

    Args:
        offsets: (B + 1,) CSR: the classes of image b are labels[offsets[b]:offsets[b + 1]]; repeats count once.
        labels: (sum,) class indices.
        seed: of everything.
        balance: lambda, None, or a function from the number of a draw to either.
        length: draws over all ranks; None is endless.
        rank, world_size: this process's shard.

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
        start, label = np.asarray(offsets, np.int64), np.asarray(labels, np.int64)
        if len(start) < 2 or start[0] != 0 or start[-1] != len(label) or (np.diff(start) < 0).any():
            raise InputError(
                "offsets are not those of at least one image: expected 0, ascending, up to len(labels)"
            )
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank is {rank}, expected 0..{world_size - 1}")
        self._images = len(start) - 1
        image = np.repeat(np.arange(self._images), np.diff(start))
        pairs = np.unique(np.stack([label, image], axis=1), axis=0)
        self._images_of = pairs[:, 1]
        self.images_per_class: NDArray[np.int64] = np.bincount(pairs[:, 0]).astype(np.int64)
        self._first = np.concatenate([[0], np.cumsum(self.images_per_class)])
        self._balance = balance
        self._seed, self._length = seed, length
        self._rank, self._world_size = rank, world_size
        self._position = 0
        # caches of pure functions, an own one each: the sampler is neither hashable by value nor global
        self._cumulative = lru_cache(maxsize=64)(self._make_cumulative)
        self._order = lru_cache(maxsize=2)(self._make_order)
        self._block = lru_cache(maxsize=2)(self._make_block)

    def image_of_draw(self, n: int) -> int:
        """The image of draw n of the one-process stream."""
        balance = self._balance(n) if callable(self._balance) else self._balance
        if balance is None:
            return int(self._order(n // self._images)[n % self._images])
        for_class, for_image = self._block(n // BLOCK)[n % BLOCK]
        chosen = int(np.searchsorted(self._cumulative(balance), for_class, side="right"))
        count = self.images_per_class[chosen]
        return int(self._images_of[self._first[chosen] + min(int(for_image * count), count - 1)])

    def start_at(self, draw: int) -> None:
        """Continue as if `draw` draws, over all ranks, had been consumed; a multiple of world_size."""
        if draw < 0 or draw % self._world_size:
            raise ConfigError(f"draw is {draw}, expected a multiple of world_size = {self._world_size}")
        self._position = draw

    def state_dict(self) -> dict[str, int]:
        """Seed and draws handed out so far, over all ranks."""
        return {"seed": self._seed, "draw": self._position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue where the state was taken; `ConfigError` where it is of another seed."""
        if state["seed"] != self._seed:
            raise ConfigError(f"the state is of seed {state['seed']}, the sampler has {self._seed}")
        self.start_at(state["draw"])

    def __iter__(self) -> Iterator[int]:
        while self._length is None or self._position + self._rank < self._length:
            n = self._position + self._rank
            self._position += self._world_size
            yield self.image_of_draw(n)
        self._position = 0

    def __len__(self) -> int:
        if self._length is None:
            raise TypeError("an endless sampler has no length")
        return len(range(self._rank, self._length, self._world_size))

    def _make_cumulative(self, balance: float) -> NDArray[np.float64]:
        cumulative = np.cumsum(class_probabilities(self.images_per_class, balance=balance))
        # rounding may leave the total below 1, and a draw between must not fall past the last class that occurs
        cumulative[np.flatnonzero(self.images_per_class)[-1] :] = 1.0
        return np.asarray(cumulative)

    def _make_order(self, number: int) -> NDArray[np.int64]:
        return self._generator(PASS, number).permutation(self._images)

    def _make_block(self, number: int) -> NDArray[np.float64]:
        return self._generator(DRAW, number).random((BLOCK, 2))

    def _generator(self, stream: int, number: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence((self._seed, stream, number))))
