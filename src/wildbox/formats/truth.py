"""The truth of a command line: annotations and hierarchy of the files it names."""

from __future__ import annotations

from pathlib import Path

from wildbox.annotations import Annotations
from wildbox.errors import ConfigError
from wildbox.formats.coco import read_coco
from wildbox.formats.open_images import read_hierarchy, read_open_images
from wildbox.vocabulary import Hierarchy


def read_truth(
    boxes: Path, *, classes: Path | None, hierarchy: Path | None, image_labels: Path | None = None
) -> tuple[Annotations, Hierarchy | None]:
    """Open Images CSV, or COCO where the ending is .json.

    Raises:
        ConfigError: classes, a hierarchy or image labels beside COCO.
        InputError: as `read_open_images`, `read_coco` and `read_hierarchy`.
    """
    if boxes.suffix == ".json":
        if classes or hierarchy or image_labels:
            raise ConfigError("--classes, --hierarchy and --image-labels belong to Open Images CSV, not COCO")
        return read_coco(boxes), None
    truth = read_open_images(boxes, classes=classes, image_labels=image_labels)
    return truth, None if hierarchy is None else read_hierarchy(hierarchy, truth.vocabulary)
