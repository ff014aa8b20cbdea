"""Faster R-CNN (torchvision's) with a classification rule of your choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from wildbox.classification.rule import Rule
from wildbox.detectors.roi_heads import BoxPredictor, RuleRoIHeads

Detector = FasterRCNN
"""A torchvision detector whose `roi_heads` are `RuleRoIHeads`."""


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
    *, classes: int, rule: Rule, anchor_sizes: Sequence[int] = (16, 24, 36, 54), **settings: object
) -> FasterRCNN:
    """A detector of one feature level at stride 8 that trains on a CPU in minutes.

    Args:
        classes: C foreground classes.
        rule: loss and scores on logits (P, C + 1).
        anchor_sizes: sides of the square root of an anchor's area, in pixels of the network's input.
        settings: as in `assemble`.

    >>> from wildbox.classification import Softmax
    >>> model = small_faster_rcnn(classes=3, rule=Softmax(), image_size=64)
    >>> model.roi_heads.box_predictor.logits.out_features
    4
    """
    anchors = AnchorGenerator((tuple(anchor_sizes),), ((0.5, 1.0, 2.0),))
    # a bin is smaller than a cell of stride 8: one sample in it is enough, and a third of a step cheaper
    pool = MultiScaleRoIAlign(["0"], output_size=6, sampling_ratio=1)
    return assemble(SmallBackbone(), anchors, pool, head_features=256, classes=classes, rule=rule, **settings)  # type: ignore[arg-type]


def resnet50_faster_rcnn(
    *, classes: int, rule: Rule, weights: object | None = None, **settings: object
) -> FasterRCNN:
    """ResNet-50 with a feature pyramid, as torchvision builds it.

    Args:
        weights: torchvision's ResNet50_Weights for the backbone; None starts from random weights.
        classes, rule, settings: as in `small_faster_rcnn`.
    """
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=weights, trainable_layers=5)
    anchors = AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)
    pool = MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2)
    return assemble(backbone, anchors, pool, head_features=1024, classes=classes, rule=rule, **settings)  # type: ignore[arg-type]


def assemble(
    backbone: nn.Module,
    anchors: AnchorGenerator,
    pool: MultiScaleRoIAlign,
    *,
    head_features: int,
    classes: int,
    rule: Rule,
    image_size: int = 800,
    max_image_size: int | None = None,
    proposals: int = 1000,
    sampled_proposals: int = 512,
    score_threshold: float = 0.05,
    nms_iou: float = 0.5,
    detections_per_image: int = 100,
) -> FasterRCNN:
    """torchvision's Faster R-CNN around our second stage.

    Args:
        image_size: shorter side of the network's input, in pixels; `max_image_size` bounds the longer one
            (default: 5 / 3 of it, as torchvision's 800 and 1333).
        proposals: kept an image after the first stage's NMS.
        sampled_proposals: of these, used for the second stage's loss, an image.
        score_threshold, nms_iou, detections_per_image: of the final detections.
    Training targets are dicts with `boxes` (n, 4), `labels` (n,) and `multi_hot` (n, C).
    """
    head: Callable[[Tensor], Tensor] = TwoMLPHead(
        backbone.out_channels * pool.output_size[0] ** 2, head_features
    )
    model = FasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        box_roi_pool=pool,
        box_head=head,
        box_predictor=BoxPredictor(head_features, classes=classes),
        min_size=image_size,
        max_size=max_image_size or round(image_size * 5 / 3),
        rpn_pre_nms_top_n_train=3 * proposals,
        rpn_pre_nms_top_n_test=3 * proposals,
        rpn_post_nms_top_n_train=proposals,
        rpn_post_nms_top_n_test=proposals,
        rpn_batch_size_per_image=min(256, sampled_proposals * 2),
    )
    model.roi_heads = RuleRoIHeads(
        rule=rule,
        box_roi_pool=pool,
        box_head=head,
        box_predictor=model.roi_heads.box_predictor,
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=sampled_proposals,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=score_threshold,
        nms_thresh=nms_iou,
        detections_per_img=detections_per_image,
    )
    return model
