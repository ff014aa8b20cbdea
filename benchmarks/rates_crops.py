"""Sharper concurrent rates without a detector: many rules and seeds, in seconds each.

    python benchmarks/rates_crops.py --out DIR small:0 small:1 large:0 ...
    python benchmarks/rates_crops.py --differences

The worlds, rules and ways of scoring of `rates_study.py`, which trains detectors, on crops of 12 x 12 pixels instead:
of each object of the truth (in training also two that are moved by up to a tenth of its size), and three of the
background an image. A network with one hidden layer learns them for 1,500 steps of 128, drawn by soft-balance with
lambda 0.7, the background as a class of its own. What it says of the crops of the validation images is evaluated as
detections are, by the world's protocol: the boxes are the truth's, so classification alone is measured.

Appends to `benchmarks/results/rates_crops.csv`; `--differences` as there, into `rates_crops_differences.csv`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch
from rates_study import (
    RATES,
    RESULTS,
    World,
    keep,
    load_world,
    measures,
    scorings,
    unfinished,
    write_differences,
)
from torch import Tensor, nn
from torchvision.ops import box_iou, roi_align

from wildbox.adapters.targets import first_of_object
from wildbox.classification import ConcurrentSoftmax, Rule, Sigmoid
from wildbox.detections import Detections
from wildbox.detectors.dataset import DetectionDataset
from wildbox.evaluation import evaluate
from wildbox.labels.objects import object_labels
from wildbox.sampling import BalancedSampler, to_csr
from wildbox.training.source import Source

SIDE, HIDDEN, STEPS, BATCH = 12, 192, 1500, 128
LEAST_SCORE = 0.003


class Crops(NamedTuple):
    """N crops: pixels (N, 3 SIDE SIDE), labels (N, C) bool, image (N,), boxes (N, 4) in the unit of the truth."""

    pixels: Tensor
    members: Tensor
    image: Tensor
    boxes: Tensor


def cut(source: Source, *, moved: int, seed: int) -> Crops:
    """The crops of a data set; those of the background have no label."""
    truth = source.expanded
    images = DetectionDataset(truth, source.folder, objects=object_labels(truth))
    drawn, parts = torch.Generator().manual_seed(seed), []
    for index in range(len(images)):
        pixels, target = images[index]
        height, width = pixels.shape[1:]
        first = first_of_object(target["boxes"])
        boxes, members = target["boxes"][first], target["multi_hot"][first]
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        jitter = 0.2 * torch.rand(moved, *boxes.shape, generator=drawn) - 0.1
        corner = torch.rand(12, 2, generator=drawn) * torch.tensor([width * 0.8, height * 0.8])
        empty = torch.cat([corner, corner + 16 + 32 * torch.rand(12, 2, generator=drawn)], dim=1)
        apart = (box_iou(empty, boxes) < 0.3).all(dim=1) if len(boxes) else torch.ones(12, dtype=torch.bool)
        empty = empty[apart][:3]
        each = torch.cat([boxes, (boxes + jitter * sides).flatten(0, 1), empty])
        labels = torch.cat([members.repeat(1 + moved, 1), members.new_zeros(len(empty), members.shape[1])])
        found = roi_align(pixels[None], [each], SIDE, aligned=True).flatten(1)
        size = torch.from_numpy(truth.sizes[index].copy()) / torch.tensor([width, height])
        parts.append((found, labels, torch.full((len(each),), index), each * size.repeat(2)))
    return Crops(*(torch.cat(column) for column in zip(*parts, strict=True)))


def learn(crops: Crops, rule: Rule, *, seed: int) -> nn.Sequential:
    """The network, trained by a rule; the same start and the same draws for every rule."""
    none = ~crops.members.any(dim=1, keepdim=True)
    targets = torch.cat([crops.members, none], dim=1)
    torch.manual_seed(seed)
    wide, columns = crops.pixels.shape[1], targets.shape[1]
    network = nn.Sequential(nn.Linear(wide, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, columns))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    offsets, labels = to_csr(row.nonzero()[:, 0].tolist() for row in targets)
    draws = BalancedSampler(offsets, labels, seed=seed, balance=0.7).draws(0, STEPS * BATCH)
    for chosen in torch.from_numpy(draws).view(STEPS, BATCH):
        optimizer.zero_grad()
        rule.loss(network(crops.pixels[chosen]), targets[chosen]).backward()
        optimizer.step()
        schedule.step()
    return network


def detections(crops: Crops, scores: Tensor, source: Source) -> Detections:
    """Every class of every crop with a score above `LEAST_SCORE`."""
    row, label = (scores[:, :-1] > LEAST_SCORE).nonzero(as_tuple=True)
    table = source.annotations
    columns = (crops.image[row], crops.boxes[row], label, scores[row, label].clamp(0, 1))
    return Detections(table.vocabulary, table.image_ids, *(column.numpy() for column in columns))


def study(worlds: Iterable[str], rules: list[str], out: Path) -> None:
    """Train and score what is not in the results yet."""
    path = RESULTS / "rates_crops.csv"
    for name, seed, missing in unfinished(worlds, rules, path):
        began = perf_counter()
        world = load_world(name, int(seed), out / f"{name}-{seed}")
        training, validation = (
            cut(source, moved=moved, seed=int(seed))
            for source, moved in ((world.training, 2), (world.validation, 0))
        )
        mean, spread = training.pixels.mean(dim=0), training.pixels.std(dim=0) + 1e-3
        training, validation = (
            part._replace(pixels=(part.pixels - mean) / spread) for part in (training, validation)
        )
        print(f"{name}:{seed}: {len(training.pixels)} crops, {perf_counter() - began:.0f} s", flush=True)
        for rule in missing:
            began = perf_counter()
            measured = _measured(world, rule, training, validation, seed=int(seed))
            seconds = perf_counter() - began
            keep(path, name, seed, rule, measured)
            print(f"{name}:{seed} {rule}: {seconds:.0f} s, own {measured[rule]['map']:.4f}", flush=True)


def _measured(
    world: World, trained: str, training: Crops, validation: Crops, *, seed: int
) -> dict[str, dict[str, float]]:
    rule: Rule = Sigmoid() if trained == "sigmoid" else ConcurrentSoftmax(world.rates(RATES[trained]))
    network = learn(training, rule, seed=seed)
    with torch.no_grad():
        logits = network(validation.pixels)
    found = {}
    for scored, scoring in scorings(world, trained).items():
        result = evaluate(
            detections(validation, scoring(logits), world.validation),
            world.validation.annotations,
            protocol=world.config.protocol,
            hierarchy=world.validation.hierarchy,
        )
        found[scored] = measures(world, result)
    return found


def main() -> None:
    """Train, or compare what was trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("worlds", nargs="*", help="world:seed")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--trained", default=",".join([*RATES, "sigmoid"]))
    parser.add_argument("--differences", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.worlds:
        if arguments.out is None:
            parser.error("--out is needed to train")
        study(arguments.worlds, arguments.trained.split(","), arguments.out)
    if arguments.differences:
        write_differences(RESULTS / "rates_crops.csv", RESULTS / "rates_crops_differences.csv")


if __name__ == "__main__":
    main()
