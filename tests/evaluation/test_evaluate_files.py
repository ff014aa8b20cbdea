"""From files to numbers: whatever the files, those of the tables."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from evaluation.small_tables import draw, found_of, truth_of
from evaluation.test_coco import as_results, drawn, table_of

from wildbox.annotations import Annotations
from wildbox.detections import Detections, expand_detections
from wildbox.errors import ConfigError, InputError, InputWarning
from wildbox.evaluation import evaluate, evaluate_coco, protocol_named, read_coco_truth
from wildbox.evaluation.files import evaluate_coco_files, evaluate_files
from wildbox.formats.storage import write_detections
from wildbox.vocabulary import Hierarchy, Vocabulary

CHALLENGE = protocol_named("open-images-challenge")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        yield


@pytest.fixture(scope="module")
def pair() -> tuple[Detections, Annotations]:
    return draw(np.random.default_rng(11), levels=8, group_of=0.3)


def write_shards(found: Detections, folder: Path) -> None:
    """Three files; rows of an image in more than one."""
    write_detections(found, folder / "all.parquet")
    rows = pl.read_parquet(folder / "all.parquet").with_row_index("row")
    for k in range(3):
        rows.filter(pl.col("row") % 3 == k).drop("row").write_csv(folder / f"part-{k}.csv")


def test_one_file_or_many(tmp_path: Path, pair: tuple[Detections, Annotations]) -> None:
    found, truth = pair
    tree = Hierarchy(4, [(0, 1), (1, 2)])
    write_shards(found, tmp_path)
    for upward in (False, True):
        expected = evaluate(expand_detections(found, tree) if upward else found, truth, hierarchy=tree)
        for name in ("all.parquet", "part-*.csv"):
            for known in (truth, truth.select([0, 2])):
                result = evaluate_files(
                    tmp_path / name, known, protocol=CHALLENGE, hierarchy=tree, expand_found=upward
                )
                if known is truth:
                    np.testing.assert_array_equal(result.ap, expected.ap)
                    for column, values in expected.columns.items():
                        np.testing.assert_array_equal(result.columns[column], values)
                else:  # image b stands in the detections alone: it is ignored, whatever the files
                    here = np.isin(found.image_ids, known.image_ids)[found.image]
                    columns = (found.image, found.boxes, found.label, found.score)
                    some = found_of(found.vocabulary, found.image_ids, *(column[here] for column in columns))
                    some = expand_detections(some, tree) if upward else some
                    np.testing.assert_array_equal(result.ap, evaluate(some, known, hierarchy=tree).ap)


def test_settings_that_do_not_fit(tmp_path: Path, pair: tuple[Detections, Annotations]) -> None:
    with pytest.raises(ConfigError, match="no hierarchy"):
        evaluate_files(tmp_path / "x.csv", pair[1], protocol=CHALLENGE, expand_found=True)


def test_relative_truth_wants_relative_detections(tmp_path: Path) -> None:
    cat = Vocabulary(("cat",))
    write_detections(found_of(cat, ("a",), [0], [(0, 0, 90, 80)], [0], [0.5]), tmp_path / "found.csv")
    truth = truth_of(cat, ("a",), [0], [(0, 0, 1, 1)], [0])
    with pytest.raises(InputError, match=r"csv:2: XMax is 90.0, expected a relative coordinate"):
        evaluate_files(tmp_path / "found.csv", truth, protocol=CHALLENGE)


def test_an_image_that_the_truth_does_not_know(tmp_path: Path) -> None:
    cat, box = Vocabulary(("cat",)), (0, 0, 1, 1)
    truth = truth_of(cat, ("a", "b"), [0, 1], [box, box], [0, 0])
    write_detections(found_of(cat, ("a", "z"), [0, 1], [box, box], [0, 0], [0.5, 0.9]), tmp_path / "a.csv")
    assert evaluate_files(tmp_path / "a.csv", truth, protocol=CHALLENGE).ap[0] == 0.5
    with pytest.raises(InputError, match=r"a\.csv:3: ImageID is 'z', expected one of 2 images"):
        evaluate_files(tmp_path / "a.csv", truth, protocol=protocol_named("voc"))


@pytest.mark.parametrize("lvis", [False, True])
def test_coco_results_and_tables(tmp_path: Path, lvis: bool) -> None:
    document, rows = drawn(np.random.default_rng(1))
    (tmp_path / "truth.json").write_text(json.dumps(document))
    (tmp_path / "results.json").write_text(json.dumps(as_results(rows)))
    truth = read_coco_truth(tmp_path / "truth.json")
    result = evaluate_coco_files(tmp_path / "results.json", truth, lvis=lvis)
    if not lvis:
        assert result.summary == evaluate_coco(rows, truth).summary
    write_detections(table_of(rows, truth), tmp_path / "found.csv")
    again = evaluate_coco_files(tmp_path / "found.csv", truth, lvis=lvis)
    assert again.summary == pytest.approx(result.summary, abs=1e-9)


def test_relative_results_where_the_truth_is_in_pixels(tmp_path: Path) -> None:
    document, rows = drawn(np.random.default_rng(1))
    (tmp_path / "truth.json").write_text(json.dumps(document))
    rows[:, 1:5] /= 1000
    (tmp_path / "results.json").write_text(json.dumps(as_results(rows)))
    with pytest.warns(InputWarning, match="those of the truth are pixels"):
        evaluate_coco_files(tmp_path / "results.json", read_coco_truth(tmp_path / "truth.json"))
