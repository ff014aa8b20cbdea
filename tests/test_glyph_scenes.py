"""What a world's settings say is what its scenes hold: counted over many that are planned, not drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wildbox.boxes import iou
from wildbox.glyphs import GlyphWorld, build_alphabet, scene_of
from wildbox.glyphs.scene import Box, Placed, Scene, draw_scene, ink

SETTINGS = GlyphWorld(images=800, group_of=0.3, vague=0.3, most_objects=4)
ALPHABET = build_alphabet(SETTINGS.classes)
CLUSTER = 6


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [scene_of(SETTINGS, "train", index) for index in range(SETTINGS.images)]


def has_cluster(scene: Scene) -> bool:
    return any(label.is_group_of for label in scene.labels)


def alone(scene: Scene) -> tuple[Placed, ...]:
    """The glyphs that are not in the cluster, which comes first."""
    return scene.placed[CLUSTER * has_cluster(scene) :]


def around(boxes: list[Box]) -> Box:
    corners = np.array(boxes)
    (x1, y1, _, _), (_, _, x2, y2) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return x1, y1, x2, y2


def cover(a: Box, b: Box) -> float:
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared / min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))


def is_share(count: int, of: int, share: float) -> bool:
    """Within four standard errors."""
    return bool(abs(count / of - share) < 4 * np.sqrt(share * (1 - share) / of))


def test_each_split_has_its_own_power_law_and_its_own_scenes() -> None:
    for split, ratio in (("train", 300), ("validation", 6)):
        frequency = GlyphWorld().frequency(split)
        assert frequency[0] / frequency[-1] == pytest.approx(ratio)
        assert np.diff(np.log(frequency)) / np.diff(np.log(np.arange(1, 50))) == pytest.approx(
            -np.log(ratio) / np.log(49)
        )
    flat = replace(SETTINGS, imbalance=1.0, validation_imbalance=1.0)
    assert scene_of(flat, "train", 0) not in (scene_of(flat, "validation", 0), scene_of(flat, "train", 1))


def test_clusters_are_as_frequent_as_asked_and_all_their_boxes_are_groups(scenes: list[Scene]) -> None:
    assert is_share(sum(map(has_cluster, scenes)), len(scenes), SETTINGS.group_of)
    twice = 0
    for scene in filter(has_cluster, scenes):
        cluster = scene.placed[:CLUSTER]
        assert len({(glyph.leaf, glyph.side, glyph.colour) for glyph in cluster}) == 1
        whole = np.array([around([glyph.box for glyph in cluster])])
        own = iou(np.array([label.box for label in scene.labels], np.float64), whole)[:, 0] > 0.9
        assert own.tolist() == [label.is_group_of for label in scene.labels]
        assert whole[0].tolist() == [*scene.labels[0].box]
        twice += own.sum() == 2
    assert twice > 5


def test_images_have_one_object_to_the_most(scenes: list[Scene]) -> None:
    counts = np.bincount([len(alone(scene)) for scene in scenes], minlength=5)
    assert len(counts) == SETTINGS.most_objects + 1
    assert counts[1:].min() > 0.15 * len(scenes)


def test_no_object_hides_another_or_a_cluster(scenes: list[Scene]) -> None:
    for scene in scenes:
        boxes: list[Box] = [glyph.box for glyph in alone(scene)]
        if has_cluster(scene):
            boxes.append(around([glyph.box for glyph in scene.placed[:CLUSTER]]))
        for row, box in enumerate(boxes):
            assert all(cover(box, other) <= 0.25 for other in boxes[:row])


def test_glyphs_fit_the_image_and_stand_out(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert all(abs(np.mean(g.colour) - np.mean(scene.background)) >= 60 for g in scene.placed)
    small = [scene_of(replace(SETTINGS, size=96), "train", index) for index in range(100)]
    assert max(glyph.side for scene in small for glyph in scene.placed) == 36
    assert max(glyph.side for scene in scenes for glyph in scene.placed) == 60


def test_annotators_are_as_vague_as_asked(scenes: list[Scene]) -> None:
    objects = [
        glyph.leaf for scene in scenes for glyph in (*scene.placed[: has_cluster(scene)], *alone(scene))
    ]
    with_parents = sum(bool(ALPHABET.parents(leaf)) for leaf in objects)
    vague = sum(label.label >= SETTINGS.classes for scene in scenes for label in scene.labels)
    assert is_share(vague, with_parents, SETTINGS.vague)


def test_occluded_is_what_another_glyph_covers(scenes: list[Scene]) -> None:
    occluded = 0
    for scene in scenes:
        boxes = np.array([glyph.box for glyph in scene.placed], np.float64)
        for label in scene.labels:
            own = iou(np.array([label.box]), boxes)[0].argmax()
            others = [cover(label.box, glyph.box) for k, glyph in enumerate(scene.placed) if k != own]
            assert label.is_occluded == (not label.is_group_of and max(others, default=0) > 0.1)
            occluded += label.is_occluded
    assert occluded > 20


@pytest.mark.parametrize("blur", [0.0, 0.8])
def test_a_glyph_is_drawn_where_its_box_is(blur: float) -> None:
    mask = ink(ALPHABET.glyphs[0], 40, 10)
    box = (30, 50, 30 + mask.width, 50 + mask.height)
    scene = Scene((200, 200, 200), (Placed(0, 40, 10, box, (10, 20, 30), blur),), ())
    picture = draw_scene(scene, ALPHABET, size=160, texture=0.0, random=np.random.default_rng(0))
    pixels = np.asarray(picture, np.int64)
    changed = (pixels != 200).any(axis=2)
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
    assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == box
    full = (pixels == (10, 20, 30)).all(axis=2)
    assert full[box[1] : box[3], box[0] : box[2]][np.asarray(mask) == 255].all() == (blur == 0)
    assert full.sum() > 50
