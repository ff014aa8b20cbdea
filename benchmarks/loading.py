"""Loading training images on one core, beside the decoder alone: images a second, and the share of the decoder's.

    python benchmarks/loading.py INSTANCES.json FOLDER [--repeat 7]

`decoder` turns the bytes of the files, in memory, into pixels, as `load_image` does; `file` also reads them;
`sample` is what training asks of `DetectionDataset`, with boxes and the labels of their objects; the others change
the image at random, each by one change of `data.augment`. All alternate in one run, on JPEG files alone; seconds are
the process's own processor time, medians of the repetitions. Appends to `benchmarks/results/loading.csv`.
"""

from __future__ import annotations

import argparse
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from decoding import each, simplejpeg_decoder
from environment import append, processor_seconds

from wildbox.detectors.augmentation import Augmentation
from wildbox.detectors.dataset import DetectionDataset, image_path, load_image
from wildbox.formats.coco import read_coco
from wildbox.labels.objects import object_labels

RESULTS = Path(__file__).parent / "results" / "loading.csv"
CHANGES = {
    "sample": None,
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
    objects = object_labels(table)
    paths = [image_path(table, index, arguments.folder) for index in range(len(table.image_ids))]
    contents = [path.read_bytes() for path in paths]
    decode = simplejpeg_decoder()
    draws = [(index, index) for index in range(len(paths))]
    ways = {"decoder": partial(each, decode, contents), "file": partial(each, load_image, paths)}
    for name, change in CHANGES.items():
        dataset = DetectionDataset(
            table, arguments.folder, objects=objects, augmentation=change, as_bytes=True
        )
        ways[name] = partial(each, dataset.__getitem__, draws)
    seconds = processor_seconds(ways, repeat=arguments.repeat)
    for name, took in seconds.items():
        row = {
            "what": name,
            "images": len(paths),
            "images_per_second": round(len(paths) / took, 1),
            "share_of_decoder": round(seconds["decoder"] / took, 3),
        }
        print(row)
        append(RESULTS, row)


if __name__ == "__main__":
    main()
