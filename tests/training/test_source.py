"""Which images of a data set the lists choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wildbox.annotations import Annotations, ImageLabels
from wildbox.errors import ConfigError, InputError
from wildbox.formats.coco import write_coco
from wildbox.training.config import DataConfig
from wildbox.training.source import Source, load_source, with_vocabulary_of
from wildbox.vocabulary import Vocabulary


def chosen(folder: Path, **lists: str) -> tuple[str, ...]:
    """Of images 0 to 4, whose files count from 1 and lie in two folders."""
    truth = Annotations(
        Vocabulary(("1",), ("a",)),
        tuple("01234"),
        image=np.arange(5),
        boxes=np.ones((5, 4)) * [0, 0, 8, 8],
        label=np.zeros(5, int),
        sizes=np.full((5, 2), 16.0),
        file_names=("x/1.jpg", "x/2.jpg", "x/3.jpg", "x/same.jpg", "y/same.jpg"),
    )
    write_coco(truth, folder / "boxes.json")
    files: dict[str, Any] = {name: folder / f"{name}.txt" for name in lists}
    for name, lines in lists.items():
        files[name].write_text("\n".join(lines.split()))
    config = DataConfig(format="coco", boxes=folder / "boxes.json", images=folder, **files)
    return load_source(config).annotations.image_ids


@pytest.mark.parametrize(
    ("lists", "ids"),
    [
        ({"only": "1 3"}, "13"),  # ids, which are files of others, too
        ({"without": "1 3"}, "024"),
        ({"only": "x/1.jpg y/same.jpg"}, "04"),
        ({"only": "1 2 3", "without": "2"}, "13"),
    ],
)
def test_a_line_is_one_image(tmp_path: Path, lists: dict[str, str], ids: str) -> None:
    assert chosen(tmp_path, **lists) == tuple(ids)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("0 9", "1 images of the list are not in the data, such as '9'"),
        ("0 x/1.jpg", "the list mixes ids and names of files"),
        ("same", "several images are 'same': give ids or whole file names"),
    ],
)
def test_lists_that_do_not_fit(tmp_path: Path, lines: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        chosen(tmp_path, only=lines)


def test_image_labels_follow_their_classes_into_another_vocabulary() -> None:
    labels = ImageLabels(np.array([0, 0]), np.array([0, 1]), np.array([True, False]))
    box, one = np.array([[0.0, 0.0, 1.0, 1.0]]), np.array([0])
    small = Annotations(Vocabulary(("c", "b")), ("x",), one, box, one + 1, image_labels=labels)
    large = Annotations(Vocabulary(("a", "b", "c")), ("y",), one, box, one)
    sources = [Source(table, Path(), None, relative=False) for table in (small, large)]
    found = with_vocabulary_of(*sources).annotations
    assert found.label.tolist() == [1]
    assert found.image_labels.label.tolist() == [2, 1]


def test_json_that_is_not_called_coco_is_told(tmp_path: Path) -> None:
    for name in ("boxes.json", "boxes.json.gz"):
        with pytest.raises(ConfigError, match=f'{name} is JSON: COCO and LVIS need format = "coco"'):
            load_source(DataConfig(boxes=tmp_path / name, images=tmp_path))
