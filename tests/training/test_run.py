"""Training: resumes to the bit, by its own seed alone, and says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from training.small_run import draw_small_world, logged_losses, small_run

from wildbox.detectors.dataset import DetectionDataset, images_of, load_image
from wildbox.errors import ConfigError, InputError
from wildbox.labels.objects import object_labels
from wildbox.training.checkpoint import load_checkpoint
from wildbox.training.config import RunConfig
from wildbox.training.model import restore_model
from wildbox.training.run import train
from wildbox.training.source import load_source
from wildbox.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return small_run(draw_small_world(tmp_path_factory.mktemp("world")))


class Killed(BaseException):
    """As a signal would end the process."""


@pytest.mark.slow
def test_an_interrupted_run_ends_as_an_uninterrupted_one(config: RunConfig, tmp_path: Path) -> None:
    whole = load_checkpoint(train(config, tmp_path / "whole"))

    def kill(step: int, steps: int, values: Mapping[str, float]) -> None:
        if step == 5:  # one step after the checkpoint of step 4: it must be done again
            raise Killed

    with pytest.raises(Killed):
        train(config, tmp_path / "cut", progress=kill)
    torch.manual_seed(12345)  # what the global generator held in between must not matter
    resumed = load_checkpoint(train(config, tmp_path / "cut"))
    assert resumed.step == whole.step == 6
    assert all(torch.equal(value, resumed.model[name]) for name, value in whole.model.items())

    assert logged_losses(tmp_path / "whole") == logged_losses(tmp_path / "cut")
    assert [line["step"] for line in logged_losses(tmp_path / "cut")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_checkpoint_predicts_alone_and_refuses_other_settings(config: RunConfig, tmp_path: Path) -> None:
    path = train(config, tmp_path)
    saved = load_checkpoint(path)
    model = restore_model(saved)
    with torch.no_grad():
        found = model([torch.rand(3, 96, 96)])[0]
    assert found["boxes"].shape[1] == 4
    assert saved.relative
    other = config.model_copy(update={"seed": 1})
    with pytest.raises(ConfigError, match="trained with other settings"):
        train(other, tmp_path)


def test_an_average_is_what_predicts(config: RunConfig, tmp_path: Path) -> None:
    schedule = config.schedule.model_copy(update={"average": 0.5, "steps": 2})
    saved = load_checkpoint(train(config.model_copy(update={"schedule": schedule}), tmp_path))
    assert saved.average is not None
    name = "roi_heads.box_predictor.logits.weight"
    assert not torch.equal(saved.average[name], saved.model[name])
    assert torch.equal(restore_model(saved).state_dict()[name], saved.average[name])


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"broken")
    with pytest.raises(InputError, match="not a readable checkpoint") as error:
        load_checkpoint(path)
    assert str(path) in str(error.value)


def test_samples_hold_the_labels_of_their_objects(config: RunConfig) -> None:
    source = load_source(config.data)
    expanded = source.expanded
    dataset = DetectionDataset(expanded, source.folder, objects=object_labels(expanded))
    image, target = dataset[3]
    assert image.shape == (3, 96, 96)
    assert float(image.max()) <= 1
    assert source.hierarchy is not None
    for own, labels in zip(target["labels"], target["multi_hot"], strict=True):
        assert labels[own]
        assert labels[torch.from_numpy(source.hierarchy.ancestors(int(own)))].all()
    single = DetectionDataset(expanded, source.folder, objects=None)[3][1]
    assert single["multi_hot"].sum(dim=1).tolist() == [1] * len(single["labels"])


def test_an_image_that_does_not_open_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff not a picture")
    with pytest.raises(InputError, match=r"broken\.jpg"):
        load_image(broken)
    with pytest.raises(InputError, match="no such file"):
        load_image(tmp_path / "none.jpg")
    with pytest.raises(InputError, match="no such folder of images"):
        images_of(tmp_path / "none", Vocabulary(("a",)), relative=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no \.jpg"):
        images_of(tmp_path / "empty", Vocabulary(("a",)), relative=True)


def test_an_average_goes_on_where_it_was(config: RunConfig, tmp_path: Path) -> None:
    schedule = config.schedule.model_copy(update={"average": 0.9, "steps": 3})
    config = config.model_copy(update={"schedule": schedule})
    whole = load_checkpoint(train(config, tmp_path / "whole")).average

    def kill(step: int, steps: int, values: Mapping[str, float]) -> None:
        if step == 3:  # the checkpoint is that of step 2
            raise Killed

    with pytest.raises(Killed):
        train(config, tmp_path / "cut", progress=kill)
    resumed = load_checkpoint(train(config, tmp_path / "cut")).average
    assert whole is not None
    assert resumed is not None
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
