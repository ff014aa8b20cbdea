"""Sharper concurrent rates: what they change in training and in scoring, over seeds.

    python benchmarks/rates_study.py --out DIR small:0 small:1 large:0 muscima:0 ...
    python benchmarks/rates_study.py --out DIR --trained paper,sharp,sigmoid large:0
    python benchmarks/rates_study.py --differences

An argument is a world and a seed. `small` and `large` are glyph worlds of 49 and 200 leaf classes, which each seed
draws anew; `muscima` is examples/muscima.toml, where the seed is that of weights and draws alone. Each model is
trained once and scored in one pass by its own rates, the paper's, sharp ones, and softmax. Sigmoid's logits have no
background: to be scored by the others they get the constant 0, against which softmax of one class is its sigmoid.

A finished model is a few lines of `benchmarks/results/rates.csv`, appended at once; it is not trained again, and one
that was interrupted goes on from its checkpoint. `--differences` writes `results/rates_differences.csv`: of each two
that are compared, the mean over seeds of the difference within a seed, and its 95 % interval by Student's t.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from environment import append
from torch import Tensor
from torch.utils.data import DataLoader

from wildbox.classification import ConcurrentSoftmax, sigmoid_scores, softmax_scores
from wildbox.demo import demo_config, draw_demo_world
from wildbox.detectors.dataset import DetectionDataset, collate
from wildbox.detectors.inference import predict
from wildbox.detectors.roi_heads import Scoring
from wildbox.evaluation import EvaluationResult, evaluate
from wildbox.glyphs import GlyphWorld
from wildbox.labels.audit import LabelAudit, audit
from wildbox.reports.study import concurring_classes
from wildbox.study import StudyConfig, StudyRun, load_both
from wildbox.training.checkpoint import load_checkpoint
from wildbox.training.config import ModelConfig, RunConfig
from wildbox.training.model import restore_model
from wildbox.training.run import train
from wildbox.training.settings import read_config
from wildbox.training.source import Source
from wildbox.training.trainer import training_rates

RESULTS = Path(__file__).parent / "results"
EXAMPLE = Path(__file__).parent.parent / "examples" / "muscima.toml"

RATES: dict[str, dict[str, object]] = {
    "paper": {},
    "gamma-0.75": {"rate_gamma": 0.75},
    "half": {"rate_gamma": 0.5},
    "gamma-0.25": {"rate_gamma": 0.25},
    "sharp": {"rate_gamma": 0.0},
    "sharp-low": {"rate_gamma": 0.0, "rate_threshold": 0.02},
    "sharp-high": {"rate_gamma": 0.0, "rate_threshold": 0.3},
    "sharp-wilson": {"rate_gamma": 0.0, "rate_bound": "wilson"},
    "paper-low": {"rate_threshold": 0.02},
    "paper-wilson": {"rate_bound": "wilson"},
}
"""Training rules with concurrent softmax, as settings of the model; beside them `sigmoid`."""
SCORED = ("paper", "sharp", "softmax")
"""Ways to score every model, beside its own."""
MEASURES = ("map", "concurring", "look_alike", "head", "middle", "tail")


@dataclass(frozen=True)
class World:
    """One data set with its seed."""

    config: StudyConfig
    training: Source
    validation: Source
    audit: LabelAudit
    """Of the training set, expanded, by the default threshold: it says which classes concur."""

    def rates(self, settings: dict[str, object]) -> Tensor:
        """(K, K) by settings of the model."""
        model = self.config.model.model_copy(update=settings)
        return training_rates(self.training.expanded, self.training, model)


def load_world(name: str, seed: int, out: Path) -> World:
    """Draw it or cut its tiles, unless that is done."""
    out.mkdir(parents=True, exist_ok=True)
    if name == "muscima":
        config = read_config(EXAMPLE, StudyConfig).model_copy(update={"seed": seed})
        tiles = out.parent / "muscima-tiles"
    else:
        settings = GlyphWorld(seed=seed, classes={"small": 49, "large": 200}[name])
        world = draw_demo_world(out, settings, processes=2, progress=_ignore)
        config, tiles = demo_config(world, seed=seed, size=settings.size), out
    training, validation = load_both(config, tiles, progress=_ignore)
    return World(config, training, validation, audit(training.expanded, hierarchy=training.hierarchy))


def _ignore(*_: object) -> None:
    """Progress is not shown."""


def train_and_score(world: World, trained: str, folder: Path, *, threads: int) -> dict[str, dict[str, float]]:
    """Way of scoring -> the measures."""
    rule = "sigmoid" if trained == "sigmoid" else "concurrent-softmax"
    run = world.config.run_config(StudyRun(name=trained, rule=rule))
    model = ModelConfig.model_validate(run.model.model_dump() | RATES.get(trained, {}))
    run = RunConfig.model_validate(run.model_dump() | {"model": model, "threads": threads})
    checkpoint = train(run, folder, source=world.training)
    detector = restore_model(load_checkpoint(checkpoint))
    images = DetectionDataset(world.validation.annotations, world.validation.folder, objects=None)
    loader = DataLoader(images, batch_size=8, collate_fn=collate)
    found = predict(detector, loader, world.validation.annotations, scorings=scorings(world, trained))
    measured = {}
    for scored, detections in found.items():
        result = evaluate(
            detections,
            world.validation.annotations,
            protocol=world.config.protocol,
            hierarchy=world.validation.hierarchy,
        )
        result.write(folder / f"scored-{scored}.csv")
        measured[scored] = measures(world, result)
    return measured


def measures(world: World, result: EvaluationResult) -> dict[str, float]:
    """Mean AP of all classes and of the groups in `MEASURES`."""
    groups, concurring = world.audit.counts.groups(), concurring_classes(world.audit)
    parts = (slice(None), concurring.every, concurring.look_alike, *(groups == g for g in MEASURES[3:]))
    return {
        measure: float(np.nanmean(result.ap[part])) for measure, part in zip(MEASURES, parts, strict=True)
    }


def scorings(world: World, trained: str) -> dict[str, Scoring]:
    """The ways to score a model that was trained by a rule of `RATES`, or by sigmoid."""

    def against_zero(scoring: Scoring, logits: Tensor) -> Tensor:
        return scoring(torch.cat([logits[:, :-1], torch.zeros_like(logits[:, -1:])], dim=1))

    rates = {trained, *SCORED} - {"sigmoid", "softmax"}
    scorings: dict[str, Scoring] = {
        name: ConcurrentSoftmax(world.rates(RATES[name])).scores for name in sorted(rates)
    }
    scorings["softmax"] = softmax_scores
    if trained != "sigmoid":
        return scorings
    return {name: partial(against_zero, scoring) for name, scoring in scorings.items()} | {
        "sigmoid": sigmoid_scores
    }


def finished(path: Path) -> set[tuple[str, str, str]]:
    """(world, seed, trained) that have all their lines; that of the own scores is the last."""
    return {
        (row["world"], row["seed"], row["trained"]) for row in _rows(path) if row["scored"] == row["trained"]
    }


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def unfinished(
    worlds: Iterable[str], rules: Iterable[str], path: Path
) -> Iterator[tuple[str, str, list[str]]]:
    """World, seed, and the rules of it that are not in the results yet, where there are any."""
    for given in worlds:
        name, seed = given.split(":")
        missing = [rule for rule in rules if (name, seed, rule) not in finished(path)]
        if missing:
            yield name, seed, missing


def keep(path: Path, name: str, seed: str, rule: str, measured: Mapping[str, Mapping[str, float]]) -> None:
    """Append a model's measures by each scoring; those of its own come last, and say that it is finished."""
    for scored in sorted(measured, key=lambda scored: scored == rule):
        shown = {measure: f"{value:.4f}" for measure, value in measured[scored].items()}
        append(path, {"world": name, "seed": seed, "trained": rule, "scored": scored, **shown})


def study(worlds: Iterable[str], rules: Iterable[str], out: Path, *, threads: int) -> None:
    """Train and score what is not in the results yet."""
    path = RESULTS / "rates.csv"
    for name, seed, missing in unfinished(worlds, rules, path):
        folder = out / f"{name}-{seed}"
        world = load_world(name, int(seed), folder)
        for rule in missing:
            began = perf_counter()
            measured = train_and_score(world, rule, folder / rule, threads=threads)
            seconds = perf_counter() - began
            keep(path, name, seed, rule, measured)
            print(f"{name}:{seed} {rule}: {seconds:.0f} s, own {measured[rule]['map']:.4f}", flush=True)


Pair = tuple[str, str]
"""Trained by, scored by."""
BASE: Pair = ("paper", "paper")


def differences(path: Path) -> list[dict[str, object]]:
    """Each way of training and scoring less the paper's, within each seed."""
    table: dict[tuple[str, str], dict[Pair, dict[str, float]]] = {}
    for row in _rows(path):
        values = {measure: float(row[measure]) for measure in MEASURES}
        table.setdefault((row["world"], row["seed"]), {})[row["trained"], row["scored"]] = values
    lines: list[dict[str, object]] = []
    for world in dict.fromkeys(world for world, _ in table):
        seeds = [found for (name, _), found in table.items() if name == world and BASE in found]
        for pair in dict.fromkeys(pair for found in seeds for pair in found):
            both = [(found[pair], found[BASE]) for found in seeds if pair in found]
            line: dict[str, object] = {
                "world": world,
                "trained": pair[0],
                "scored": pair[1],
                "seeds": len(both),
            }
            for measure in MEASURES:
                gains = [new[measure] - base[measure] for new, base in both]
                line[measure] = f"{statistics.mean(new[measure] for new, _ in both):.4f}"
                line[f"{measure}_less_paper"] = f"{statistics.mean(gains):+.4f}"
                line[f"{measure}_within"] = f"{_half_interval(gains):.4f}"
            lines.append(line)
    return lines


def write_differences(results: Path, path: Path) -> None:
    """`differences` of a file of results as another."""
    lines = differences(results)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def _half_interval(values: list[float]) -> float:
    """Half of the 95 % interval of the mean, by Student's t."""
    quantiles = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # 1 to 9 degrees of freedom
    freedom = len(values) - 1
    if freedom < 1:
        return math.nan
    t = quantiles[min(freedom, len(quantiles)) - 1]
    return t * statistics.stdev(values) / math.sqrt(len(values))


def main() -> None:
    """Train, or compare what was trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("worlds", nargs="*", help="world:seed")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--trained", default="paper,half,sharp,sharp-low,sigmoid", help=", ".join(RATES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--differences", action="store_true")
    arguments = parser.parse_args()
    if arguments.worlds:
        if arguments.out is None:
            parser.error("--out is needed to train")
        study(arguments.worlds, arguments.trained.split(","), arguments.out, threads=arguments.threads)
    if arguments.differences:
        write_differences(RESULTS / "rates.csv", RESULTS / "rates_differences.csv")


if __name__ == "__main__":
    main()
