"""Shards under torch.distributed, and the drop-in beside torch's own sampler."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, DistributedSampler

from wildbox.errors import ConfigError, InputError
from wildbox.sampling import BalancedSampler, DistributedBalancedSampler, to_csr

OFFSETS, LABELS = to_csr([[0]] * 40 + [[0, 1]] * 12 + [[1, 2, 2]] * 3 + [[4]] + [[]] * 4)


def stream(start: int, stop: int, *, balance: Any = 0.7) -> list[int]:
    """The draws of one process."""
    images: list[int] = BalancedSampler(OFFSETS, LABELS, seed=3, balance=balance).draws(start, stop).tolist()
    return images


def dropin(**given: Any) -> DistributedBalancedSampler:
    return DistributedBalancedSampler(OFFSETS, LABELS, **{"seed": 3, "balance": 0.7, **given})


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(0, 5),
    st.integers(1, 200),
    st.booleans(),
    st.sampled_from([None, 0.7, lambda n: None if n < 80 else 1.0]),
)
def test_shards_make_up_the_epoch(world: int, epoch: int, length: int, drop_last: bool, balance: Any) -> None:
    drawn = []
    for rank in range(world):
        shard = dropin(length=length, num_replicas=world, rank=rank, drop_last=drop_last, balance=balance)
        theirs: DistributedSampler[int] = DistributedSampler(
            range(length),  # type: ignore[arg-type]
            num_replicas=world,
            rank=rank,
            drop_last=drop_last,
        )
        shard.set_epoch(epoch)
        drawn.append(list(shard))
        assert len(drawn[-1]) == len(shard) == len(theirs)
    union = [image for round_ in zip(*drawn, strict=True) for image in round_]
    start = epoch * length
    assert union == stream(start, start + len(union), balance=balance)
    assert abs(len(union) - length) < world


def test_an_epoch_is_as_long_as_the_images_and_starts_anew_each_time() -> None:
    sampler = dropin()
    assert isinstance(sampler, DistributedSampler)
    assert len(sampler) == 60
    assert next(iter(sampler)) == stream(0, 1)[0]
    assert list(sampler) == list(sampler) == stream(0, 60)
    sampler.set_epoch(1)
    assert list(sampler) == stream(60, 120)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 12), st.booleans())
def test_resumes_in_the_middle_on_any_number_of_ranks(
    before: int, after: int, steps: int, drop_last: bool
) -> None:
    taken = dropin(num_replicas=before, rank=before - 1, drop_last=drop_last)
    taken.set_epoch(2)
    assert len(list(islice(taken, steps))) == steps
    state = json.loads(json.dumps(taken.state_dict()))
    assert state == {"seed": 3, "epoch": 2, "draw": steps * before}
    shards = [dropin(num_replicas=after, rank=rank, drop_last=drop_last) for rank in range(after)]
    for shard in shards:
        shard.load_state_dict(state)
        shard.set_epoch(2)  # as the loop over epochs does
    rest = [list(shard) for shard in shards]
    assert len({len(images) for images in rest}) == 1
    union = [image for round_ in zip(*rest, strict=True) for image in round_]
    start = 120 + steps * before
    assert union == stream(start, start + len(union))
    left = 60 - steps * before
    assert left - after < len(union) <= left if drop_last else left <= len(union) < left + after
    assert list(islice(shards[0], 1)) == stream(120, 121)


def test_another_epoch_forgets_the_middle() -> None:
    sampler = dropin()
    sampler.load_state_dict({"seed": 3, "epoch": 0, "draw": 5})
    sampler.set_epoch(1)
    assert next(iter(sampler)) == stream(60, 61)[0]


def test_a_loader_takes_it() -> None:
    sampler = dropin(num_replicas=2, rank=1)
    loader: DataLoader[Any] = DataLoader(range(60), batch_size=4, sampler=sampler, num_workers=1)  # type: ignore[arg-type]
    sampler.set_epoch(1)
    assert [image for batch in loader for image in batch.tolist()] == stream(60, 120)[1::2]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"rank": 2, "num_replicas": 2}, ConfigError, r"rank is 2, expected 0\.\.1 of 2 processes"),
        ({"rank": 1}, ConfigError, r"rank is 1, expected 0\.\.0 of 1 processes"),
        ({"num_replicas": 0}, ConfigError, "rank is 0"),
        ({"length": 0}, ConfigError, "length is 0"),
        ({"balance": -0.5}, ConfigError, r"balance \(lambda\) is -0\.5"),
        ({"classes": 4}, InputError, r"is 4, expected 0\.\.3"),
    ],
)
def test_refuses(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        dropin(**wrong)


def test_refuses_epochs_and_states_of_others() -> None:
    with pytest.raises(ConfigError, match="epoch is -1"):
        dropin().set_epoch(-1)
    with pytest.raises(ConfigError, match="of seed 4, the sampler has 3"):
        dropin().load_state_dict(dropin(seed=4).state_dict())
    with pytest.raises(ConfigError, match="the state has no 'epoch'"):
        dropin().load_state_dict({"seed": dropin().seed, "draw": 0})


def test_integers_of_numpy_make_states_that_can_be_written() -> None:
    given: dict[str, Any] = {"seed": np.int64(3), "rank": np.int64(0), "length": np.int64(60)}
    balanced = BalancedSampler(OFFSETS, LABELS, **given, balance=0.7, world_size=np.int64(2))  # type: ignore[arg-type]
    for sampler in (balanced, dropin(num_replicas=np.int64(2), **given)):
        next(iter(sampler))
        state = sampler.state_dict()
        assert state["draw"] == 2
        assert json.loads(json.dumps(state)) == state


@pytest.mark.parametrize(
    ("wrong", "message"), [({"rank": 0.0}, r"rank is 0\.0"), ({"world_size": 2.0}, r"world_size is 2\.0")]
)
def test_refuses_shards_that_are_no_whole_numbers(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"{message}, expected a whole number of at least 0"):
        BalancedSampler(OFFSETS, LABELS, seed=3, balance=0.7, **wrong)


PROCESS = """
import json, pickle, sys
from torch import distributed
from wildbox.errors import ConfigError
from wildbox.sampling import BalancedSampler, DistributedBalancedSampler, to_csr
rank, file = int(sys.argv[1]), sys.argv[2]
offsets, labels = to_csr([[0]] * 40 + [[0, 1]] * 12 + [[1, 2, 2]] * 3 + [[4]] + [[]] * 4)
settings = dict(seed=3, balance=0.7, length=20)
whole = BalancedSampler(offsets, labels, **settings, rank=0, world_size=1)
alone = BalancedSampler(offsets, labels, **settings, world_size=1)
early = BalancedSampler(offsets, labels, **settings)
early_dropin = DistributedBalancedSampler(offsets, labels, seed=3, balance=0.7)
passed = DistributedBalancedSampler(offsets, labels, seed=3, balance=0.7)
distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
sampler = BalancedSampler(offsets, labels, **settings)
dropin = DistributedBalancedSampler(offsets, labels, seed=3, balance=0.7)
assert list(whole) == list(alone) == sampler.draws(0, 20).tolist()
assert len(early_dropin) == early_dropin.num_samples == 30 and early_dropin.total_size == 60
assert list(early_dropin) == list(dropin)
for use in (list, pickle.dumps):  # a worker that is spawned gets a copy
    try:
        use(early)
    except ConfigError as error:
        assert "each of 2 processes would draw everything;" in str(error)
    else:
        raise AssertionError("it drew")
pickled = pickle.dumps(passed)
print(json.dumps([list(sampler), list(dropin)]))
distributed.destroy_process_group()
list(sampler)
copy = pickle.loads(pickled)  # as in a worker that is spawned
assert len(copy) == 30 and list(copy) == list(dropin)
"""


def test_processes_of_torch_distributed_share_the_stream(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROCESS]
    running = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meet")], stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    # below what some versions of gloo say
    printed = [process.communicate(timeout=120)[0].splitlines()[-1] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    for end, shards in zip((20, 60), zip(*map(json.loads, printed), strict=True), strict=True):
        assert [image for round_ in zip(*shards, strict=True) for image in round_] == stream(0, end)
