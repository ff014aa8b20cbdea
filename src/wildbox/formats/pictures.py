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
        least, most = int(values.min(initial=0)), int(values.max(initial=0))
        if least < 0 or most > 0xFFFF:
            raise ValueError(f"grey values from {least} to {most}, expected 8 or 16 bits")
        if image.mode != "I" or most > 0xFF:  # 32 bits may hold 8
            values = values >> 8
        image = Image.fromarray(values.astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("pixels in floating point")
    return image.convert("RGB")
