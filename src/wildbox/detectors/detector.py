"""A two-stage detector: torchvision's, with a second stage of ours and an input that is told nothing of its batch.

Letters: P proposals, K columns of the logits, D detections of an image, m ignored boxes.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from wildbox.detectors.roi_heads import Candidates, RuleRoIHeads, Target, full_precision
from wildbox.detectors.targets import absorbed

IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's training set, which torchvision's and most of timm's weights expect."""


class ImageTransform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """torchvision's normalising and resizing, also of bytes and of ignored boxes.

    Images are float in [0, 1] or uint8, which is a quarter of the memory to move and gives the same.
    """

    def normalize(self, image: Tensor) -> Tensor:
        normal: Tensor = super().normalize(image.float() / 255 if image.dtype == torch.uint8 else image)
        return normal

    def resize(self, image: Tensor, target: Target | None = None) -> tuple[Tensor, Target | None]:
        before = image.shape[-2:]
        image, target = super().resize(image, target)
        if target is not None and "ignored" in target:
            target["ignored"] = resize_boxes(target["ignored"], before, image.shape[-2:])
        return image, target

    def sized(self, size: int) -> ImageTransform:
        """The same for another length of the shorter side; the longer one's bound grows with it."""
        bound = round(self.max_size * size / self.min_size[-1])
        other = ImageTransform(size, bound, list(self.image_mean), list(self.image_std))
        other.train(self.training)
        return other


class ProposalHead(RPNHead):  # type: ignore[misc]
    """torchvision's, with float32 results under autocast too."""

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, deltas = super().forward(features)
        return [full_precision(x) for x in objectness], [full_precision(x) for x in deltas]


def _of_float32_maps(_: nn.Module, inputs: tuple[ImageList, list[Tensor]]) -> tuple[ImageList, list[Tensor]]:
    """torchvision's anchors take the maps' dtype: under autocast those beyond 512 pixels would be off by 4."""
    images, maps = inputs
    return images, [full_precision(x.new_empty(1)).expand(x.shape) for x in maps]


class ProposalNetwork(RegionProposalNetwork):  # type: ignore[misc]
    """torchvision's first stage; anchors that lie in an `ignored` box by half or more are no background."""

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor]]:
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for image_labels, image_anchors, target in zip(labels, anchors, targets, strict=True):
            if "ignored" in target:
                image_labels[(image_labels == 0) & absorbed(image_anchors, target["ignored"])] = -1
        return labels, boxes


class Detector(GeneralizedRCNN):  # type: ignore[misc]
    """Backbone, proposals, and a second stage with a classification rule.

    In training mode `model(images, targets)` gives the losses by name, in eval mode `model(images)` gives for each
    image `boxes` (D, 4) in its pixels, `labels` (D,) in 0..C-1 and `scores` (D,), best first. Images are (3, H, W),
    float in [0, 1] or uint8. Targets: `boxes` (n, 4), `multi_hot` (n, C) bool (or `labels` (n,) int64), and where
    there are any, `ignored` (m, 4).

    Args:
        backbone: (B, 3, H, W) -> one map, or a dict of maps; its `out_channels` are those of each.
        anchors: one tuple of sizes and ratios a map.
        roi_heads: the second stage.
        transform: normalises and resizes.
        proposals: kept an image after the first stage's NMS, of three times as many of each map before.
        anchor_sample: anchors of an image in the first stage's loss.
    """

    def __init__(
        self,
        backbone: nn.Module,
        anchors: AnchorGenerator,
        roi_heads: RuleRoIHeads,
        transform: ImageTransform,
        *,
        proposals: int,
        anchor_sample: int,
    ) -> None:
        before, after = ({"training": n, "testing": n} for n in (3 * proposals, proposals))
        head = ProposalHead(backbone.out_channels, anchors.num_anchors_per_location()[0])
        # the other numbers are torchvision's defaults, which are those of Faster R-CNN
        anchors.register_forward_pre_hook(_of_float32_maps)
        rpn = ProposalNetwork(anchors, head, 0.7, 0.3, anchor_sample, 0.5, before, after, 0.7)
        super().__init__(backbone, rpn, roi_heads, transform)

    def forward(self, images: list[Tensor], targets: list[Target] | None = None) -> object:
        if self.training:
            return super().forward(images, targets)
        found = self.candidates(images)
        detections = [self.roi_heads.select(c.boxes, c.scores(self.roi_heads.rule.scores)) for c in found]
        sizes = [image.shape[-2:] for image in images]
        return self.transform.postprocess(detections, [c.frame for c in found], sizes)

    def candidates(
        self, images: list[Tensor], *, transform: ImageTransform | None = None
    ) -> list[Candidates]:
        """What the second stage makes of each image.

        Images share a pass through the network where they are equally large with their own padding alone, so no
        image's result depends on its neighbours': convolutions see what stands in the padding.

        Args:
            transform: instead of the model's own.
        """
        inputs = [(transform or self.transform)([image])[0] for image in images]
        groups: dict[torch.Size, list[int]] = {}
        for index, single in enumerate(inputs):
            groups.setdefault(single.tensors.shape, []).append(index)
        found: dict[int, Candidates] = {}
        for members in groups.values():
            batch = ImageList(
                torch.cat([inputs[i].tensors for i in members]), [inputs[i].image_sizes[0] for i in members]
            )
            features = self.backbone(batch.tensors)
            if isinstance(features, Tensor):
                features = OrderedDict([("0", features)])
            proposals, _ = self.rpn(batch, features, None)
            refined = self.roi_heads.refine(features, proposals, batch.image_sizes)
            found |= dict(zip(members, refined, strict=True))
        return [found[index] for index in range(len(images))]
