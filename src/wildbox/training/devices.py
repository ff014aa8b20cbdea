"""The devices and processes that a run trains on."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy

from wildbox.errors import ConfigError
from wildbox.training.config import RunConfig

STARTED_BY = "WILDBOX_STARTED_BY"
"""Environment variable: the process that started the others of its machine."""


class Autocast(MixedPrecision):
    """Fabric's mixed precision, but inputs stay as they are: in bfloat16 a coordinate of 1,000 pixels is off by 2."""

    def convert_input(self, data: Any) -> Any:
        """The same."""
        return data


def pick_device(name: str) -> torch.device:
    """The device of a setting's name; "auto" is the GPU where there is one.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device = {name!r}: expected auto, cpu, cuda or cuda:N") from error
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigError(f"device = {name!r}: this machine has {count} GPUs that torch can use")
    return device


def launch(config: RunConfig) -> Fabric:
    """Start the processes of a run, or join those that torchrun or a cluster's scheduler started.

    In each of them this returns a Fabric whose processes know one another.

    Raises:
        ConfigError: other processes than the settings say, more than there are GPUs, or images of a step that
            cannot be shared evenly among them.
    """
    processes, machines = _layout(config.processes, config.machines)
    world, schedule = processes * machines, config.schedule
    if schedule.batch_size % (world * schedule.accumulate):
        raise ConfigError(
            f"schedule.batch_size {schedule.batch_size} is no multiple of {world} processes times "
            f"schedule.accumulate {schedule.accumulate}"
        )
    return start_processes(
        config.device, processes=config.processes, machines=config.machines, precision=schedule.precision
    )


def start_processes(
    name: str, *, processes: int = 1, machines: int = 1, precision: Literal["32", "bf16-mixed"] = "32"
) -> Fabric:
    """As `launch`, of any work.

    Args:
        name: of the device, see `pick_device`.
        processes, machines: on each machine, and of those; 1 and 1 where torchrun starts them.
    """
    device = pick_device(name)
    processes, machines = _layout(processes, machines)
    logging.getLogger("lightning_fabric").setLevel(
        logging.WARNING
    )  # it recommends torch's settings, twice a run
    # looking for unused parameters costs little on a CPU, and keeps DDP from rearranging its buckets after the
    # first step: a resumed run would add the gradients of three or more processes in another order than before
    several = processes * machines > 1
    strategy = DDPStrategy(find_unused_parameters=device.type == "cpu") if several else "auto"
    if "LOCAL_RANK" not in os.environ:
        os.environ[STARTED_BY] = str(os.getpid())
    try:
        fabric = Fabric(
            accelerator=device.type,
            devices=processes if device.index is None or device.type == "cpu" else [device.index],
            num_nodes=machines,
            strategy=strategy,
            plugins=None if precision == "32" else Autocast(precision, device.type),
        )
        fabric.launch()
    except (ValueError, RuntimeError) as error:  # Fabric's own complaints about the machine or the cluster
        raise ConfigError(f"{processes} processes on each of {machines} machines: {error}") from error
    if os.environ.get(STARTED_BY) == str(os.getppid()):
        threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    return fabric


@contextmanager
def first_process_first(fabric: Fabric) -> Iterator[None]:
    """The block runs in the first process, then in the others; where it fails there, they end without a word."""
    if fabric.is_global_zero:
        done = False
        try:
            yield
            done = True
        finally:
            fabric.broadcast(done)
    elif fabric.broadcast(False):
        yield
    else:
        raise SystemExit(2)  # the first one tells why
    fabric.barrier()


def is_first_process() -> bool:
    """Whether this is the process that writes and speaks; known from `launch` on.

    >>> is_first_process()
    True
    """
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _layout(processes: int, machines: int) -> tuple[int, int]:
    """Processes a machine and machines: torchrun's where it started us, else those of the settings."""
    if not torch.distributed.is_torchelastic_launched():
        return processes, machines
    world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if processes * machines not in (1, world):
        raise ConfigError(
            f"torchrun started {world} processes but the settings ask for {processes} on {machines} "
            "machines; leave processes and machines out"
        )
    return local, world // local


def _end_with_parent() -> None:
    """A process that Fabric started ends when the first one is gone, even killed, instead of holding its GPU."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
