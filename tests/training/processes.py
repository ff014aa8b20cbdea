"""Runs in processes of their own, which a test can kill; forked from one that has imported torch already."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from training.small_run import logged_losses

from wildbox.training.config import RunConfig

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["wildbox.training.run"])


def start(config: RunConfig, out: Path, *, prepare: Callable[[], None] | None = None) -> list[BaseProcess]:
    """Start the processes of a run; they find one another as those that torchrun starts do.

    Args:
        prepare: called in each of them before it trains.
    """
    return start_each(_train, (config, out, prepare), config.processes)


def start_each(work: Callable[..., None], arguments: tuple[object, ...], world: int) -> list[BaseProcess]:
    """Start so many processes that do the same work, and find one another."""
    port = _free_port()
    processes: list[BaseProcess] = [
        # daemons: what a failed test leaves behind ends with the tests
        CONTEXT.Process(target=_among_others, args=(work, arguments, rank, world, port), daemon=True)
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    return processes


def join(processes: list[BaseProcess]) -> None:
    """Wait for all, which must end well."""
    for process in processes:
        process.join(timeout=300)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def kill_after(step: int, processes: list[BaseProcess], out: Path, *, more: float = 0.0) -> None:
    """SIGKILL once the log tells of a step, and so many seconds later; the run must not have ended before."""
    while last_step(out) < step:
        assert all(process.is_alive() for process in processes), "ended before it was killed"
        time.sleep(0.005)
    time.sleep(more)
    for process in processes:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(timeout=60)


def last_step(out: Path) -> int:
    """Of a log that may be absent, or in the middle of a line."""
    try:
        return int(logged_losses(out)[-1]["step"])
    except (OSError, ValueError, IndexError):
        return 0


def deterministic_choices() -> None:
    """Sample the first proposals instead of random ones."""
    torch.randperm = lambda n, **settings: torch.arange(n)


def _train(config: RunConfig, out: Path, prepare: Callable[[], None] | None) -> None:
    from wildbox.training.run import train

    if prepare is not None:
        prepare()
    train(config, out)


def _among_others(
    work: Callable[..., None], arguments: tuple[object, ...], rank: int, world: int, port: int
) -> None:
    if world > 1:
        os.environ |= {
            "LOCAL_RANK": str(rank),
            "NODE_RANK": "0",
            "WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    try:
        work(*arguments)
    except BaseException:
        traceback.print_exc()
        raise


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
