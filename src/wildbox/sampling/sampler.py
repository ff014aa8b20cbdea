"""Which image comes next: torch samplers on the one stream of draws.

Letters: B images, C classes, E entries (image, class), n the number of a draw in the stream of one process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import distributed
from torch.utils.data import DistributedSampler, Sampler

from wildbox.errors import ConfigError
from wildbox.sampling.stream import Balance, DrawStream, blocks, whole_number


class BalancedSampler(Sampler[int]):
    """Indices of images by soft-balance: a class, then an image uniformly among those that hold it.

    Draw n depends on the seed and n alone (`DrawStream`). So ranks are exact shards: rank r takes the draws n with
    n mod world_size = r, and all ranks together take the one-process stream, each draw once. And resuming is
    setting the position. Iterating continues from the position to the end of its epoch, the next time through
    the next epoch, which is other draws; for ranks of equal length let world_size divide `length`, and what is left
    of an epoch that is resumed on another number of ranks (`DistributedBalancedSampler` rounds).

    A DataLoader with workers fetches ahead: the state counts the draws handed out, not those trained on. After
    an interruption call `start_at(epoch * length + step * batch_size * world_size)` with the epochs that were
    trained and the steps of the one after them.

    Args:
        offsets: (B + 1,) CSR: the classes of image b are labels[offsets[b]:offsets[b + 1]]; repeats count once,
            so the rows of `Annotations` will do. `to_csr` makes both arrays from lists.
        labels: (E,) class indices.
        seed: at least 0; all that is random depends on it, and on no global state.
        balance: lambda >= 0; None: non-balance, all images in another order each pass; or a pure function from n
            to either, asked up to `BLOCK` draws ahead.
        length: draws of an epoch over all ranks; None is endless.
        rank, world_size: this process's shard; None: as torch.distributed has them, where it is initialised, else
            one process; give them where it is made in a loader's worker, which may not know of the processes.
            Where a trainer divides what any sampler draws (accelerate, transformers), 0 and 1.
        classes: C, to refuse labels beyond; None: one more than the largest label.

    Raises:
        InputError: no image, offsets or labels that are none, no label at all where lambda is a number.
        ConfigError: lambda below 0, a length, seed or rank out of range; when it is iterated, that the processes were
            started after it was made, so that each would draw everything.

    >>> sampler = BalancedSampler([0, 1, 2], [0, 1], seed=0, balance=None, length=6)
    >>> sorted(sampler)
    [0, 0, 0, 1, 1, 1]
    """

    def __init__(
        self,
        offsets: ArrayLike,
        labels: ArrayLike,
        *,
        seed: int,
        balance: Balance,
        length: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        classes: int | None = None,
    ) -> None:
        self._stream = DrawStream(offsets, labels, seed=seed, balance=balance, classes=classes)
        self._length = None if length is None else whole_number(length, "length", least=1)
        self._asked = rank, world_size
        self._rank, self._world_size = shard(rank, world_size)
        self._position = 0
        self._end: int | None = None  # of the epoch that the last iteration goes through, once it has begun

    @property
    def images_per_class(self) -> NDArray[np.int64]:
        """(C,) how many images hold each class."""
        return self._stream.images_per_class

    def draws(self, start: int, stop: int) -> NDArray[np.int64]:
        """Images of the draws start <= n < stop of the one-process stream; the position stays."""
        return self._stream.draws(start, stop)

    def start_at(self, draw: int) -> None:
        """Continue as if the first `draw` draws of the one-process stream had been consumed, by all ranks."""
        self._position = whole_number(draw, "draw")

    def state_dict(self) -> dict[str, int]:
        """Seed, and draws handed out so far, over all ranks, which may be more or fewer when it is loaded."""
        return {"seed": self._stream.seed, "draw": self._position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue where the state was taken; `ConfigError` where it is of another seed, or no state."""
        _check_state(state, self._stream.seed, "draw")
        self.start_at(state["draw"])

    def __getstate__(self) -> dict[str, Any]:
        self._check_shard()  # a worker that is spawned with a copy knows of no other processes
        return self.__dict__

    def _check_shard(self) -> None:
        if self._asked[1] is None and (processes := shard(*self._asked)[1]) > self._world_size:
            raise ConfigError(
                f"the sampler was made before torch.distributed was initialised: each of {processes} processes would "
                "draw everything; make it afterwards, say rank and world_size, or take a DistributedBalancedSampler"
            )

    def __iter__(self) -> Iterator[int]:
        self._check_shard()
        self._end = None
        return _Rest(self)

    def _rest(self) -> Iterator[int]:
        if self._end is None:
            self._end = self._epoch_end()
        world, start, end = self._world_size, self._position, self._end
        for numbers in blocks(self._shard(start, end)):
            images = self._stream.draws(numbers.start, numbers.stop, step=world).tolist()
            for n, image in zip(numbers, images, strict=True):
                # the start of the next round of all ranks, so that the state of one rank is that of all
                self._position = min(n + world - (n - start) % world, end)
                yield image
        self._position = end

    def __len__(self) -> int:
        """Draws of this rank in the epoch of the position."""
        if self._length is None:
            raise TypeError("an endless sampler has no length")
        end = self._epoch_end()
        return len(self._shard(end - self._length, end))

    def _shard(self, start: int, stop: int) -> range:
        return range(start + (self._rank - start) % self._world_size, stop, self._world_size)

    def _epoch_end(self) -> int:
        return sys.maxsize if self._length is None else (self._position // self._length + 1) * self._length


class _Rest(chain[int]):
    """What is left of an epoch, with a state: whether that is nothing, where a position alone begins the next epoch.

    torchdata's StatefulDataLoader keeps it beside the sampler's state. From one taken after an epoch it makes an
    iterator, lets it fetch ahead, and throws it away for another, which then is to begin the next epoch.
    """

    _sampler: BalancedSampler

    def __new__(cls, sampler: BalancedSampler) -> Self:
        # a chain, as a `__next__` in Python takes a fifth longer
        rest = super().__new__(cls, sampler._rest())
        rest._sampler = sampler
        return rest

    def state_dict(self) -> dict[str, bool]:
        return {"over": self._sampler._position == self._sampler._end}

    def load_state_dict(self, state: Mapping[str, bool]) -> None:
        if state["over"]:
            self._sampler._end = self._sampler._position


class DistributedBalancedSampler(DistributedSampler[int]):
    """`BalancedSampler` with the manners of `torch.utils.data.DistributedSampler`, to put in its place.

    Call `set_epoch` before each epoch; iterating begins at the start of that epoch, however often. Epoch e begins
    at draw e * length of the one-process stream, so all ranks together see the same on any number of processes.
    Every rank has equally many: rounded up, the last round takes up to num_replicas - 1 draws of the next epoch;
    with `drop_last`, down.

    Args:
        offsets, labels, seed, balance, classes: as in `BalancedSampler`; a function `balance` gets the number of
            the draw, counted through all epochs.
        length: draws of an epoch over all ranks; None: as many as images.
        num_replicas, rank: None: as torch.distributed has them when it is iterated, or last had them, also for
            the sampler this is a copy of; else one process. Give them where it is made in a loader's worker. Where
            a trainer divides what any sampler draws (accelerate, transformers), 1 and 0.
        drop_last: leave out what does not divide by num_replicas.

    Raises:
        InputError, ConfigError: as `BalancedSampler`.

    >>> sampler = DistributedBalancedSampler([0, 1, 2], [0, 1], balance=0.7, length=6, num_replicas=4, rank=0)
    >>> sampler.set_epoch(3)
    >>> len(list(sampler)) == len(sampler) == 2
    True
    """

    def __init__(
        self,
        offsets: ArrayLike,
        labels: ArrayLike,
        *,
        balance: Balance,
        seed: int = 0,
        length: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
        drop_last: bool = False,
        classes: int | None = None,
    ) -> None:
        self._stream = DrawStream(offsets, labels, seed=seed, balance=balance, classes=classes)
        self._length = self._stream.images if length is None else whole_number(length, "length", least=1)
        self._asked = rank, num_replicas
        rank, replicas = shard(rank, num_replicas)
        places: Any = range(self._length)  # torch asks a dataset for its length alone
        super().__init__(places, replicas, rank, seed=self._stream.seed, drop_last=drop_last)
        self._resume_at = self._drawn = 0  # draws of this epoch, over all ranks
        self._awaited = False  # whether set_epoch named it and nothing of it is drawn

    def set_epoch(self, epoch: int) -> None:
        """The epoch, at least 0, that iterating goes through; another one than now begins at its start."""
        epoch = whole_number(epoch, "epoch")
        if epoch != self.epoch:
            self._resume_at = self._drawn = 0
            self._awaited = True
        super().set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        """Seed, epoch, and its draws handed out so far over all ranks, which may be others when it is loaded."""
        return {"seed": self.seed, "epoch": self.epoch, "draw": self._drawn}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """The next iteration continues where the state was taken; `ConfigError` where it is of another seed.

        But an epoch that `set_epoch` has just named begins, where the state is of one before.
        """
        _check_state(state, self.seed, "epoch", "draw")
        epoch, draw = whole_number(state["epoch"], "epoch"), whole_number(state["draw"], "draw")
        if self._awaited and epoch < self.epoch:
            return  # torchdata's StatefulDataLoader restores when it is iterated, that is after set_epoch
        self.set_epoch(epoch)
        self._resume_at = self._drawn = draw
        self._awaited = False

    def __len__(self) -> int:
        """Draws of this rank in an epoch."""
        self._settle()
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        self._drawn = self._resume_at  # not only from the first draw on: loaders with workers ask before
        return self._rest()

    def _rest(self) -> Iterator[int]:
        self._settle()
        self._drawn, self._resume_at, self._awaited = self._resume_at, 0, False
        world, rounds = self.num_replicas, self._rounds(max(self._length - self._drawn, 0))
        start = self.epoch * self._length + self._drawn
        for numbers in blocks(range(start + self.rank, start + rounds * world, world)):
            for image in self._stream.draws(numbers.start, numbers.stop, step=world).tolist():
                self._drawn += world
                yield image

    def __getstate__(self) -> dict[str, Any]:
        self._settle()  # a worker that is spawned with a copy knows of no other processes
        return self.__dict__

    def _settle(self) -> None:
        """Look who takes part: loaders may be made before the processes are started, as with Lightning and Fabric."""
        if _started():
            self.rank, self.num_replicas = shard(*self._asked)
        self.num_samples = self._rounds(self._length)
        self.total_size = self.num_samples * self.num_replicas

    def _rounds(self, draws: int) -> int:
        """Of all ranks, that so many draws take."""
        return draws // self.num_replicas if self.drop_last else -(-draws // self.num_replicas)


def _started() -> bool:
    """Whether torch.distributed is initialised."""
    return distributed.is_available() and distributed.is_initialized()


def shard(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Rank and number of processes; None is what torch.distributed says where it is initialised, else 0 of 1.

    >>> shard(None, None), shard(1, 4)
    ((0, 1), (1, 4))
    """
    known = _started()
    if rank is None:
        rank = distributed.get_rank() if known and world_size != 1 else 0
    if world_size is None:
        world_size = distributed.get_world_size() if known else 1
    # of numpy, they would make a state that torch.load refuses and json cannot write
    rank, world_size = whole_number(rank, "rank"), whole_number(world_size, "world_size")
    if rank >= world_size:
        raise ConfigError(f"rank is {rank}, expected 0..{world_size - 1} of {world_size} processes")
    return rank, world_size


def _check_state(state: Mapping[str, int], seed: int, *needed: str) -> None:
    held = state if isinstance(state, Mapping) else {}
    missing = [name for name in ("seed", *needed) if name not in held]
    if missing:
        raise ConfigError(f"the state has no {missing[0]!r}, expected what state_dict() gave")
    if state["seed"] != seed:
        raise ConfigError(f"the state is of seed {state['seed']}, the sampler has {seed}")
