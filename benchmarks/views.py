"""What it gains, and costs, to show a trained model each image in several ways (test-time augmentation).

    python benchmarks/views.py RUN [--sizes 160 200] [--protocol open-images-challenge]

RUN is the folder of a run with a validation set; its `checkpoint.pt` predicts that set in one view, mirrored too, in
two sizes, and in both of each. Appends mean AP, and the processor time as a multiple of one view's, to
`benchmarks/results/views.csv`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from environment import append

from wildbox.detectors.inference import predict, views
from wildbox.detectors.loading import images_in_order
from wildbox.evaluation import evaluate
from wildbox.training.checkpoint import load_checkpoint
from wildbox.training.config import RunConfig
from wildbox.training.model import restore_model
from wildbox.training.source import load_source

RESULTS = Path(__file__).parent / "results" / "views.csv"


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--sizes", type=int, nargs=2, default=(160, 200))
    parser.add_argument("--protocol", default="open-images-challenge")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    saved = load_checkpoint(arguments.run / "checkpoint.pt")
    config = RunConfig.model_validate(saved.config)
    if config.validation is None:
        parser.error(f"{arguments.run} has no validation set")
    source = load_source(config.validation, tiles=arguments.run / "tiles-validation")
    truth, model = source.annotations, restore_model(saved)
    first, second = arguments.sizes
    alone = None
    for sizes, flip in (
        ((first,), False),
        ((first,), True),
        ((first, second), False),
        ((first, second), True),
    ):
        shown, began = views(sizes, flip=flip), time.process_time()
        batches = images_in_order(truth, source.folder, batch_size=8)
        scorings = {"own": model.roi_heads.rule.scores}
        found = predict(model, batches, truth, scorings=scorings, shown=shown)["own"]
        took = time.process_time() - began
        alone = alone or took
        result = evaluate(found, truth, protocol=arguments.protocol, hierarchy=source.hierarchy)
        row = {
            "sizes": " ".join(map(str, sizes)),
            "flip": flip,
            "mean_ap": round(result.mean_ap, 4),
            "times_one_view": round(took / alone, 2),
            "images": len(truth.image_ids),
            "steps": saved.step,
        }
        print(row)
        append(RESULTS, row)


if __name__ == "__main__":
    main()
