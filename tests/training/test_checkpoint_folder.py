"""Checkpoints: the newest few, the best, and none lost, whatever happens while one is written."""

from __future__ import annotations

import errno
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from wildbox.errors import InputError, InputWarning, WildboxError
from wildbox.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from wildbox.training.checkpoint_folder import CheckpointFolder
from wildbox.vocabulary import Vocabulary


def checkpoint(step: int) -> Checkpoint:
    weights = {"weight": torch.full((300,), float(step))}
    return Checkpoint(
        step=step, config={}, vocabulary=Vocabulary(("cat",)), relative=True, images=1, boxes=1,
        rates=torch.zeros(2, 2), model=weights, average=None, optimizer={}, random_states=[],
    )  # fmt: skip


def saved(folder: Path, *steps: int, keep: int = 2) -> CheckpointFolder:
    folder.mkdir(exist_ok=True)
    checkpoints = CheckpointFolder(folder, keep=keep)
    for step in steps:
        checkpoints.save(checkpoint(step))
    return checkpoints


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    saved(tmp_path, 10, 20, 30, 40, keep=keep)
    earlier = [f"checkpoint-{step:08}.pt" for step in (10, 20, 30)]
    assert names(tmp_path) == [*earlier[len(earlier) - keep + 1 :], "checkpoint.pt"]
    assert load_checkpoint(tmp_path / "checkpoint.pt").step == 40


def test_what_is_kept_is_kept_over_a_resume(tmp_path: Path) -> None:
    saved(tmp_path, 10, 20)
    again = CheckpointFolder(tmp_path, keep=2)
    found = again.load()
    assert found is not None
    assert found.step == 20
    again.save(checkpoint(30))
    assert names(tmp_path) == ["checkpoint-00000020.pt", "checkpoint.pt"]
    assert load_checkpoint(tmp_path / "checkpoint-00000020.pt").step == 20


def test_the_best_stays_the_best(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    marked = []
    for step, mean_ap in ((10, float("nan")), (20, 0.2), (30, 0.5), (40, 0.4), (50, 0.5)):
        folder.save(checkpoint(step))
        marked.append(CheckpointFolder(tmp_path, keep=2).mark_best(step, mean_ap))
    assert marked == [False, True, True, False, False]
    assert load_checkpoint(folder.best).step == 30
    for step, mean_ap in ((60, 0.1), (70, 0.05)):  # measured otherwise, it begins anew
        folder.save(checkpoint(step))
        assert folder.mark_best(step, mean_ap, "coco, 3 images") == (step == 60)
    assert load_checkpoint(folder.best).step == 60
    folder.clear()
    assert names(tmp_path) == []


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((300,), 20.0).numpy().tobytes()) + 600] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip,  # torch.load itself takes no notice of it
        lambda path: path.write_bytes(path.read_bytes()[:900]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"broken"),
    ],
    ids=["one bit", "cut", "empty", "no checkpoint"],
)
def test_a_damaged_one_gives_way_to_the_one_before(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    saved(tmp_path, 10, 20)
    damage(tmp_path / "checkpoint.pt")
    folder = CheckpointFolder(tmp_path, keep=2)
    with pytest.warns(InputWarning, match=r"checkpoint\.pt: not a readable .*; going on from step 10"):
        found = folder.load()
    assert found is not None
    assert found.step == 10
    assert load_checkpoint(tmp_path / "checkpoint.pt").step == 10
    folder.save(checkpoint(20))
    assert names(tmp_path) == ["checkpoint-00000010.pt", "checkpoint.pt", "checkpoint.pt.damaged"]


def test_one_that_is_gone_is_told(tmp_path: Path) -> None:
    saved(tmp_path, 10, 20)
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.warns(InputWarning, match="is gone; going on from step 10"):
        assert CheckpointFolder(tmp_path, keep=2).load() is not None


def test_where_all_are_damaged_it_is_told(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path, keep=1).load() is None
    (tmp_path / "checkpoint.pt").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"checkpoint\.pt: not a readable .* no other is left"):
        CheckpointFolder(tmp_path, keep=1).load()
    # nor does the next start forget it and begin anew
    with pytest.raises(InputError, match=r"checkpoint\.pt\.damaged: was damaged; no other is left"):
        CheckpointFolder(tmp_path, keep=1).load()
    CheckpointFolder(tmp_path, keep=1).clear()
    assert CheckpointFolder(tmp_path, keep=1).load() is None


class Full(io.FileIO):
    """A file on a disk with room for 2,000 bytes."""

    def write(self, data: Any) -> int:
        if self.tell() > 2000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_disk_that_is_full_half_way_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 10)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode: Full(path, mode))
        with pytest.raises(OSError, match="No space left on device"):
            save_checkpoint(checkpoint(20), tmp_path / "checkpoint.pt")
    assert names(tmp_path) == ["checkpoint.pt"]
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_the_best_is_the_last_resort(tmp_path: Path) -> None:
    folder = saved(tmp_path, 10)
    folder.mark_best(10, 0.5)
    for step in (20, 30, 40):
        folder.save(checkpoint(step))
    for name in ("checkpoint.pt", "checkpoint-00000030.pt"):
        (tmp_path / name).write_bytes(b"broken")
    with pytest.warns(InputWarning, match="going on from step 10"):
        found = CheckpointFolder(tmp_path, keep=2).load()
    assert found is not None
    assert found.step == load_checkpoint(tmp_path / "checkpoint.pt").step == 10


CALLS = ("link", "replace", "fsync", "unlink")
"""Of the operating system, by which a checkpoint is put in its place."""


def killed_at_call(number: int, action: Callable[[], object]) -> bool:
    """Whether a forked process that ends itself by SIGKILL before its so-many-th call came so far."""
    child = os.fork()
    if child == 0:
        done = 0

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def instead(*arguments: Any, **settings: Any) -> Any:
                nonlocal done
                done += 1
                if done > number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **settings)

            return instead

        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        action()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_killed_between_any_two_calls_the_newest_or_the_one_before_is_whole(tmp_path: Path) -> None:
    killed = 0
    for number in range(100):
        folder = tmp_path / str(number)
        before = saved(folder, 10, 20, 30)
        came_so_far = killed_at_call(number, lambda before=before: before.save(checkpoint(40)))  # type: ignore[misc]
        killed += came_so_far
        found = CheckpointFolder(folder, keep=2).load()
        assert found is not None
        assert found.step == 40 if not came_so_far else found.step in (30, 40)
        assert float(found.model["weight"][0]) == found.step
        assert not list(folder.glob(".*"))
        if not came_so_far:
            break
    assert killed >= 4


def test_a_full_disk_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path, 10)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            folder.save(checkpoint(20))
    found = CheckpointFolder(tmp_path, keep=2).load()
    assert found is not None
    assert found.step == 10
    assert not list(tmp_path.glob(".*"))


def test_too_little_space_is_told_before_the_first_step(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    folder.check_space(1000)
    with pytest.raises(WildboxError, match=r"MB are free, 2 checkpoints of about 1,000,000,000,000 MB"):
        folder.check_space(10**18)
