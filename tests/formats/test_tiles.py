from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from formats.drawn_tables import boxes, table
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from wildbox.annotations import Annotations, ImageLabels
from wildbox.errors import ConfigError, InputError, InputWarning
from wildbox.formats.coco import read_coco
from wildbox.formats.tiles import crop_boxes, cut_tiles, tile_origins

LENGTHS = st.integers(1, 60)


@given(width=LENGTHS, height=LENGTHS, size=st.integers(1, 25), data=st.data())
def test_tiles_cover_the_image(width: int, height: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    origins = tile_origins(width, height, size=size, overlap=overlap)
    assert len(set(origins)) == len(origins)
    assert origins == sorted(origins, key=lambda at: (at[1], at[0]))
    covered = np.zeros((height, width), bool)
    for x, y in origins:
        assert 0 <= x <= max(width - size, 0)
        assert 0 <= y <= max(height - size, 0)
        covered[y : y + size, x : x + size] = True
    assert covered.all()
    columns = sorted({x for x, _ in origins})
    assert all(b - a <= size - overlap for a, b in itertools.pairwise(columns))
    # One tile fewer of a row, at the greatest step, would not reach the end.
    assert len(columns) == 1 or size + (len(columns) - 2) * (size - overlap) < width


@pytest.mark.parametrize("overlap", [-1, 4, 5])
def test_an_overlap_out_of_range(overlap: int) -> None:
    with pytest.raises(ConfigError, match="0 <= overlap < size"):
        tile_origins(9, 9, size=4, overlap=overlap)


def kept_literally(box: list[float], *, origin: tuple[int, int], size: int, share: float) -> bool:
    """The rule in exact fractions."""
    x1, y1, x2, y2 = map(Fraction, box)
    width = min(x2, Fraction(origin[0] + size)) - max(x1, Fraction(origin[0]))
    height = min(y2, Fraction(origin[1] + size)) - max(y1, Fraction(origin[1]))
    if width <= 0 or height <= 0:
        return False
    return width * height >= Fraction(share) * (x2 - x1) * (y2 - y1)


QUARTERS = boxes(200.0).map(lambda box: [round(x) / 4 for x in box])  # so that their areas are exact


@given(
    drawn=st.lists(QUARTERS, max_size=5),
    origin=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    size=st.integers(1, 30),
    share=st.sampled_from([0.25, 0.5, 0.75, 1.0]),
)
@example(drawn=[[0.0, 0.0, 8.0, 1.0]], origin=(4, 0), size=8, share=0.5)  # exactly half is left
def test_boxes_of_a_tile_by_the_literal_rule(
    drawn: list[list[float]], origin: tuple[int, int], size: int, share: float
) -> None:
    given_boxes = np.array(drawn, np.float64).reshape(-1, 4)
    rows, cropped = crop_boxes(given_boxes, origin=origin, size=size, min_share=share)
    expected = [
        i for i, box in enumerate(drawn) if kept_literally(box, origin=origin, size=size, share=share)
    ]
    assert rows.tolist() == expected
    corner = np.array([*origin, *origin])
    np.testing.assert_array_equal(
        cropped, np.clip(given_boxes[rows], corner, corner + size) - corner, strict=True
    )


@given(box=boxes(70.0), origin=st.tuples(st.integers(0, 40), st.integers(0, 40)), size=st.integers(1, 30))
def test_a_kept_box_is_inside_and_has_area(box: list[float], origin: tuple[int, int], size: int) -> None:
    _, cropped = crop_boxes(np.array([box]), origin=origin, size=size, min_share=1e-9)
    assert ((cropped >= 0) & (cropped <= size)).all()
    assert (cropped[:, 2:] > cropped[:, :2]).all()


def page(folder: Path, *, width: int, height: int, mode: str = "RGB") -> Image.Image:
    """An image whose every pixel tells its place."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x, y, x + y], axis=2).astype(np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    folder.mkdir(exist_ok=True)
    image.save(folder / "page.png")
    return image


def one_page(width: float, height: float, *, box: list[float]) -> Annotations:
    return replace(
        table(["a/b"], ["cat", "dog"], [(0, 1, box)]),
        sizes=np.array([[width, height]]),
        file_names=("page.png",),
        is_group_of=np.array([True]),
    )


@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_pixels_and_boxes_of_tiles(tmp_path: Path, mode: str) -> None:
    image = page(tmp_path / "in", width=10, height=6, mode=mode)
    truth = one_page(10, 6, box=[2, 1, 8, 3])
    done: list[tuple[int, int]] = []
    tiles = cut_tiles(
        truth, tmp_path / "in", tmp_path / "out", size=6, overlap=2, progress=lambda d, a: done.append((d, a))
    )
    assert tiles.image_ids == ("a/b@0,0", "a/b@4,0")
    assert tiles.file_names == ("a%2Fb@0,0.png", "a%2Fb@4,0.png")
    assert tiles.image.tolist() == [0, 1]
    assert tiles.boxes.tolist() == [[2, 1, 6, 3], [0, 1, 4, 3]]
    assert tiles.label.tolist() == [1, 1]
    assert tiles.is_group_of.all()
    assert tiles.sizes.tolist() == [[6, 6], [6, 6]]
    assert done == [(1, 1)]
    for name, x in zip(tiles.file_names, (0, 4), strict=True):
        with Image.open(tmp_path / "out" / name) as tile:
            expected = image.crop((x, 0, x + 6, 6)).convert("RGB")
            np.testing.assert_array_equal(np.array(tile.convert("RGB")), np.array(expected))


def test_a_small_image_is_padded(tmp_path: Path) -> None:
    image = page(tmp_path, width=3, height=5)
    tiles = cut_tiles(
        one_page(3, 5, box=[0, 0, 3, 5]), tmp_path, tmp_path, size=4, overlap=0, background=(9, 8, 7)
    )
    assert tiles.image_ids == ("a/b@0,0", "a/b@0,1")
    with Image.open(tmp_path / tiles.file_names[1]) as tile:
        pixels = np.array(tile)
    np.testing.assert_array_equal(pixels[:, :3], np.array(image)[1:])
    assert (pixels[:, 3] == (9, 8, 7)).all()


def test_relative_boxes_become_pixels(tmp_path: Path) -> None:
    page(tmp_path, width=8, height=4)
    tiles = cut_tiles(one_page(1, 1, box=[0, 0.5, 0.25, 1]), tmp_path, tmp_path, size=4, overlap=0)
    assert tiles.boxes.tolist() == [[0, 2, 2, 4]]


def test_tiles_that_are_there_are_kept(tmp_path: Path) -> None:
    page(tmp_path, width=8, height=4)
    truth = one_page(8, 4, box=[0, 0, 1, 1])
    first, second = cut_tiles(truth, tmp_path, tmp_path, size=4, overlap=0).file_names
    Image.new("RGB", (4, 4), "red").save(tmp_path / first)
    (tmp_path / second).write_bytes(b"half a file")
    cut_tiles(truth, tmp_path, tmp_path, size=4, overlap=0)
    with Image.open(tmp_path / first) as kept, Image.open(tmp_path / second) as mended:
        assert kept.getpixel((0, 0)) == (255, 0, 0)
        assert mended.getpixel((0, 0)) == (4, 0, 4)
    assert not list(tmp_path.glob("*.tmp"))


def test_what_cannot_be_cut(tmp_path: Path) -> None:
    page(tmp_path, width=8, height=4)
    truth = one_page(8, 5, box=[0, 0, 1, 1])
    with pytest.raises(InputError, match=r"page.png: the image has 8 x 4 pixels, expected 8 x 5"):
        cut_tiles(truth, tmp_path, tmp_path, size=4, overlap=0)
    with pytest.raises(ConfigError, match="min_share is 0"):
        cut_tiles(truth, tmp_path, tmp_path, size=4, overlap=0, min_share=0)
    (tmp_path / "page.png").write_text("no image")
    with pytest.raises(InputError, match=r"page.png: the image cannot be read or cut: cannot identify"):
        cut_tiles(truth, tmp_path, tmp_path, size=4, overlap=0)
    with pytest.raises(InputError, match=r"a/b.jpg: the image cannot be read or cut: No such file"):
        cut_tiles(replace(truth, file_names=()), tmp_path, tmp_path, size=4, overlap=0)


def test_image_labels_are_left_out_and_counted(tmp_path: Path) -> None:
    page(tmp_path, width=4, height=4)
    labels = ImageLabels(np.array([0]), np.array([1]), np.array([True]))
    truth = replace(one_page(4, 4, box=[0, 0, 4, 4]), image_labels=labels)
    with pytest.warns(InputWarning, match="1 image labels are not carried over"):
        assert len(cut_tiles(truth, tmp_path, tmp_path, size=4, overlap=0).image_labels) == 0


@pytest.mark.filterwarnings("ignore::wildbox.errors.InputWarning")
def test_a_real_page(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "muscima-pp"
    truth = read_coco(folder / "annotations.json").select([0])
    tiles = cut_tiles(truth, folder / "images", tmp_path, size=512, overlap=128)
    assert len(list(tmp_path.iterdir())) == len(tiles.image_ids)
    with Image.open(folder / "images" / truth.file_names[0]) as whole:
        assert len(tiles.image_ids) == len(tile_origins(*whole.size, size=512, overlap=128))
    # What is no larger than the overlap is whole in some tile.
    small = (truth.boxes[:, 2:] - truth.boxes[:, :2] <= 128).all(axis=1)
    corner = np.array([[int(x) for x in id_.partition("@")[2].split(",")] * 2 for id_ in tiles.image_ids])
    back = {tuple(row) for row in tiles.boxes + corner[tiles.image]}
    solid = (truth.boxes[:, 2:] > truth.boxes[:, :2]).all(axis=1)
    assert {tuple(row) for row in truth.boxes[small & solid]} <= back


def pages(folder: Path, *rows: tuple[int, int, list[float]], groups: tuple[int, ...] = ()) -> Annotations:
    """Two white pages of 8 x 4 pixels, a and b; a row is page, label and box."""
    for name in "ab":
        Image.new("RGB", (8, 4), "white").save(folder / f"{name}.png")
    return replace(
        table(["a", "b"], ["cat", "dog"], list(rows)),
        sizes=np.full((2, 2), [8.0, 4.0]),
        file_names=("a.png", "b.png"),
        is_group_of=np.isin(np.arange(len(rows)), groups),
    )


def test_boxes_keep_their_labels_on_every_page(tmp_path: Path) -> None:
    truth = pages(tmp_path, (0, 0, [0, 0, 2, 2]), (1, 1, [5, 1, 7, 3]), (1, 0, [0, 0, 1, 1]), groups=(1,))
    tiles = cut_tiles(truth, tmp_path, tmp_path, size=4, overlap=0)
    found = zip(tiles.image.tolist(), tiles.label.tolist(), tiles.boxes.tolist(), strict=True)
    assert list(found) == [(0, 0, [0, 0, 2, 2]), (2, 0, [0, 0, 1, 1]), (3, 1, [1, 1, 3, 3])]
    assert tiles.is_group_of.tolist() == [False, False, True]


def test_half_a_box_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    truth = pages(tmp_path, (0, 0, [2, 0, 6, 1]), (0, 1, [1, 0, 6, 1]))
    tiles = cut_tiles(truth, tmp_path, tmp_path, size=4, overlap=0)
    assert tiles.label.tolist() == [0, 1, 0]


def test_a_tile_of_another_size_is_written_anew(tmp_path: Path) -> None:
    (first, *_) = cut_tiles(pages(tmp_path), tmp_path, tmp_path, size=4, overlap=0).file_names
    for size in ((3, 3), (4, 3), (3, 9), (9, 3)):
        Image.new("RGB", size, "red").save(tmp_path / first)
        cut_tiles(pages(tmp_path), tmp_path, tmp_path, size=4, overlap=0)
        with Image.open(tmp_path / first) as tile:
            assert tile.size == (4, 4)
