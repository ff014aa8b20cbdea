"""Convolutions that learn where to look.

Letters: B images, F channels.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from wildbox.errors import ConfigError


class DeformableConv(DeformConv2d):  # type: ignore[misc]
    """A convolution whose taps are moved by offsets that a second convolution computes from its input.

    The offsets start at 0, so before training it gives what the convolution it is made of gives. Weights have the
    names of that one, those of the offsets stand under `offset`.

    Source: Dai et al., "Deformable Convolutional Networks", ICCV 2017.

    Args:
        conv: padded with zeros.

    >>> import torch
    >>> conv, image = nn.Conv2d(3, 4, 3, padding=1), torch.rand(1, 3, 8, 8)
    >>> torch.allclose(DeformableConv(conv)(image), conv(image), atol=1e-5)
    True
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        own = {"kernel_size": conv.kernel_size, "stride": conv.stride, "padding": conv.padding}
        own |= {"dilation": conv.dilation}
        super().__init__(
            conv.in_channels, conv.out_channels, groups=conv.groups, bias=conv.bias is not None, **own
        )
        self.weight, self.bias = conv.weight, conv.bias
        taps = self.kernel_size[0] * self.kernel_size[1]
        self.offset = nn.Conv2d(conv.in_channels, 2 * taps, **own)  # type: ignore[arg-type]
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        moved: Tensor = super().forward(features, self.offset(features))
        return moved


def make_deformable(modules: Iterable[nn.Module]) -> int:
    """Replace, in place, every 3 x 3 convolution inside the modules that is neither one a channel nor at their top.

    Returns:
        how many there were.
    Raises:
        ConfigError: none.
    """
    count = 0
    for module in modules:
        for parent in list(module.modules()):
            if isinstance(parent, DeformableConv):
                continue
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Conv2d) and _deformable(child):
                    setattr(parent, name, DeformableConv(child))
                    count += 1
    if count == 0:
        raise ConfigError("the backbone has no 3 x 3 convolution that could be made deformable")
    return count


def _deformable(conv: nn.Conv2d) -> bool:
    zeros = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return zeros and conv.kernel_size == (3, 3) and conv.groups < max(conv.in_channels, 2)
