"""A training step with our rule and targets against torchvision's own Faster R-CNN, alternating in one run.

    python benchmarks/detector_step.py [--device cpu] [--backbone resnet50] [--size 800] [--batch 2] [--repeat 20]

Both have the same body, pyramid, anchors, proposals and samples, 500 classes by default, random weights, SGD; a step
is forward, backward and update on the same images. Ours learns multi-hot labels by concurrent softmax, once with
boxes of all classes (our default) and once with boxes of each class (torchvision's way). On a GPU seconds are wall
time between synchronisations, and bfloat16 autocast is on with `--bf16`; on a CPU they are the process's own processor
time, since the machine is shared. Appends the medians to `benchmarks/results/detector_step.csv`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from environment import append
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator

from wildbox.classification import ConcurrentSoftmax
from wildbox.detectors.backbones import pyramid
from wildbox.detectors.faster_rcnn import faster_rcnn

RESULTS = Path(__file__).parent / "results" / "detector_step.csv"
BOXES = 8
"""Truth boxes of an image: half as many objects, of two labels each."""


def batch(arguments: argparse.Namespace) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Images of noise; each object is two identical boxes of different classes."""
    generator = torch.Generator().manual_seed(0)
    images, targets = [], []
    for _ in range(arguments.batch):
        images.append(torch.rand(3, arguments.size, arguments.size, generator=generator))
        corner = torch.rand(BOXES // 2, 2, generator=generator) * 0.6
        side = torch.rand(BOXES // 2, 2, generator=generator) * 0.3 + 0.1
        boxes = torch.cat([corner, corner + side], dim=1).repeat(2, 1) * arguments.size
        labels = torch.randint(0, arguments.classes, (BOXES,), generator=generator)
        own = nn.functional.one_hot(labels, arguments.classes).bool()
        multi_hot = own | own.roll(BOXES // 2, dims=0)
        targets.append({"boxes": boxes, "labels": labels, "multi_hot": multi_hot})
    device = arguments.device
    return [x.to(device) for x in images], [{k: v.to(device) for k, v in t.items()} for t in targets]


def ours(arguments: argparse.Namespace, *, per_class_boxes: bool) -> nn.Module:
    """Concurrent softmax with rates of a tenth of the pairs."""
    k = arguments.classes + 1
    generator = torch.Generator().manual_seed(1)
    rates = torch.rand(k, k, generator=generator) * (torch.rand(k, k, generator=generator) < 0.1)
    rates.fill_diagonal_(0)
    rates[-1], rates[:, -1] = 0, 0
    return faster_rcnn(
        pyramid(arguments.backbone),
        classes=arguments.classes,
        rule=ConcurrentSoftmax(rates),
        image_size=arguments.size,
        proposals=arguments.proposals,
        sampled_proposals=arguments.sampled,
        per_class_boxes=per_class_boxes,
    )


def torchvisions(arguments: argparse.Namespace) -> nn.Module:
    """Untouched; its backbone is the same, since torchvision makes pyramids of some of its bodies only."""
    sizes = tuple((8 * 2**level,) for level in range(2, 7))
    model: nn.Module = FasterRCNN(
        pyramid(arguments.backbone),
        num_classes=arguments.classes + 1,
        min_size=arguments.size,
        max_size=round(arguments.size * 5 / 3),
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=3 * arguments.proposals,
        rpn_post_nms_top_n_train=arguments.proposals,
        rpn_batch_size_per_image=min(256, 2 * arguments.sampled),
        box_batch_size_per_image=arguments.sampled,
    )
    return model


def stepper(
    model: nn.Module,
    images: list[Tensor],
    targets: list[dict[str, Tensor]],
    arguments: argparse.Namespace,
) -> Callable[[], float]:
    """A function that does one step and says how long it took, in seconds."""
    cuda = arguments.device.startswith("cuda")
    model.to(arguments.device).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4, momentum=0.9)
    clock = time.perf_counter if cuda else time.process_time

    def step() -> float:
        if cuda:
            torch.cuda.synchronize()
        start = clock()
        with torch.autocast("cuda" if cuda else "cpu", torch.bfloat16, enabled=arguments.bf16):
            losses = model(images, targets)
            total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        if cuda:
            torch.cuda.synchronize()
        return clock() - start

    return step


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=800)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--classes", type=int, default=500)
    parser.add_argument("--proposals", type=int, default=1000)
    parser.add_argument("--sampled", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    images, targets = batch(arguments)
    with_background_first = [t | {"labels": t["labels"] + 1} for t in targets]
    steps = {
        "torchvision": stepper(torchvisions(arguments), images, with_background_first, arguments),
        "boxes of all classes": stepper(ours(arguments, per_class_boxes=False), images, targets, arguments),
        "boxes of each class": stepper(ours(arguments, per_class_boxes=True), images, targets, arguments),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repetition in range(arguments.repeat + 2):
        for name, step in steps.items():
            took = step()
            if repetition >= 2:
                seconds[name].append(took)
    peer = statistics.median(seconds["torchvision"])
    for name in ("boxes of all classes", "boxes of each class"):
        own = statistics.median(seconds[name])
        pairs = zip(seconds[name], seconds["torchvision"], strict=True)
        row = {"what": name, "seconds": round(own, 4), "torchvision_seconds": round(peer, 4)}
        row |= {
            "ratio": round(own / peer, 3),
            "median_of_ratios": round(statistics.median(a / b for a, b in pairs), 3),
            "ratio_of_fastest": round(min(seconds[name]) / min(seconds["torchvision"]), 3),
        }
        asked = ("device", "backbone", "size", "batch", "classes", "sampled", "repeat", "bf16")
        row |= {key: getattr(arguments, key) for key in asked}
        print(row)
        append(RESULTS, row)


if __name__ == "__main__":
    main()
