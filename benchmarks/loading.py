"""Loading training images on one core, beside the decoder alone: images a second, and the share of the decoder's.

    python benchmarks/loading.py INSTANCES.json FOLDER [--repeat 7]

`decoder` turns the bytes of the files, in memory, into pixels, as `load_image` does; `file` also reads them;
`sample` is what training asks of `DetectionDataset`, with boxes and the labels of their objects; the others change
the image at random, each by one change of `data.augment`. All alternate in one run, on JPEG files alone; seconds are
the process's own processor time, medians of the repetitions. Appends to `benchmarks/results/loading.csv`.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from decoding import simplejpeg_decoder
from environment import append

from wildbox.detectors.augmentation import Augmentation
from wildbox.detectors.dataset import DetectionDataset, image_path, load_image
from wildbox.formats.coco import read_coco
from wildbox.labels.objects import object_labels

RESULTS = Path(__file__).parent / "results" / "loading.csv"
CHANGES = {
    "sample, flip": Augmentation(flip=0.5),
    "sample, crop": Augmentation(crop=0.5),
    "sample, scale": Augmentation(scale=(0.5, 1.5)),
    "sample, colour": Augmentation(colour=0.5),
}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("instances", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    table = read_coco(arguments.instances)
    names = [table.file_name(index) for index in range(len(table.image_ids))]
    table = table.select(np.flatnonzero([name.endswith(".jpg") for name in names]))
    images, objects = range(len(table.image_ids)), object_labels(table)
    paths = [image_path(table, index, arguments.folder) for index in images]
    contents = [path.read_bytes() for path in paths]
    decode = simplejpeg_decoder()
    plain = DetectionDataset(table, arguments.folder, objects=objects, as_bytes=True)
    ways: dict[str, Callable[[int], object]] = {
        "decoder": lambda index: decode(contents[index]),
        "file": lambda index: load_image(paths[index]),
        "sample": lambda index: plain[index, index],
    }
    for name, change in CHANGES.items():
        changed = DetectionDataset(
            table, arguments.folder, objects=objects, augmentation=change, as_bytes=True
        )
        ways[name] = lambda index, changed=changed: changed[index, index]  # type: ignore[misc]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(arguments.repeat + 1):
        for name, way in ways.items():
            start = time.process_time()
            for index in images:
                way(index)
            if repetition:  # the first one warms up
                seconds[name].append(time.process_time() - start)
    alone = statistics.median(seconds["decoder"])
    for name, taken in seconds.items():
        took = statistics.median(taken)
        row = {
            "what": name,
            "images": len(images),
            "images_per_second": round(len(images) / took, 1),
            "share_of_decoder": round(alone / took, 3),
        }
        print(row)
        append(RESULTS, row)


if __name__ == "__main__":
    main()
