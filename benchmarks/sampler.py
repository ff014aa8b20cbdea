"""How fast and how large the samplers are on a data set of Open Images' size, beside what they replace.

    python benchmarks/sampler.py [--images 1740000] [--classes 600] [--draws 1000000] [--repeats 5]

Draws labels by a power law, about four different classes an image, and runs in this one process:

- `BalancedSampler` (balanced; one rank of 8; hybrid by a function; non-balance) and its drop-in for
  `DistributedSampler`;
- torch's `WeightedRandomSampler` on `image_weights`, which draws with the same frequencies, and torch's
  `RandomSampler` with replacement, which balances nothing;
- a naive sampler: a dict from class to a list of images, and `random.choices` and `random.choice` for each draw.

For each the best of `repeats`: seconds until it is ready (from the CSR arrays; also the first time, when compiled
code is loaded from numba's cache, or compiled where there is none), seconds for the draws as Python integers, one by
one as a DataLoader takes them, and bytes an (image, class) entry that it keeps and needs on the way (tracemalloc, in
a run of its own; not for torch's, whose tensors it does not see). Writes `benchmarks/results/sampler.csv` and prints
the ratios to `BalancedSampler`.
"""

from __future__ import annotations

import argparse
import random
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import RandomSampler, WeightedRandomSampler

from wildbox.formats.files import write_csv
from wildbox.sampling import (
    BalancedSampler,
    DistributedBalancedSampler,
    class_probabilities,
    hybrid_balance,
    image_weights,
)

BALANCE = 0.7
Ints = NDArray[np.int64]


class NaiveSampler:
    """Soft-balance as one would write it in a few lines of Python."""

    def __init__(self, offsets: Ints, labels: Ints, draws: int) -> None:
        self.images: dict[int, list[int]] = defaultdict(list)
        for image in range(len(offsets) - 1):
            for label in set(labels[offsets[image] : offsets[image + 1]].tolist()):
                self.images[label].append(image)
        self.classes = sorted(self.images)
        counts = [len(self.images[label]) for label in self.classes]
        self.weights = class_probabilities(counts, balance=BALANCE).tolist()
        self.draws = draws

    def __iter__(self) -> Iterator[int]:
        source = random.Random(0)
        for _ in range(self.draws):
            label = source.choices(self.classes, self.weights)[0]
            yield source.choice(self.images[label])


def draw_labels(images: int, classes: int, seed: int) -> tuple[Ints, Ints]:
    """CSR labels: 1 to 7 an image, class i about i ** -1.1 as frequent, repeats left out."""
    source = np.random.default_rng(seed)
    share = np.arange(1, classes + 1) ** -1.1
    held = source.integers(1, 9, images)
    image = np.repeat(np.arange(images), held)
    label = source.choice(classes, size=len(image), p=share / share.sum())
    pairs = np.unique(image * classes + label)
    return np.searchsorted(pairs, np.arange(images + 1) * classes), pairs % classes


def samplers(offsets: Ints, labels: Ints, draws: int) -> dict[str, Callable[[], Iterable[int]]]:
    """Name -> what makes it ready."""

    def balanced(**settings: object) -> Callable[[], Iterable[int]]:
        given = {"seed": 0, "balance": BALANCE, "length": draws, **settings}
        return lambda: BalancedSampler(offsets, labels, **given)  # type: ignore[arg-type]

    def hybrid(n: int) -> float | None:
        return hybrid_balance(n, steps=draws, start=0.5, balance=BALANCE)

    def weighted() -> Iterable[int]:
        weights = torch.from_numpy(image_weights(offsets, labels, balance=BALANCE))
        return WeightedRandomSampler(weights, draws)  # type: ignore[arg-type]

    return {
        "BalancedSampler": balanced(),
        "BalancedSampler, rank 0 of 8": balanced(rank=0, world_size=8, length=8 * draws),
        "BalancedSampler, hybrid": balanced(balance=hybrid),
        "BalancedSampler, non-balance": balanced(balance=None),
        "DistributedBalancedSampler": lambda: DistributedBalancedSampler(
            offsets, labels, balance=BALANCE, length=draws
        ),
        "torch WeightedRandomSampler": weighted,
        "torch RandomSampler": lambda: RandomSampler(
            range(len(offsets) - 1), replacement=True, num_samples=draws
        ),
        "naive": lambda: NaiveSampler(offsets, labels, draws),
    }


def seconds(make: Callable[[], Iterable[int]], repeats: int) -> tuple[float, float, float]:
    """Time until ready at first and at best, best time for the draws."""
    ready, drawn = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        sampler = make()
        ready.append(time.perf_counter() - began)
        began = time.perf_counter()
        for _index in sampler:
            pass
        drawn.append(time.perf_counter() - began)
    return ready[0], min(ready), min(drawn)


def bytes_an_entry(make: Callable[[], Iterable[int]], entries: int) -> tuple[float, float]:
    """What the sampler keeps after its first draw, and the most until then."""
    tracemalloc.start()
    sampler = make()
    next(iter(sampler))
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return kept / entries, most / entries


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1_740_000)
    parser.add_argument("--classes", type=int, default=600)
    parser.add_argument("--draws", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    offsets, labels = draw_labels(options.images, options.classes, seed=0)
    print(f"{options.images:,} images, {len(labels):,} entries, {options.draws:,} draws")
    rows: list[tuple[str, ...]] = []
    ours = (1.0, 1.0)
    for name, make in samplers(offsets, labels, options.draws).items():
        cold, ready, drawn = seconds(make, 1 if name == "naive" else options.repeats)
        # torch's tensors escape tracemalloc; tracing the naive one's lists takes minutes
        traced = name.startswith(("Balanced", "Distributed"))
        kept, most = bytes_an_entry(make, len(labels)) if traced else ("", "")
        if not rows:
            ours = (ready, drawn)
        rows.append(
            (
                name,
                f"{cold:.3f}",
                f"{ready:.3f}",
                f"{drawn:.3f}",
                *(f"{b:.1f}" if traced else "" for b in (kept, most)),
            )
        )
        print(
            f"{name:32} ready {ready:7.3f} s ({ready / ours[0]:6.1f}x)  drawn {drawn:7.3f} s "
            f"({drawn / ours[1]:6.1f}x)  bytes an entry: {rows[-1][-2] or '-'} kept, {rows[-1][-1] or '-'} most"
        )
    columns = (
        "sampler",
        "first_ready_seconds",
        "ready_seconds",
        "draws_seconds",
        "kept_bytes_per_entry",
        "most_bytes_per_entry",
    )
    write_csv(Path(__file__).parent / "results" / "sampler.csv", columns, rows)


if __name__ == "__main__":
    main()
