"""The glyph world: reproducible, long-tailed, and its planted confusions are found again."""

from __future__ import annotations

import csv
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from wildbox.annotations import Annotations
from wildbox.boxes import iou
from wildbox.errors import ConfigError
from wildbox.formats.open_images import read_classes, read_hierarchy, read_open_images
from wildbox.glyphs import GlyphWorld, build_alphabet, draw_world, planted_rates, scene_of
from wildbox.glyphs.scene import ink
from wildbox.labels.audit import audit

SMALL = GlyphWorld(images=70, validation_images=10, seed=3)


def planned(settings: GlyphWorld) -> Annotations:
    """The training annotations of a world that is not drawn."""
    scenes = [scene_of(settings, "train", index) for index in range(settings.images)]
    rows = [(number, lab) for number, scene in enumerate(scenes) for lab in scene.labels]
    return Annotations(
        build_alphabet(settings.classes).vocabulary,
        tuple(str(i) for i in range(len(scenes))),
        image=np.array([number for number, _ in rows]),
        boxes=np.array([lab.box for _, lab in rows]) / settings.size,
        label=np.array([lab.label for _, lab in rows]),
        is_group_of=np.array([lab.is_group_of for _, lab in rows]),
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    draw_world(folder, settings=SMALL)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_seed_same_bytes_whatever_the_processes(world: Path, tmp_path: Path) -> None:
    draw_world(tmp_path, settings=SMALL, processes=2)
    assert contents(tmp_path) == contents(world)
    draw_world(tmp_path / "other", settings=GlyphWorld(images=1, validation_images=0, seed=4))
    assert contents(tmp_path / "other")["train/t0000000.jpg"] != contents(world)["train/t0000000.jpg"]


def test_an_interrupted_world_is_completed_to_the_same_bytes(world: Path, tmp_path: Path) -> None:
    draw_world(tmp_path, settings=SMALL)
    (tmp_path / "train" / "t0000005.jpg").unlink()
    (tmp_path / "train-annotations-bbox.csv").unlink()
    draw_world(tmp_path, settings=SMALL)
    assert contents(tmp_path) == contents(world)


def test_a_folder_keeps_one_world(tmp_path: Path) -> None:
    few = GlyphWorld(images=2, validation_images=0)
    draw_world(tmp_path, settings=few)
    with pytest.raises(ConfigError, match="another glyph world: seed is 0, wanted 1"):
        draw_world(tmp_path, settings=GlyphWorld(images=2, validation_images=0, seed=1))
    draw_world(tmp_path, settings=GlyphWorld(images=4, validation_images=1))
    draw_world(tmp_path / "at_once", settings=GlyphWorld(images=4, validation_images=1))
    at_once = contents(tmp_path / "at_once")
    assert {name: contents(tmp_path)[name] for name in at_once} == at_once


def test_nothing_is_left_of_tables_that_were_interrupted(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_world(tmp_path, settings=GlyphWorld(images=2, validation_images=0), progress=stop)
    assert not list(tmp_path.glob("train-*"))
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_ordinary_readers_read_it(world: Path) -> None:
    classes = read_classes(world / "class-descriptions.csv")
    hierarchy = read_hierarchy(world / "hierarchy.json", classes)
    truth = read_open_images(
        world / "train-annotations-bbox.csv",
        classes=classes,
        image_labels=world / "train-annotations-human-imagelabels.csv",
    )
    assert hierarchy.edges == build_alphabet(SMALL.classes).hierarchy.edges
    assert len(truth.image_ids) == SMALL.images
    assert truth.is_group_of.any()
    assert truth.boxes.min() >= 0
    assert truth.boxes.max() <= 1
    assert {True, False} == set(truth.image_labels.is_positive.tolist())
    assert all((world / "train" / f"{id_}.jpg").exists() for id_ in truth.image_ids)


def test_classes_are_as_promised() -> None:
    alphabet = build_alphabet(49)
    hierarchy = alphabet.hierarchy
    parents = [len(alphabet.parents(leaf)) for leaf in range(49)]
    assert max(parents) == 2
    assert hierarchy.is_ancestor.sum(axis=1).max() >= 2  # leaf, parent, grandparent
    assert len(alphabet.look_alikes) == 16
    for pair in {pair for _, pair in alphabet.look_alikes.values()}:
        assert pair.own + pair.other + pair.both == pytest.approx(1)


def test_the_tail_is_long() -> None:
    boxes = np.bincount(planned(GlyphWorld()).label, minlength=49)[:49]
    assert boxes.min() > 0
    assert boxes.max() / boxes.min() >= 100


def test_validation_holds_every_leaf() -> None:
    settings = GlyphWorld()
    labels = {
        lab.label for index in range(settings.validation_images)
        for lab in scene_of(settings, "validation", index).labels
    }  # fmt: skip
    assert labels >= set(range(settings.classes))


def test_the_audit_finds_the_planted_rates() -> None:
    """Each within four standard errors of a binomial share."""
    settings = GlyphWorld(images=6000, group_of=0.0)
    found = audit(planned(settings))
    for a, b, expected in planted_rates(settings):
        boxes = found.counts.boxes[a]
        error = 4 * np.sqrt(expected * (1 - expected) / boxes)
        assert found.concurrency.matched[a, b] / boxes == pytest.approx(expected, abs=error)
    planted = {(a, b) for a, b, _ in planted_rates(settings)}
    assert {(p.source, p.confusion) for p in found.pairs} == planted


def test_planted_file_holds_the_expectation(world: Path) -> None:
    with (world / "planted.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    ids = build_alphabet(SMALL.classes).vocabulary.ids
    expected = [(ids[a], ids[b], rate) for a, b, rate in planted_rates(SMALL)]
    assert [(r["class"], r["other"], float(r["rate"])) for r in rows] == expected


def test_negative_labels_never_contradict() -> None:
    alphabet = build_alphabet(SMALL.classes)
    for index in range(300):
        scene = scene_of(SMALL, "train", index)
        implied = set(scene.positive) | {p.leaf for p in scene.placed}
        for label in list(implied):
            implied |= set(alphabet.hierarchy.ancestors(label).tolist())
        assert not implied & set(scene.negative)
        partners = {alphabet.look_alikes[leaf][0] for leaf in implied if leaf in alphabet.look_alikes}
        assert not partners & set(scene.negative)


def test_worlds_of_five_hundred_classes() -> None:
    settings = GlyphWorld(images=3, validation_images=0, classes=500)
    alphabet = build_alphabet(500)
    assert len(alphabet.glyphs) == len(set(alphabet.glyphs)) == 500
    assert planned(settings).label.max() < len(alphabet.vocabulary)


@pytest.mark.parametrize("size", [96, 160])
def test_every_box_lies_in_its_image_and_objects_stay_apart(size: int) -> None:
    """Also clusters of the widest glyphs in the smallest image; IoU > 0.9 only where one object has two labels."""
    settings = GlyphWorld(images=1500, classes=500, size=size, group_of=1.0, imbalance=1.0)
    alphabet, two_labels = build_alphabet(500), 0
    for index in range(settings.images):
        labels = scene_of(settings, "train", index).labels
        boxes = np.array([lab.box for lab in labels], np.float64)
        assert boxes.min() >= 0
        assert boxes.max() <= size
        assert (boxes[:, 2:] - boxes[:, :2]).min() >= 4
        for a, b in np.argwhere(np.triu(iou(boxes, boxes) > 0.9, 1)):
            assert alphabet.look_alikes[labels[a].label][0] == labels[b].label
            two_labels += 1
    assert two_labels > 10


def test_every_glyph_has_ink_of_its_own() -> None:
    """None is the box that a font draws for what it lacks, and no two are the same picture."""
    pictures: dict[bytes, str] = {}
    missing = ink("\U0001f9ff", 40, 0).tobytes()  # not in the font
    for glyph in build_alphabet(500).glyphs:
        picture = ink(glyph, 40, 0).tobytes()
        assert picture != missing, unicodedata.name(glyph)
        assert picture not in pictures, (unicodedata.name(glyph), unicodedata.name(pictures[picture]))
        pictures[picture] = glyph


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ConfigError, match="classes is 501, expected 2 to 500"):
        GlyphWorld(classes=501)
