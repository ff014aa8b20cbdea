"""What ensembles of a study's finished models give, beside the models alone.

    wildbox demo --full --out out/demo
    python benchmarks/ensembling_gain.py out/demo

Weights: `equal`; `halves`: by the class-wise AP on one half of the validation images (every other one) for the other
half, and the reverse, so that no image weighs the models that are judged on it; `same`: by the logs of all validation
images, which flatters. mAP is always that of all validation images together. Writes
`benchmarks/results/ensembling_gain.csv`.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from wildbox import (
    Annotations,
    Detections,
    Hierarchy,
    evaluate,
    read_detections,
    read_hierarchy,
    read_open_images,
)
from wildbox.ensembling import class_weights, nms, soft_nms, weighted_boxes_fusion
from wildbox.formats.files import write_csv

RESULTS = Path(__file__).parent / "results" / "ensembling_gain.csv"
MODELS = {
    "softmax": "balance_bsl_sm",
    "softmax-multihot": "softmax-multihot_csmconf",
    "sigmoid": "sigmoid_own",
    "concurrent": "balance_cs_csmconf",
    "non-balance": "non-balance_csmconf",
    "class-aware": "class-aware_csmconf",
    "soft-balance": "soft-balance_csmconf",
    "class-aware-hybrid": "class-aware-hybrid_csmconf",
}
"""Name -> file of detections, each with the scores of its own rule."""
ENSEMBLES = (
    ("concurrent", "class-aware", "sigmoid"),
    ("class-aware", "soft-balance"),
    ("class-aware", "soft-balance", "class-aware-hybrid"),
    tuple(MODELS),
)
METHODS: dict[str, Callable[..., Detections]] = {
    "wbf": weighted_boxes_fusion,
    "nms": nms,
    "soft-nms": soft_nms,
    "soft-nms linear 0.3": partial(soft_nms, iou=0.3),
}
GROUPS = ("head", "middle", "tail")


def part(found: Detections, images: np.ndarray) -> Detections:
    """The detections on some images."""
    place = np.full(len(found.image_ids), -1)
    place[images] = np.arange(len(images))
    rows = place[found.image] >= 0
    ids = tuple(found.image_ids[i] for i in images)
    columns = (found.boxes[rows], found.label[rows], found.score[rows])
    return Detections(found.vocabulary, ids, place[found.image[rows]], *columns)


def average_precisions(models: list[Detections], truth: Annotations, hierarchy: Hierarchy) -> np.ndarray:
    """(models, classes)"""
    return np.array([evaluate(model, truth, hierarchy=hierarchy).ap for model in models])


def by_halves(
    method: Callable[..., Detections], models: list[Detections], truth: Annotations, hierarchy: Hierarchy
) -> Detections:
    """Fuse each half of the images with weights from the other."""
    everything = np.arange(len(truth.image_ids))
    halves = everything[::2], everything[1::2]
    image, columns = [], []
    for here, there in (halves, halves[::-1]):
        known = average_precisions([part(m, there) for m in models], truth.select(there), hierarchy)
        found = method([part(m, here) for m in models], weights=class_weights(known))
        image.append(here[found.image])
        columns.append((found.boxes, found.label, found.score))
    joined = [np.concatenate(column) for column in zip(*columns, strict=True)]
    return Detections(truth.vocabulary, truth.image_ids, np.concatenate(image), *joined)


def main() -> None:
    """Evaluate the models and the ensembles, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a finished `wildbox demo --full`")
    folder = parser.parse_args().study
    world = folder / "world"
    truth = read_open_images(
        world / "validation-annotations-bbox.csv",
        classes=world / "class-descriptions.csv",
        image_labels=world / "validation-annotations-human-imagelabels.csv",
    )
    hierarchy = read_hierarchy(world / "hierarchy.json", truth.vocabulary)
    with (folder / "audit" / "classes.csv").open(encoding="utf-8", newline="") as stream:
        group = {row["class_id"]: row["group"] for row in csv.DictReader(stream)}
    groups = [group[id_] for id_ in truth.vocabulary.ids]
    single = {
        name: read_detections(
            folder / "detections" / f"{file}.csv", vocabulary=truth.vocabulary, image_ids=truth.image_ids
        )
        for name, file in MODELS.items()
    }
    rows: list[tuple[str, ...]] = []

    def add(models: str, method: str, weights: str, found: Detections) -> None:
        result = evaluate(found, truth, hierarchy=hierarchy)
        mean = result.by_group(groups)
        rows.append(
            (models, method, weights, *(f"{v:.4f}" for v in (result.mean_ap, *map(mean.get, GROUPS))))
        )
        print(*rows[-1], flush=True)

    for name, found in single.items():
        add(name, "alone", "", found)
    for names in ENSEMBLES:
        models, told = [single[name] for name in names], " + ".join(names)
        known = class_weights(average_precisions(models, truth, hierarchy))
        for name, method in METHODS.items():
            add(told, name, "equal", method(models))
            add(told, name, "halves", by_halves(method, models, truth, hierarchy))
            add(told, name, "same", method(models, weights=known))
    write_csv(RESULTS, ("models", "method", "weights", "map", *(f"map_{g}" for g in GROUPS)), rows)


if __name__ == "__main__":
    main()
