"""Models read from their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ensembling.several_models import VOCABULARY, model_of, rows_of

from wildbox.ensembling import read_models
from wildbox.errors import ConfigError, InputError, InputWarning
from wildbox.evaluation import EvaluationResult
from wildbox.formats.storage import write_detections, write_submission
from wildbox.vocabulary import Vocabulary

UNIT = (0.0, 0.0, 1.0, 1.0)
TURNED = Vocabulary(("z", "y", "x"))


def log(path: Path, ap: list[float], *, vocabulary: Vocabulary = VOCABULARY, boxes: int = 2) -> Path:
    """A per-class log where each class has as many boxes in the truth."""
    counts = np.full(len(ap), boxes)
    EvaluationResult(vocabulary, np.array(ap), counts, counts).write(path)
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two models; neither has class z, and no more than one image is in both."""
    a = model_of([(2, 1, 0.9, UNIT), (1, 0, 0.8, UNIT)])
    b = model_of([(2, 0, 0.7, UNIT), (0, 0, 0.7, UNIT)])
    for name, model in (("a.csv", a), ("b.csv", b)):
        write_detections(model, tmp_path / name)
    return [tmp_path / "a.csv", tmp_path / "b.csv"]


@pytest.mark.filterwarnings("ignore::wildbox.errors.InputWarning")
def test_classes_are_the_given_ones_or_those_of_the_logs_or_those_that_occur(
    files: list[Path], tmp_path: Path
) -> None:
    models, weights = read_models(files)
    assert weights is None
    assert all(model.vocabulary.ids == ("x", "y") and model.image_ids == ("a", "b", "c") for model in models)
    assert [row[2] for model in models for row in rows_of(model)] == [0.8, 0.9, 0.7, 0.7]
    logs = [
        log(tmp_path / "1.csv", [0.1, 0.2, 0.3]),
        log(tmp_path / "2.csv", [0.6, 0.5, 0.4], vocabulary=TURNED),
    ]
    models, weights = read_models(files, logs=logs)
    assert models[1].vocabulary.ids == ("x", "y", "z")
    assert weights is not None
    assert weights.tolist() == [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    models, weights = read_models(files, logs=logs, vocabulary=TURNED)
    assert models[0].vocabulary == TURNED
    assert weights is not None
    assert weights.tolist() == [[0.3, 0.2, 0.1], [0.6, 0.5, 0.4]]


@pytest.mark.filterwarnings("ignore::wildbox.errors.InputWarning")
@pytest.mark.parametrize("ending", ["parquet", "json", "submission"])
def test_classes_that_occur_in_files_of_any_kind(files: list[Path], tmp_path: Path, ending: str) -> None:
    model = model_of([(2, 1, 0.9, UNIT), (1, 0, 0.8, UNIT)])
    if ending == "submission":
        write_submission(model, tmp_path / "other.csv")
    else:
        write_detections(model, tmp_path / f"other.{ending}")
    other = next(tmp_path.glob("other.*"))
    for model in read_models([other, files[0]])[0]:
        assert (model.vocabulary.ids, model.image_ids) == (("x", "y"), ("b", "c"))


@pytest.mark.filterwarnings("ignore:.*a.csv found nothing")
def test_images_where_a_model_found_nothing_are_told(files: list[Path]) -> None:
    with pytest.warns(InputWarning, match=r"b\.csv found nothing on 1 of 3 images"):
        read_models(files)


def test_what_is_wrong_is_named(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"b\.csv:2: LabelName is 'x', expected one of 1 classes, such as y"):
        read_models(files[::-1], vocabulary=Vocabulary(("y",)))
    one, two = (
        log(tmp_path / "1.csv", [0.1, 0.2, 0.3]),
        log(tmp_path / "2.csv", [0.1, 0.2], vocabulary=Vocabulary(("x", "w"))),
    )
    pixels = tmp_path / "pixels.csv"
    write_detections(model_of([(0, 0, 0.5, (0.0, 0.0, 320.0, 8.0))]), pixels)
    with pytest.raises(
        InputError, match=r"a\.csv: coordinates are within 0 and 1, but those of .*pixels\.csv"
    ):
        read_models([files[0], pixels])
    with pytest.raises(ConfigError, match="2 files of detections but 1 logs"):
        read_models(files, logs=[one])
    with pytest.raises(InputError, match=r"2\.csv: a log of other classes: 3 classes .* 'w'"):
        read_models(files, logs=[one, two])
    with pytest.raises(
        InputError, match=r"3\.csv: the log of another truth than .*1\.csv: its truth_boxes differ"
    ):
        read_models(files, logs=[one, log(tmp_path / "3.csv", [0.1, 0.2, 0.3], boxes=3)])


def test_relative_boxes_may_stick_out_of_their_image(tmp_path: Path) -> None:
    for name, right in (("a.csv", 1.0), ("b.csv", 1.2)):
        write_detections(model_of([(0, 0, 0.5, (0.0, 0.0, right, 1.0))]), tmp_path / name)
    models, _ = read_models([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert [row[3][2] for model in models for row in rows_of(model)] == [1.0, 1.2]


def test_logs_of_one_truth_in_another_order_of_classes_are_of_one_truth(tmp_path: Path) -> None:
    write_detections(model_of([(0, 0, 0.5, UNIT)]), tmp_path / "a.csv")
    counts = np.array([1, 2, 3])
    EvaluationResult(VOCABULARY, np.array([0.1, 0.2, 0.3]), counts, counts).write(tmp_path / "1.csv")
    turned = counts[::-1].copy()
    EvaluationResult(Vocabulary(("z", "y", "x")), np.array([0.6, 0.5, 0.4]), turned, turned).write(
        tmp_path / "2.csv"
    )
    logs = [tmp_path / "1.csv", tmp_path / "2.csv"]
    _, weights = read_models([tmp_path / "a.csv"] * 2, logs=logs)
    assert weights == pytest.approx(np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]))
