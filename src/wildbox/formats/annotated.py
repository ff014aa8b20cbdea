"""Annotations of any kind that is read here, by one name: a table, or shards that are read one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wildbox.annotations import Annotations, concatenate
from wildbox.errors import ConfigError
from wildbox.formats.coco import read_coco
from wildbox.formats.files import is_json
from wildbox.formats.open_images import read_hierarchy, read_open_images
from wildbox.formats.parquet import ParquetDataset, open_parquet
from wildbox.vocabulary import Hierarchy


@dataclass(frozen=True)
class AnnotatedSet:
    """Shards of annotations over the same classes; `len` is their number, iterating gives them."""

    shards: ParquetDataset | tuple[Annotations, ...]
    hierarchy: Hierarchy | None

    def __len__(self) -> int:
        return len(self.shards)

    def __iter__(self) -> Iterator[Annotations]:
        return iter(self.shards)

    def whole(self) -> Annotations:
        """All shards as one table."""
        return self.shards[0] if isinstance(self.shards, tuple) else concatenate(list(self.shards))


def open_annotations(
    path: str | Path,
    *,
    classes: str | Path | None = None,
    hierarchy: str | Path | None = None,
    image_labels: str | Path | None = None,
) -> AnnotatedSet:
    """An Open Images boxes CSV, a COCO or LVIS .json (either may be compressed), or a folder of `write_parquet`.

    Args:
        classes, image_labels: files that belong to Open Images.
        hierarchy: Open Images' file; a Parquet folder has its own, which this one replaces.
    Raises:
        ConfigError: a file that does not go with this kind.
        InputError: as the readers.
    """
    path = Path(path)
    given = {"--classes": classes, "--hierarchy": hierarchy, "--image-labels": image_labels}
    kind, takes = "Open Images CSV", set(given)
    if path.is_dir():
        kind, takes = "Parquet", {"--hierarchy"}
    elif is_json(path):
        kind, takes = "COCO", set()
    wrong = [name for name, file in given.items() if file is not None and name not in takes]
    if wrong:
        raise ConfigError(f"{path} is read as {kind}, which takes no {' and no '.join(wrong)}")
    if kind == "Parquet":
        dataset = open_parquet(path)
        tree = dataset.hierarchy if hierarchy is None else read_hierarchy(hierarchy, dataset.vocabulary)
        return AnnotatedSet(dataset, tree)
    if kind == "COCO":
        return AnnotatedSet((read_coco(path),), None)
    truth = read_open_images(path, classes=classes, image_labels=image_labels)
    tree = None if hierarchy is None else read_hierarchy(hierarchy, truth.vocabulary)
    return AnnotatedSet((truth,), tree)
