"""COCO's and LVIS' numbers against pycocotools and lvis, on random files with crowds, ties, and masks' areas."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import sys
import types
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation.small_tables import found_of, truth_of

from wildbox.annotations import Annotations, Floats
from wildbox.detections import Detections
from wildbox.errors import ConfigError, InputError, InputWarning
from wildbox.evaluation import EvaluationResult, evaluate, protocol_named
from wildbox.evaluation.coco import CocoTruth, evaluate_coco, evaluate_lvis, read_coco_truth
from wildbox.formats.coco import read_coco, write_coco
from wildbox.formats.files import BYTE_ORDER_MARK
from wildbox.vocabulary import Vocabulary

CATEGORIES = (3, 1, 7, 20, 21)


def drawn(rng: np.random.Generator, *, images: int = 12) -> tuple[dict[str, Any], Floats]:
    """A COCO and LVIS document of boxes of all three sizes, some of them crowds, and results for it."""
    n, d = 60, 400
    corner, side = rng.integers(0, 200, (n, 2)), np.exp(rng.uniform(1, 5.5, (n, 2))).round(1)
    annotations = [
        {
            "id": i + 1,
            "image_id": int(rng.integers(images)) + 5,
            "category_id": int(rng.choice(CATEGORIES[:4])),
            "bbox": [*corner[i].tolist(), *side[i].tolist()],
            "area": float(side[i].prod() * rng.uniform(0.4, 1)),
            "iscrowd": int(rng.random() < 0.1),
        }
        for i in range(n)
    ]
    lists = [rng.permutation(CATEGORIES).tolist() for _ in range(2 * images)]
    document = {
        "images": [
            {
                "id": i + 5,
                "width": 400,
                "height": 400,
                "neg_category_ids": lists[2 * i][:2],
                "not_exhaustive_category_ids": lists[2 * i + 1][:1],
            }
            for i in range(images)
        ],
        "annotations": annotations,
        "categories": [
            {"id": id_, "name": f"c{id_}", "frequency": "rccff"[k]} for k, id_ in enumerate(CATEGORIES)
        ],
    }
    rows = np.empty((d, 7))
    for k, i in enumerate(rng.integers(0, n, d)):
        box = np.array(annotations[i]["bbox"], float)
        box += rng.normal(0, 0.08, 4) * np.tile(box[2:], 2) * (rng.random() < 0.9)
        label = annotations[i]["category_id"] if rng.random() < 0.8 else rng.choice(CATEGORIES)
        rows[k] = [
            annotations[i]["image_id"],
            *box[:2],
            *np.maximum(box[2:], 0.1),
            rng.integers(0, 40) / 40,
            label,
        ]
    return document, rows


def as_results(rows: Floats) -> list[dict[str, Any]]:
    return [
        {
            "image_id": int(row[0]),
            "category_id": int(row[6]),
            "bbox": row[1:5].tolist(),
            "score": float(row[5]),
        }
        for row in rows
    ]


def table_of(rows: Floats, truth: CocoTruth | Annotations) -> Detections:
    """Results as a table."""
    ids, vocabulary = truth.image_ids, truth.vocabulary
    return found_of(
        vocabulary,
        ids,
        [ids.index(str(int(row[0]))) for row in rows],
        np.hstack([rows[:, 1:3], rows[:, 1:3] + rows[:, 3:5]]),
        [vocabulary.index(str(int(row[6]))) for row in rows],
        rows[:, 5],
    )


def assert_of_class(result: EvaluationResult, id_: str, expected: dict[str, Floats]) -> None:
    """The numbers of a class are the means of what a reference knows (is not -1)."""
    c = result.vocabulary.index(id_)
    for name, values in expected.items():
        mean = np.mean(values[values > -1]) if (values > -1).any() else np.nan
        got = result.ap[c] if name == "AP" else result.columns[name][c]
        np.testing.assert_allclose(got, mean, rtol=0, atol=1e-9, err_msg=name)


def by_pycocotools(path: Path, rows: Floats) -> Any:
    """Its evaluation, summarized."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(path)
        run = cocoeval.COCOeval(truth, truth.loadRes(as_results(rows)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


@pytest.mark.parametrize("seed", range(5))
def test_equals_pycocotools(tmp_path: Path, seed: int) -> None:
    document, rows = drawn(np.random.default_rng(seed))
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(document))
    run = by_pycocotools(path, rows)
    result = evaluate_coco(rows, read_coco_truth(path))
    assert " ".join(result.summary) == "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl"
    np.testing.assert_allclose(list(result.summary.values()), run.stats, rtol=0, atol=1e-9)
    assert set(result.columns) == set(result.summary) - {"AP"}
    precision, recall = run.eval["precision"], run.eval["recall"]  # (IoU, recall, class, area, limit)
    for k, id_ in enumerate(sorted(CATEGORIES)):
        of_class = {
            "AP": precision[:, :, k, 0, -1],
            "AP50": precision[0, :, k, 0, -1],
            "AP75": precision[5, :, k, 0, -1],
            **{f"AP{size}": precision[:, :, k, area, -1] for area, size in enumerate("sml", start=1)},
            **{f"AR{most}": recall[:, k, 0, limit] for limit, most in enumerate((1, 10, 100))},
            **{f"AR{size}": recall[:, k, area, -1] for area, size in enumerate("sml", start=1)},
        }
        assert_of_class(result, str(id_), of_class)
    ordinary = [entry["category_id"] for entry in document["annotations"] if not entry["iscrowd"]]
    assert result.truth_boxes.tolist() == [ordinary.count(int(id_)) for id_ in result.vocabulary.ids]
    assert result.detections.sum() == len(rows)


@pytest.mark.filterwarnings("ignore:The 'warn' method")
@pytest.mark.parametrize("seed", range(5))
def test_equals_lvis(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", types.ModuleType("cv2"))  # lvis draws with it, we do not
    lvis = pytest.importorskip("lvis")
    monkeypatch.setattr(np, "float", float, raising=False)  # lvis 0.5.3 uses a name that numpy 1.24 removed
    document, rows = drawn(np.random.default_rng(seed), images=3)  # more than 300 on an image
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(document))
    truth = lvis.LVIS(path)
    run = lvis.LVISEval(truth, lvis.LVISResults(truth, as_results(rows)), "bbox")
    run.run()
    result = evaluate_lvis(rows, read_coco_truth(path))
    assert {"AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"} <= set(result.summary)
    assert set(result.summary) == set(run.get_results())
    for name, expected in run.get_results().items():
        assert result.summary[name] == pytest.approx(expected, abs=1e-9)
    precision, recall = run.eval["precision"], run.eval["recall"]  # (IoU, recall, class, area)
    for k, id_ in enumerate(sorted(CATEGORIES)):
        of_class = {
            "AP": precision[:, :, k, 0],
            "AP50": precision[0, :, k, 0],
            "AP75": precision[5, :, k, 0],
            "AR@300": recall[:, k, 0],
            **{f"AP{size}": precision[:, :, k, area] for area, size in enumerate("sml", start=1)},
            **{f"AR{size}@300": recall[:, k, area] for area, size in enumerate("sml", start=1)},
        }
        assert set(of_class) == {"AP", *result.columns}
        assert_of_class(result, str(id_), of_class)


@pytest.mark.parametrize(
    "changes",
    [
        {  # CVAT, datumaro
            "": {"info": {"year": "", "version": ""}, "licenses": [{"id": 0, "name": "", "url": ""}]},
            "images": {"license": 0, "date_captured": 0, "flickr_url": ""},
            "annotations": {"segmentation": [], "attributes": {"occluded": False}},
        },
        {  # Roboflow, VIA
            "": {"info": {"year": "2023", "version": "1"}},
            "images": {"license": 1, "extra": {"name": "x"}},
            "annotations": {"segmentation": [1, 2, 3, 4, 5, 6]},
        },
        {  # FiftyOne
            "": {"info": {"year": "", "url": None}, "licenses": None},
            "images": {"license": None, "coco_url": None},
            "annotations": {"segmentation": None},
            "categories": {"supercategory": None},
        },
        {
            "": {"info": {"version": 1.0}, "licenses": [{"id": None}, {"id": "1"}]},
            "images": {"license": "", "file_name": None},
            "annotations": {"segmentation": ""},
            "categories": {"name": 7, "supercategory": 1},
        },
        {
            "": {"info": "by hand", "licenses": {}},
            "images": {"license": "CC", "width": 640.5},
            "annotations": {"segmentation": {}, "iscrowd": False},
            "categories": {"frequency": 12},
        },
        {"annotations": {"segmentation": [None]}, "images": {"neg_category_ids": None}},
        {"": {"info": {"year": float("nan")}}, "annotations": {"segmentation": [[1, float("nan")]]}},
    ],
)
def test_what_nobody_evaluates_may_be_anything(tmp_path: Path, changes: dict[str, Any]) -> None:
    document, rows = drawn(np.random.default_rng(9))
    for key, change in changes.items():
        for entry in document[key] if key else [document]:
            entry |= change
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(document))
    result = evaluate_coco(rows, read_coco_truth(path))
    assert result.summary["AP"] > 0.1
    expected = by_pycocotools(path, rows).stats
    np.testing.assert_allclose(list(result.summary.values()), expected, rtol=0, atol=1e-9)
    assert result.vocabulary.names == tuple(str(entry["name"]) for entry in document["categories"])


def test_ids_may_be_written_with_a_point(tmp_path: Path) -> None:
    document, rows = drawn(np.random.default_rng(10))
    for entry in document["annotations"]:
        entry |= {key: float(entry[key]) for key in ("id", "image_id", "category_id")}
    for entry in document["images"] + document["categories"]:
        entry["id"] = float(entry["id"])
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(document))
    result = evaluate_coco(rows, read_coco_truth(path))
    expected = by_pycocotools(path, rows).stats
    np.testing.assert_allclose(list(result.summary.values()), expected, rtol=0, atol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        assert read_coco(path).vocabulary == result.vocabulary


def test_without_an_area_that_of_the_box_counts(tmp_path: Path) -> None:
    document, rows = drawn(np.random.default_rng(11))
    for i, entry in enumerate(document["annotations"]):
        entry["area"] = entry["bbox"][2] * entry["bbox"][3] if i % 3 else 1.0  # that of a mask
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(document))
    expected = by_pycocotools(path, rows).stats
    for i, entry in enumerate(document["annotations"]):
        if i % 3 == 1:
            del entry["area"]
        elif i % 3 == 2:
            entry["area"] = (None, math.nan)[i % 2]
    path.write_text(json.dumps(document))
    result = evaluate_coco(rows, read_coco_truth(path))
    np.testing.assert_allclose(list(result.summary.values()), expected, rtol=0, atol=1e-9)


def test_lvis_is_read_alike(tmp_path: Path) -> None:
    document, rows = drawn(np.random.default_rng(12), images=3)
    (tmp_path / "plain.json").write_text(json.dumps(document))
    document["info"] = {"year": "", "nan": float("nan")}
    for entry in document["annotations"]:
        entry["segmentation"] = ""
    (tmp_path / "odd.json").write_text(json.dumps(document))
    plain, odd = (
        evaluate_lvis(rows, read_coco_truth(tmp_path / f"{name}.json")) for name in ("plain", "odd")
    )
    assert plain.summary == odd.summary


def test_tables_give_what_files_give(tmp_path: Path) -> None:
    document, rows = drawn(np.random.default_rng(8))
    rows[:, 1:5] = rows[:, 1:5].round(1)
    for entry in document["annotations"]:
        entry["bbox"] = [round(value) for value in entry["bbox"]]
    (tmp_path / "drawn.json").write_text(json.dumps(document))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        truth = read_coco(tmp_path / "drawn.json")
    write_coco(truth, tmp_path / "truth.json")  # areas are those of the boxes
    found = table_of(rows, truth)
    from_file = evaluate_coco(found, read_coco_truth(tmp_path / "truth.json"))
    from_table = evaluate_coco(found, truth)
    assert from_table.vocabulary.ids == from_file.vocabulary.ids
    assert from_table.summary["AP"] > 0.1
    assert from_table.summary == pytest.approx(from_file.summary, abs=1e-9)
    np.testing.assert_allclose(from_table.ap, from_file.ap, rtol=0, atol=1e-9)


def one_box() -> Annotations:
    return truth_of(Vocabulary(("1",), ("cat",)), ("7",), [0], [(0, 0, 8, 8)], [0])


def test_sizes_of_a_table_may_be_fractions() -> None:
    truth = truth_of(Vocabulary(("1",)), ("7",), [0], [(0, 0, 8, 8)], [0])
    truth = replace(truth, sizes=np.array([[9.5, 9]]))
    assert evaluate_coco(np.array([[1, 0, 0, 8, 8, 0.5, 1]]), truth).summary["AP"] == pytest.approx(1)


def test_nothing_found_is_ap_0() -> None:
    truth = one_box()
    result = evaluate_coco(found_of(truth.vocabulary, (), [], np.zeros((0, 4)), [], []), truth)
    assert (result.summary["AP"], result.ap[0], result.detections[0]) == (0.0, 0.0, 0)


@pytest.mark.parametrize("name", ["truth.json.gz", "truth.JSON.GZ", "packed.json"])
def test_a_compressed_file(tmp_path: Path, name: str) -> None:
    document, rows = drawn(np.random.default_rng(0))
    (tmp_path / "truth.json").write_bytes(BYTE_ORDER_MARK + json.dumps(document).encode())
    (tmp_path / name).write_bytes(gzip.compress(json.dumps(document).encode()))
    for run in (evaluate_coco, evaluate_lvis):
        plain, packed = (run(rows, read_coco_truth(tmp_path / file)) for file in ("truth.json", name))
        assert plain.summary == packed.summary


def test_by_name(tmp_path: Path) -> None:
    document, _ = drawn(np.random.default_rng(0))
    (tmp_path / "truth.json").write_text(json.dumps(document))
    truth = read_coco_truth(tmp_path / "truth.json")
    found = found_of(truth.vocabulary, truth.image_ids, [0], [(0, 0, 9, 9)], [0], [0.5])
    for name in ("coco", "lvis"):
        assert evaluate(found, truth, protocol=name).protocol == name
        with pytest.raises(ConfigError, match="as a whole"):
            protocol_named(name)
    with pytest.raises(ConfigError, match="protocol voc takes a table"):
        evaluate(found, truth, protocol="voc")


def test_bad_input(tmp_path: Path) -> None:
    truth = one_box()
    with pytest.raises(InputError, match="not in the truth, such as '8'"):
        evaluate_coco(found_of(truth.vocabulary, ("8",), [0], [(0, 0, 1, 1)], [0], [1]), truth)
    with pytest.raises(InputError, match="vocabularies"):
        evaluate_coco(found_of(Vocabulary(("2",)), ("7",), [0], [(0, 0, 1, 1)], [0], [1]), truth)
    row = [1.0, 0, 0, 1, 1, 0.5, 1]
    for rows, said in (
        (row, r"expected \(D, 7\), got \(7,\)"),
        ([row, [2.0, *row[1:]]], "row 1 has image 2, not in the truth"),
        ([[*row[:6], 7.5]], "row 0 has category 7.5, not in the truth"),
        ([row, [*row[:5], np.nan, 1]], "row 1 has a value that is not finite"),
    ):
        with pytest.raises(InputError, match=said):
            evaluate_coco(np.array(rows), truth)
    with pytest.raises(InputError, match="cannot be read"):
        read_coco_truth(tmp_path / "none.json")


def test_a_bad_truth(tmp_path: Path) -> None:
    for text, said in (
        ("{\n", r":2: malformed JSON at column 1"),
        ('{"images": [], "categories": [], "annotations": []}', ": images: the list is empty"),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InputError, match=rf"bad\.json{said}"):
            read_coco_truth(tmp_path / "bad.json")
    write_coco(one_box(), tmp_path / "coco.json")
    good = json.loads((tmp_path / "coco.json").read_text())
    image, box = good["images"][0], good["annotations"][0]
    for change, said in (
        ({"annotations": []}, "annotations: the list is empty"),
        ({"images": 7}, "images: expected a list"),
        (
            {"images": [image, image | {"id": 2**53}]},
            r"images\[1\].id is '9007199254740992', .* below 2\*\*53",
        ),
        ({"images": [image, image | {"id": -1}]}, r"images\[1\].id is '-1', expected a whole number"),
        ({"images": [image, image | {"id": "a.jpg"}]}, r"images\[1\].id is 'a.jpg', expected a whole number"),
        ({"images": [image, image]}, r"images\[1\].id '7' is that of images\[0\] already"),
        ({"images": [{"id": 7}]}, r"images\[0\]: missing key 'width'"),
        ({"images": [image | {"neg_category_ids": [2**70]}]}, r"images\[0\]: .*neg_category_ids"),
        ({"images": [image | {"neg_category_ids": ["a"]}]}, r"images\[0\]: .*neg_category_ids.* got 'a'"),
        ({"annotations": [box, box]}, r"annotations\[1\].id '1' is that of annotations\[0\] already"),
        ({"annotations": [box | {"category_id": 9}]}, r"annotations\[0\].category_id is '9', which is none"),
        ({"annotations": [box | {"image_id": 9}]}, r"annotations\[0\].image_id is '9', which is none"),
        ({"annotations": [box | {"area": "64"}]}, r"annotations\[0\].area is '64', expected a finite number"),
        ({"annotations": [box | {"area": math.inf}]}, r"annotations\[0\].area is inf"),
        *(
            (
                {"annotations": [{k: box[k] for k in box if k != key}]},
                rf"annotations\[0\]: missing key '{key}'",
            )
            for key in ("id", "image_id", "category_id", "bbox")
        ),
    ):
        (tmp_path / "bad.json").write_text(json.dumps(good | change))
        with pytest.raises(InputError, match=rf"bad\.json: {said}"):
            read_coco_truth(tmp_path / "bad.json")
    (tmp_path / "turned.json").write_text(json.dumps(good | {"annotations": [box | {"bbox": [9, 9, -8, 8]}]}))
    with pytest.warns(InputWarning, match=r"turned\.json: 1 boxes are turned around or have no area"):
        read_coco_truth(tmp_path / "turned.json")
    with pytest.raises(InputError, match="no 'frequency'"):
        evaluate_lvis(np.zeros((0, 7)), read_coco_truth(tmp_path / "coco.json"))
