"""Prediction in shards: all of an image once, whatever was killed, by any number of processes, by all rules at once."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from training.processes import join, start_each
from training.small_run import draw_small_world, small_run

from wildbox.annotations import Annotations
from wildbox.classification import ConcurrentSoftmax
from wildbox.detections import Detections
from wildbox.detectors.dataset import DetectionDataset, collate, images_of
from wildbox.detectors.inference import predict, views
from wildbox.errors import ConfigError, InputError, InputWarning, WildboxError
from wildbox.formats.coco import write_coco
from wildbox.formats.storage import read_detections, write_detections
from wildbox.training import prediction
from wildbox.training.checkpoint import load_checkpoint, save_checkpoint
from wildbox.training.model import build_scoring, restore_model
from wildbox.training.prediction import PredictConfig, Shards, images_to_predict, predict_images
from wildbox.training.run import train

BOTH = PredictConfig(scores=("softmax", "concurrent"), shard_size=5, batch_size=2, device="cpu")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_small_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def checkpoint(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model that finds something everywhere."""
    config = small_run(world, steps=1)
    model = config.model.model_copy(update={"score_threshold": 0.001, "detections_per_image": 20})
    path = train(config.model_copy(update={"model": model}), tmp_path_factory.mktemp("run"))
    saved = load_checkpoint(path)
    for name in ("logits", "deltas"):
        nn.init.normal_(saved.model[f"roi_heads.box_predictor.{name}.weight"], std=0.3)
    save_checkpoint(saved, path)
    return path


def whole(checkpoint: Path, folder: Path, *, flip: bool = False) -> dict[str, Detections]:
    """What the model finds in one go."""
    saved = load_checkpoint(checkpoint)
    model, table = restore_model(saved), images_of(folder, saved.vocabulary, relative=saved.relative)
    dataset = DetectionDataset(table, folder, objects=None)
    batches = [collate([dataset[i] for i in range(len(dataset))])]
    scorings = {name: build_scoring(name, saved, model) for name in BOTH.scores}
    return predict(model, batches, table, scorings=scorings, shown=views(flip=flip))  # type: ignore[arg-type]


def predicted(
    checkpoint: Path, folder: Path, out: Path, config: PredictConfig = BOTH
) -> dict[str, Detections]:
    """What `predict_images` leaves."""
    table = images_to_predict(checkpoint, folder)
    written = predict_images(checkpoint, table, folder, out, config)
    return read(written, table)


def read(written: dict[str, Path], table: Annotations) -> dict[str, Detections]:
    ids = {"vocabulary": table.vocabulary, "image_ids": table.image_ids}
    return {name: read_detections(path, **ids) for name, path in written.items()}  # type: ignore[arg-type]


def assert_same(one: dict[str, Detections], other: dict[str, Detections], *, atol: float = 0) -> None:
    assert one.keys() == other.keys()
    for name, found in one.items():
        assert len(found) > 0
        assert found.image_ids == other[name].image_ids
        for column in ("image", "label"):
            assert getattr(found, column).tolist() == getattr(other[name], column).tolist()
        np.testing.assert_allclose(found.boxes, other[name].boxes, atol=atol, rtol=0)
        np.testing.assert_allclose(found.score, other[name].score, atol=atol, rtol=0)


@pytest.mark.parametrize("flip", [False, True])
def test_shards_together_are_the_prediction_of_all(
    flip: bool, checkpoint: Path, world: Path, tmp_path: Path
) -> None:
    config = BOTH.model_copy(update={"flip": flip})
    found = predicted(checkpoint, world / "train", tmp_path, config)
    assert_same(found, whole(checkpoint, world / "train", flip=flip), atol=1e-4)
    assert sorted(path.name for path in (tmp_path / "softmax").iterdir()) == [
        "part-00000.parquet", "part-00001.parquet", "part-00002.parquet",
    ]  # fmt: skip
    workers = config.model_copy(update={"workers": 1, "shard_size": 12})
    assert_same(predicted(checkpoint, world / "train", tmp_path / "other", workers), found, atol=1e-4)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_file_is_the_shards_put_together(
    ending: str, checkpoint: Path, world: Path, tmp_path: Path
) -> None:
    config = BOTH.model_copy(update={"scores": ("concurrent",)})
    found = predicted(checkpoint, world / "train", tmp_path / f"found{ending}", config)
    assert_same(found, predicted(checkpoint, world / "train", tmp_path / "folder", config))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", f"found{ending}"]
    with pytest.raises(ConfigError, match=r"a file holds the scores of one rule, not softmax, concurrent"):
        predicted(checkpoint, world / "train", tmp_path / f"both{ending}")


class Killed(BaseException):
    """As a signal would end the process."""


def test_interrupted_anywhere_it_goes_on_with_what_is_missing(
    checkpoint: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every call that writes, before it and after it."""
    expected = predicted(checkpoint, world / "train", tmp_path / "whole")
    out, interruptions = tmp_path / "cut", 0
    while True:
        calls = 0

        def replaced(source: Any, target: Any, *, after: bool = interruptions % 2 == 1) -> None:
            nonlocal calls
            calls += 1
            if calls == 2 and not after:
                raise Killed
            os.rename(source, target)
            if calls == 2:
                raise Killed

        there = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
        with monkeypatch.context() as patch:
            patch.setattr("wildbox.formats.files.os.replace", replaced)
            try:
                predicted(checkpoint, world / "train", out)
            except Killed:
                interruptions += 1
                assert interruptions < 30
            else:
                break
        finished = [p for p in there if all((out / rule / p.name) in there for rule in BOTH.scores)]
        assert all(path.stat().st_mtime_ns == there[path] for path in finished)
    assert interruptions >= 3
    assert_same(
        read({name: out / name for name in BOTH.scores}, images_to_predict(checkpoint, world / "train")),
        expected,
    )


def run_prediction(checkpoint: Path, folder: Path, out: Path, config: PredictConfig) -> None:
    predict_images(checkpoint, images_to_predict(checkpoint, folder), folder, out, config)


def slowly(checkpoint: Path, folder: Path, out: Path, config: PredictConfig) -> None:
    """So that there is time to kill it."""

    def write_late(*arguments: Any) -> None:
        time.sleep(0.3)
        write_detections(*arguments)

    with mock.patch.object(prediction, "write_detections", write_late):
        run_prediction(checkpoint, folder, out, config)


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
def test_killed_processes_leave_whole_shards_and_go_on(
    world_size: int, checkpoint: Path, world: Path, tmp_path: Path
) -> None:
    config = BOTH.model_copy(update={"processes": world_size, "shard_size": 2})
    expected = predicted(
        checkpoint, world / "train", tmp_path / "whole", config.model_copy(update={"processes": 1})
    )
    out = tmp_path / "killed"
    shards = Shards(out, BOTH.scores, images=12, size=2)
    arguments = (checkpoint, world / "train", out, config)
    processes = start_each(slowly, arguments, world_size)
    while shards.done() == 0:
        assert all(process.is_alive() for process in processes)
        time.sleep(0.01)
    for process in processes:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(timeout=60)
    assert 0 < shards.done() < 12
    kept = {path: path.stat().st_mtime_ns for n in range(6) if n not in shards.missing()
            for path in (shards.path(name, n) for name in BOTH.scores)}  # fmt: skip
    leftover = out / "softmax" / ".part-00001.parquet.1.tmp"
    leftover.write_bytes(b"half")
    join(start_each(run_prediction, arguments, world_size))
    assert not list(out.rglob("*.tmp"))
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in kept.items())
    found = read({name: out / name for name in BOTH.scores}, images_to_predict(checkpoint, world / "train"))
    assert_same(found, expected, atol=1e-4)


def test_a_model_of_the_papers_rates_is_scored_by_sharp_ones_too(checkpoint: Path) -> None:
    """Trained by r, scored by r and by r ** 0, in one pass; where the rates are sharp already, both are one."""
    saved = load_checkpoint(checkpoint)
    model = restore_model(saved)
    rates = torch.zeros_like(saved.rates)
    rates[0, 1], rates[1, 0], rates[2, 0] = 0.25, 1.0, 0.5
    logits = torch.linspace(-2, 2, 3 * len(rates)).reshape(3, -1)
    milder, sharp = (
        build_scoring(name, replace(saved, rates=rates), model)(logits) for name in ("concurrent", "sharp")
    )
    assert torch.equal(milder, ConcurrentSoftmax(rates).scores(logits))
    assert torch.equal(sharp, ConcurrentSoftmax(rates.ceil()).scores(logits))
    assert not torch.equal(milder, sharp)
    assert torch.equal(build_scoring("concurrent", replace(saved, rates=rates.ceil()), model)(logits), sharp)


def test_other_settings_images_or_weights_are_refused(checkpoint: Path, world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predicted(checkpoint, world / "train", out)
    again = BOTH.model_copy(update={"batch_size": 7, "workers": 1})
    predicted(checkpoint, world / "train", out, again)  # of no influence
    with pytest.raises(ConfigError, match=r"made otherwise \(flip was False, now True\); choose another"):
        predicted(checkpoint, world / "train", out, BOTH.model_copy(update={"flip": True}))
    with pytest.raises(ConfigError, match="images was 12, now 4"):
        predicted(checkpoint, world / "validation", out)
    another = tmp_path / "another"
    shutil.copytree(world / "train", another)
    next(another.glob("*.jpg")).write_bytes(next(another.glob("*.jpg")).read_bytes() + b"other")
    with pytest.raises(ConfigError, match="image_list was"):
        predicted(checkpoint, another, out)
    other = tmp_path / "other.pt"
    saved = load_checkpoint(checkpoint)
    save_checkpoint(replace(saved, step=saved.step + 1), other)
    with pytest.raises(ConfigError, match=r"checkpoint was [0-9a-f]{64}, now"):
        predicted(other, world / "train", out)


def test_what_cannot_be_is_told(
    checkpoint: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = load_checkpoint(checkpoint)
    sigmoid = tmp_path / "sigmoid.pt"
    config = saved.config | {"model": saved.config["model"] | {"rule": "sigmoid"}}
    weights = {name: value for name, value in saved.model.items() if not name.startswith("roi_heads.rule.")}
    save_checkpoint(replace(saved, config=config, model=weights), sigmoid)
    for name in ("softmax", "concurrent", "sharp"):
        with pytest.raises(ConfigError, match=f"scores '{name}': the model was trained with sigmoid"):
            predicted(
                sigmoid, world / "train", tmp_path / "never", BOTH.model_copy(update={"scores": (name,)})
            )
    with pytest.raises(InputError, match="no such checkpoint"):
        predicted(tmp_path / "none.pt", world / "train", tmp_path / "never")
    assert not (tmp_path / "never").exists()

    def fails(error: Exception) -> Callable[..., None]:
        def instead(*_: object, **__: object) -> None:
            raise error

        return instead

    no_space = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(prediction, "write_detections", fails(no_space))
    with pytest.raises(WildboxError, match="No space left on device; make room, then start the same command"):
        predicted(checkpoint, world / "train", tmp_path / "full")
    monkeypatch.setattr(
        prediction, "predict", fails(torch.cuda.OutOfMemoryError("CUDA out of memory.\nmore"))
    )
    told = r"out of memory with 2 images of 96 pixels at once; lower the batch .* torch says: CUDA out of memory\.$"
    with pytest.raises(ConfigError, match=told):
        predicted(checkpoint, world / "train", tmp_path / "full")


def test_images_that_do_not_open_have_no_detections(checkpoint: Path, world: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted((world / "train").glob("*.jpg")):
        (images / path.name).write_bytes(path.read_bytes())
    damaged = sorted(images.glob("*.jpg"))[4]
    damaged.write_bytes(b"nothing")
    with pytest.raises(InputError, match=re.escape(damaged.name)):
        predicted(checkpoint, images, tmp_path / "out")
    with pytest.warns(InputWarning, match=re.escape(damaged.name)):
        found = predicted(
            checkpoint, images, tmp_path / "out", BOTH.model_copy(update={"max_corrupt_share": 0.1})
        )
    assert_same(
        {
            name: without(d, damaged.stem)
            for name, d in predicted(checkpoint, world / "train", tmp_path / "all").items()
        },
        found,
        atol=1e-4,
    )


def without(found: Detections, id_: str) -> Detections:
    keep = found.image != found.image_ids.index(id_)
    columns = {name: getattr(found, name)[keep] for name in ("image", "boxes", "label", "score")}
    return replace(found, **columns)


def test_images_of_a_coco_file_go_by_its_ids(checkpoint: Path, world: Path, tmp_path: Path) -> None:
    files = sorted((world / "train").glob("*.jpg"))[:3]
    saved = load_checkpoint(checkpoint)
    none = np.zeros(0, np.int64)
    table = Annotations(
        saved.vocabulary, ("30", "10", "20"), image=none, boxes=np.zeros((0, 4)), label=none,
        sizes=np.full((3, 2), 96.0), file_names=tuple(path.name for path in files),
    )  # fmt: skip
    numbered = replace(table.vocabulary, ids=tuple(str(n + 1) for n in range(len(table.vocabulary))))
    write_coco(replace(table, vocabulary=numbered), tmp_path / "instances.json")
    with pytest.raises(ConfigError, match=r"instances.json: has pixels, and the model was trained on shares"):
        images_to_predict(checkpoint, world / "train", listed=tmp_path / "instances.json")
    pixels = tmp_path / "pixels.pt"
    save_checkpoint(replace(saved, relative=False), pixels)
    listed = images_to_predict(pixels, world / "train", listed=tmp_path / "instances.json")
    assert listed.image_ids == ("30", "10", "20")
    found = read(predict_images(pixels, listed, world / "train", tmp_path / "out", BOTH), listed)["softmax"]
    relative = predicted(checkpoint, world / "train", tmp_path / "relative")["softmax"]
    count = relative.offsets[3]
    np.testing.assert_allclose(found.boxes, relative.boxes[:count] * 96, atol=1e-2)

    some = tmp_path / "some"  # of the three images one is damaged and one is gone
    some.mkdir()
    (some / files[0].name).write_bytes(files[0].read_bytes())
    (some / files[1].name).write_bytes(b"nothing")
    with pytest.raises(InputError, match="1 of 3 annotated images are not there"):
        images_to_predict(pixels, some, listed=tmp_path / "instances.json")
    allowed = BOTH.model_copy(update={"max_corrupt_share": 0.7})
    with pytest.warns(InputWarning, match="1 of 3 annotated images are not there"):
        listed = images_to_predict(pixels, some, listed=tmp_path / "instances.json", max_absent_share=0.7)
    for images in (listed, images_to_predict(pixels, some)):
        with pytest.warns(InputWarning, match="does not open"):
            written = predict_images(pixels, images, some, tmp_path / str(len(images.image_ids)), allowed)
        left = read(written, images)["softmax"]
        assert len(left) == np.diff(found.offsets)[0] > 0
        np.testing.assert_allclose(left.boxes, found.boxes[: len(left)], atol=1e-2)
