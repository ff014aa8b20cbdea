"""Annotations as Parquet, in shards that are read one at a time: our own layout, of plain columns.

    dataset.json            format version, classes, hierarchy, and how much each shard holds; written last
    images-00000.parquet    id, width, height, file_name (where known), one image a row
    boxes-00000.parquet     image (its row in the shard), label (index of the class), x1, y1, x2, y2, is_group_of
    labels-00000.parquet    image, label, is_positive, is_exhaustive: the verified image labels

An image and all that belongs to it is in one shard. Letters: B images, N boxes, V verified image labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from wildbox.annotations import Annotations, ImageLabels, concatenate
from wildbox.columns import UniqueIds
from wildbox.errors import ConfigError, InputError
from wildbox.formats.csv_rows import POLARS_ERRORS
from wildbox.formats.files import read_json, whole_file
from wildbox.threads import load_compiled
from wildbox.vocabulary import Hierarchy, Vocabulary

VERSION = 2
INDEX = "dataset.json"
BOXES = ("image", "label", "x1", "y1", "x2", "y2", "is_group_of")
LABELS = ("image", "label", "is_positive", "is_exhaustive")
IMAGES = ("id", "width", "height")
KINDS = ("images", "boxes", "labels")


@dataclass(frozen=True)
class ParquetDataset:
    """A folder that `write_parquet` wrote; `len` is the number of shards.

    Iterating gives one after the other and reads the next meanwhile, so two are in memory.
    """

    folder: Path
    vocabulary: Vocabulary
    hierarchy: Hierarchy | None
    sizes: tuple[tuple[int, int, int], ...]
    """B, N, V of each shard."""

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Annotations]:
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self.shard, 0) if len(self) else None
            load_compiled()
            for number in range(1, len(self) + 1):
                assert ahead is not None
                shard = ahead.result()
                ahead = reader.submit(self.shard, number) if number < len(self) else None
                yield shard
                del shard  # or three are

    def shard(self, number: int) -> Annotations:
        """One shard.

        Raises:
            InputError: a file that is missing, damaged or of another size than the index says.
        """
        images, boxes, labels = (self._read(kind, number) for kind in range(3))
        if images["id"].n_unique() != len(images):
            raise InputError("an image id stands twice", path=_path(self.folder, KINDS[0], number))
        return Annotations(
            self.vocabulary,
            UniqueIds(images["id"].to_list()),
            image=boxes["image"].to_numpy(),
            boxes=boxes.select(BOXES[2:6]).to_numpy(order="c"),
            label=boxes["label"].to_numpy(),
            is_group_of=boxes["is_group_of"].to_numpy(),
            sizes=images.select("width", "height").to_numpy(),
            file_names=tuple(images["file_name"].to_list()) if "file_name" in images.columns else (),
            image_labels=ImageLabels(*(labels[name].to_numpy() for name in LABELS)),
        )

    def _read(self, kind: int, number: int) -> pl.DataFrame:
        path = _path(self.folder, KINDS[kind], number)
        try:
            table = pl.read_parquet(path)
        except (OSError, *POLARS_ERRORS) as error:
            raise InputError(f"cannot be read: {str(error).splitlines()[0]}", path=path) from error
        missing = {*(IMAGES, BOXES, LABELS)[kind]} - {*table.columns}
        if missing:
            raise InputError(f"missing column {', '.join(sorted(missing))}", path=path)
        if len(table) != self.sizes[number][kind]:
            expected = f"{self.sizes[number][kind]:,} as {INDEX} says"
            raise InputError(f"{len(table):,} rows, expected {expected}", path=path)
        return table


def write_parquet(
    annotations: Annotations,
    folder: str | Path,
    *,
    shards: int = 1,
    hierarchy: Hierarchy | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write annotations as at most `shards` shards of consecutive images, with about as many boxes each.

    Raises:
        ConfigError: `shards` below 1.
        InputError: a folder that holds a dataset already.

    >>> import tempfile
    >>> folder, cat = tempfile.mkdtemp(), Vocabulary(("cat",))
    >>> write_parquet(Annotations(cat, ("a",), image=[0], boxes=[[0, 0, 1, 1]], label=[0]), folder)
    >>> read_parquet(folder).image_ids
    ('a',)
    """
    folder = Path(folder)
    if shards < 1:
        raise ConfigError(f"shards is {shards}, expected at least 1")
    if (folder / INDEX).exists():
        raise InputError("holds a dataset already; give another folder", path=folder)
    sizes = []
    for number, part in enumerate(annotations.parts(shards)):
        tables = _tables(part)
        for kind, table in zip(KINDS, tables, strict=True):
            with whole_file(_path(folder, kind, number)) as temporary:
                table.write_parquet(temporary, compression="lz4", statistics=False)
        sizes.append([len(table) for table in tables])
        progress(number + 1, shards)
    vocabulary = annotations.vocabulary
    index = {
        "version": VERSION,
        "classes": [list(pair) for pair in zip(vocabulary.ids, vocabulary.names, strict=True)],
        "groups": vocabulary.groups,
        "hierarchy": None if hierarchy is None else hierarchy.edges,
        "shards": [dict(zip(KINDS, size, strict=True)) for size in sizes],
    }
    with whole_file(folder / INDEX) as temporary:
        temporary.write_text(json.dumps(index, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _path(folder: Path, kind: str, number: int) -> Path:
    return folder / f"{kind}-{number:05d}.parquet"


def _tables(part: Annotations) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    width, height = part.sizes.T
    images = pl.DataFrame(
        {"id": pl.Series(part.image_ids, dtype=pl.String), "width": width, "height": height}
    )
    if part.file_names:
        images = images.with_columns(file_name=pl.Series(part.file_names, dtype=pl.String))
    columns = (part.image.astype(np.int32), part.label.astype(np.int32), *part.boxes.T, part.is_group_of)
    labels = part.image_labels
    flags = (labels.is_positive, labels.is_exhaustive)
    verified = (labels.image.astype(np.int32), labels.label.astype(np.int32), *flags)
    return (
        images,
        pl.DataFrame(dict(zip(BOXES, map(np.ascontiguousarray, columns), strict=True))),
        pl.DataFrame(dict(zip(LABELS, verified, strict=True))),
    )


def open_parquet(folder: str | Path) -> ParquetDataset:
    """A folder that `write_parquet` wrote, without reading its shards.

    Raises:
        InputError: no dataset.json in it, or one of another version or that is not ours.
    """
    path = Path(folder) / INDEX
    content = read_json(path)
    if not isinstance(content, dict) or content.get("version") != VERSION:
        given = content.get("version") if isinstance(content, dict) else None
        raise InputError(f"version is {given!r}, expected {VERSION}", path=path)
    try:
        ids, names = zip(*content["classes"], strict=True) if content["classes"] else ((), ())
        vocabulary, edges = Vocabulary(ids, names, content["groups"]), content["hierarchy"]
        hierarchy = None if edges is None else Hierarchy(len(vocabulary), edges)
        sizes = tuple((int(s["images"]), int(s["boxes"]), int(s["labels"])) for s in content["shards"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"not an index of ours: {error!r}", path=path) from error
    return ParquetDataset(Path(folder), vocabulary, hierarchy, sizes)


def read_parquet(folder: str | Path) -> Annotations:
    """All shards as one table. `InputError` as `open_parquet` and `ParquetDataset.shard`."""
    return concatenate(list(open_parquet(folder)))
