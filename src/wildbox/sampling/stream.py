"""The one definition of which image is drawn: draw n is a pure function of the data, the seed and n.

Letters: B images, C classes, E entries (image, class), n the number of a draw in the stream of one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import index

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wildbox.errors import ConfigError, InputError
from wildbox.sampling.balance import class_probabilities
from wildbox.sampling.holdings import images_by_class

Balance = float | None | Callable[[int], float | None]

BLOCK = 4096
"""Draws that share a random generator, and are made together."""

PASS, DRAW = 0, 1
"""Random streams of one seed: the orders of passes, the balanced draws."""


class DrawStream:
    """An endless stream of images by soft-balance: a class from p_s, then an image uniformly among its own.

    Balanced draw n uses entry n mod `BLOCK` of the two uniform numbers of block n // `BLOCK`, each block having a
    generator of its own. Where lambda is None (non-balance), draw n is entry n mod B of the n // B-th random
    order of all images; an image without labels occurs there only.

    Args:
        offsets: (B + 1,) CSR: the classes of image b are labels[offsets[b]:offsets[b + 1]]; repeats count once.
        labels: (E,) class indices.
        seed: at least 0; all that is random depends on it, and on no global state.
        balance: lambda >= 0, None, or a pure function from n to either.
        classes: C, to refuse labels beyond; None: one more than the largest label.

    Raises:
        InputError: no image, offsets or labels that are none, no label at all where lambda is a number.
        ConfigError: lambda below 0 (where a function says it: when it does), a seed below 0.

    >>> DrawStream([0, 1, 2], [0, 1], seed=0, balance=1.0).draws(0, 8, step=2).tolist()
    [1, 0, 0, 1]
    """

    def __init__(
        self,
        offsets: ArrayLike,
        labels: ArrayLike,
        *,
        seed: int,
        balance: Balance,
        classes: int | None = None,
    ) -> None:
        self._first, self._images_of = images_by_class(offsets, labels, classes=classes)
        self.images = len(np.asarray(offsets)) - 1
        if self.images == 0:
            raise InputError("offsets: expected those of at least one image")
        self.seed = whole_number(seed, "seed")
        self._balance = balance
        self._order = (-1, np.zeros(0, np.int64))  # number and order of the pass last asked for
        self._cumulative = (np.nan, np.zeros(0))  # lambda last asked for, and its cumulative probabilities
        if balance is not None and not callable(balance):
            class_probabilities(self.images_per_class, balance=balance)  # refuse now what would fail later

    @property
    def images_per_class(self) -> NDArray[np.int64]:
        """(C,) how many images hold each class."""
        return np.diff(self._first)

    def draws(self, start: int, stop: int, *, step: int = 1) -> NDArray[np.int64]:
        """Images of the draws start, start + step, ... below stop; start at least 0, step at least 1."""
        if start < 0 or step < 1:
            raise ConfigError(
                f"draws from {start} by {step}: expected a start of at least 0, a step of at least 1"
            )
        parts = [self._of_block(part) for part in blocks(range(start, stop, step))]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def _of_block(self, numbers: range) -> NDArray[np.int64]:
        n = np.arange(numbers.start, numbers.stop, numbers.step)
        if not callable(self._balance):
            return self._chosen(n, self._balance)
        images = np.empty(len(n), np.int64)
        places: dict[float | None, list[int]] = {}
        for place, number in enumerate(numbers):
            places.setdefault(self._balance(number), []).append(place)
        for balance, listed in places.items():
            images[listed] = self._chosen(n[listed], balance)
        return images

    def _chosen(self, n: NDArray[np.int64], balance: float | None) -> NDArray[np.int64]:
        return self._in_passes(n) if balance is None else self._balanced(n, balance)

    def _balanced(self, n: NDArray[np.int64], balance: float) -> NDArray[np.int64]:
        if self._cumulative[0] != balance:
            cumulative = np.cumsum(class_probabilities(self.images_per_class, balance=balance))
            # exactly 1 from the last class that occurs on: no draw falls past it
            self._cumulative = (balance, cumulative / cumulative[-1])
        pairs = self._generator(DRAW, n[0] // BLOCK).random((BLOCK, 2))[n % BLOCK]
        label = np.searchsorted(self._cumulative[1], pairs[:, 0], side="right")
        begin, end = self._first[label], self._first[label + 1]
        return self._images_of[begin + (pairs[:, 1] * (end - begin)).astype(np.int64)].astype(np.int64)

    def _in_passes(self, n: NDArray[np.int64]) -> NDArray[np.int64]:
        images = np.empty(len(n), np.int64)
        for number in np.unique(n // self.images):
            if self._order[0] != number:
                self._order = (number, self._generator(PASS, number).permutation(self.images))
            inside = n // self.images == number
            images[inside] = self._order[1][n[inside] % self.images]
        return images

    def _generator(self, stream: int, number: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence((self.seed, stream, int(number)))))


def whole_number(value: int, name: str, *, least: int = 0) -> int:
    """The value as an int; `ConfigError` where it is below `least` or no whole number."""
    try:
        number = index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ConfigError(f"{name} is {value!r}, expected a whole number of at least {least}")
    return number


def blocks(numbers: range) -> Iterator[range]:
    """The numbers, cut where a block of `BLOCK` ends.

    >>> list(blocks(range(4000, 8192, 100)))
    [range(4000, 4096, 100), range(4100, 8192, 100)]
    """
    start, step = numbers.start, numbers.step
    while start < numbers.stop:
        stop = min((start // BLOCK + 1) * BLOCK, numbers.stop)
        yield range(start, stop, step)
        start += -(-(stop - start) // step) * step
