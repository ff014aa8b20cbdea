"""From the names in settings to a detector and its rule; the one place that knows those names."""

from __future__ import annotations

import torch
from torch import Tensor

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
from wildbox.detectors.faster_rcnn import Detector, resnet50_faster_rcnn, small_faster_rcnn
from wildbox.errors import ConfigError
from wildbox.training.checkpoint import Checkpoint
from wildbox.training.config import ModelConfig, RuleName, RunConfig


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


def build_model(
    config: ModelConfig, *, classes: int, rates: Tensor, frequencies: Tensor | None = None
) -> Detector:
    """The detector of the settings, with fresh weights from torch's generator; rates, frequencies as `build_rule`."""
    settings = {
        "classes": classes,
        "rule": build_rule(config.rule, rates, frequencies=frequencies),
        "image_size": config.image_size,
        "proposals": config.proposals,
        "sampled_proposals": config.sampled_proposals,
        "score_threshold": config.score_threshold,
        "detections_per_image": config.detections_per_image,
    }
    if config.detector == "small":
        return small_faster_rcnn(**settings)  # type: ignore[arg-type]
    model = resnet50_faster_rcnn(**settings)  # type: ignore[arg-type]
    if config.backbone_weights is not None:
        state = torch.load(config.backbone_weights, map_location="cpu", weights_only=True)
        missing, _ = model.backbone.body.load_state_dict(state, strict=False)
        if missing:
            raise ConfigError(f"{config.backbone_weights}: lacks the backbone's {missing[0]}")
    return model


def restore_model(checkpoint: Checkpoint) -> Detector:
    """The trained detector of a checkpoint, in eval mode on the CPU."""
    config = RunConfig.model_validate(checkpoint.config)
    model = build_model(config.model, classes=len(checkpoint.vocabulary), rates=checkpoint.rates)
    model.load_state_dict(checkpoint.model)
    return model.eval()
