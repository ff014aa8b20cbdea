"""The audit against its peers, on a generated set of Open Images' layout.

    python benchmarks/audit.py statistics [--boxes 15000000] [--repeat 3]
    python benchmarks/audit.py linear [--boxes 1000000,5000000,14600000,50000000]
    python benchmarks/audit.py files --csv FILE.csv --parquet FOLDER [--repeat 3]

`statistics`: arrays in memory to confusion pairs and rates, and to the whole audit, against a DuckDB self-join on the
image id (all cores, the table in its memory) that counts the same confusion pairs, or these and the boxes that make the
rates. `linear`:
seconds and peak memory of this process for growing sets, drawing them included. `files`: from files to the written
audit, against reading just the needed columns of the CSV with each reader that is installed; the ratio is to the
fastest. Each in a new process that tells its own time, without the interpreter's start, and its peak memory. Run it
where scipy is not installed, as it is not with wildbox alone: numba loads it where it is, which takes 0.3 s. Appends to
`benchmarks/results/audit.csv`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from environment import append
from open_images_layout import draw

from wildbox.annotations import Annotations
from wildbox.labels.audit import LabelAudit, audit
from wildbox.labels.concurrency import count_concurrency

RESULTS = Path(__file__).parent / "results" / "audit.csv"

PAIRS = """
WITH pairs AS (
    SELECT a.row AS row, a.label AS s, b.label AS t,
        (least(a.x2, b.x2) - greatest(a.x1, b.x1)) AS w, (least(a.y2, b.y2) - greatest(a.y1, b.y1)) AS h,
        (a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) AS areas
    FROM boxes a JOIN boxes b ON a.image = b.image AND a.label {sign} b.label
)
SELECT s, t, count(*) AS confusion{matched}
FROM pairs WHERE w > 0 AND h > 0 AND w * h > 0.9 * (areas - w * h) GROUP BY s, t
"""
QUERIES = {
    "DuckDB self-join: confusion pairs": PAIRS.format(sign="<", matched=""),
    "DuckDB self-join: confusion pairs and rates": PAIRS.format(
        sign="<>", matched=", count(DISTINCT row) AS matched"
    ),
}


def seconds(run: Callable[[], object]) -> tuple[float, object]:
    """How long a call takes, and what it gives."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def by_duckdb(truth: Annotations) -> Callable[[str], dict[str, np.ndarray]]:
    """A function that runs a query on the boxes, which are loaded beforehand, and gives (C, C) tables."""
    import duckdb

    x1, y1, x2, y2 = (np.ascontiguousarray(column) for column in truth.boxes.T)
    columns = {"row": np.arange(len(truth)), "image": truth.image, "label": truth.label}
    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")
    connection.register("arrays", columns | {"x1": x1, "y1": y1, "x2": x2, "y2": y2})
    connection.execute("CREATE TABLE boxes AS SELECT * FROM arrays")

    def run(query: str) -> dict[str, np.ndarray]:
        found = connection.execute(query).fetchnumpy()
        tables = {}
        for name in found.keys() - {"s", "t"}:
            table = np.zeros((len(truth.vocabulary),) * 2, np.int64)
            table[found["s"], found["t"]] = found[name]
            tables[name] = table if "matched" in found else table + table.T
        return tables

    return run


def compare_statistics(boxes: int, repeat: int) -> None:
    """Each in turn; print all, keep the medians and their ratios."""
    ours = {"confusion pairs and rates of arrays": count_concurrency, "audit of arrays": audit}
    for run in ours.values():
        run(draw(10_000))  # compiled code is loaded
    truth = draw(boxes)
    truth.offsets  # noqa: B018
    peer = by_duckdb(truth)
    times: dict[str, list[float]] = {name: [] for name in (*ours, *QUERIES)}
    for _ in range(repeat):
        for what, run in ours.items():
            took, found = seconds(partial(run, truth))
            times[what].append(took)
            print(f"{what} {took:.2f} s", flush=True)
        assert isinstance(found, LabelAudit)
        for name, query in QUERIES.items():
            took, tables = seconds(partial(peer, query))
            times[name].append(took)
            assert isinstance(tables, dict)
            # DuckDB decides boxes at exactly 0.9 as float64 rounds; the set has next to none
            differ = sum(
                int(np.abs(getattr(found.concurrency, what) - table).sum()) for what, table in tables.items()
            )
            print(f"{name} {took:.2f} s, counts that differ: {differ}", flush=True)
    medians = {name: statistics.median(some) for name, some in times.items()}
    for what in ours:
        for name in QUERIES:
            a, b = medians[what], medians[name]
            row = {"what": what, "boxes": boxes, "seconds": round(a, 2), "peer": name}
            append(RESULTS, row | {"peer_seconds": round(b, 2), "ratio": round(b / a, 1), "peak_gb": ""})


def measure_growth(sizes: list[int]) -> None:
    """One process a size, so that each has its own peak memory."""
    for boxes in sizes:
        if os.fork() == 0:
            audit(draw(10_000))
            truth = draw(boxes)
            truth.offsets  # noqa: B018
            took, _ = seconds(partial(audit, truth))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            row = {
                "what": "audit of arrays",
                "boxes": boxes,
                "seconds": round(took, 2),
                "peer": "",
                "peer_seconds": "",
            }
            append(RESULTS, row | {"ratio": "", "peak_gb": round(peak, 2)})
            print(f"{boxes:,} boxes: {took:.2f} s, {1e9 * took / boxes:.0f} ns a box, peak {peak:.2f} GB")
            os._exit(0)
        os.wait()


NEEDED = ["ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf"]
READERS = {
    "polars": f"import polars; run = lambda: polars.read_csv(source, columns={NEEDED})",
    "pyarrow": "import pyarrow.csv as c\n"
    f"run = lambda: c.read_csv(source, convert_options=c.ConvertOptions(include_columns={NEEDED}))",
    "duckdb": "import duckdb\n"
    f"run = lambda: duckdb.sql(f\"SELECT {', '.join(NEEDED)} FROM read_csv('{{source}}')\").to_arrow_table()",
    "pandas": f"import pandas; run = lambda: pandas.read_csv(source, usecols={NEEDED})",
}
OURS = """
from wildbox.labels.files import write_audit
from wildbox.labels.audit import audit
from wildbox.formats.annotated import open_annotations
import tempfile

def run():
    with tempfile.TemporaryDirectory() as out:
        shards = open_annotations(source)
        write_audit(sum_of(audit(shard) for shard in shards), out)

def sum_of(audits):
    total = None
    for one in audits:
        total = one if total is None else total + one
    return total
"""
AROUND = """
import json, resource, sys, time
source = sys.argv[1]
{code}
start = time.perf_counter()
run()
print(json.dumps([time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""


Runs = dict[str, tuple[str, Path]]
"""Name -> code, and the file or folder that it reads."""
TOUCH = "import numpy; numpy.ones(10**9)"
"""A virtual machine that is idle gives memory back, and to get it again takes up to 2 s a GB: 8 GB are got before."""


def alone(code: str, source: Path) -> tuple[float, float]:
    """Seconds and peak GB of some code in a process of its own."""
    subprocess.run([sys.executable, "-c", TOUCH], check=True)
    command = [sys.executable, "-c", AROUND.format(code=code), str(source)]
    took, peak = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1]
    )
    return took, peak


def compare_files(table: Path, parquet: Path, repeat: int) -> None:
    """Readers and audits in turn; medians."""
    peers = {name: (code, table) for name, code in READERS.items() if find_spec(name)}
    compare(
        peers,
        {"audit of the CSV": (OURS, table), "audit of Parquet": (OURS, parquet)},
        doing="reading the CSV",
        repeat=repeat,
    )


def compare(peers: Runs, ours: Runs, *, doing: str, repeat: int) -> None:
    """Run all in turn; keep the medians, each beside that of the fastest peer."""
    runs = peers | ours
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(repeat):
        for name, (code, source) in runs.items():
            found[name].append(alone(code, source))
            print(f"{name:18} {found[name][-1][0]:6.2f} s, peak {found[name][-1][1]:.2f} GB", flush=True)
    medians = {name: statistics.median(took for took, _ in some) for name, some in found.items()}
    fastest = min(peers, key=lambda name: medians[name])
    for name in runs:
        row = {
            "what": name,
            "boxes": "",
            "seconds": round(medians[name], 2),
            "peer": f"{fastest} {doing}",
        }
        row |= {
            "peer_seconds": round(medians[fastest], 2),
            "ratio": round(medians[name] / medians[fastest], 2),
        }
        append(RESULTS, row | {"peak_gb": round(max(peak for _, peak in found[name]), 2)})


def main() -> None:
    """Choose."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("statistics", "linear", "files"))
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--parquet", type=Path)
    parser.add_argument("--boxes", default="")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.what == "files":
        compare_files(arguments.csv, arguments.parquet, arguments.repeat)
    elif arguments.what == "statistics":
        compare_statistics(int(arguments.boxes or 15_000_000), arguments.repeat)
    else:
        measure_growth([int(n) for n in (arguments.boxes or "1000000,5000000,14600000,50000000").split(",")])


if __name__ == "__main__":
    main()
