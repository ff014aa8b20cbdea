"""Which draws make a batch: each once, in like company, resumable by a number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wildbox.annotations import Annotations
from wildbox.detectors.batches import DrawBatches, image_aspects
from wildbox.errors import ConfigError
from wildbox.sampling.sampler import BalancedSampler
from wildbox.vocabulary import Vocabulary

IMAGES = 30
ASPECTS = np.random.default_rng(0).choice([0.75, 1.0, 1.333], IMAGES)


def sampler(*, rank: int = 0, world_size: int = 1, length: int = 240) -> BalancedSampler:
    """Half a pass, then class-aware."""
    labels = np.arange(IMAGES) % 4

    def balance(draw: int) -> float | None:
        return None if draw < 20 else 1.0

    return BalancedSampler(
        np.arange(IMAGES + 1),
        labels,
        seed=3,
        balance=balance,
        length=length,
        rank=rank,
        world_size=world_size,
    )


@given(
    steps=st.integers(1, 20),
    size=st.integers(1, 4),
    window=st.integers(1, 6),
    world=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_every_draw_is_in_one_batch_of_like_images(
    steps: int, size: int, window: int, world: int, seed: int
) -> None:
    settings = {"steps": steps, "batch_size": size, "window": window, "seed": seed, "world_size": world}
    ranks = [
        list(DrawBatches(sampler().draws, aspects=ASPECTS, rank=rank, **settings)) for rank in range(world)
    ]
    total = steps * size * world
    expected = list(zip(sampler().draws(0, total).tolist(), range(total), strict=True))
    assert sorted(d for batches in ranks for batch in batches for d in batch) == sorted(expected)
    per_window = window * size * world
    for batches in ranks:
        assert [len(batch) for batch in batches] == [size] * steps
        for step, batch in enumerate(batches):
            assert {number // per_window for _, number in batch} == {step // window}
    spread = [np.ptp(ASPECTS[[i for i, _ in batch]]) > 0 for batches in ranks for batch in batches]
    windows = -(-steps // window)
    assert sum(spread) <= 2 * windows  # three aspects change at most twice in a sorted window


@given(done=st.integers(0, 12), sorted_=st.booleans(), rank=st.integers(0, 1))
def test_a_run_goes_on_where_it_stopped(done: int, sorted_: bool, rank: int) -> None:
    def batches() -> DrawBatches:
        aspects = ASPECTS if sorted_ else None
        return DrawBatches(
            sampler().draws, steps=12, batch_size=3, aspects=aspects, window=5, rank=rank, world_size=2
        )

    whole, rest = list(batches()), batches()
    rest.start_at(done)
    assert len(rest) == 12 - done
    assert list(rest) == whole[done:]


@pytest.mark.parametrize("rank", [0, 1])
def test_without_aspects_batches_are_the_samplers_own_draws(rank: int) -> None:
    plain = list(DrawBatches(sampler().draws, steps=20, batch_size=3, rank=rank, world_size=2))
    dealt = list(sampler(rank=rank, world_size=2, length=120))
    assert [image for batch in plain for image, _ in batch] == dealt
    assert [n for batch in plain for _, n in batch] == list(range(rank, 120, 2))


def test_batches_of_a_window_come_in_random_order() -> None:
    def order(seed: int) -> list[float]:
        batches = DrawBatches(sampler().draws, steps=8, batch_size=4, aspects=ASPECTS, window=8, seed=seed)
        return [float(ASPECTS[[i for i, _ in batch]].mean()) for batch in batches]

    assert order(0) != sorted(order(0))
    assert order(0) != order(1)
    assert sorted(order(0)) == sorted(order(1))


def test_aspects_from_the_table_or_from_the_files(tmp_path: Path) -> None:
    def table(sizes: list[tuple[int, int]] | None) -> Annotations:
        none = np.zeros(0, np.int64)
        return Annotations(
            Vocabulary(("a",)),
            ("x", "y"),
            image=none,
            boxes=np.zeros((0, 4)),
            label=none,
            sizes=sizes,
        )

    assert image_aspects(table([(40, 20), (10, 20)]), tmp_path).tolist() == [2.0, 0.5]
    Image.new("RGB", (30, 20)).save(tmp_path / "x.jpg")
    assert image_aspects(table(None), tmp_path).tolist() == [1.5, 1.0]


def test_numbers_out_of_range() -> None:
    with pytest.raises(ConfigError, match="rank 2 of 2"):
        DrawBatches(sampler().draws, steps=1, batch_size=1, rank=2, world_size=2)
