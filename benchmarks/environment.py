"""The machine a number comes from, times of ways in turn, and tables of results that grow by a row."""

from __future__ import annotations

import csv
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path


def processor() -> str:
    """Name of the processor, as Linux tells it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def processor_seconds(ways: Mapping[str, Callable[[], object]], *, repeat: int) -> dict[str, float]:
    """What each way takes of this process's processor time: all in turn, medians after a first one that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeat + 1):
        for name, way in ways.items():
            start = time.process_time()
            way()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}


def append(path: Path, row: dict[str, object]) -> None:
    """Add a row, with date, processor and cores, to a CSV file; make the file where there is none."""
    full = row | {
        "date": date.today().isoformat(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
    }
    new = not path.exists()
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(full), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(full)
