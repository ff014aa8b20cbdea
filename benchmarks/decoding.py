"""JPEG decoders on one core, alternating in one run: what a decoded image costs, and whether pixels are Pillow's.

    python benchmarks/decoding.py FOLDER [--repeat 5] [--images 100]

Each decoder turns the bytes of a file into a (3, H, W) uint8 tensor in red, green, blue. Those that are not
installed are passed over. Seconds are the process's own processor time, since the machine is shared; the median
of the repetitions. Appends to `benchmarks/results/decoding.csv`.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environment import append, processor_seconds
from PIL import Image
from torch import Tensor

RESULTS = Path(__file__).parent / "results" / "decoding.csv"
Decoder = Callable[[bytes], Tensor]


def with_pillow(content: bytes) -> Tensor:
    """Pillow, through numpy."""
    with Image.open(io.BytesIO(content)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def torchvision_decoder() -> Decoder:
    """torchvision.io, libjpeg-turbo."""
    from torchvision.io import ImageReadMode, decode_image

    return lambda content: decode_image(
        torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.RGB
    )


def torchcodec_decoder() -> Decoder:
    """TorchCodec, torchvision.io's successor."""
    from torchcodec.decoders import decode_jpeg

    return lambda content: decode_jpeg(content, mode="RGB")


def opencv_decoder() -> Decoder:
    """OpenCV, libjpeg-turbo; orientation in EXIF is not applied, as with the others."""
    import cv2

    cv2.setNumThreads(1)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION

    def decode(content: bytes) -> Tensor:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        return torch.from_numpy(pixels).permute(2, 0, 1)

    return decode


def simplejpeg_decoder() -> Decoder:
    """simplejpeg, libjpeg-turbo, with its slow and exact settings."""
    import simplejpeg

    def decode(content: bytes) -> Tensor:
        pixels = simplejpeg.decode_jpeg(content, fastdct=False, fastupsample=False)
        return torch.from_numpy(pixels).permute(2, 0, 1)

    return decode


def vips_decoder() -> Decoder:
    """libvips through pyvips."""
    import pyvips

    pyvips.cache_set_max(0)

    def decode(content: bytes) -> Tensor:
        image = pyvips.Image.new_from_buffer(content, "", access="sequential")
        pixels = image.colourspace("srgb").numpy()
        return torch.from_numpy(np.ascontiguousarray(pixels[..., :3])).permute(2, 0, 1)

    return decode


DECODERS: dict[str, Callable[[], Decoder]] = {
    "Pillow": lambda: with_pillow,
    "torchvision.io": torchvision_decoder,
    "torchcodec": torchcodec_decoder,
    "OpenCV": opencv_decoder,
    "simplejpeg": simplejpeg_decoder,
    "pyvips": vips_decoder,
}


def each(work: Callable[[Any], object], items: Iterable[Any]) -> None:
    """Do it with each, one after the other."""
    for item in items:
        work(item)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--images", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    files = [path.read_bytes() for path in sorted(arguments.folder.glob("*.jpg"))[: arguments.images]]
    decoders: dict[str, Decoder] = {}
    for name, make in DECODERS.items():
        try:
            decoders[name] = make()
        except (ImportError, OSError) as error:
            print(f"{name}: {error}")
    ways = {name: partial(each, decode, files) for name, decode in decoders.items()}
    seconds = processor_seconds(ways, repeat=arguments.repeat)
    pixels = sum(with_pillow(content)[0].numel() for content in files)
    expected = [with_pillow(content) for content in files]
    for name, decode in decoders.items():
        took = seconds[name]
        same = sum(torch.equal(decode(content), own) for content, own in zip(files, expected, strict=True))
        row = {
            "decoder": name,
            "images": len(files),
            "megapixels": round(pixels / 1e6, 1),
            "images_per_second": round(len(files) / took, 1),
            "times_pillow": round(seconds["Pillow"] / took, 2),
            "equal_to_pillow": same,
        }
        print(row)
        append(RESULTS, row)


if __name__ == "__main__":
    main()
