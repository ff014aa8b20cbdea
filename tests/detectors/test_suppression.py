"""NMS and Soft-NMS, against plain Python and against torchvision."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles.soft_nms import soft_nms_literally
from torch import Tensor
from torchvision.ops import nms

from wildbox.detectors.suppression import HardNMS, SoftNMS
from wildbox.errors import ConfigError


def crowd(seed: int, count: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes with many overlaps, scores with ties, three classes."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 12, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 8, (count, 2))], axis=1).astype(np.float64)
    scores = rng.integers(1, 20, count) / 20
    return torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(rng.integers(0, 3, count))


@given(st.integers(0, 2**32), st.sampled_from(["gaussian", "linear"]))
def test_soft_nms_is_the_papers(seed: int, method: Literal["gaussian", "linear"]) -> None:
    boxes, scores, labels = crowd(seed)
    soft = SoftNMS(method, iou=0.3, sigma=0.5, min_score=0.05)
    keep, final = soft(boxes, scores, labels)
    literal = soft_nms_literally(
        [tuple(box) for box in boxes.tolist()],
        scores.tolist(),
        labels.tolist(),
        method=method,
        iou=0.3,
        sigma=0.5,
    )
    expected = {i for i, score in enumerate(literal) if score >= 0.05}
    assert set(keep.tolist()) == expected
    np.testing.assert_allclose(final, [literal[i] for i in keep.tolist()], rtol=1e-12)
    assert (final[:-1] >= final[1:]).all()


@given(st.integers(0, 2**32))
def test_hard_nms_is_torchvisions_of_each_class(seed: int) -> None:
    boxes, scores, labels = crowd(seed)
    boxes = boxes + torch.rand(boxes.shape, generator=torch.Generator().manual_seed(seed % 1000)) / 100
    boxes[:, 2:] += 1
    scores = scores + torch.linspace(0, 0.01, len(scores))  # torchvision's order of ties is not defined
    keep, final = HardNMS(0.5)(boxes, scores, labels)
    expected = set()
    for label in labels.unique():
        of_class = (labels == label).nonzero()[:, 0]
        expected |= set(of_class[nms(boxes[of_class], scores[of_class], 0.5)].tolist())
    assert set(keep.tolist()) == expected
    assert torch.equal(final, scores[keep])


def test_without_candidates() -> None:
    none = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    for suppression in (HardNMS(), SoftNMS()):
        keep, scores = suppression(*none)
        assert keep.shape == scores.shape == (0,)


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"iou is 1\.5"):
        HardNMS(1.5)
    with pytest.raises(ConfigError, match="sigma 0"):
        SoftNMS(sigma=0)
