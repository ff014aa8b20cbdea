"""Training beside torchvision: its untouched model for a step, its reference script for a run.

    python benchmarks/training.py step [--detector small --size 160 --repeat 40]
    python benchmarks/training.py run --reference vision/references/detection [--steps 60 --repeat 3]

`step`: forward, backward and SGD on one batch of the glyph world, our rule and targets (concurrent softmax, all
labels of an object) against torchvision's Faster R-CNN around the same parts; alternating, medians. `run`: images a
second of `wildbox.training.run.train` against `train_one_epoch` of a checkout of torchvision's references, on the
same images, the model's own parts as above, step by step in turn; both load in the training process, the first 5
steps do not count. Both take SGD without weight decay; with `--clip` ours also clips the gradient, which the
reference does not. In any case ours tells the gradient's norm, balances, keeps the time, can be resumed.

Seconds are those of the processor on a CPU, where other processes then have less influence, and of the clock on a
GPU. Appends to `benchmarks/results/training.csv`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import torch
from environment import append
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from wildbox.demo import draw_demo_world, world_data
from wildbox.detectors.dataset import DetectionDataset, collate
from wildbox.detectors.faster_rcnn import SmallBackbone
from wildbox.glyphs import GlyphWorld
from wildbox.labels.objects import object_labels
from wildbox.training.config import LogConfig, ModelConfig, RunConfig, SamplingConfig, ScheduleConfig
from wildbox.training.model import build_model
from wildbox.training.run import train
from wildbox.training.source import Source, load_source
from wildbox.training.trainer import training_rates

RESULTS = Path(__file__).parent / "results" / "training.csv"
NOT_COUNTED = 5
"""Steps at the start of a run."""


def torchvision_model(config: ModelConfig, *, classes: int) -> nn.Module:
    """torchvision's Faster R-CNN with the numbers of our settings."""
    numbers = {
        "min_size": config.image_size,
        "max_size": round(config.image_size * 5 / 3),
        "rpn_pre_nms_top_n_train": 3 * config.proposals,
        "rpn_post_nms_top_n_train": config.proposals,
        "rpn_batch_size_per_image": min(256, 2 * config.sampled_proposals),
        "box_batch_size_per_image": config.sampled_proposals,
    }
    if config.detector != "small":
        return fasterrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=classes + 1, **numbers
        )
    return FasterRCNN(
        SmallBackbone(),
        rpn_anchor_generator=AnchorGenerator(((16, 24, 36, 54),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=6, sampling_ratio=1),
        box_head=TwoMLPHead(SmallBackbone.out_channels * 36, 256),
        box_predictor=FastRCNNPredictor(256, classes + 1),
        **numbers,
    )


class OneLabel(Dataset[Any]):
    """Our samples as torchvision wants them: one label a box, 0 being the background."""

    def __init__(self, samples: Dataset[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image, target = self.samples[index]
        return image, {"boxes": target["boxes"], "labels": target["labels"] + 1}


def clock(device: str) -> float:
    """Seconds to take differences of."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def settings(arguments: argparse.Namespace, world: Path, **schedule: object) -> RunConfig:
    """What is measured: the demo's model at another size, or a ResNet-50."""
    small = arguments.detector == "small"
    numbers = (
        {"proposals": 100, "sampled_proposals": 64}
        if small
        else {"proposals": 2000, "sampled_proposals": 512}
    )
    model = ModelConfig.model_validate(
        {"detector": arguments.detector, "image_size": arguments.size, "frozen_batch_norm": False, **numbers}
    )
    return RunConfig(
        data=world_data(world, "train"),
        model=model,
        schedule=ScheduleConfig.model_validate(
            {"batch_size": arguments.batch, "optimizer": "sgd", **schedule}
        ),
        log=LogConfig(every=20),
        device=arguments.device,
    )


def measure_steps(arguments: argparse.Namespace, world: Path) -> None:
    """One batch, again and again, by both models in turn."""
    config = settings(arguments, world)
    source = load_source(config.data)
    truth = source.expanded
    classes, rates = len(truth.vocabulary), training_rates(truth, source, config.model)
    samples = DetectionDataset(truth, source.folder, objects=object_labels(truth))
    chosen = range(arguments.batch)
    ours = stepper(build_model(config.model, classes=classes, rates=rates), arguments.device)
    theirs = stepper(torchvision_model(config.model, classes=classes), arguments.device)
    batches = [collate([s[i] for i in chosen]) for s in (samples, OneLabel(samples))]
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(arguments.repeat + 3):
        for step, batch, taken in zip((ours, theirs), batches, times, strict=True):
            began = clock(arguments.device)
            step(*batch)
            if turn >= 3:
                taken.append(clock(arguments.device) - began)
    medians = [statistics.median(taken) for taken in times]
    report("step", arguments, *medians, unit="seconds", ratio=medians[0] / medians[1])


def stepper(model: nn.Module, device: str) -> Callable[[list[Tensor], list[dict[str, Tensor]]], None]:
    """One optimizer step of a model on a batch."""
    model.train().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step(images: list[Tensor], targets: list[dict[str, Tensor]]) -> None:
        losses = model(
            [i.to(device) for i in images], [{k: v.to(device) for k, v in t.items()} for t in targets]
        )
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()

    return step


def measure_runs(arguments: argparse.Namespace, world: Path) -> None:
    """Both loops in this process, step by step in turn, so that both have the same share of a busy machine."""
    sys.path.insert(0, arguments.reference)
    from engine import train_one_epoch

    schedule = {"steps": arguments.steps, "workers": arguments.workers, "precision": arguments.precision}
    # as the reference: a warm-up over its first epoch, all of this run, and no weight decay
    schedule |= {"warmup_steps": arguments.steps, "weight_decay": 0, "clip_norm": 10 * arguments.clip}
    config = settings(arguments, world, **schedule)
    # the reference knows no balance: both take every image alike
    config = config.model_copy(update={"sampling": SamplingConfig(hybrid_start=1.0)})
    source = load_source(config.data)
    ours, theirs = [], []
    for _ in range(arguments.repeat):
        turns = Turns(arguments.device)
        loops = (
            Thread(target=run_ours, args=(config, source, turns)),
            Thread(target=run_reference, args=(config, source, train_one_epoch, turns)),
        )
        for loop in loops:
            loop.start()
        for loop in loops:
            loop.join()
        seconds = [sum(times[NOT_COUNTED:]) for times in turns.times]
        images = (arguments.steps - NOT_COUNTED) * arguments.batch
        ours.append(images / seconds[0])
        theirs.append(images / seconds[1])
        print(f"ours {ours[-1]:.2f}, reference {theirs[-1]:.2f} images/s", flush=True)
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    print("ratios", *(f"{ratio:.3f}" for ratio in ratios))
    what = "run, clipped" if arguments.clip else "run"
    report(what, arguments, statistics.median(ours), statistics.median(theirs), unit="images a second",
           ratio=statistics.median(ratios))  # fmt: skip


class Turns:
    """Two threads of which one works at a time, a step each in turn; how long each step took."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.times: tuple[list[float], list[float]] = ([], [])
        self._turn, self._left = 0, {0, 1}
        self._began = 0.0
        self._changed = Condition()

    def begin(self, who: int) -> None:
        """Wait for the first turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn == who)
            self._began = clock(self.device)

    def step_done(self, who: int) -> None:
        """Note the time, let the other do a step, and wait."""
        with self._changed:
            self.times[who].append(clock(self.device) - self._began)
            self._pass_on(who)
            self._changed.wait_for(lambda: self._turn == who)
            self._began = clock(self.device)

    def leave(self, who: int) -> None:
        """Work no more."""
        with self._changed:
            self._left.discard(who)
            self._pass_on(who)

    def _pass_on(self, who: int) -> None:
        self._turn = 1 - who if 1 - who in self._left else who
        self._changed.notify_all()


def run_ours(config: RunConfig, source: Source, turns: Turns) -> None:
    """`train`, in turns."""
    turns.begin(0)
    with tempfile.TemporaryDirectory() as out:
        train(config, out, source=source, progress=lambda *_: turns.step_done(0))
    turns.leave(0)


def run_reference(
    config: RunConfig, source: Source, train_one_epoch: Callable[..., object], turns: Turns
) -> None:
    """torchvision's loop, in turns."""
    turns.begin(1)
    schedule, truth = config.schedule, source.expanded
    samples = OneLabel(DetectionDataset(truth, source.folder, objects=None))
    sampler = torch.utils.data.RandomSampler(
        samples, replacement=True, num_samples=schedule.steps * schedule.batch_size
    )
    loader = DataLoader(
        samples,
        batch_size=schedule.batch_size,
        sampler=sampler,
        num_workers=schedule.workers,
        collate_fn=collate,
        pin_memory=config.device != "cpu",
    )
    model = torchvision_model(config.model, classes=len(truth.vocabulary)).to(config.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    train_one_epoch(model, optimizer, InTurns(loader, turns), torch.device(config.device), 0, 20)
    turns.leave(1)


class InTurns:
    """A loader whose steps are taken in turns: from asking for a batch to asking for the next."""

    def __init__(self, loader: DataLoader[Any], turns: Turns) -> None:
        self.loader, self.turns = loader, turns

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            yield batch
            self.turns.step_done(1)


def report(
    what: str, arguments: argparse.Namespace, ours: float, theirs: float, *, unit: str, ratio: float
) -> None:
    """Print and keep a row; `ratio` is ours to theirs."""
    row = {"what": what, "detector": arguments.detector, "size": arguments.size, "batch": arguments.batch}
    row |= {"device": arguments.device, "precision": arguments.precision, "workers": arguments.workers}
    row |= {
        "unit": unit,
        "ours": round(ours, 4),
        "torchvision": round(theirs, 4),
        "ratio": round(ratio, 3),
    }
    print(row)
    append(RESULTS, row)


def main() -> None:
    """Choose."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("step", "run"))
    parser.add_argument("--detector", default="small", choices=("small", "faster-rcnn"))
    parser.add_argument("--size", type=int, default=160, help="shorter side of the network's input")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="32", help="of our run; the reference's own stays")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeat", type=int, default=0)
    parser.add_argument("--clip", action="store_true", help="clip the gradient, in our run alone")
    parser.add_argument(
        "--reference", default="", help="folder references/detection of a torchvision checkout"
    )
    arguments = parser.parse_args()
    arguments.repeat = arguments.repeat or (40 if arguments.what == "step" else 3)
    if arguments.what == "run" and not (Path(arguments.reference) / "engine.py").exists():
        parser.error("run needs --reference: git clone https://github.com/pytorch/vision")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        side = GlyphWorld(images=200, validation_images=1, size=max(160, arguments.size))
        world = draw_demo_world(Path(folder), side, processes=1, progress=lambda *_: None)
        (measure_steps if arguments.what == "step" else measure_runs)(arguments, world)


if __name__ == "__main__":
    main()
