"""Annotations and a folder of images as a torch dataset of a detector.

Letters: B images, n boxes of an image, m group-of boxes that are ignored, C classes.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from wildbox.annotations import Annotations
from wildbox.detectors.augmentation import Augmentation
from wildbox.errors import InputError, InputWarning
from wildbox.formats.pictures import UNREADABLE, as_rgb
from wildbox.labels.objects import ObjectLabels
from wildbox.vocabulary import Vocabulary

Sample = tuple[Tensor, dict[str, Tensor]]
Draw = tuple[int, int]
"""Index of an image, and the number of the draw that chose it."""
JPEG = bytes([0xFF, 0xD8, 0xFF])
"""How JPEG files begin."""
INKS = ("CMYK", "YCCK")
TRIALS = 100
"""Images in a row that may fail to open before it is taken for more than single damaged files."""


def image_path(annotations: Annotations, index: int, folder: Path) -> Path:
    """Where an image lies."""
    return folder / annotations.file_name(index)


def load_image(path: str | Path) -> Tensor:
    """A decoded image, (3, H, W) uint8. `InputError` with the file where it does not open.

    JPEG files go through libjpeg-turbo by way of simplejpeg, in two thirds of Pillow's time and to the same pixels
    (`benchmarks/decoding.py`); all others, and what that refuses, through Pillow.
    """
    try:
        content = Path(path).read_bytes()
        pixels = _decoded_jpeg(content)
        if pixels is None:
            with Image.open(io.BytesIO(content)) as image:
                pixels = np.array(as_rgb(image))
    except FileNotFoundError as error:
        raise InputError("the image does not open: no such file", path=path) from error
    except UnidentifiedImageError as error:
        raise InputError("the image does not open: damaged, or no picture", path=path) from error
    except UNREADABLE as error:
        raise InputError(f"the image does not open: {error}", path=path) from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _decoded_jpeg(content: bytes) -> NDArray[np.uint8] | None:
    """(H, W, 3); None for what is no JPEG file, is damaged, or has inks (of which Pillow makes other colours)."""
    if not content.startswith(JPEG):
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
        if space in INKS or height * width > (Image.MAX_IMAGE_PIXELS or np.inf):
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, fastdct=False, fastupsample=False)
    except ValueError:
        return None
    return pixels


class DetectionDataset(Dataset[Sample]):
    """Image i -> (pixels (3, H, W), target). Asked for a `Draw`, it changes the image as that draw's number says.

    The target's tensors: `boxes` (n, 4) x1 y1 x2 y2 in pixels, `labels` (n,) each box's own label,
    `multi_hot` (n, C) bool: what the rule is taught, the labels of the box's object (`objects` given) or its
    own label alone (`objects=None`, the baseline), `image` () the index. Boxes without area are left out:
    they match no proposal.

    Args:
        folder: of the images.
        group_of: "train" keeps group-of boxes like the others; "ignore" moves them to `ignored` (m, 4), where
            proposals are no background.
        augmentation: how images are changed; seeded by `seed` and the draw's number, or where an image is asked
            for by its index alone, by torch's generator.
        replace_corrupt: where an image does not open, the next one that does is given instead, and
            `corrupt` (k,) holds the indices of those that did not. Otherwise that is an error.
        as_bytes: pixels are uint8, which detectors take too and is a quarter of the memory to move; else float
            in [0, 1].
    Raises:
        InputError: from reading, an image that does not open, or is turned by 90 degrees.
    """

    def __init__(
        self,
        annotations: Annotations,
        folder: str | Path,
        *,
        objects: ObjectLabels | None,
        group_of: Literal["train", "ignore"] = "train",
        augmentation: Augmentation | None = None,
        seed: int = 0,
        replace_corrupt: bool = False,
        as_bytes: bool = False,
    ) -> None:
        self.annotations = annotations
        self.folder = Path(folder)
        self.objects = objects
        self.ignore_groups = group_of == "ignore"
        self.augmentation, self.seed = augmentation, seed
        self.replace_corrupt, self.as_bytes = replace_corrupt, as_bytes
        self.in_hand: Tensor | None = None
        """(workers,) the image that each loading process works on, in shared memory, where somebody wants to know."""

    def __len__(self) -> int:
        return len(self.annotations.image_ids)

    def path(self, index: int) -> Path:
        """The file of an image."""
        return image_path(self.annotations, index, self.folder)

    def __getitem__(self, draw: int | Draw) -> Sample:
        index, number = draw if isinstance(draw, tuple) else (int(draw), None)
        worker = get_worker_info()
        if self.in_hand is not None and worker is not None:
            self.in_hand[worker.id] = index
        try:
            return self._sample(index, None if number is None else (self.seed, number))
        except InputError:
            raise
        except Exception as error:
            error.add_note(f"with image {self.path(index)}")
            raise

    def _sample(self, index: int, seed: tuple[int, int] | None) -> Sample:
        pixels, index, corrupt = self._pixels(index)
        boxes, rows = self._boxes(index, pixels)
        if self.augmentation is not None:
            groups = torch.from_numpy(self.annotations.is_group_of[rows]) if self.ignore_groups else None
            pixels, boxes, kept = self.augmentation(pixels, boxes, groups=groups, seed=seed)
            rows = rows[kept.numpy()]
        boxes = boxes.float()
        solid = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)
        boxes, rows = boxes[solid], rows[solid.numpy()]
        target = self._target(boxes, rows) | {"image": torch.tensor(index)}
        if self.replace_corrupt:
            target["corrupt"] = torch.tensor(corrupt, dtype=torch.int64)
        return (pixels if self.as_bytes else pixels.float() / 255), target

    def _pixels(self, index: int) -> tuple[Tensor, int, list[int]]:
        """Pixels of the image or of one instead, the index of that, and of those that did not open."""
        corrupt: list[int] = []
        while True:
            try:
                return load_image(self.path(index)), index, corrupt
            except InputError as error:
                corrupt.append(index)
                if not self.replace_corrupt:
                    raise InputError(
                        f"{error}; mend the file or leave it out, or allow some by max_corrupt_share"
                    ) from error
                if len(corrupt) == min(TRIALS, len(self)):
                    raise InputError(f"{error}; nor do the {len(corrupt) - 1} before it") from error
                index = (index + 1) % len(self)

    def _boxes(self, index: int, pixels: Tensor) -> tuple[Tensor, np.ndarray]:
        """Boxes (n, 4) float64 in pixels, and their rows of the table."""
        table = self.annotations
        rows = np.arange(table.offsets[index], table.offsets[index + 1])
        height, width = pixels.shape[1:]
        self._check_upright(index, width, height)
        scale = torch.tensor([width, height]) / torch.from_numpy(table.sizes[index].copy())
        return torch.from_numpy(table.boxes[rows]) * scale.repeat(2), rows

    def _check_upright(self, index: int, width: int, height: int) -> None:
        """An image may be another size than the annotated, but not be turned by 90 degrees."""
        w, h = self.annotations.sizes[index].tolist()
        # a resized image's sides are whole pixels, half of one off at most
        if abs(width / h - height / w) <= 1 / w + 1 / h < abs(width / w - height / h):
            raise InputError(
                f"the image has {width} x {height} pixels, but was annotated with {w:g} x {h:g}, turned by "
                "90 degrees: orientation tags (EXIF) are not applied, save it upright",
                path=self.path(index),
            )

    def _target(self, boxes: Tensor, rows: np.ndarray) -> dict[str, Tensor]:
        table, ignored = self.annotations, {}
        if self.ignore_groups:
            group = torch.from_numpy(table.is_group_of[rows])
            ignored = {"ignored": boxes[group]} if group.any() else {}
            boxes, rows = boxes[~group], rows[~group.numpy()]
        labels = torch.from_numpy(table.label[rows])
        classes = len(table.vocabulary)
        if self.objects is None:
            multi_hot = torch.nn.functional.one_hot(labels, classes).bool()
        else:
            multi_hot = torch.from_numpy(self.objects.multi_hot(rows, classes))
        return {"boxes": boxes, "labels": labels, "multi_hot": multi_hot} | ignored


def check_files(annotations: Annotations, folder: str | Path, *, max_absent_share: float = 0.0) -> None:
    """See that the images have their files, without opening any; images without boxes count too.

    Args:
        max_absent_share: of the images, that may have none.
    Raises:
        InputError: the folder is absent, or more files are; it says how many, and names the first ones.
    Warns:
        InputWarning: so does this where they may be absent.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("no such folder of images", path=folder)
    paths = [image_path(annotations, index, folder) for index in range(len(annotations.image_ids))]
    folders = {path.parent for path in paths}
    present = {place: set(os.listdir(place)) for place in folders if place.is_dir()}
    absent = [path for path in paths if path.name not in present.get(path.parent, ())]
    if not absent:
        return
    names = ", ".join(str(path.relative_to(folder)) for path in absent[:3])
    more = ", ..." if len(absent) > 3 else ""
    told = f"{len(absent)} of {len(paths)} annotated images are not there: {names}{more}"
    if len(absent) > max_absent_share * len(paths):
        raise InputError(
            f"{told}; is it the right folder? max_corrupt_share is {max_absent_share:g}", path=folder
        )
    warnings.warn(f"{folder}: {told}; no more than max_corrupt_share allows", InputWarning, stacklevel=2)


def images_of(folder: str | Path, vocabulary: Vocabulary, *, relative: bool) -> Annotations:
    """A folder's images (.jpg, .jpeg, .png, not hidden, sorted) as a table without boxes; ids are the files' stems.

    Args:
        relative: the unit that detections on them shall have: shares of the image, or pixels. An image that does
            not open has a side of 1 pixel then: whoever decodes it tells.
    Warns:
        InputWarning: the folder has folders, or images of other kinds, which are passed over.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("no such folder of images", path=folder)
    files, others = [], []
    for path in sorted(folder.glob("[!.]*")):
        if path.suffix.lower() in {".jpg", ".jpeg", ".png"}:
            files.append(path)
        elif path.is_dir() or path.suffix.lower() in Image.registered_extensions():
            others.append(path)
    told = f"; folders and images of other kinds: {len(others):,}, such as {others[0].name}" if others else ""
    if not files:
        raise InputError(f"no .jpg, .jpeg or .png file in this folder{told}", path=folder)
    if others:
        message = f"{folder}: only .jpg, .jpeg and .png files are taken{told}"
        warnings.warn(message, InputWarning, stacklevel=2)
    stems: dict[str, Path] = {}
    for file in files:
        if (other := stems.setdefault(file.stem, file)) is not file:
            raise InputError(f"{other.name} and {file.name} are images of one id, {file.stem!r}", path=folder)
    sizes = np.ones((len(files), 2))
    if not relative:
        for row, file in enumerate(files):
            with suppress(*UNREADABLE), Image.open(file) as image:
                sizes[row] = image.size
    none = np.zeros(0, np.int64)
    return Annotations(
        vocabulary,
        tuple(file.stem for file in files),
        image=none,
        boxes=np.zeros((0, 4)),
        label=none,
        sizes=sizes,
        file_names=tuple(file.name for file in files),
    )


def collate(batch: Sequence[Sample]) -> tuple[list[Tensor], list[dict[str, Any]]]:
    """Samples of different sizes as two lists; in a loading process, in the memory that it shares with this one.

    Raises:
        RuntimeError: that memory is full. Left to the queue, they would be put there by a thread of it, which tells
            nobody and sends nothing: the batch would be waited for without end.
    """
    images, targets = [image for image, _ in batch], [target for _, target in batch]
    if get_worker_info() is not None:
        for value in chain(images, *(target.values() for target in targets)):
            if isinstance(value, Tensor) and value.layout == torch.strided:
                value.share_memory_()
    return images, targets
