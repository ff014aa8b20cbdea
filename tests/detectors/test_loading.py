"""Loading in this process or in others: the same batches, and failures with the names of their images."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from wildbox.annotations import Annotations
from wildbox.detectors.augmentation import Augmentation
from wildbox.detectors.dataset import DetectionDataset, Sample
from wildbox.detectors.loading import BatchLoader
from wildbox.errors import ConfigError, InputError, InputWarning, WildboxError
from wildbox.vocabulary import Vocabulary

BATCHES = [[(0, 0), (1, 1)], [(2, 2), (3, 3)], [(0, 4), (0, 5)]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty images of noise."""
    rng = np.random.default_rng(0)
    for number in range(20):
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).save(tmp_path / f"{number}.jpg")
    return tmp_path


def dataset(
    folder: Path, *, kind: type[DetectionDataset] = DetectionDataset, corrupt: bool = False
) -> DetectionDataset:
    """The folder, flipped at random."""
    none = np.zeros(0, np.int64)
    table = Annotations(
        Vocabulary(("a",)), tuple(map(str, range(20))), image=none, boxes=np.zeros((0, 4)), label=none
    )
    flip = Augmentation(flip=0.5)
    return kind(table, folder, objects=None, augmentation=flip, replace_corrupt=corrupt, as_bytes=True)


def pixels_of(loader: BatchLoader) -> list[Tensor]:
    """All images that it gives, in order."""
    return [image for images, _ in loader for image in images]


def test_workers_load_what_this_process_would(folder: Path) -> None:
    before = torch.get_rng_state()
    here = pixels_of(BatchLoader(dataset(folder), BATCHES))
    there = pixels_of(BatchLoader(dataset(folder), BATCHES, workers=2))
    assert len(here) == 6
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, 1])
def test_images_that_do_not_open_are_told_and_replaced(folder: Path, workers: int) -> None:
    (folder / "2.jpg").write_bytes(b"no picture")
    loader = BatchLoader(dataset(folder, corrupt=True), BATCHES * 2, workers=workers, max_corrupt_share=0.1)
    with pytest.warns(InputWarning) as told:
        images = pixels_of(loader)
    assert len(images) == 12
    ours = [str(one.message) for one in told if one.category is InputWarning]  # Python 3.12 warns of fork
    assert len(ours) == 1  # though it was drawn twice
    assert "2.jpg: the image does not open" in ours[0]
    assert loader.corrupt == {2}
    for number in (0, 3):
        (folder / f"{number}.jpg").write_bytes(b"no picture")
    loader = BatchLoader(dataset(folder, corrupt=True), BATCHES, workers=workers, max_corrupt_share=0.1)
    with (
        pytest.warns(InputWarning),
        pytest.raises(InputError, match=r"3 of 20 images do not open, more than the share 0\.1 .*0\.jpg: "),
    ):
        pixels_of(loader)


def test_an_image_that_does_not_open_in_a_worker_is_named_in_one_line(folder: Path) -> None:
    (folder / "3.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError) as error:
        pixels_of(BatchLoader(dataset(folder), BATCHES, workers=1))
    assert str(error.value).startswith(f"{folder / '3.jpg'}: the image does not open")
    assert "\n" not in str(error.value)


class Dying(DetectionDataset):
    """Its process ends at image 3, as if the system had killed it."""

    def _sample(self, index: int, seed: tuple[int, int] | None) -> Sample:
        if index == 3:
            os._exit(9)
        return super()._sample(index, seed)


class Defective(DetectionDataset):
    """Fails at image 3 in a way of its own."""

    def _sample(self, index: int, seed: tuple[int, int] | None) -> Sample:
        if index == 3:
            raise KeyError("unforeseen")
        return super()._sample(index, seed)


class WithoutRoom(DetectionDataset):
    """Its process may fill no file any longer from image 3 on, nor may shared memory, which is one."""

    def _sample(self, index: int, seed: tuple[int, int] | None) -> Sample:
        if index == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        return super()._sample(index, seed)


@pytest.mark.timeout(60)  # it used to wait without end
def test_full_shared_memory_is_told_in_one_line(folder: Path) -> None:
    with pytest.raises(WildboxError, match=r"^unable to .* enlarge /dev/shm .* fewer workers") as error:
        pixels_of(BatchLoader(dataset(folder, kind=WithoutRoom), BATCHES, workers=1))
    assert "\n" not in str(error.value)


def test_a_worker_that_dies_leaves_the_names_of_its_images(folder: Path) -> None:
    with pytest.raises(WildboxError, match=r"a process that loads images died .*: .*3\.jpg"):
        pixels_of(BatchLoader(dataset(folder, kind=Dying), BATCHES, workers=1))


def test_a_defect_names_the_image_too(folder: Path) -> None:
    with pytest.raises(KeyError, match=r"with image .*3\.jpg"):
        pixels_of(BatchLoader(dataset(folder, kind=Defective), BATCHES, workers=1))


def test_settings_that_contradict_the_dataset(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_corrupt_share is 0\.5, and replace_corrupt False"):
        BatchLoader(dataset(folder), BATCHES, max_corrupt_share=0.5)


class WithMore(DetectionDataset):
    """Somebody's own, with more in its targets."""

    def __getitem__(self, draw: Any) -> Any:
        image, target = super().__getitem__(draw)
        sparse = torch.eye(2).to_sparse()
        return image, target | {"number": 3, "name": "a", "array": np.ones(2), "sparse": sparse}


def test_targets_may_hold_more_than_tensors(folder: Path) -> None:
    loader = BatchLoader(dataset(folder, kind=WithMore), BATCHES, workers=1)
    target: Any = next(iter(loader))[1][0]
    assert (target["number"], target["name"], target["array"].sum()) == (3, "a", 2)
    assert torch.equal(target["sparse"].to_dense(), torch.eye(2))
