"""What the settings say of the data reaches the steps, and a run that uses all of it resumes to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training.small_run import draw_small_world, logged_losses, small_run

from wildbox.annotations import Annotations
from wildbox.errors import ConfigError, InputError, InputWarning
from wildbox.formats.coco import write_coco
from wildbox.training import batches as batches_module
from wildbox.training.batches import training_batches
from wildbox.training.checkpoint import load_checkpoint
from wildbox.training.config import AugmentConfig, DataConfig, RunConfig, SamplingConfig, ScheduleConfig
from wildbox.training.model import build_dataset
from wildbox.training.run import train
from wildbox.training.source import load_source
from wildbox.training.trainer import learned_boxes
from wildbox.vocabulary import Vocabulary

CHANGED = AugmentConfig(colour=0.5, crop=0.5, scale=(0.5, 1.5), flip=0.5)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_small_world(tmp_path_factory.mktemp("world"))


def with_data(config: RunConfig, **settings: object) -> RunConfig:
    return config.model_copy(update={"data": config.data.model_copy(update=settings)})


def as_groups(config: RunConfig, folder: Path, *, which: slice) -> RunConfig:
    """The same with some boxes marked as groups."""
    lines = config.data.boxes.read_text().splitlines()
    place = lines[0].split(",").index("IsGroupOf")
    rows = [line.split(",") for line in lines[1:]]
    for row in rows[which]:
        row[place] = "1"
    boxes = folder / "boxes.csv"
    boxes.write_text("\n".join([lines[0], *(",".join(row) for row in rows)]) + "\n")
    return with_data(config, boxes=boxes)


def damaged(world: Path, folder: Path, count: int) -> Path:
    """The training images, so many of them damaged."""
    folder.mkdir()
    for number, path in enumerate(sorted((world / "train").glob("*.jpg"))):
        content = path.read_bytes()
        (folder / path.name).write_bytes(b"nothing" if number < count else content)
    return folder


@pytest.mark.parametrize(
    "settings", [{"augment": CHANGED}, {"group_of": "ignore"}, {"max_corrupt_share": 0.2}], ids=str
)
def test_each_setting_changes_the_first_step_or_is_not_needed(
    settings: dict[str, object], world: Path, tmp_path: Path
) -> None:
    config = as_groups(small_run(world, steps=1, batch_size=12), tmp_path, which=slice(None, None, 2))
    train(config, tmp_path / "plain")
    train(with_data(config, **settings), tmp_path / "other")
    same = logged_losses(tmp_path / "plain") == logged_losses(tmp_path / "other")
    assert same == ("max_corrupt_share" in settings)


class Killed(BaseException):
    """As a signal would end the process."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*does not open.*:wildbox.errors.InputWarning")
def test_a_run_with_all_of_it_resumes_to_the_bit(world: Path, tmp_path: Path) -> None:
    config = as_groups(small_run(world, workers=2), tmp_path, which=slice(5))
    images = damaged(world, tmp_path / "images", 2)
    config = with_data(config, images=images, augment=CHANGED, group_of="ignore", max_corrupt_share=0.2)
    sampling = SamplingConfig(hybrid_start=0.5, aspect_batches=True)
    config = config.model_copy(update={"sampling": sampling})
    whole = load_checkpoint(train(config, tmp_path / "whole"))

    def kill(step: int, steps: int, values: Mapping[str, float]) -> None:
        if step == 3:
            raise Killed

    with pytest.raises(Killed):
        train(config, tmp_path / "cut", progress=kill)
    resumed = load_checkpoint(train(config, tmp_path / "cut"))
    assert logged_losses(tmp_path / "whole") == logged_losses(tmp_path / "cut")
    assert all(torch.equal(value, resumed.model[name]) for name, value in whole.model.items())
    with pytest.raises(ConfigError, match=r"data.augment was .*'flip': 0.5.*, now .*'flip': 0.0"):
        train(with_data(config, augment=AugmentConfig()), tmp_path / "cut")
    train(with_data(config, max_corrupt_share=0.3), tmp_path / "cut")  # more may fail to open than before


@pytest.mark.filterwarnings("ignore:.*does not open.*:wildbox.errors.InputWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_images_are_told_up_to_a_share(workers: int, world: Path, tmp_path: Path) -> None:
    config = small_run(world, workers=workers)
    config = with_data(config, images=damaged(world, tmp_path / "images", 1))
    with pytest.raises(InputError, match=r"images/\w+\.jpg: the image does not open"):
        train(config, tmp_path / "strict")
    with pytest.warns(InputWarning, match=r"images/\w+\.jpg: the image does not open"):
        train(with_data(config, max_corrupt_share=0.1), tmp_path / "run")
    with pytest.raises(InputError, match=r"1 of 12 images do not open, more than the share 0.01"):
        train(with_data(config, max_corrupt_share=0.01), tmp_path / "few")


@pytest.mark.filterwarnings("ignore:.*does not open.*:wildbox.errors.InputWarning")
def test_a_damaged_validation_image_need_not_end_a_run(world: Path, tmp_path: Path) -> None:
    images = damaged(world, tmp_path / "images", 1)
    data = small_run(world).data.model_copy(update={"images": images})
    config = small_run(world, steps=2).model_copy(update={"validation": data})
    with pytest.raises(InputError, match=r"images/\w+\.jpg: the image does not open"):
        train(config, tmp_path / "strict")
    spared = data.model_copy(update={"max_corrupt_share": 0.1})
    train(config.model_copy(update={"validation": spared}), tmp_path / "run")
    assert (tmp_path / "run" / "evaluations" / "step-00000002.csv").exists()


def test_labels_without_images_are_told_before_the_first_step(world: Path, tmp_path: Path) -> None:
    images = damaged(world, tmp_path / "images", 0)
    gone = sorted(images.glob("*.jpg"))[:2]
    for path in gone:
        path.unlink()
    config = with_data(small_run(world), images=images)
    with pytest.raises(InputError, match=rf"2 of 12 annotated images are not there: .*{gone[0].name}"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "log.jsonl").exists()
    validated = small_run(world).model_copy(update={"validation": config.data})
    with pytest.raises(InputError, match="2 of 12 annotated images are not there"):
        train(validated, tmp_path / "run")
    counted = pytest.warns(InputWarning, match=r"2 of 12 annotated images are not there: .* allows")
    with counted, pytest.warns(InputWarning, match="no such file"):
        train(with_data(config, max_corrupt_share=0.2), tmp_path / "run")


def test_images_without_labels_are_background(tmp_path: Path) -> None:
    config = wide_and_tall(tmp_path)
    source = load_source(config.data)
    assert np.diff(source.expanded.offsets).tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    never_balanced = config.model_copy(update={"sampling": SamplingConfig(hybrid_start=1.0)})
    train(never_balanced, tmp_path / "run")
    assert len(logged_losses(tmp_path / "run")) == 2


def test_nothing_to_learn_is_told(world: Path, tmp_path: Path) -> None:
    config = as_groups(small_run(world), tmp_path, which=slice(None))
    with pytest.raises(InputError, match=r"boxes.csv: no box to learn from"):
        train(with_data(config, group_of="ignore"), tmp_path / "run")


def wide_and_tall(folder: Path) -> RunConfig:
    """Two steps of four of eight images, every other one wide; the last four have no boxes."""
    sizes = [(64, 32), (32, 64)] * 4
    for number, size in enumerate(sizes):
        Image.new("RGB", size, (number * 30, 0, 0)).save(folder / f"{number}.png")
    table = Annotations(
        Vocabulary(("1", "2")),
        tuple(map(str, range(8))),
        image=[0, 1, 2, 3],
        boxes=[[4, 4, 20, 20]] * 4,
        label=[0, 1, 0, 1],
        sizes=sizes,
        file_names=tuple(f"{number}.png" for number in range(8)),
    )
    write_coco(table, folder / "instances.json")
    config = small_run(folder, steps=2, batch_size=4)
    data = DataConfig(format="coco", boxes=folder / "instances.json", images=folder)
    return config.model_copy(update={"data": data})


@pytest.mark.parametrize("sorted_", [False, True])
def test_images_of_like_aspect_share_a_batch_where_that_is_asked_for(sorted_: bool, tmp_path: Path) -> None:
    config = wide_and_tall(tmp_path)
    sampling = SamplingConfig(hybrid_start=1.0, aspect_batches=sorted_)
    config = config.model_copy(update={"sampling": sampling})
    truth = load_source(config.data).expanded
    batches = training_batches(
        build_dataset(config, truth, tmp_path), learned_boxes(truth, config.data), config,
        step=0, rank=0, world_size=1, pin_memory=False,
    )  # fmt: skip
    kinds = [len({image.shape for image in images}) for images, _ in batches]
    assert kinds == ([1, 1] if sorted_ else [2, 2])


def ten_steps(accumulate: int) -> RunConfig:
    """Of eight images each, the last five balanced."""
    return RunConfig(
        data=DataConfig(boxes=Path("b.csv"), images=Path("i")),
        sampling=SamplingConfig(hybrid_start=0.5, balance=1.0),
        schedule=ScheduleConfig(steps=10, warmup_steps=0, batch_size=8, accumulate=accumulate, workers=0),
        device="cpu",
    )


def eleven_images(*, rare: bool) -> Annotations:
    """Each holds class a, but for the last, which may hold b."""
    image, boxes = np.arange(11), np.tile([0.0, 0.0, 1.0, 1.0], (11, 1))
    label = np.where(rare & (image == 10), 1, 0)
    return Annotations(Vocabulary(("a", "b")), tuple(map(str, range(11))), image, boxes, label)


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_hybrid_switches_at_a_step_of_the_optimizer(accumulate: int) -> None:
    """Half of the balanced draws show the one image of b."""
    drawn = batches_module._stream(eleven_images(rare=True), ten_steps(accumulate)).draws(0, 80)
    assert (
        drawn.tolist() == batches_module._stream(eleven_images(rare=True), ten_steps(1)).draws(0, 80).tolist()
    )
    assert sorted(drawn[:11].tolist()) == list(range(11))
    assert (drawn[40:] == 10).sum() > 10


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_a_step_begins_where_the_one_before_ended(accumulate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "BatchLoader", lambda _, batches, **__: batches)
    nothing: Any = None
    for step in (0, 1, 7):
        for rank in (0, 1):
            place: dict[str, Any] = {"step": step, "rank": rank, "world_size": 2, "pin_memory": False}
            truth = eleven_images(rare=False)
            found: Any = training_batches(nothing, truth, ten_steps(accumulate), **place)
            numbers = [[number for _, number in batch] for batch in found]
            assert len(numbers) == (10 - step) * accumulate
            assert [n for batch in numbers for n in batch] == list(range(8 * step + rank, 80, 2))
