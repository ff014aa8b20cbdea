"""Two processes never work in one folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from training.small_run import draw_small_world, small_run

from wildbox.errors import WildboxError
from wildbox.training.one_run import alone_in
from wildbox.training.run import train


def test_a_second_run_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    world, out = draw_small_world(tmp_path / "world"), tmp_path / "run"
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with alone_in(out):
            os.write(ready[1], b"1")
            os.read(go[0], 1)
            os._exit(0)  # as a killed process, without leaving the block
    os.read(ready[0], 1)
    try:
        with pytest.raises(WildboxError, match=rf"run: process {child} of .* works in this folder"):
            train(small_run(world, steps=2), out)
        assert [path.name for path in out.iterdir()] == ["lock"]
    finally:
        os.write(go[1], b"1")
        os.waitpid(child, 0)
    assert train(small_run(world, steps=2), out).exists()
