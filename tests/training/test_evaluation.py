"""Evaluation in training loops, on one process and on two."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation.small_tables import truth_of

from wildbox.errors import InputError
from wildbox.evaluation import evaluate, protocol_named
from wildbox.evaluation.streaming import StreamingEvaluator
from wildbox.training.evaluation import batch_detections, gather_evaluator
from wildbox.vocabulary import Vocabulary

PETS = Vocabulary(("cat", "dog"))


def test_outputs_of_a_detector() -> None:
    one = {"boxes": torch.eye(4)[:2], "labels": torch.tensor([2, 1]), "scores": torch.tensor([0.25, 1.0])}
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "scores": torch.zeros(0)}
    found = batch_detections([none, one], ["a", "b"], PETS)
    assert found.image.tolist() == [1, 1]
    assert found.label.tolist() == [1, 0]
    assert found.score.tolist() == [0.25, 1.0]
    assert found.boxes.tolist() == np.eye(4)[:2].tolist()
    assert batch_detections([one], ["b"], Vocabulary(tuple("abc")), first_label=0).label.tolist() == [2, 1]
    assert len(batch_detections([], [], PETS)) == 0


def test_outputs_as_training_loops_have_them() -> None:
    """In bfloat16, with ids that are numbers."""
    boxes = torch.tensor([[0.0, 0, 1, 1]])
    one = {"boxes": boxes, "labels": torch.tensor([1], dtype=torch.int32), "scores": torch.tensor([0.5])}
    half = one | {"boxes": boxes.bfloat16().requires_grad_(), "scores": one["scores"].bfloat16()}
    found = batch_detections([half, one], [17, torch.tensor(4)], PETS)  # type: ignore[list-item]
    assert found.image_ids == ("17", "4")
    assert found.boxes.tolist() == [[0, 0, 1, 1]] * 2
    assert found.score.tolist() == [0.5, 0.5]
    for outputs, ids in (([one], ["a", "b"]), ([one, one], ["a"])):
        with pytest.raises(InputError, match=rf"{len(outputs)} outputs of {len(ids)} images"):
            batch_detections(outputs, ids, PETS)
    with pytest.raises(InputError, match="image 'a': 0 boxes, 1 labels, 1 scores"):
        batch_detections([one | {"boxes": torch.zeros(0, 4)}], ["a"], PETS)


def test_labels_that_are_not_in_the_order_of_the_vocabulary() -> None:
    """torchvision's own weights of COCO have 90 labels for 80 classes."""
    some = Vocabulary(("13", "17"))
    one = {"boxes": torch.eye(4)[:2], "labels": torch.tensor([17, 13]), "scores": torch.ones(2)}
    assert batch_detections([one], ["a"], some, class_ids=range(91)).label.tolist() == [1, 0]
    names = ["background", "17", "13"]
    few = one | {"labels": torch.tensor([2, 1])}
    assert batch_detections([few], ["a"], some, class_ids=names).label.tolist() == [0, 1]
    for class_ids, label in ((range(16), 17), (["13", *"abcdefghijklmnop", "17"], 13)):
        with pytest.raises(InputError, match=f"image 'b': label {label}, expected one that class_ids give"):
            batch_detections(
                [one | {"labels": torch.zeros(0), "boxes": torch.zeros(0, 4), "scores": torch.zeros(0)}, one],
                ["a", "b"],
                some,
                class_ids=class_ids,
            )


def test_labels_outside_the_classes_are_told() -> None:
    one = {"boxes": torch.eye(4)[:2], "labels": torch.tensor([1, 0]), "scores": torch.ones(2)}
    with pytest.raises(InputError, match=r"image 'a': label 0, expected 1\.\.2; .*first_label or class_ids"):
        batch_detections([one], ["a"], PETS)
    assert batch_detections([one], ["a"], PETS, first_label=0).label.tolist() == [1, 0]
    with pytest.raises(InputError, match=r"'labels': Got unsupported ScalarType BFloat16"):
        batch_detections([one | {"labels": torch.ones(2).bfloat16()}], ["a"], PETS)
    with pytest.raises(InputError, match=r"image 'a': label 2, expected 0\.\.1"):
        batch_detections([one | {"labels": torch.tensor([2, 1])}], ["a"], PETS, first_label=0)
    with pytest.raises(InputError, match=r"'labels', row 1: 0\.5"):
        batch_detections([one | {"labels": torch.tensor([1, 0.5])}], ["a"], PETS)


def test_alone_there_is_nothing_to_gather() -> None:
    evaluator = StreamingEvaluator(protocol_named("voc"))
    assert gather_evaluator(evaluator) is evaluator


PROCESS = """
import sys
import numpy as np
import torch.distributed as dist
from wildbox.annotations import Annotations
from wildbox.detections import Detections
from wildbox.errors import InputError
from wildbox.evaluation import protocol_named
from wildbox.evaluation.streaming import StreamingEvaluator
from wildbox.training.evaluation import gather_evaluator
from wildbox.vocabulary import Vocabulary

rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
cat = Vocabulary(("cat",))
evaluator = StreamingEvaluator(protocol_named("voc"))
for id_ in ("a", "b") if rank == 0 else ("c", "a"):  # a is seen by both
    table = {"image": [0], "boxes": [[0, 0, 1, 1]], "label": [0]}
    found = Detections(cat, (id_,), **(table | {"boxes": [[0, 0, 1, 1 if id_ != "b" else 9]]}), score=[0.5])
    evaluator.update(found, Annotations(cat, (id_,), **table))
result = gather_evaluator(evaluator).compute()
try:
    evaluator.update(found, Annotations(cat, (id_,), **table))
except InputError as error:
    assert "reset()" in str(error)
else:
    raise AssertionError("it took an image of a result again")
print(result.truth_boxes[0], result.columns["true_positives"][0], result.columns["false_positives"][0])
dist.destroy_process_group()
"""


def test_two_processes(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROCESS, str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    printed = [process.communicate(timeout=300)[0].splitlines()[-1] for process in processes]
    assert printed == ["3 2 1"] * 2  # below what some versions of gloo say


def test_a_training_loop() -> None:
    truth = truth_of(PETS, ("a", "b"), [0, 1], [[0, 0, 8, 8], [0, 0, 4, 4]], [0, 1])
    outputs = [
        {"boxes": torch.tensor([[0.0, 0, 8, 8]]), "labels": torch.tensor([1]), "scores": torch.tensor([0.9])},
        {"boxes": torch.tensor([[4.0, 4, 8, 8]]), "labels": torch.tensor([2]), "scores": torch.tensor([0.8])},
    ]
    evaluator = StreamingEvaluator(protocol_named("voc"))
    for i in range(2):
        evaluator.update(
            batch_detections(outputs[i : i + 1], truth.image_ids[i : i + 1], PETS), truth.select([i])
        )
    whole = evaluate(batch_detections(outputs, truth.image_ids, PETS), truth, protocol="voc")
    assert evaluator.compute().ap.tolist() == whole.ap.tolist() == [1.0, 0.0]
