"""What an audit says of classes is read back from its folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wildbox.annotations import Annotations
from wildbox.errors import InputError
from wildbox.labels import audit
from wildbox.labels.files import write_audit
from wildbox.labels.groups import read_groups
from wildbox.vocabulary import Vocabulary


def test_groups_of_an_audit(tmp_path: Path) -> None:
    ids = ("torch", "flashlight", "cat", "none")
    image, label = np.array([0, 0, 1, 2, 3]), np.array([0, 1, 2, 2, 2])
    truth = Annotations(
        Vocabulary(ids), tuple("wxyz"), image=image, boxes=np.ones((5, 4)) * [0, 0, 1, 1], label=label
    )
    write_audit(audit(truth), tmp_path)
    found = read_groups(tmp_path, Vocabulary(("cat", "other", "torch", "flashlight", "none")))
    assert found["frequency"].tolist() == ["head", "", "middle", "tail", "absent"]
    assert found["concurrence"].tolist() == ["alone", "", "concurring", "concurring", "alone"]


def test_names_may_hold_what_other_readers_take_for_a_line_end(tmp_path: Path) -> None:
    ids = ("a\x85b", "c\u2028")
    truth = Annotations(
        Vocabulary(ids),
        ("x",),
        image=np.zeros(2, int),
        boxes=np.ones((2, 4)) * [0, 0, 1, 1],
        label=np.arange(2),
    )
    write_audit(audit(truth), tmp_path)
    assert "" not in read_groups(tmp_path, Vocabulary(ids))["frequency"]
    with pytest.raises(InputError, match="an audit of other classes: 'z'"):
        read_groups(tmp_path, Vocabulary(("z",)))


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_groups(tmp_path, Vocabulary(("a",)))
    (tmp_path / "classes.csv").write_text("id,name\n1,cat\n")
    with pytest.raises(InputError, match="missing column class_id"):
        read_groups(tmp_path, Vocabulary(("a",)))


def test_a_class_concurs_where_only_the_other_has_the_rate(tmp_path: Path) -> None:
    """a is always b; b is a on 1 of 20 boxes, below the threshold; c is alone."""
    image, label = [*range(20), 0, 30], [1] * 20 + [0, 2]
    images = tuple(f"i{b}" for b in range(31))
    names, box = Vocabulary(("a", "b", "c")), np.array([0.0, 0.0, 1.0, 1.0])
    truth = Annotations(names, images, np.array(image), np.tile(box, (22, 1)), np.array(label))
    write_audit(audit(truth), tmp_path)
    told = read_groups(tmp_path, truth.vocabulary)["concurrence"]
    assert list(told) == ["concurring", "concurring", "alone"]
