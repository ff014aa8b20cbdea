"""`wildbox train` as people and schedulers start it: in processes, and stopped by a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training.processes import last_step
from training.small_run import draw_small_world, small_run

from wildbox.training.checkpoint import load_checkpoint
from wildbox.training.settings import write_config
from wildbox.training.stopping import StopSignal


@pytest.mark.slow
def test_sigterm_saves_in_all_processes_and_leaves_with_143(tmp_path: Path) -> None:
    world = draw_small_world(tmp_path / "world")
    config = small_run(world, steps=5000, checkpoint_every=5000).model_copy(update={"processes": 2})
    write_config(config, tmp_path / "run.json")
    command = [sys.executable, "-m", "wildbox.cli", "train", "run.json", "--out", "run"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
        while last_step(tmp_path / "run") < 2:
            assert running.poll() is None
            time.sleep(0.05)
        running.terminate()
        _, said = running.communicate(timeout=300)
    assert running.returncode == 143, said
    saved = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert f"stopped and saved at step {saved.step} of 5000; give --resume to go on" in " ".join(said.split())
    assert saved.step == last_step(tmp_path / "run")
    assert len(saved.random_states) == 2
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_second_ctrl_c_ends_at_once() -> None:
    # a process that a shell starts in the background ignores Ctrl-C
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop()
            assert stop.status == 130
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
