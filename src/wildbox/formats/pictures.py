"""Image files as Pillow opens them, and what it raises where it cannot."""

from __future__ import annotations

import numpy as np
from PIL import Image

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""Of files that are damaged (a PNG with a hole is a SyntaxError), no pictures, or too large."""


def as_rgb(image: Image.Image) -> Image.Image:
    """Three channels of 8 bits; of 16-bit grey values the upper 8, where Pillow would make nearly all of them white.

    Raises:
        ValueError: pixels in floating point, or whole numbers that are not 16 bits: nobody tells which is white.
    """
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min(initial=0) < 0 or values.max(initial=0) > 0xFFFF:
            raise ValueError(f"pixels of mode {image.mode} beyond 16 bits")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("pixels in floating point")
    return image.convert("RGB")
