"""The settings of a run, as frozen tables with units."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wildbox.training.settings import Settings

RuleName = Literal[
    "softmax",
    "softmax-multihot",
    "concurrent-softmax",
    "sigmoid",
    "focal",
    "equalization",
    "seesaw",
    "federated",
]
ProtocolName = Literal["open-images-challenge", "open-images-v2", "coco", "lvis", "voc", "voc-11-point"]
Positive = Annotated[int, Field(gt=0)]
Side = Annotated[int, Field(ge=32)]
"""Of the network's input, in pixels; in less, detectors of stride 8 to 64 have no map worth the name."""


Share = Annotated[float, Field(ge=0, le=1)]


class AugmentConfig(Settings):
    """How training images are changed at random; by default they are not."""

    colour: Share = 0.0
    """Probability of changed brightness, contrast, saturation, hue and order of channels."""
    crop: Share = 0.0
    """Probability of a random part of the image (SSD's crop)."""
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.0, 1.0)
    """Smallest and largest factor that the image is resized by, within a frame of its own size."""
    flip: Share = 0.0
    """Probability of left and right exchanged."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale = {list(self.scale)}: expected the smaller factor first")
        return self


class DataConfig(Settings):
    """Where a set of annotated images lies, and how training uses it."""

    format: Literal["open-images", "coco"] = "open-images"
    boxes: Path
    """Boxes CSV (Open Images) or instances JSON (COCO)."""
    images: Path
    """Folder of the images; Open Images' files are named id + ".jpg"."""
    classes: Path | None = None
    """Class descriptions CSV (Open Images); without it, the classes that occur."""
    hierarchy: Path | None = None
    """Hierarchy JSON (Open Images)."""
    image_labels: Path | None = None
    """Human-verified image labels CSV (Open Images)."""
    only: Path | None = None
    """List of images to keep, one id or file name (with or without extension) a line."""
    without: Path | None = None
    """List of images to leave out, likewise."""
    tile_size: Positive | None = None
    """Side of the square tiles that large images are cut into, in pixels; None leaves them whole."""
    tile_overlap: Annotated[int, Field(ge=0)] = 0
    """Pixels that neighbouring tiles share."""
    group_of: Literal["train", "ignore"] = "train"
    """train learns boxes around groups like others; ignore does without them, and what lies in them by half or
    more is no background either."""
    max_corrupt_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of the images, that may fail to open: they are told, and in training others taken instead, in evaluation nothing
    is found on them. 0: the first ends it."""
    augment: AugmentConfig = AugmentConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.format == "coco":
            for key in ("classes", "hierarchy", "image_labels"):
                if getattr(self, key) is not None:
                    raise ValueError(f'{key} belongs to format "open-images", not "coco"')
        if self.tile_overlap >= (self.tile_size or 1):
            raise ValueError(
                f"tile_overlap {self.tile_overlap}: expected less than tile_size, which is {self.tile_size}"
            )
        return self

    def refuse_training_settings(self, table: str) -> None:
        """`ValueError` where something is set that only training heeds; `table` is what the settings call this."""
        for key in ("group_of", "augment"):
            if getattr(self, key) != DataConfig.model_fields[key].default:
                raise ValueError(f"{table}.{key} is set but only training heeds it")


class ModelConfig(Settings):
    """The detector and its rule."""

    detector: Literal["small", "faster-rcnn", "cascade-rcnn"] = "small"
    """small: one level at stride 8, for a CPU; the others stand on a backbone with a feature pyramid."""
    backbone: str = "resnet50"
    """torchvision's name, or timm's after "timm/"; the small detector has its own."""
    backbone_weights: Path | Literal["imagenet"] | None = None
    """A classifier's state dict, or what the library publishes for the backbone; None starts from random weights."""
    initial_weights: Path | Literal["coco"] | None = None
    """A whole detector's state dict or checkpoint; the class head starts anew unless its classes are the same.
    coco: torchvision's Faster R-CNN with ResNet-50."""
    deformable: bool = False
    """Deformable convolutions in the backbone's stages after the first (a ResNet's 3 to 5)."""
    frozen_stages: Annotated[int, Field(ge=0)] = 0
    """Levels of the backbone, from the finest, that do not learn."""
    frozen_batch_norm: bool = True
    """Of the backbone; a backbone from random weights wants False."""
    rule: RuleName = "concurrent-softmax"
    """softmax learns the label of the matched box; all others the labels of its object."""
    per_class_boxes: bool = False
    """Each class has its own refined box; else they share one. Not in a cascade."""
    anchor_scale: Annotated[float, Field(gt=0)] = 8.0
    """Side of an anchor in cells of its level: 8 is 32 pixels at stride 4. The small detector has its own."""
    image_size: Side = 160
    """Shorter side of the network's input, in pixels."""
    max_image_size: Side | None = None
    """Bounds the longer side, in pixels; None is 5 / 3 of `image_size`."""
    proposals: Positive = 100
    """Kept an image after the first stage."""
    sampled_proposals: Positive = 64
    """Of these, used for the second stage's loss, an image."""
    score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.02
    suppression: Literal["nms", "linear", "gaussian"] = "nms"
    """Of overlapping detections of a class: dropped, or their scores lowered (linear and gaussian Soft-NMS)."""
    nms_iou: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Overlap above which a detection is dropped, or lowered by linear Soft-NMS."""
    detections_per_image: Positive = 200
    rate_threshold: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Concurrent rates at or below it count as 0."""
    rate_bound: Literal["rate", "wilson"] = "rate"
    """wilson takes the lower end of a rate's 95 % interval in its place: rates of few boxes shrink."""
    rate_gamma: Annotated[float, Field(ge=0)] = 1.0
    """Each rate to this power: 1 is the paper's, 0 makes every rate that is left 1 (see docs/sharper_rates.md)."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.detector == "small":
            for name in ("backbone", "backbone_weights", "deformable", "frozen_stages", "anchor_scale"):
                if getattr(self, name) != ModelConfig.model_fields[name].default:
                    raise ValueError(f"{name} is given but the small detector takes none")
        if self.detector == "cascade-rcnn" and self.per_class_boxes:
            raise ValueError("per_class_boxes is given but a cascade refines the boxes of all classes")
        if self.initial_weights == "coco" and (self.detector == "small" or self.backbone != "resnet50"):
            raise ValueError("initial_weights = 'coco' needs a detector on backbone 'resnet50'")
        if self.max_image_size is not None and self.max_image_size < self.image_size:
            raise ValueError(
                f"max_image_size {self.max_image_size}, of the longer side, is below image_size {self.image_size}, "
                "of the shorter"
            )
        return self


class SamplingConfig(Settings):
    """Which images a step sees (METHOD section 5)."""

    balance: Annotated[float, Field(ge=0)] = 0.7
    """lambda of soft-balance; 1 is class-aware sampling."""
    hybrid_start: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Share of the steps that run non-balanced before; 0 balances from the start, 1 never does."""
    aspect_batches: bool = False
    """Images of like width to height share a batch, which saves padding where wide and tall ones occur: draws
    change places within 16 batches of each process. Headers of all files are read where the boxes are relative."""


class ScheduleConfig(Settings):
    """How long and how fast."""

    steps: Positive = 1000
    """Steps of the optimizer."""
    batch_size: Positive = 8
    """Images a step, over all processes."""
    accumulate: Positive = 1
    """Parts that a process takes its share of a step in, one after the other: less memory, the same gradient but
    for normalizations over fewer images at a time."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """AdamW does not see the scale of a loss; with SGD a rule that sums over labels or classes also learns faster."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Linear from 0; then as `decay` says. By default 100, or all steps where there are fewer."""
    decay: Literal["cosine", "step"] = "cosine"
    """cosine falls to `final_rate` times the full rate, step by `decay_factor` at each of `decay_at`."""
    final_rate: Annotated[float, Field(ge=0, le=1)] = 0.02
    decay_at: tuple[Positive, ...] = ()
    """Steps, ascending."""
    decay_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    clip_norm: Annotated[float, Field(ge=0)] = 10.0
    """Largest norm of the gradient; 0 does not clip."""
    freeze: tuple[str, ...] = ()
    """Patterns of parameter names that do not learn, such as "backbone.body.layer1.*"."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay a step of the moving average of the weights, which is evaluated and saved beside them; 0 keeps none."""
    precision: Literal["32", "bf16-mixed"] = "32"
    channels_last: bool = False
    """Memory order of the convolutions; pays on GPUs with tensor cores."""
    compile: bool = False
    """Compile the backbone with torch.compile; pays in long runs on a GPU."""
    checkpoint_every: Positive = 200
    """Steps between checkpoints."""
    keep_checkpoints: Positive = 2
    """The newest so many are kept, and the best where there is a validation set."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that load images, for each that trains; 0 loads in the training process."""

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be taken in accumulate = {self.accumulate} parts"
            )
        if self.decay == "cosine" and self.decay_at:
            raise ValueError('decay_at is given but decay is "cosine"; set decay = "step"')
        if self.decay == "step" and not self.decay_at:
            raise ValueError('decay is "step" but decay_at, the steps, is missing')
        if "warmup_steps" not in self.model_fields_set:
            object.__setattr__(self, "warmup_steps", min(self.warmup_steps, self.steps))
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps}: expected at most steps = {self.steps}")
        if list(self.decay_at) != sorted(set(self.decay_at)) or any(at >= self.steps for at in self.decay_at):
            raise ValueError(
                f"decay_at {list(self.decay_at)}: expected ascending steps below steps = {self.steps}"
            )
        return self


class EvaluationConfig(Settings):
    """Average precision on the validation set while a run trains."""

    every: Positive = 1000
    """Steps between evaluations; the last step is always one."""
    protocol: ProtocolName = "open-images-challenge"
    batch_size: Positive = 8
    """Images at once, of a process."""


class LogConfig(Settings):
    """Where a run tells how it fares, beside `log.jsonl`."""

    every: Positive = 20
    """Steps between lines."""
    tensorboard: bool = False
    """Also write event files into the run's folder; needs `pip install 'wildbox[tensorboard]'`."""
    wandb: str = ""
    """Project of Weights & Biases to log to as well; needs `pip install 'wildbox[wandb]'`."""


class RunConfig(Settings):
    """One training run: `wildbox train RUN.toml`."""

    data: DataConfig
    validation: DataConfig | None = None
    """Images to evaluate on during training; without it nothing is evaluated."""
    model: ModelConfig = ModelConfig()
    sampling: SamplingConfig = SamplingConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    log: LogConfig = LogConfig()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: str = "auto"
    """"cpu", "cuda", "cuda:1" or "auto": the GPU where there is one."""
    processes: Positive = 1
    """That train on each machine, one a GPU; leave it where torchrun starts them."""
    machines: Positive = 1
    """That take part; the same command is started on each."""
    threads: Positive = 1
    """Of each training process, on a CPU."""

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        if self.validation is None and self.evaluation != EvaluationConfig():
            raise ValueError("evaluation is set but there is no validation set; add a table [validation]")
        if self.validation is not None:
            self.validation.refuse_training_settings("validation")
        if self.validation is not None and self.evaluation.protocol in ("coco", "lvis"):
            if self.validation.format != "coco":
                raise ValueError(
                    f'evaluation.protocol {self.evaluation.protocol} needs validation.format = "coco"'
                )
            for key in ("only", "without", "tile_size"):
                if getattr(self.validation, key) is not None:
                    raise ValueError(
                        f"evaluation.protocol {self.evaluation.protocol} takes no validation.{key}"
                    )
        if ":" in self.device and self.processes * self.machines > 1:
            raise ValueError(
                f"device {self.device} is one, but {self.processes * self.machines} processes are asked"
            )
        return self
