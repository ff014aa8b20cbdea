"""What each rule and sampling gains on the glyph world: mean and spread over seeds.

    python benchmarks/glyph_study.py --out DIR [--seeds 3] [--runs softmax,concurrent,...]
    python benchmarks/glyph_study.py --out DIR --name many_classes --classes 200

Each seed draws its own world and starts its own weights. Finished runs are not repeated. Writes
`benchmarks/results/NAME.csv`: for each run and scoring the mean over seeds and the standard deviation (n - 1)
of the means of AP at IoU 0.5 by the Open Images Challenge protocol.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
from collections import defaultdict
from pathlib import Path

from wildbox.demo import OTHERS, PAIR, demo_config, draw_demo_world
from wildbox.glyphs import GlyphWorld
from wildbox.reports.study import write_report
from wildbox.study import run_study

RESULTS = Path(__file__).parent / "results"
KEYS = ("run", "rule", "balance", "hybrid_start", "scored")


def quiet(stage: str, done: int, total: int) -> None:
    """One line for each finished stage."""
    if done == total:
        print(stage, flush=True)


def summarise(folders: list[Path], path: Path) -> None:
    """Mean and standard deviation over the seeds' summary.csv; runs that not all seeds have say so in `seeds`."""
    found: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for folder in folders:
        with (folder / "summary.csv").open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                for name, value in row.items():
                    if name not in KEYS:
                        found[tuple(row[key] for key in KEYS)][name].append(float(value or "nan"))
    measures = list(next(iter(found.values())))
    header = [*KEYS, "seeds", *(f"{m}{part}" for m in measures for part in ("", "_sd"))]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        for key, values in found.items():
            cells = []
            for measure in measures:
                seen = values[measure]
                spread = statistics.stdev(seen) if len(seen) > 1 else math.nan
                cells += [f"{statistics.mean(seen):.4f}", f"{spread:.4f}"]
            writer.writerow([*key, len(values[measures[0]]), *cells])


def main() -> None:
    """Run the seeds and write the table."""
    every = {run.name: run for run in PAIR + OTHERS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--name", default="glyph_study", help="of the results file")
    parser.add_argument("--classes", type=int, default=GlyphWorld.classes, help="leaf classes")
    parser.add_argument("--imbalance", type=float, default=GlyphWorld.imbalance, help="of the training set")
    parser.add_argument("--vague", type=float, default=GlyphWorld.vague, help="share of parent-only labels")
    parser.add_argument("--runs", default=",".join(every), help="names, separated by commas")
    arguments = parser.parse_args()
    runs = tuple(every[name] for name in arguments.runs.split(","))
    folders = []
    for seed in range(arguments.seeds):
        out = arguments.out / f"seed-{seed}"
        settings = GlyphWorld(
            seed=seed, classes=arguments.classes, imbalance=arguments.imbalance, vague=arguments.vague
        )
        world = draw_demo_world(out, settings, processes=2, progress=quiet)
        config = demo_config(world, seed=seed, runs=runs, size=settings.size)
        write_report(run_study(config, out, progress=quiet), out, progress=quiet)
        folders.append(out)
    RESULTS.mkdir(exist_ok=True)
    summarise(folders, RESULTS / f"{arguments.name}.csv")


if __name__ == "__main__":
    main()
