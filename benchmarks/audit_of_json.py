"""The audit of a COCO or LVIS JSON file against its peers, which make Python objects of all of it.

    python benchmarks/lvis_layout.py --out FILE.json
    python benchmarks/audit_of_json.py --json FILE.json [--repeat 3]

From the file to our table, and to the written audit, against Python's json, orjson and pycocotools, as far as they are
installed, in turn. Each in a new process that tells its own time, without the interpreter's start, and its peak memory;
the ratio is to the fastest that parses. Appends to `benchmarks/results/audit.csv`.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from audit import OURS, compare

PARSERS = {
    "json": "import json; run = lambda: json.load(open(source))",
    "orjson": "import orjson; run = lambda: orjson.loads(open(source, 'rb').read())",
    "pycocotools": "import contextlib, io, pycocotools.coco\n"
    "def run():\n    with contextlib.redirect_stdout(io.StringIO()):\n        pycocotools.coco.COCO(source)",
}
WAYS = {
    "read_coco": "from wildbox import read_coco; run = lambda: read_coco(source)",
    "audit of the JSON": OURS,
}


def main() -> None:
    """Parse, run all in turn, keep the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    peers = {name: (code, given.json) for name, code in PARSERS.items() if find_spec(name)}
    ours = {name: (code, given.json) for name, code in WAYS.items()}
    compare(peers, ours, doing="parsing LVIS-like JSON", repeat=given.repeat)


if __name__ == "__main__":
    main()
