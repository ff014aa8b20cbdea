"""The sampler's frequencies, shards, epochs and resuming."""

from __future__ import annotations

import random
import tracemalloc
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from wildbox.errors import ConfigError, InputError
from wildbox.sampling import BalancedSampler, class_probabilities, to_csr
from wildbox.sampling.stream import BLOCK

HOLDINGS = [[0]] * 40 + [[0, 1]] * 12 + [[1, 2, 2]] * 3 + [[4]] + [[]] * 4
"""Labels of 60 images: class 3 is in none, the last four images have none, and one repeats a label."""
OFFSETS, LABELS = to_csr(HOLDINGS)
DRAWS = 40_000


def sampler(**settings: Any) -> BalancedSampler:
    return BalancedSampler(OFFSETS, LABELS, **{"seed": 7, "balance": None, "length": 100, **settings})


def hybrid(n: int) -> float | None:
    return None if n < 50 else 0.7 + (n > 80)


@pytest.mark.parametrize("balance", [0.0, 0.7, 1.0, 1.5, 8.0])
def test_frequencies_follow_the_formula(balance: float) -> None:
    images_per_class = np.array([52, 15, 3, 0, 1])
    assert sampler().images_per_class.tolist() == images_per_class.tolist()
    by_class = class_probabilities(images_per_class, balance=balance)
    expected = np.zeros(60)
    for image, labels in enumerate(HOLDINGS):
        for label in set(labels):
            expected[image] += by_class[label] / images_per_class[label]
    found = np.bincount(sampler(balance=balance).draws(0, DRAWS), minlength=60)
    assert found[-4:].sum() == 0
    # images that are drawn less than five times on average are counted as one cell
    often = expected * DRAWS >= 5
    cells = np.append(expected[often], expected[~often].sum()) * DRAWS
    seen = np.append(found[often], found[~often].sum())
    cells, seen = cells[cells > 0], seen[cells > 0]
    chi_square = ((seen - cells) ** 2 / cells).sum()
    freedom = len(cells) - 1
    # Wilson and Hilferty's normal approximation of the 99.9 % quantile
    assert chi_square < freedom * (1 - 2 / (9 * freedom) + 3.09 * (2 / (9 * freedom)) ** 0.5) ** 3


def test_without_balance_every_pass_is_all_images_in_another_order() -> None:
    passes = sampler(balance=None).draws(0, 180).reshape(3, 60)
    assert np.array_equal(np.sort(passes, axis=1), np.tile(np.arange(60), (3, 1)))
    assert len({tuple(order) for order in passes.tolist()}) == 3


def test_lambda_may_follow_a_schedule() -> None:
    stream = sampler(balance=hybrid).draws(0, 100)
    for balance, part in ((None, slice(0, 50)), (0.7, slice(50, 81)), (1.7, slice(81, 100))):
        assert np.array_equal(stream[part], sampler(balance=balance).draws(0, 100)[part])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2 * BLOCK + 50),
    st.integers(1, 9),
    st.integers(1, 300),
    st.sampled_from([None, 0.7, hybrid]),
)
def test_shards_make_up_the_stream(start: int, world: int, length: int, balance: Any) -> None:
    stream = sampler(balance=balance, length=length).draws(0, start + 2 * length)
    end = (start // length + 1) * length
    for first, last in ((start, end), (end, end + length)):
        drawn: dict[int, int] = {}
        for rank in range(world):
            shard = sampler(balance=balance, length=length, rank=rank, world_size=world)
            shard.start_at(first)
            images = list(shard)
            numbers = [n for n in range(first, last) if n % world == rank]
            drawn.update(zip(numbers, images, strict=True))
        assert [drawn[n] for n in range(first, last)] == stream[first:last].tolist()


@pytest.mark.parametrize("world", [1, 3, 4])
def test_state_of_one_rank_resumes_all(world: int) -> None:
    def shards() -> list[BalancedSampler]:
        return [
            sampler(balance=0.7, length=None, rank=rank, world_size=world, seed=1) for rank in range(world)
        ]

    steps, more = BLOCK // world + 1, 5
    whole = [list(islice(shard, steps + more)) for shard in shards()]
    running = shards()
    for shard in running:
        assert len(list(islice(shard, steps))) == steps
    state = running[0].state_dict()
    assert state == {"seed": 1, "draw": steps * world}
    for shard, expected in zip(shards(), whole, strict=True):
        shard.load_state_dict(state)
        assert list(islice(shard, more)) == expected[steps:]


def test_resuming_on_other_ranks_keeps_the_stream() -> None:
    two = sampler(balance=0.7, world_size=2, rank=1)
    list(islice(two, 10))
    one = sampler(balance=0.7)
    one.load_state_dict(two.state_dict())
    assert list(one) == one.draws(20, 100).tolist()


def test_ranks_may_change_within_an_epoch_at_any_draw() -> None:
    """Rounds of all ranks begin where the iteration did: one rank's state is that of all, and no draw is lost."""
    shards = [sampler(balance=0.7, length=48, rank=rank, world_size=4) for rank in range(4)]
    for shard in shards:
        shard.start_at(18)
        list(islice(shard, 2))
    assert [shard.state_dict()["draw"] for shard in shards] == [26] * 4
    one = sampler(balance=0.7, length=48)
    one.load_state_dict(shards[0].state_dict())
    assert list(one) == one.draws(26, 48).tolist()


def test_epochs_differ_and_continue_the_stream() -> None:
    epochs = sampler(balance=0.7)
    assert len(epochs) == 100
    assert [*epochs, *epochs] == epochs.draws(0, 200).tolist()
    assert list(epochs) != epochs.draws(0, 100).tolist()


def test_lengths_of_ranks_add_up() -> None:
    shards = [sampler(length=10, rank=rank, world_size=4) for rank in range(4)]
    assert [len(shard) for shard in shards] == [len(list(shard)) for shard in shards] == [3, 3, 2, 2]
    with pytest.raises(TypeError, match="endless"):
        len(sampler(length=None))


def test_resuming_under_a_loader_that_fetches_ahead() -> None:
    def loader(draws: BalancedSampler) -> DataLoader[int]:
        return DataLoader(range(60), batch_size=4, sampler=draws, num_workers=1)  # type: ignore[arg-type]

    whole = [batch.tolist() for batch in loader(sampler(balance=0.7, length=24))]
    again = sampler(balance=0.7, length=24)
    again.start_at(2 * 4)
    assert [batch.tolist() for batch in loader(again)] == whole[2:]
    running = sampler(balance=0.7, length=22)  # the last batch of an epoch is smaller
    epochs = [[batch.tolist() for batch in loader(running)] for _ in range(2)]
    again = sampler(balance=0.7, length=22)
    again.start_at(1 * 22 + 2 * 4)
    assert [batch.tolist() for batch in loader(again)] == epochs[1][2:]


def test_depends_on_the_seed_and_on_no_global_state() -> None:
    def stream(seed: int, disturbance: int) -> list[int]:
        random.seed(disturbance)
        np.random.seed(disturbance)  # noqa: NPY002
        torch.manual_seed(disturbance)
        return list(sampler(balance=hybrid, seed=seed))

    before = torch.random.get_rng_state()
    assert stream(7, 0) == stream(7, 1) != stream(8, 0)
    torch.manual_seed(3)
    state = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]  # noqa: NPY002
    list(sampler(balance=hybrid))
    assert torch.equal(torch.random.get_rng_state(), state[0])
    assert np.random.get_state()[1].tolist() == state[1]  # type: ignore[index]  # noqa: NPY002
    assert random.getstate() == state[2]
    torch.random.set_rng_state(before)


@pytest.mark.parametrize("balance", [None, 0.7])
def test_memory_is_under_12_bytes_an_entry(balance: float | None) -> None:
    """What is kept and, with the first draws, the most on the way, beside the arrays that were given."""
    images, held = 60_000, 4
    offsets = np.arange(images + 1) * held
    labels = np.random.default_rng(0).integers(0, 50, images * held)
    next(iter(sampler(balance=balance)))  # compiled code does not count
    tracemalloc.start()
    draws = BalancedSampler(offsets, labels, seed=0, balance=balance)
    next(iter(draws))
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 4 * images < kept <= most < 12 * images * held


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"balance": -1.0}, "balance"),
        ({"balance": "0.7"}, r"balance \(lambda\) is '0.7', expected a number"),
        ({"length": 0}, "length is 0"),
        ({"length": 2.5}, "length is 2.5, expected a whole number of at least 1"),
        ({"seed": 0.5}, "seed is 0.5, expected a whole number of at least 0"),
        ({"rank": 2, "world_size": 2}, r"rank is 2, expected 0\.\.1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_refuses_settings(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sampler(**wrong)


def test_refuses_positions_and_states_of_others() -> None:
    with pytest.raises(ConfigError, match="draw is -1"):
        sampler().start_at(-1)
    with pytest.raises(ConfigError, match="of seed 8, the sampler has 7"):
        sampler().load_state_dict(sampler(seed=8).state_dict())
    with pytest.raises(ConfigError, match="the state has no 'draw', expected what state_dict"):
        sampler().load_state_dict({"seed": 7})
    with pytest.raises(ConfigError, match=r"draw is 1\.5, expected a whole number"):
        sampler().load_state_dict({"seed": 7, "draw": 1.5})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="the state has no 'seed'"):
        sampler().load_state_dict(None)  # type: ignore[arg-type]


def test_refuses_a_schedule_below_0_when_it_comes() -> None:
    with pytest.raises(ConfigError, match="balance"):
        next(iter(sampler(balance=lambda n: -1.0)))


def test_images_without_labels_can_only_be_passed_through() -> None:
    assert sorted(BalancedSampler([0, 0, 0], [], seed=0, balance=None, length=2)) == [0, 1]
    with pytest.raises(InputError, match="no class occurs"):
        BalancedSampler([0, 0, 0], [], seed=0, balance=1.0)
    with pytest.raises(InputError, match="at least one image"):
        BalancedSampler([0], [], seed=0, balance=None)
