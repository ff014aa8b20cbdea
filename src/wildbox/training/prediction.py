"""Detections of a trained model on any number of images: in shards that are whole or not there, by several processes.

OUT/prediction.json             what the shards were made from
OUT/own/part-00000.parquet      detections on the first images by a scoring rule; one folder a rule
"""

from __future__ import annotations

import hashlib
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import Field

from wildbox.annotations import Annotations, ImageLabels
from wildbox.detectors.batches import in_order
from wildbox.detectors.dataset import check_files, image_path, images_of
from wildbox.detectors.detector import Detector
from wildbox.detectors.inference import predict, views
from wildbox.detectors.loading import BatchLoader, images_in_order
from wildbox.detectors.roi_heads import Scoring
from wildbox.errors import ConfigError, InputWarning
from wildbox.formats.coco import read_coco
from wildbox.formats.files import read_json, write_json
from wildbox.formats.storage import ORIGIN, read_detections, write_detections
from wildbox.training.checkpoint import Checkpoint, load_checkpoint
from wildbox.training.config import Positive, RunConfig, Side
from wildbox.training.devices import first_process_first, start_processes
from wildbox.training.full_disk import full_disk_told
from wildbox.training.model import ScoringName, build_scoring, restore_model
from wildbox.training.one_run import alone_in
from wildbox.training.settings import Settings

WITHOUT_INFLUENCE = {"batch_size", "workers", "max_corrupt_share", "device", "processes", "machines"}
"""Settings that may differ when a prediction is resumed."""
Progress = Callable[[int, int], None]
"""Called with the images done, those in finished shards and those of this process, and all images."""
FILES = (".csv", ".parquet", ".json")
"""Endings of an `out` that is a file."""
POLL = 0.5
"""Seconds between looks at the shards of other processes."""


class PredictConfig(Settings):
    """How images are predicted."""

    scores: Annotated[tuple[ScoringName, ...], Field(min_length=1)] = ("own",)
    """Scoring rules, all in one pass over the images."""
    image_sizes: tuple[Side, ...] = ()
    """Shorter sides of the network's input that each image is shown at, in pixels; none is the model's own."""
    flip: bool = False
    """Show it in each size left-right mirrored, too."""
    shard_size: Positive = 1000
    """Images a shard: what is lost, at most, of each process that is killed."""
    batch_size: Positive = 8
    """Images at once, of a process."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that load images, for each that predicts."""
    max_corrupt_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of the images, that may fail to open: they are told and have no detections. 0: the first ends it."""
    precision: Literal["32", "bf16-mixed"] = "32"
    device: str = "auto"
    """As of a run."""
    processes: Positive = 1
    """That predict on each machine, one a GPU; leave it where torchrun starts them."""
    machines: Positive = 1


@dataclass(frozen=True)
class Shards:
    """Where the detections of consecutive images lie."""

    folder: Path
    names: tuple[str, ...]
    """Of the scoring rules."""
    images: int
    size: int
    """Images a shard."""

    def __len__(self) -> int:
        return -(-self.images // self.size)

    def rows(self, number: int) -> range:
        """The images of a shard, as indices."""
        return range(number * self.size, min((number + 1) * self.size, self.images))

    def path(self, name: str, number: int) -> Path:
        """Its file by one scoring rule."""
        return self.folder / name / f"part-{number:05}.parquet"

    def missing(self) -> list[int]:
        """Numbers of the shards that are not there by every rule."""
        there = [{path.name for path in (self.folder / name).glob("part-*.parquet")} for name in self.names]
        done = set.intersection(*there)
        return [number for number in range(len(self)) if self.path("", number).name not in done]

    def remove_leftovers(self) -> None:
        """Of processes that were killed while they wrote."""
        for path in self.folder.glob("*/.part-*.tmp"):
            path.unlink(missing_ok=True)

    def done(self) -> int:
        """Images in shards that are there."""
        return self.images - sum(len(self.rows(number)) for number in self.missing())


def images_to_predict(
    checkpoint: str | Path,
    folder: str | Path,
    *,
    listed: str | Path | None = None,
    max_absent_share: float = 0.0,
) -> Annotations:
    """A table of images for `predict_images`, in the unit and with the classes of a checkpoint.

    Args:
        folder: all its .jpg, .jpeg and .png files, by their stems; or with `listed` the images of that COCO or LVIS
            file, by its ids.
        max_absent_share: of the images that the list names, that the folder may lack.
    Raises:
        InputError: no image, or more files that the list names and the folder lacks.
        ConfigError: a list, which has pixels, for a model of relative coordinates.
    """
    saved = load_checkpoint(checkpoint)
    if listed is None:
        return images_of(folder, saved.vocabulary, relative=saved.relative)
    if saved.relative:
        raise ConfigError(f"{listed}: has pixels, and the model was trained on shares of the image")
    table = read_coco(listed)
    check_files(table, folder, max_absent_share=max_absent_share)
    none = table.keep(np.zeros(len(table), bool))
    return replace(none, vocabulary=saved.vocabulary, image_labels=ImageLabels())


def predict_images(
    checkpoint: str | Path,
    images: Annotations,
    folder: str | Path,
    out: str | Path,
    config: PredictConfig,
    *,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Write the detections of a run's model on `images`; shards that are already there stay as they are.

    Started again after a kill it goes on where it was: nothing is half-written. Where `config` or torchrun asks for
    several processes, each of them calls this, with an `out` that all of them see.

    Args:
        checkpoint: of a run; its averaged weights are taken where there are any.
        images: the images, their unit of coordinates, and the checkpoint's vocabulary; boxes are not looked at.
        folder: of the image files.
        out: folder of the shards; or a file, .csv, .parquet or .json, beside which they lie until all are there.
        progress: called in the first process.
    Returns:
        name of each scoring rule -> the folder of its shards, which `read_detections` and `evaluate_files` take, or
        the file. In the first process it is complete by then.
    Raises:
        ConfigError: `out` holds shards of another model, of other images or settings; several scoring rules for one
            file, or one that does not fit what the model was trained with; too little memory on a GPU.
        InputError: a checkpoint that does not open, more images than `config.max_corrupt_share` that do not.
        WildboxError: no space left on the disk, another prediction into `out`. The shards that are there are whole.
    """
    saved, out = load_checkpoint(checkpoint), Path(out)
    shards = _shards_of(out, images, config)
    fabric = start_processes(
        config.device, processes=config.processes, machines=config.machines, precision=config.precision
    )
    model = restore_model(saved).to(fabric.device)
    scorings: dict[str, Scoring] = {name: build_scoring(name, saved, model) for name in config.scores}
    origin = _origin(Path(checkpoint), images, Path(folder), config)
    advice = "start the same command again: the shards written before are whole"
    with full_disk_told(out, advice=advice), ExitStack() as held:
        with first_process_first(fabric):
            if fabric.is_global_zero:
                held.enter_context(alone_in(shards.folder))
        mine = _my_share(shards, origin, fabric)
        told = progress if fabric.is_global_zero else None
        loader = images_in_order(
            images,
            folder,
            batch_size=config.batch_size,
            chosen=[shards.rows(number) for number in mine],
            workers=config.workers,
            pin_memory=fabric.device.type == "cuda",
            max_corrupt_share=config.max_corrupt_share,
        )
        with fabric.autocast(), _memory_explained(saved, config):
            _predict_shards(model, loader, images, shards, mine, config, scorings=scorings, told=told)
        if fabric.is_global_zero:
            _wait_for_others(shards, told)
            if shards.folder != out:
                _join(shards, images, out)
    return {name: out / name if shards.folder == out else out for name in scorings}


def _shards_of(out: Path, images: Annotations, config: PredictConfig) -> Shards:
    """Those in the folder `out`, or where that is a file, beside it."""
    names = tuple(dict.fromkeys(config.scores))
    if out.suffix in FILES and len(names) > 1:
        raise ConfigError(
            f"{out}: a file holds the scores of one rule, not {', '.join(names)}; give a folder"
        )
    folder = out.with_name(f"{out.name}.parts") if out.suffix in FILES else out
    return Shards(folder, names, images=len(images.image_ids), size=config.shard_size)


def _my_share(shards: Shards, origin: Mapping[str, object], fabric: Fabric) -> list[int]:
    """The missing shards that this process is to predict."""
    with first_process_first(fabric):
        _check_origin(shards.folder / ORIGIN, origin)
        shards.remove_leftovers()
        missing = shards.missing()
    fabric.barrier()  # all have seen what is missing before anyone writes
    return missing[fabric.global_rank :: fabric.world_size]


def _predict_shards(
    model: Detector,
    loader: BatchLoader,
    images: Annotations,
    shards: Shards,
    mine: Sequence[int],
    config: PredictConfig,
    *,
    scorings: Mapping[str, Scoring],
    told: Progress | None,
) -> None:
    """Predict and write some shards, whose images the loader gives in that order."""
    batches = iter(loader)
    shown = views(config.image_sizes or (None,), flip=config.flip)
    for number in mine:
        rows = shards.rows(number)
        found = predict(
            model,
            islice(batches, len(in_order(len(rows), config.batch_size))),
            images.select(rows),
            scorings=scorings,
            shown=shown,
            first=rows.start,
            progress=_counting(told, shards),
        )
        for name, detections in found.items():
            write_detections(detections, shards.path(name, number))


def _counting(told: Progress | None, shards: Shards) -> Callable[[int], None] | None:
    """Progress within a shard as progress of all."""
    if told is None:
        return None
    before = shards.done()
    return lambda done: told(before + done, shards.images)


def _wait_for_others(shards: Shards, told: Progress | None) -> None:
    """Until all shards are there; who started the other processes ends this one where one of them fails."""
    while (done := shards.done()) < shards.images:
        if told is not None:
            told(done, shards.images)
        time.sleep(POLL)
    if told is not None:
        told(done, shards.images)


def _join(shards: Shards, images: Annotations, out: Path) -> None:
    """Put the shards of the one rule together as a file, and remove them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)  # of shards where nothing was found
        parts = shards.folder / shards.names[0]
        found = read_detections(parts, vocabulary=images.vocabulary, image_ids=images.image_ids)
    write_detections(found, out)
    shutil.rmtree(shards.folder)


def _origin(checkpoint: Path, images: Annotations, folder: Path, config: PredictConfig) -> dict[str, object]:
    """What shards are made from: they may be resumed where it is the same."""
    with checkpoint.open("rb") as stream:
        model = hashlib.file_digest(stream, "sha256").hexdigest()
    names = "\n".join(
        f"{id_} {images.file_name(index)} {_size(image_path(images, index, folder))}"
        for index, id_ in enumerate(images.image_ids)
    )
    settings = {
        key: value for key, value in config.model_dump(mode="json").items() if key not in WITHOUT_INFLUENCE
    }
    return {
        "checkpoint": model,
        "images": len(images.image_ids),
        "image_list": hashlib.sha256(names.encode() + images.sizes.tobytes()).hexdigest(),
        **settings,
    }


def _size(path: Path) -> int:
    """Bytes of a file, of which other images of the same names differ; -1 where it is absent."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _check_origin(path: Path, origin: Mapping[str, object]) -> None:
    """Write what the shards of a folder are made from, or see that it is the same."""
    if not path.exists():
        write_json(origin, path)
        return
    before = read_json(path)
    before = before if isinstance(before, dict) else {}
    changed = [
        f"{key} was {before.get(key)}, now {value}"
        for key, value in origin.items()
        if before.get(key) != value
    ]
    if changed:
        raise ConfigError(
            f"{path}: the folder holds detections made otherwise ({', '.join(changed)}); choose another --out, or "
            "remove it"
        )


@contextmanager
def _memory_explained(saved: Checkpoint, config: PredictConfig) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        sizes = config.image_sizes or (RunConfig.model_validate(saved.config).model.image_size,)
        raise ConfigError(
            f"out of memory with {config.batch_size} images of {max(sizes)} pixels at once; lower the batch or the "
            f"image size and start again: finished shards stay. torch says: {str(error).splitlines()[0]}"
        ) from error
