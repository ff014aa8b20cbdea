"""What is kept of matching: parts merge into the whole, files give it back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from evaluation.small_tables import draw, found_of, tables
from hypothesis import given
from hypothesis import strategies as st

from wildbox.annotations import Annotations
from wildbox.detections import Detections
from wildbox.errors import InputError, InputWarning
from wildbox.evaluation import protocol_named
from wildbox.evaluation.matches import ARRAYS, Matches, merge, read_matches, write_matches

PROTOCOLS = ["open-images-challenge", "open-images-v2", "voc"]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        yield


def part(pair: tuple[Detections, Annotations], images: list[int], protocol: str) -> Matches:
    """The matches of some images, by their number in the truth."""
    found, truth = pair
    here = np.isin(np.array(found.image_ids)[found.image], [truth.image_ids[i] for i in images])
    columns = (found.image[here], found.boxes[here], found.label[here], found.score[here])
    some = found_of(found.vocabulary, found.image_ids, *columns)
    return protocol_named(protocol).match(some, truth.select(images))


@given(tables(), st.permutations(range(3)), st.integers(0, 3), st.sampled_from(PROTOCOLS))
def test_parts_merge_into_the_whole(
    pair: tuple[Detections, Annotations], order: list[int], cut: int, protocol: str
) -> None:
    rules = protocol_named(protocol)
    whole = rules.result(rules.match(*pair))
    pieces = [part(pair, order[:cut], protocol), part(pair, order[max(0, cut - 1) :], protocol)]  # one twice
    for parts in ([*pieces], pieces[::-1], [merge([*pieces])]):
        again = rules.result(merge(parts))
        np.testing.assert_array_equal(again.ap, whole.ap)
        np.testing.assert_array_equal(again.truth_boxes, whole.truth_boxes)
        for name, column in whole.columns.items():
            np.testing.assert_array_equal(again.columns[name], column)


def test_merged_images_stand_by_id() -> None:
    pair = next_pair()
    order = np.argsort(pair[1].image_ids)[::-1].tolist()
    parts = [part(pair, [image], "voc") for image in order]
    rows = {some.image_ids[0]: some for some in parts}
    whole = merge([*parts, parts[0]])
    assert whole.image_ids == tuple(sorted(pair[1].image_ids))
    assert len(whole) == len(pair[0]) > 0
    for number, id_ in enumerate(whole.image_ids):
        found = slice(*whole.offsets[[number, number + 1]].tolist())
        boxes = whole.truth_image == number
        np.testing.assert_array_equal(whole.label[found], rows[id_].label)
        np.testing.assert_array_equal(whole.score[found], rows[id_].score)
        np.testing.assert_array_equal(whole.outcome[found], rows[id_].outcome)
        np.testing.assert_array_equal(whole.truth_label[boxes], rows[id_].truth_label)
        np.testing.assert_array_equal(whole.truth_is_group_of[boxes], rows[id_].truth_is_group_of)


def test_what_does_not_merge() -> None:
    with pytest.raises(InputError, match="nothing to evaluate"):
        merge([])
    pair = next_pair()
    parts = [part(pair, [0], "voc"), part(pair, [1], "open-images-v2")]
    with pytest.raises(InputError, match="do not merge"):
        merge(parts)


def next_pair() -> tuple[Detections, Annotations]:
    return draw(np.random.default_rng(5), levels=4, group_of=0.3)


def test_written_is_read_again(tmp_path: Path) -> None:
    matches = part(next_pair(), [0, 1, 2], "open-images-challenge")
    assert len(matches) > 0
    write_matches(matches, tmp_path / "run.npz")
    again = read_matches(tmp_path / "run.npz")
    assert again.vocabulary == matches.vocabulary
    assert again.image_ids == matches.image_ids
    assert again.settings == matches.settings
    assert matches.settings == {
        "protocol": "open-images-challenge", "group_of_weight": 1.0, "verified_only": True, "iou": 0.5,
    }  # fmt: skip
    for name in ARRAYS:
        assert getattr(again, name).dtype == getattr(matches, name).dtype
        np.testing.assert_array_equal(getattr(again, name), getattr(matches, name))


def test_eleven_bytes_a_detection() -> None:
    matches = part(next_pair(), [0, 1, 2], "open-images-challenge")
    columns = (matches.label, matches.score, matches.outcome)
    assert sum(column.itemsize for column in columns) == 11
    assert all(len(column) == len(matches) for column in columns)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_matches(tmp_path / "none.npz")
    (tmp_path / "log.csv").write_text("class_id\n")
    with pytest.raises(InputError, match="not a file of matches"):
        read_matches(tmp_path / "log.csv")
    write_matches(part(next_pair(), [0, 1, 2], "voc"), tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    half = len(whole) // 2
    for damaged in (whole[:half], whole[:half] + b"?" * 9 + whole[half + 9 :]):
        (tmp_path / "damaged.npz").write_bytes(damaged)
        with pytest.raises(InputError, match="not a file of matches"):
            read_matches(tmp_path / "damaged.npz")
    np.savez(tmp_path / "other.npz", image=np.zeros(3))
    with pytest.raises(InputError, match="not a file of matches"):
        read_matches(tmp_path / "other.npz")
