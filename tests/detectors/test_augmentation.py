"""Changed images against what is drawn on them: a box must stand where its pixels went."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wildbox.detectors.augmentation import Augmentation, _clipped
from wildbox.errors import ConfigError

COLOURS = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255]])
BACKGROUND = 128


@st.composite
def drawings(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """An image with up to three filled rectangles side by side, and their boxes."""
    height, width = draw(st.integers(30, 70)), draw(st.integers(90, 130))
    pixels = torch.full((3, height, width), BACKGROUND, dtype=torch.uint8)
    boxes = []
    for number in range(draw(st.integers(0, 3))):
        x1 = 30 * number + draw(st.integers(0, 8))
        x2 = 30 * number + draw(st.integers(18, 28))
        y1, y2 = draw(st.integers(0, height // 2 - 5)), draw(st.integers(height // 2 + 5, height))
        pixels[:, y1:y2, x1:x2] = COLOURS[number].to(torch.uint8)[:, None, None]
        boxes.append([x1, y1, x2, y2])
    return pixels, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def seen(pixels: Tensor, number: int) -> Tensor | None:
    """The box around the pixels of a colour, where there are any."""
    near = (pixels.long() - COLOURS[number][:, None, None]).abs().amax(dim=0) < 64
    if not near.any():
        return None
    y, x = near.nonzero().T
    return torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()


CHANGES = [Augmentation(flip=1.0), Augmentation(scale=(0.5, 2.0)), Augmentation(crop=1.0)]
CHANGES.append(Augmentation(crop=0.5, scale=(0.6, 1.6), flip=0.5))


@pytest.mark.parametrize("change", CHANGES, ids=["flip", "scale", "crop", "all"])
@given(drawing=drawings(), seed=st.integers(0, 1000))
def test_boxes_stay_around_their_pixels(
    change: Augmentation, drawing: tuple[Tensor, Tensor], seed: int
) -> None:
    pixels, boxes = drawing
    changed, left, rows = change(pixels, boxes, seed=(0, seed))
    assert changed.dtype == torch.uint8
    assert type(changed) is type(left) is Tensor
    assert len(left) == len(rows)
    assert rows.tolist() == sorted(set(rows.tolist()))
    if change.crop == 0:
        assert changed.shape == pixels.shape
    for box, row in zip(left, rows.tolist(), strict=True):
        found = seen(changed, row)
        assert found is not None
        assert (found - box).abs().max() <= 1.5, (found, box)
    for row in set(range(len(boxes))) - set(rows.tolist()):
        found = seen(changed, row)  # too little is left of it, or its centre is outside
        if found is not None and change.crop == 0:
            width, height = (changed.shape[2] / pixels.shape[2], changed.shape[1] / pixels.shape[1])
            assert width == height == 1
            touches = (found[:2] == 0).any() or found[2] == changed.shape[2] or found[3] == changed.shape[1]
            assert touches


@pytest.mark.parametrize("change", [*CHANGES, Augmentation(colour=1.0, crop=1.0)])
def test_a_draw_is_a_function_of_its_number_and_leaves_the_generator_alone(change: Augmentation) -> None:
    pixels = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)
    boxes = torch.tensor([[10.0, 10.0, 30.0, 30.0]])
    before = torch.get_rng_state()
    first = change(pixels, boxes, seed=(5, 9))
    torch.manual_seed(77)
    again = change(pixels, boxes, seed=(5, 9))
    torch.set_rng_state(before)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other)
    if change.flip != 1:
        results = [change(pixels, boxes, seed=(5, n))[0] for n in range(8)]
        assert any(r.shape != results[0].shape or not torch.equal(r, results[0]) for r in results)


def test_nothing_is_done_by_default() -> None:
    pixels, boxes = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8), torch.tensor([[1.0, 1.0, 4.0, 4.0]])
    changed, left, rows = Augmentation()(pixels, boxes)
    assert torch.equal(changed, pixels)
    assert torch.equal(left, boxes)
    assert rows.tolist() == [0]


def test_colours_change_and_boxes_do_not() -> None:
    pixels, boxes = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8), torch.tensor([[1.0, 1.0, 4.0, 4.0]])
    changed, left, _ = Augmentation(colour=1.0)(pixels, boxes, seed=(0, 1))
    assert not torch.equal(changed, pixels)
    assert torch.equal(left, boxes)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Augmentation(flip=1.5),
        lambda: Augmentation(scale=(2.0, 1.0)),
        lambda: Augmentation(scale=(0.0, 1.0)),
    ],
)
def test_settings_out_of_range(make: Callable[[], Augmentation]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        make()


def test_half_of_a_box_is_enough_to_stay() -> None:
    boxes = torch.tensor([[-4.0, 0, 4, 8], [-5.0, 0, 4, 8]])
    _, left, kept = _clipped(torch.zeros(3, 8, 8), boxes, torch.arange(2), torch.zeros(2, dtype=torch.bool))
    assert kept.tolist() == [0]
    assert left.tolist() == [[0, 0, 4, 8]]


def test_any_part_of_a_group_stays_after_a_crop() -> None:
    """What is white is the group; in some draws its centre is cut off."""
    pixels = torch.zeros(3, 60, 60, dtype=torch.uint8)
    pixels[0, :40, :40] = 255
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0], [30.0, 30.0, 60.0, 60.0]])
    groups, little = torch.tensor([True, False]), 0
    for draw in range(60):
        image, left, rows = Augmentation(crop=1.0)(pixels, boxes, groups=groups, seed=(0, draw))
        there = image[0] == 255
        assert (0 in rows) == there.any()
        if 0 in rows:
            y, x = there.nonzero().T
            assert left[0].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
            little += int(there.sum() < 400)
    assert little
