"""From the settings of a data set to its tables: annotations, hierarchy, image folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wildbox.annotations import Annotations, expand
from wildbox.errors import ConfigError, InputError, VocabularyError
from wildbox.formats.coco import read_coco
from wildbox.formats.files import is_json
from wildbox.formats.open_images import read_classes, read_hierarchy, read_image_list, read_open_images
from wildbox.formats.tiles import cut_tiles
from wildbox.training.config import DataConfig
from wildbox.vocabulary import Hierarchy


@dataclass(frozen=True)
class Source:
    """A data set, ready to train on or to evaluate with."""

    annotations: Annotations
    """As the files say it, not expanded."""
    folder: Path
    """Of the images, or of the tiles cut from them."""
    hierarchy: Hierarchy | None
    relative: bool
    """Whether the annotations give coordinates relative to the image; those of tiles are pixels nevertheless."""

    @property
    def expanded(self) -> Annotations:
        """With every label that the hierarchy implies."""
        return self.annotations if self.hierarchy is None else expand(self.annotations, self.hierarchy)


def load_source(
    config: DataConfig, *, tiles: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Source:
    """Read what `config` names.

    Args:
        tiles: folder for the tiles where `config.tile_size` asks for them; tiles already there are kept.
        progress: called with images cut and all.
    """
    hierarchy = None
    if config.format == "coco":
        annotations = read_coco(config.boxes)
    elif is_json(config.boxes):
        raise ConfigError(f'{config.boxes} is JSON: COCO and LVIS need format = "coco" beside boxes')
    else:
        classes = None if config.classes is None else read_classes(config.classes)
        annotations = read_open_images(config.boxes, classes=classes, image_labels=config.image_labels)
        if config.hierarchy is not None:
            hierarchy = read_hierarchy(config.hierarchy, annotations.vocabulary)
    annotations = annotations.select(_chosen(annotations, config))
    folder = config.images
    if config.tile_size is not None:
        if tiles is None:
            raise ConfigError("data.tile_size needs a folder for the tiles")
        annotations = cut_tiles(
            annotations,
            config.images,
            tiles,
            size=config.tile_size,
            overlap=config.tile_overlap,
            progress=progress,
        )
        folder = tiles
    return Source(annotations, folder, hierarchy, relative=config.format == "open-images")


def _chosen(annotations: Annotations, config: DataConfig) -> list[int]:
    """Indices of the images that the lists leave."""
    chosen = list(range(len(annotations.image_ids)))
    for path, keep in ((config.only, True), (config.without, False)):
        if path is not None:
            listed = _listed(annotations, path)
            chosen = [i for i in chosen if (i in listed) == keep]
    if not chosen:
        raise InputError("no image is left", path=config.boxes)
    return chosen


def _listed(annotations: Annotations, path: Path) -> set[int]:
    """Indices of the images in a list of ids, else of file names, else of these without their ending.

    What all lines are decides: ids that count from 0 and files that count from 1 share most of their names.
    """
    lines, files = set(read_image_list(path)), annotations.file_names or ()
    ways = (annotations.image_ids, files, tuple(Path(name).stem for name in files))
    for names in ways:
        if lines <= set(names):
            found = {i for i, name in enumerate(names) if name in lines}
            if len(found) > len(lines):
                repeated = next(name for name in names if name in lines and names.count(name) > 1)
                raise InputError(f"several images are {repeated!r}: give ids or whole file names", path=path)
            return found
    unknown = lines.difference(*ways)
    if not unknown:
        raise InputError("the list mixes ids and names of files, expected one kind", path=path)
    raise InputError(
        f"{len(unknown)} images of the list are not in the data, such as {min(unknown)!r}", path=path
    )


def with_vocabulary_of(source: Source, other: Source) -> Source:
    """`source` with the classes of `other`, for a validation set whose file lists only what occurs in it.

    Raises:
        VocabularyError: a class of `source` that `other` does not have, or has by another name.
    """
    if told := other.annotations.vocabulary.contradiction(source.annotations.vocabulary):
        raise VocabularyError(f"training and validation number their classes differently: {told}")
    if source.annotations.vocabulary.ids == other.annotations.vocabulary.ids:
        return source
    if source.hierarchy is not None:
        raise ConfigError(
            "validation.classes is not the list of data.classes, in the same order: with a hierarchy it must be"
        )
    vocabulary = other.annotations.vocabulary
    index = np.array([vocabulary.index(id_) for id_ in source.annotations.vocabulary.ids], np.int64)
    table, labels = source.annotations, source.annotations.image_labels
    renumbered = replace(
        table,
        vocabulary=vocabulary,
        label=index[table.label],
        image_labels=replace(labels, label=index[labels.label]),
    )
    return replace(source, annotations=renumbered)
