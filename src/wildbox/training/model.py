"""From the names in settings to a detector, its rule and its data; the one place that knows those names."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from wildbox.annotations import Annotations
from wildbox.classification import (
    ConcurrentSoftmax,
    Equalization,
    Federated,
    Focal,
    Rule,
    Seesaw,
    Sigmoid,
    Softmax,
)
from wildbox.detectors.augmentation import Augmentation
from wildbox.detectors.backbones import pyramid
from wildbox.detectors.dataset import DetectionDataset
from wildbox.detectors.detector import Detector
from wildbox.detectors.faster_rcnn import Settings, cascade_rcnn, faster_rcnn, small_faster_rcnn
from wildbox.detectors.roi_heads import Scoring
from wildbox.detectors.suppression import HardNMS, SoftNMS, Suppression
from wildbox.detectors.weights import load_weights
from wildbox.errors import ConfigError, InputWarning
from wildbox.labels.objects import ObjectLabels, object_labels, same_object_pairs
from wildbox.training.checkpoint import Checkpoint
from wildbox.training.config import ModelConfig, RuleName, RunConfig
from wildbox.vocabulary import Vocabulary

ScoringName = Literal["own", "softmax", "concurrent", "sharp"]
"""own is the rule of training, concurrent and sharp are concurrent softmax: by the rates of training, and by these
with every rate above 0 made 1."""
SOFTMAX_FAMILY = ("softmax", "softmax-multihot", "concurrent-softmax")
"""Rules whose logits softmax and concurrent softmax both score."""


def build_rule(name: RuleName, rates: Tensor, *, frequencies: Tensor | None = None) -> Rule:
    """The rule that settings call `name`.

    Args:
        rates: (C + 1, C + 1), used by concurrent softmax alone.
        frequencies: (C,) share of the training images that hold each class, used by equalization and federated
            loss; None where a state that is loaded afterwards brings them.
    """
    classes = len(rates) - 1
    frequencies = torch.ones(classes) if frequencies is None else frequencies
    match name:
        case "softmax" | "softmax-multihot":
            return Softmax()
        case "concurrent-softmax":
            return ConcurrentSoftmax(rates)
        case "sigmoid":
            return Sigmoid()
        case "focal":
            return Focal()
        case "equalization":
            return Equalization(frequencies)
        case "seesaw":
            return Seesaw(classes)
        case "federated":
            return Federated(frequencies)


def build_suppression(config: ModelConfig) -> Suppression:
    """What the settings say of overlapping detections."""
    if config.suppression == "nms":
        return HardNMS(config.nms_iou)
    return SoftNMS(config.suppression, iou=config.nms_iou, min_score=config.score_threshold)


def build_model(
    config: ModelConfig,
    *,
    classes: int,
    rates: Tensor,
    frequencies: Tensor | None = None,
    vocabulary: Vocabulary | None = None,
    initialised: bool = True,
) -> Detector:
    """The detector of the settings, with weights from the files they name, else from torch's generator.

    Which tensors of `initial_weights` were kept is told by an `InputWarning`.

    Args:
        rates, frequencies: see `build_rule`.
        vocabulary: with it, a checkpoint of ours with the same classes keeps its class head.
        initialised: False leaves files alone, for a model whose weights will be loaded anyway.
    """
    settings: Settings = {
        "image_size": config.image_size,
        "max_image_size": config.max_image_size,
        "proposals": config.proposals,
        "sampled_proposals": config.sampled_proposals,
        "per_class_boxes": config.per_class_boxes,
        "score_threshold": config.score_threshold,
        "suppression": build_suppression(config),
        "detections_per_image": config.detections_per_image,
    }
    rule = build_rule(config.rule, rates, frequencies=frequencies)
    if config.detector == "small":
        model = small_faster_rcnn(classes=classes, rule=rule, **settings)
    else:
        body = pyramid(
            config.backbone,
            weights=config.backbone_weights if initialised else None,
            deformable=config.deformable,
            frozen_stages=config.frozen_stages,
            frozen_batch_norm=config.frozen_batch_norm,
        )
        make = cascade_rcnn if config.detector == "cascade-rcnn" else faster_rcnn
        model = make(body, classes=classes, rule=rule, anchor_scale=config.anchor_scale, **settings)
    if initialised and config.initial_weights is not None:
        report = load_weights(model, config.initial_weights, vocabulary=vocabulary)
        warnings.warn(str(report), InputWarning, stacklevel=2)
    return model


def build_scoring(name: ScoringName, checkpoint: Checkpoint, model: Detector) -> Scoring:
    """The scores that a name stands for, see `ScoringName`.

    Args:
        model: restored from the checkpoint.
    Raises:
        ConfigError: logits that were not trained by a softmax cannot be scored by one.
    """
    if name == "own":
        own: Scoring = model.roi_heads.rule.scores
        return own
    rule = RunConfig.model_validate(checkpoint.config).model.rule
    if rule not in SOFTMAX_FAMILY:
        raise ConfigError(f"scores {name!r}: the model was trained with {rule}, whose own scores alone fit")
    if name == "softmax":
        return Softmax().scores
    rates = checkpoint.rates
    return ConcurrentSoftmax((rates > 0).to(rates.dtype) if name == "sharp" else rates).scores


def restore_model(checkpoint: Checkpoint) -> Detector:
    """The trained detector of a checkpoint, in eval mode on the CPU."""
    config = RunConfig.model_validate(checkpoint.config)
    classes = len(checkpoint.vocabulary)
    model = build_model(config.model, classes=classes, rates=checkpoint.rates, initialised=False)
    model.load_state_dict(checkpoint.weights)
    model.eval()
    return model


def build_dataset(config: RunConfig, truth: Annotations, folder: str | Path) -> DetectionDataset:
    """The training images of the settings, changed at random as they say, as bytes.

    Args:
        truth: expanded.
        folder: of the images.
    """
    data = config.data
    change = Augmentation(**data.augment.model_dump())
    return DetectionDataset(
        truth,
        folder,
        objects=_objects(config, truth),
        group_of=data.group_of,
        augmentation=None if change == Augmentation() else change,
        seed=config.seed,
        replace_corrupt=data.max_corrupt_share > 0,
        as_bytes=True,
    )


def _objects(config: RunConfig, truth: Annotations) -> ObjectLabels | None:
    """None: the rule learns the label of each box alone. A group that is ignored lends its label to no object."""
    if config.model.rule == "softmax":
        return None
    if config.data.group_of == "train":
        return object_labels(truth)
    pairs = same_object_pairs(truth)
    return object_labels(truth, pairs=pairs[~truth.is_group_of[pairs].any(axis=1)])
