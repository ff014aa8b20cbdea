"""Images from files, and what of them is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wildbox.annotations import Annotations
from wildbox.detectors.augmentation import Augmentation
from wildbox.detectors.dataset import DetectionDataset, check_files, images_of, load_image
from wildbox.errors import InputError, InputWarning
from wildbox.vocabulary import Vocabulary


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve photographs of noise, 40 x 30, 0.jpg to 11.jpg."""
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = rng.integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg")
    return tmp_path


def annotated(*, size: tuple[int, int] = (40, 30), images: int = 12) -> Annotations:
    """A box, a group-of box and one without area on image 1; none on the others."""
    return Annotations(
        Vocabulary(("a", "b")),
        tuple(str(b) for b in range(images)),
        image=[1, 1, 1],
        boxes=[[4, 3, 20, 15], [0, 0, 40, 30], [5, 5, 5, 9]],
        label=[1, 0, 0],
        is_group_of=[False, True, False],
        sizes=[size] * images,
    )


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("settings", [{"quality": 60}, {"subsampling": 0}, {"progressive": True}], ids=str)
def test_photographs_are_decoded_as_pillow_does(mode: str, settings: dict[str, Any], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    image = Image.fromarray(pixels).resize((67, 41)).convert(mode)
    image.save(tmp_path / "x.jpg", **settings)
    with Image.open(tmp_path / "x.jpg") as opened:
        expected = torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(load_image(tmp_path / "x.jpg"), expected)
    image.convert("RGB").save(tmp_path / "y.png")
    assert load_image(tmp_path / "y.png").shape == (3, 41, 67)


def test_damaged_files_are_refused_and_named(folder: Path) -> None:
    content = (folder / "0.jpg").read_bytes()
    for name, part in (
        ("half.jpg", content[: len(content) // 2]),
        ("empty.jpg", b""),
        ("page.jpg", b"<html>"),
    ):
        (folder / name).write_bytes(part)
        with pytest.raises(InputError, match=f"{name}: the image does not open"):
            load_image(folder / name)


def test_boxes_are_in_pixels_of_the_file(folder: Path) -> None:
    """Where the table has another size, or shares."""
    _, target = DetectionDataset(annotated(size=(80, 60)), folder, objects=None)[1]
    assert target["boxes"].tolist() == [[2, 1.5, 10, 7.5], [0, 0, 20, 15]]
    assert target["labels"].tolist() == [1, 0]
    assert target["multi_hot"].int().tolist() == [[0, 1], [1, 0]]
    assert "ignored" not in target
    pixels, empty = DetectionDataset(annotated(), folder, objects=None)[2]
    assert empty["boxes"].shape == (0, 4)
    assert pixels.dtype == torch.float32


def test_groups_are_ignored_where_that_is_asked_for(folder: Path) -> None:
    data = DetectionDataset(annotated(), folder, objects=None, group_of="ignore")
    _, target = data[1]
    assert target["boxes"].tolist() == [[4, 3, 20, 15]]
    assert target["ignored"].tolist() == [[0, 0, 40, 30]]
    assert target["labels"].tolist() == [1]
    assert "ignored" not in data[2][1]


def test_a_draw_changes_its_image_by_its_number(folder: Path) -> None:
    flip = Augmentation(flip=0.5)
    data = DetectionDataset(
        annotated(), folder, objects=None, augmentation=flip, as_bytes=True, group_of="ignore"
    )
    plain, whole = DetectionDataset(annotated(), folder, objects=None, as_bytes=True)[1]
    outcomes = set()
    for number in range(10):
        pixels, target = data[1, number]
        flipped = not torch.equal(pixels, plain)
        outcomes.add(flipped)
        expected = [20, 3, 36, 15] if flipped else whole["boxes"][0].tolist()
        assert target["boxes"].tolist() == [expected]
        assert torch.equal(pixels.flip(-1) if flipped else pixels, plain)
        assert torch.equal(data[1, number][0], pixels)
    assert outcomes == {False, True}


def test_the_next_image_stands_in_for_one_that_does_not_open(folder: Path) -> None:
    (folder / "0.jpg").write_bytes(b"no picture")
    data = DetectionDataset(annotated(), folder, objects=None, replace_corrupt=True)
    _, target = data[0]
    assert int(target["image"]) == 1
    assert target["corrupt"].tolist() == [0]
    assert len(target["boxes"]) == 2
    assert data[3][1]["corrupt"].tolist() == []
    with pytest.raises(InputError, match=r"0\.jpg"):
        DetectionDataset(annotated(), folder, objects=None)[0]
    for number in range(12):
        (folder / f"{number}.jpg").unlink()
    with pytest.raises(InputError, match=r"11\.jpg: .* no such file; nor do the 11 before it"):
        data[0]


def test_sixteen_bits_of_grey_become_eight(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "x.png")
    expected = torch.from_numpy((ramp >> 8).astype(np.int64)).expand(3, 16, 16)
    assert torch.equal(load_image(tmp_path / "x.png").long(), expected)
    Image.fromarray((ramp >> 8).astype(np.int32)).save(tmp_path / "wide.tif")
    assert torch.equal(load_image(tmp_path / "wide.tif").long(), expected)
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(tmp_path / "long.tif")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    for name, said in (
        ("long.tif", "grey values from 0 to 70000, expected 8 or 16 bits"),
        ("float.tif", "in floating point"),
    ):
        with pytest.raises(InputError, match=said):
            load_image(tmp_path / name)


def test_a_file_with_a_hole_does_not_open(tmp_path: Path) -> None:
    """Pillow raises a SyntaxError."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    content = bytearray((tmp_path / "x.png").read_bytes())
    content[2000:90000] = bytes(88000)
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.png: the image does not open"):
        load_image(tmp_path / "x.png")
    assert images_of(tmp_path, Vocabulary(("a",)), relative=False).image_ids == ("x",)


def test_images_of_one_id_are_named(tmp_path: Path) -> None:
    for name in ("x.png", "x.jpg"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    with pytest.raises(InputError, match=r"x\.jpg and x\.png are images of one id, 'x'"):
        images_of(tmp_path, Vocabulary(("a",)), relative=True)


def test_what_a_folder_of_images_holds_beside_is_told(tmp_path: Path) -> None:
    for name in ("x.png", "y.webp", ".x.jpg"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "more").mkdir()
    with pytest.warns(InputWarning, match="folders and images of other kinds: 2, such as more"):
        assert images_of(tmp_path, Vocabulary(("a",)), relative=True).image_ids == ("x",)


def test_an_image_that_lies_on_its_side_is_told(folder: Path) -> None:
    """As cameras store it, with a tag that says so; other sizes, of any shape, are fine."""
    with pytest.raises(
        InputError, match=r"1\.jpg: the image has 40 x 30 pixels, but .* 30 x 40, turned by 90"
    ):
        DetectionDataset(annotated(size=(30, 40)), folder, objects=None)[1]
    for size in ((40, 30), (41, 31), (400, 300), (64, 64), (30, 30)):
        assert len(DetectionDataset(annotated(size=size), folder, objects=None)[1][1]["boxes"]) == 2


def test_what_is_left_of_an_ignored_group_stays_ignored(folder: Path) -> None:
    change = Augmentation(scale=(2.0, 3.0))
    data = DetectionDataset(annotated(), folder, objects=None, group_of="ignore", augmentation=change)
    for number in range(40):
        _, target = data[1, number]
        assert target["ignored"].tolist() == [[0, 0, 40, 30]]


def test_annotations_without_their_files_are_counted(folder: Path) -> None:
    check_files(annotated(), folder)
    with pytest.raises(
        InputError, match=r"4 of 16 annotated images are not there: 12\.jpg, 13\.jpg, 14\.jpg, "
    ):
        check_files(annotated(images=16), folder)
    with pytest.raises(InputError, match="no such folder"):
        check_files(annotated(), folder / "none")
