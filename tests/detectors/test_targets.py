"""Proposals take the labels of the object they match."""

from __future__ import annotations

import torch
from torch import Tensor

from wildbox.detectors.targets import absorbed, assign

TRUTH = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])


def target(multi_hot: list[list[int]]) -> dict[str, Tensor]:
    return {"boxes": TRUTH, "multi_hot": torch.tensor(multi_hot, dtype=torch.bool)}


def test_all_labels_of_the_object_and_background_elsewhere() -> None:
    proposals = torch.tensor([[0.0, 0.0, 10.0, 9.0], [20.0, 21.0, 30.0, 30.0], [50.0, 50.0, 60.0, 60.0]])
    found = assign(proposals, target([[1, 1, 0], [1, 1, 0], [0, 0, 1]]))
    assert found.labels.int().tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert found.foreground.tolist() == [True, True, False]
    assert torch.equal(found.boxes[:2], TRUTH[[0, 2]])
    assert torch.equal(found.boxes[2], proposals[2])


def test_threshold_is_inclusive() -> None:
    half = torch.tensor([[0.0, 0.0, 10.0, 5.0], [0.0, 0.0, 10.0, 4.9]])
    assert assign(half, target([[1, 0], [1, 0], [0, 1]])).foreground.tolist() == [True, False]


def test_the_single_label_baseline_learns_each_label_in_turn() -> None:
    """Of two identical boxes with two labels neither is dropped for good."""
    torch.manual_seed(0)
    seen = {
        int(assign(TRUTH[:1], target([[1, 0, 0], [0, 1, 0], [0, 0, 1]])).labels[0].int().argmax())
        for _ in range(50)
    }
    assert seen == {0, 1}


def test_without_truth_or_proposals() -> None:
    none = {"boxes": torch.zeros(0, 4), "multi_hot": torch.zeros(0, 2, dtype=torch.bool)}
    assert assign(TRUTH, none).labels.int().tolist() == [[0, 0, 1]] * 3
    assert assign(torch.zeros(0, 4), target([[1], [1], [1]])).labels.shape == (0, 2)


def test_half_of_the_area_is_enough_to_be_absorbed() -> None:
    group = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    boxes = torch.tensor([[8.0, 0.0, 12.0, 4.0], [8.5, 0.0, 12.5, 4.0], [3.0, 3.0, 3.0, 5.0]])
    assert absorbed(boxes, group).tolist() == [True, False, False]
