"""Training images changed at random, with their boxes: torchvision's transforms, each draw with a seed of its own.

Letters: n boxes of an image, m that are left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import clip_boxes_to_image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from wildbox.errors import ConfigError

AUGMENT = 2
"""Random stream of a seed: changes of images. The sampler's are 0 and 1."""
GREY = (124.0, 116.0, 104.0)
"""ImageNet's mean, in bytes: 0 to the network."""
MIN_SHARE = 0.5
"""Of a box's area that a crop must leave, as with tiles."""


@dataclass(frozen=True)
class Augmentation:
    """What is done to an image, in the order of the fields; the defaults do nothing.

    >>> flip = Augmentation(flip=1.0)
    >>> flip(torch.zeros(3, 4, 10, dtype=torch.uint8), torch.tensor([[1.0, 0.0, 3.0, 4.0]]))[1]
    tensor([[7., 0., 9., 4.]])
    """

    colour: float = 0.0
    """Probability of torchvision's `RandomPhotometricDistort`: brightness, contrast, saturation, hue, channels."""
    crop: float = 0.0
    """Probability of torchvision's `RandomIoUCrop` (SSD's): a part of the image, boxes centred in it stay."""
    scale: tuple[float, float] = (1.0, 1.0)
    """The image is resized by a factor between them and put, cropped or padded, into a frame of its own size
    (Ghiasi et al., "Simple Copy-Paste", CVPR 2021, have 0.1 to 2)."""
    flip: float = 0.0
    """Probability of left and right exchanged."""

    def __post_init__(self) -> None:
        shares = {"colour": self.colour, "crop": self.crop, "flip": self.flip}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} = {value}: expected a probability")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigError(f"scale = {self.scale}: expected 0 < low <= high")

    def __call__(
        self,
        pixels: Tensor,
        boxes: Tensor,
        *,
        groups: Tensor | None = None,
        seed: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The changed image (3, H', W') uint8, boxes (m, 4) in it, and the rows (m,) that they were, ascending.

        Args:
            pixels: (3, H, W) uint8.
            boxes: (n, 4) x1 y1 x2 y2 in pixels.
            groups: (n,) bool, boxes that stay wherever something of them is seen, as regions that are no background;
                others need half of their area. None: there are none.
            seed: of the training, and the number of the draw: the result is a function of them, and torch's
                generator is left as it was. None draws from torch's generator.
        """
        groups = torch.zeros(len(boxes), dtype=torch.bool) if groups is None else groups
        if seed is None:
            return self._drawn(pixels, boxes, groups)
        number, draw = seed
        state = np.random.SeedSequence((number, AUGMENT, draw)).generate_state(1, np.uint64)
        before = torch.get_rng_state()
        # a tenth of the time of fork_rng and torch.manual_seed, which look after GPUs too
        torch.default_generator.manual_seed(int(state[0]) >> 1)
        try:
            return self._drawn(pixels, boxes, groups)
        finally:
            torch.set_rng_state(before)

    def _drawn(self, pixels: Tensor, boxes: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = torch.arange(len(boxes))
        image = tv_tensors.Image(pixels)
        if self.colour:
            image = v2.RandomPhotometricDistort(p=self.colour)(image)
        if self.crop and torch.rand(1) < self.crop:
            image, boxes, rows = _cropped(image, boxes, rows, groups)
        if self.scale != (1.0, 1.0):
            low, high = self.scale
            factor = low + (high - low) * torch.rand(1).item()
            image, boxes, rows = _zoomed(image, boxes, rows, groups, factor=factor)
        if self.flip and torch.rand(1) < self.flip:
            image, boxes = functional.hflip(image), mirrored(boxes, image.shape[-1])
        return image.as_subclass(Tensor), boxes, rows


def mirrored(boxes: Tensor, width: int) -> Tensor:
    """Boxes (..., 4) with left and right of a frame exchanged."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=-1)


def _cropped(image: Tensor, boxes: Tensor, rows: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    size = (image.shape[-2], image.shape[-1])
    told = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)
    part = v2.RandomIoUCrop().make_params([image, told])
    if not part:  # as often as one of its seven limits of overlap
        return image, boxes, rows
    inside = part["is_within_crop_area"] | groups[rows]
    top, left, height, width = (part[key] for key in ("top", "left", "height", "width"))
    moved = boxes[inside] - boxes.new_tensor([left, top, left, top])
    return _clipped(functional.crop(image, top, left, height, width), moved, rows[inside], groups)


def _zoomed(
    image: Tensor, boxes: Tensor, rows: Tensor, groups: Tensor, *, factor: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Resize and put into a frame of the size before, at a random place; what is beyond the image is grey."""
    height, width = image.shape[-2:]
    size = [max(1, round(height * factor)), max(1, round(width * factor))]
    image = functional.resize(image, size, antialias=True)
    boxes = boxes * boxes.new_tensor([size[1] / width, size[0] / height] * 2)
    spare = (height - size[0], width - size[1])
    top, left = (int(torch.randint(0, abs(s) + 1, (1,))) for s in spare)
    if min(spare) < 0:
        image = functional.crop(image, top, left, min(height, size[0]), min(width, size[1]))
        boxes = boxes - boxes.new_tensor([left, top, left, top])
    else:
        around = [left, top, spare[1] - left, spare[0] - top]
        image = functional.pad(image, around, fill=list(GREY))
        boxes = boxes + boxes.new_tensor([left, top, left, top])
    return _clipped(image, boxes, rows, groups)


def _clipped(image: Tensor, boxes: Tensor, rows: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes cut at the image's edges, without those of which too little is left; of groups, any part stays."""
    height, width = image.shape[-2:]
    clipped = clip_boxes_to_image(boxes, (height, width))
    before, after = ((b[:, 2:] - b[:, :2]).prod(dim=1) for b in (boxes, clipped))
    keep = (after > 0) & (groups[rows] | (after >= MIN_SHARE * before))
    return image, clipped[keep], rows[keep]
