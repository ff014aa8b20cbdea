"""The machine a number comes from, and tables of results that grow by a row."""

from __future__ import annotations

import csv
import os
import platform
from datetime import date
from pathlib import Path


def processor() -> str:
    """Name of the processor, as Linux tells it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


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
