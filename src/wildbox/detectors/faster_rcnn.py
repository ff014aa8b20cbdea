"""Faster R-CNN and Cascade R-CNN, made of parts, with a classification rule of your choice.

Letters: B images, P proposals, C foreground classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from wildbox.classification.rule import Rule
from wildbox.detectors.backbones import Pyramid, pyramid
from wildbox.detectors.cascade_rcnn import STAGE_IOU, cascade_heads
from wildbox.detectors.detector import IMAGE_MEAN, IMAGE_STD, Detector, ImageTransform
from wildbox.detectors.roi_heads import BoxPredictor, single_head
from wildbox.detectors.suppression import HardNMS, Suppression
from wildbox.errors import ConfigError
from wildbox.vocabulary import Hierarchy

ASPECT_RATIOS = (0.5, 1.0, 2.0)
"""Height to width of the anchors."""


class Settings(TypedDict, total=False):
    """What all detectors can be told; the defaults are those of `assemble`."""

    cascade: bool
    """Three second stages, see `wildbox.detectors.cascade_rcnn`."""
    per_class_boxes: bool
    """Each class has its own refined box, as torchvision's; by default they share one."""
    hierarchy: Hierarchy | None
    """Labels of training targets imply their ancestors in it."""
    image_size: int
    """Shorter side of the network's input, in pixels."""
    max_image_size: int | None
    """Bounds the longer side; None is 5 / 3 of `image_size`, as torchvision's 800 and 1333."""
    proposals: int
    """Kept an image after the first stage's NMS."""
    sampled_proposals: int
    """Of these, used for the second stage's loss, an image."""
    score_threshold: float
    suppression: Suppression | None
    """Of the final detections of a class: `HardNMS` (the default, at IoU 0.5) or `SoftNMS`."""
    detections_per_image: int


class PyramidSettings(Settings, total=False):
    """And those on a pyramid; the defaults are those of `faster_rcnn`."""

    anchor_scale: float
    """Side of a level's anchors, in cells of the level."""
    head_features: int
    """Width of the second stage's two layers."""


class SmallBackbone(nn.Sequential):
    """Six convolutions to stride 8, for small images on a CPU: (B, 3, H, W) -> (B, 128, H/8, W/8)."""

    out_channels = 128

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        width = 3
        for channels, stride in ((16, 2), (32, 2), (64, 1), (64, 2), (96, 1), (128, 1)):
            layers += [
                nn.Conv2d(width, channels, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
            width = channels
        super().__init__(*layers)


def small_faster_rcnn(
    *, classes: int, rule: Rule, anchor_sizes: Sequence[int] = (16, 24, 36, 54), **settings: Unpack[Settings]
) -> Detector:
    """A detector of one feature level at stride 8 that trains on a CPU in minutes.

    Args:
        classes: C foreground classes.
        rule: loss and scores on logits (P, C + 1).
        anchor_sizes: sides of the square root of an anchor's area, in pixels of the network's input.
        settings: as in `Settings`.

    >>> from wildbox.classification import Softmax
    >>> model = small_faster_rcnn(classes=3, rule=Softmax(), image_size=64)
    >>> model.roi_heads.box_predictor.logits.out_features
    4
    """
    anchors = AnchorGenerator((tuple(anchor_sizes),), (ASPECT_RATIOS,))
    # a bin is smaller than a cell of stride 8: one sample in it is enough, and a third of a step cheaper
    pool = MultiScaleRoIAlign(["0"], output_size=6, sampling_ratio=1)
    return assemble(SmallBackbone(), anchors, pool, head_features=256, classes=classes, rule=rule, **settings)


def faster_rcnn(
    backbone: Pyramid | str = "resnet50",
    *,
    classes: int,
    rule: Rule,
    anchor_scale: float = 8,
    head_features: int = 1024,
    **settings: Unpack[Settings],
) -> Detector:
    """Faster R-CNN with a feature pyramid, as torchvision builds it.

    Args:
        backbone: what `pyramid` made, or the name of one with random weights.
        classes: C foreground classes.
        rule: loss and scores on logits (P, C + 1).
        anchor_scale: side of a level's anchors, in cells of the level; 8 gives 32 pixels at stride 4.
        head_features: width of the second stage's two layers.
        settings: as in `Settings`.

    >>> from wildbox.classification import Sigmoid
    >>> model = faster_rcnn("resnet18", classes=3, rule=Sigmoid(), per_class_boxes=True)
    >>> model.roi_heads.box_predictor.deltas.out_features
    12
    """
    levels = pyramid(backbone) if isinstance(backbone, str) else backbone
    sizes = tuple((round(anchor_scale * stride),) for stride in levels.strides)
    anchors = AnchorGenerator(sizes, (ASPECT_RATIOS,) * len(sizes))
    pooled = [str(level) for level in range(len(sizes) - 1)]  # not the coarsest, which is for proposals
    pool = MultiScaleRoIAlign(pooled, output_size=7, sampling_ratio=2)
    return assemble(
        levels, anchors, pool, head_features=head_features, classes=classes, rule=rule, **settings
    )


def cascade_rcnn(
    backbone: Pyramid | str = "resnet50", *, classes: int, rule: Rule, **settings: Unpack[PyramidSettings]
) -> Detector:
    """Cascade R-CNN: three stages at IoU 0.5, 0.6 and 0.7, the rule in each (`wildbox.detectors.cascade_rcnn`).

    Args:
        backbone, classes, rule, settings: as in `faster_rcnn`; boxes are those of all classes.

    >>> from wildbox.classification import Softmax
    >>> len(cascade_rcnn("resnet18", classes=3, rule=Softmax()).roi_heads.stages)
    3
    """
    return faster_rcnn(backbone, classes=classes, rule=rule, **(settings | {"cascade": True}))


def assemble(
    backbone: nn.Module,
    anchors: AnchorGenerator,
    pool: MultiScaleRoIAlign,
    *,
    head_features: int,
    classes: int,
    rule: Rule,
    cascade: bool = False,
    per_class_boxes: bool = False,
    hierarchy: Hierarchy | None = None,
    image_size: int = 800,
    max_image_size: int | None = None,
    proposals: int = 1000,
    sampled_proposals: int = 512,
    score_threshold: float = 0.05,
    suppression: Suppression | None = None,
    detections_per_image: int = 100,
) -> Detector:
    """A detector of any backbone with `out_channels`, with one second stage or a cascade of them.

    Args:
        anchors: of the backbone's maps, in order.
        pool: of proposals from those maps.
        head_features: width of the second stage's two layers.
        cascade: three stages, whose boxes are those of all classes.
        classes, rule, others: as in `faster_rcnn` and `Settings`.
    Raises:
        ConfigError: a cascade with boxes of each class.
    """
    if cascade and per_class_boxes:
        raise ConfigError("a cascade refines the boxes of all classes: per_class_boxes must be false")
    parts = []
    for _ in range(len(STAGE_IOU) if cascade else 1):
        head = TwoMLPHead(backbone.out_channels * pool.output_size[0] ** 2, head_features)
        parts.append((head, BoxPredictor(head_features, classes=classes, per_class=per_class_boxes)))
    shared: dict[str, Any] = {
        "rule": rule,
        "classes": classes,
        "hierarchy": hierarchy,
        "suppression": HardNMS() if suppression is None else suppression,
        "box_roi_pool": pool,
        "batch_size_per_image": sampled_proposals,
        "positive_fraction": 0.25,
        "score_thresh": score_threshold,
        "detections_per_img": detections_per_image,
    }
    transform = ImageTransform(
        image_size, max_image_size or round(image_size * 5 / 3), list(IMAGE_MEAN), list(IMAGE_STD)
    )
    roi_heads = cascade_heads(parts, **shared) if cascade else single_head(*parts[0], **shared)
    return Detector(
        backbone,
        anchors,
        roi_heads,
        transform,
        proposals=proposals,
        anchor_sample=min(256, sampled_proposals * 2),
    )
