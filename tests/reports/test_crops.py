"""Crops show what lies in their box, in either unit, and no file makes them fail."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from wildbox.annotations import Annotations
from wildbox.labels.examples import Example
from wildbox.reports.crops import SIDE, Corners, Group, SourceImage, cards, crop, images_of
from wildbox.reports.page import Thumbnail
from wildbox.vocabulary import Vocabulary

RED = (230, 25, 75)


def pixels(picture: Image.Image) -> NDArray[np.int64]:
    return np.asarray(picture.convert("RGB"), np.int64)


def photograph(width: int, height: int) -> Image.Image:
    """Smooth waves: a photograph that survives JPEG, and where every place looks different."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / a) * np.cos(y / b) for a, b in ((90, 140), (150, 60), (230, 310))]
    return Image.fromarray((127 + 120 * np.stack(waves, axis=-1)).astype(np.uint8))


def thumbnails(boxes: list[Corners], source: SourceImage | None) -> list[Thumbnail]:
    examples = tuple(Example(k, "x", box) for k, box in enumerate(boxes))
    made, _ = cards([Group("t", "", examples)], lambda _: source)
    return [thumbnail for card in made for thumbnail in card.thumbnails]


def extent(where: NDArray[np.bool_]) -> list[int]:
    """First and last row, first and last column."""
    return [int(end) for axis in (1, 0) for end in np.flatnonzero(where.any(axis=axis))[[0, -1]]]


@pytest.mark.parametrize("unit", [(1.0, 1.0), (400.0, 200.0), (800.0, 400.0)])
def test_the_box_is_in_the_middle_whatever_the_unit(unit: tuple[float, float]) -> None:
    page = Image.new("RGB", (400, 200), "grey")
    page.paste((0, 0, 255), (150, 80, 210, 120))
    box = (150 / 400 * unit[0], 80 / 200 * unit[1], 210 / 400 * unit[0], 120 / 200 * unit[1])
    shown = pixels(crop(SourceImage(page, *unit), box))
    side = 60 + 2 * 24  # the longer side and its surroundings
    assert shown.shape == (SIDE, SIDE, 3)
    zoom = SIDE / (side + 1)
    blue = shown[..., 2] - shown[..., 0] > 64
    assert blue.sum() == pytest.approx(60 * 40 * zoom**2, rel=0.05)
    rows, columns = np.nonzero(blue)
    assert rows.mean() == pytest.approx(SIDE / 2, abs=3)
    assert columns.mean() == pytest.approx(SIDE / 2, abs=3)
    # two pixels of red around it, and white on both sides of them
    red, white = (shown == RED).all(axis=2), (shown == 255).all(axis=2)
    np.testing.assert_allclose(np.subtract(extent(red), extent(blue)), [-2, 2, -2, 2], atol=1)
    assert np.subtract(extent(white), extent(red)).tolist() == [-1, 1, -1, 1]
    assert white[extent(red)[0] + 2, SIDE // 2]
    assert red.sum() == pytest.approx(2 * 2 * (60 + 40) * zoom, rel=0.05)
    assert not (red & blue).any()


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((200, 200, 201, 201), (200, 200)),  # 24 pixels around a small box, enlarged four times
        ((400, 100, 800, 500), (SIDE, 210)),  # a quarter of the longer side around a large one, as far as it reaches
        ((0, 0, 1000, 10), (SIDE, 126)),  # a square
        ((0, 0, 10, 545), (176, SIDE)),
        ((5000, 5000, 6000, 6000), (4, 4)),  # of what lies outside, the nearest pixel
        ((-900, -900, -800, -800), (4, 4)),
    ],
)  # fmt: skip
def test_how_much_is_shown_around_a_box(box: Corners, size: tuple[int, int]) -> None:
    assert crop(SourceImage(Image.new("L", (1000, 545)), 1000, 545), box).size == size


@pytest.mark.parametrize("size", [(300, 300), (300, 100), (100, 300)])
def test_the_outline_of_a_whole_image_is_seen(size: tuple[int, int]) -> None:
    shown = pixels(crop(SourceImage(Image.new("RGB", size, "grey"), 1, 1), (0.0, 0.0, 1.0, 1.0)))
    height, width = shown.shape[:2]
    assert extent((shown == RED).all(axis=2)) == [1, height - 2, 1, width - 2]


def test_a_jpeg_is_decoded_as_large_as_the_crop_needs_it() -> None:
    stream = io.BytesIO()
    photograph(2000, 1500).save(stream, format="JPEG")
    jpeg = Image.open(stream)
    crop(SourceImage(jpeg, 1, 1), (0.4, 0.4, 0.7, 0.7))  # 900 pixels of 2000, shown as 232
    assert jpeg.size == (1000, 750)


def test_boxes_are_in_the_unit_of_their_own_image(tmp_path: Path) -> None:
    for name, size in (("a", (40, 30)), ("b", (400, 300))):
        photograph(*size).save(tmp_path / f"{name}.jpg")
    truth = Annotations(
        Vocabulary(("c",)), ("a", "b"), [0, 1], [[1.0, 1, 9, 9]] * 2, label=[0, 0], sizes=[(40, 30), (400, 300)]
    )  # fmt: skip
    source = images_of(truth, tmp_path)
    for name, (width, height) in (("a", (40, 30)), ("b", (400, 300))):
        found = source(name)
        assert found is not None
        assert (found.width, found.height, found.picture.size) == (width, height, (width, height))


@pytest.mark.parametrize(
    "box",
    [
        (0.1, 0.2, 0.9, 0.9),
        (0.0, 0.0, 1.0, 1.0),
        (0.3, 0.3, 0.32, 0.9),
        (0.9, 0.9, 1.0, 1.0),
        (0.5, 0.5, 0.501, 0.501),
    ],
)
def test_a_jpeg_decoded_small_looks_like_one_decoded_whole(box: Corners) -> None:
    whole, stream = photograph(2000, 1500), io.BytesIO()
    whole.save(stream, format="JPEG", quality=95)
    jpeg = Image.open(stream)
    ours, theirs = (pixels(crop(SourceImage(image, 1, 1), box)) for image in (jpeg, whole))
    assert ours.shape == theirs.shape
    assert max(ours.shape) <= SIDE
    outline = (theirs == RED).all(axis=2) | (theirs == 255).all(axis=2)
    assert np.abs(ours - theirs)[~outline].mean() < 3
    if box[2] - box[0] > 0.5:
        assert jpeg.size[0] < 1000  # it was not decoded whole


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I"])
def test_every_mode_of_pictures(mode: str) -> None:
    picture = photograph(100, 80).convert("L").convert(mode)
    assert len(thumbnails([(0.2, 0.2, 0.6, 0.8)], SourceImage(picture, 1, 1))) == 1


def test_grey_values_of_16_bits_are_not_all_white() -> None:
    grey = Image.fromarray(np.full((80, 100), 0x4000, np.uint16))
    middle = crop(SourceImage(grey, 1, 1), (0.0, 0.0, 1.0, 1.0)).getpixel((116, 93))
    assert middle == (0x40, 0x40, 0x40)


def test_boxes_at_and_beyond_the_edge_and_without_area() -> None:
    boxes = [(-50.0, -50.0, 10.0, 10.0), (90.0, 70.0, 300.0, 300.0), (500.0, 500.0, 600.0, 600.0)]
    boxes += [(-9.0, -9.0, -5.0, -5.0), (20.0, 20.0, 20.0, 20.0), (0.0, 40.0, 100.0, 40.0)]
    found = thumbnails(boxes, SourceImage(photograph(100, 80), 100, 80))
    assert len(found) == len(boxes)
    assert all(0 < one.width <= SIDE and 0 < one.height <= SIDE for one in found)


@pytest.mark.parametrize("size", [(1, 1), (3000, 2), (2, 3000)])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_images_that_are_tiny_or_narrow(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    photograph(*size).save(tmp_path / f"x.{suffix}")
    source = SourceImage(Image.open(tmp_path / f"x.{suffix}"), 1, 1)
    assert len(thumbnails([(0.0, 0.0, 1.0, 1.0)], source)) == 1


def test_a_thumbnail_is_a_jpeg_of_its_size() -> None:
    found = thumbnails([(0.1, 0.1, 0.9, 0.5)], SourceImage(photograph(640, 480), 1, 1))[0]
    with Image.open(io.BytesIO(found.jpeg)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (found.width, found.height))
    assert found.caption == "x"


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif"])
def test_broken_files_are_counted(tmp_path: Path, suffix: str) -> None:
    """Cut at many places and with bytes changed: a crop or none, never an error."""
    rng = np.random.default_rng(3)
    path = tmp_path / f"x.{suffix}"
    photograph(90, 70).save(path)
    whole = path.read_bytes()
    none = np.zeros(0, np.int64)
    truth = Annotations(
        Vocabulary(("a",)), ("x",), none, np.zeros((0, 4)), label=none, file_names=(path.name,)
    )
    group, failed = Group("t", "", (Example(0, "x", (0.1, 0.1, 0.9, 0.9)),)), 0
    for attempt in range(60):
        data = bytearray(whole[: int(rng.integers(len(whole)))] if attempt < 30 else whole)
        for place in rng.integers(0, len(data), 8) if attempt >= 30 else ():
            data[place] = rng.integers(256)
        path.write_bytes(bytes(data))
        made, missing = cards([group], images_of(truth, tmp_path))
        assert len(made) + len(missing) == 1
        failed += len(missing)
    assert failed > 10


def test_a_png_broken_in_the_middle(tmp_path: Path) -> None:
    """Pillow raises a `SyntaxError` for it, though only when it decodes."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.png")
    whole = (tmp_path / "x.png").read_bytes()
    second = whole.index(b"IDAT", whole.index(b"IDAT") + 4)
    (tmp_path / "x.png").write_bytes(whole[:second] + bytes(4) + whole[second + 4 :])
    with pytest.raises(SyntaxError), Image.open(tmp_path / "x.png") as picture:
        picture.load()
    assert thumbnails([(0.0, 0.0, 1.0, 1.0)], SourceImage(Image.open(tmp_path / "x.png"), 1, 1)) == []


def test_missing_images_are_named_and_groups_without_crops_left_out() -> None:
    def source(image_id: str) -> SourceImage | None:
        return SourceImage(photograph(60, 60), 1, 1) if image_id == "there" else None

    box = (0.0, 0.0, 1.0, 1.0)
    groups = [
        Group("some", "", (Example(0, "gone", box), Example(1, "there", box))),
        Group("none", "", (Example(0, "gone", box), Example(1, "lost", box))),
        Group("empty", "", ()),
    ]
    made, missing = cards(groups, source)
    assert [(card.title, len(card.thumbnails)) for card in made] == [("some", 1)]
    assert missing == {"gone", "lost"}
    assert cards([], source) == ([], set())
