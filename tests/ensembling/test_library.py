"""Against ensemble-boxes, where it is installed (it is not among the test requirements, as it needs pandas).

Where it differs from the papers, ours does not follow: with unequal weights and several boxes of one model in a
cluster its scores pass 1; its Soft-NMS gives back the scores as they were before the decay; clusters of score 0 have
NaN corners; it sums in float32.
"""

from __future__ import annotations

import numpy as np
import pytest
from ensembling.several_models import IMAGES, draw, model_of, rows_of

from wildbox.detections import Detections
from wildbox.ensembling import nms, soft_nms, weighted_boxes_fusion

library = pytest.importorskip("ensemble_boxes", reason="ensemble-boxes is not installed")
Rows = list[tuple[str, int, float, list[float]]]


def image_by_image(models: list[Detections], name: str, **settings: object) -> Rows:
    """What a function of the library finds."""
    found = []
    for id_ in IMAGES:
        chosen = [(model, model.image == model.image_ids.index(id_)) for model in models]
        lists = (
            [m.boxes[rows] for m, rows in chosen],
            [m.score[rows] for m, rows in chosen],
            [m.label[rows] for m, rows in chosen],
        )
        for box, score, label in zip(*getattr(library, name)(*lists, **settings), strict=True):
            found.append((id_, int(label), float(score), box.tolist()))
    return sorted(found)


def with_area(seed: int, *, models: int = 3) -> list[Detections]:
    """Boxes and scores without ties; the first such draw."""
    rng = np.random.default_rng(seed)
    while True:
        drawn = draw(rng, models=models, grid=None, levels=None)
        if all((model.boxes[:, :2] < model.boxes[:, 2:]).all() and len(model) for model in drawn):
            return drawn


def assert_close(found: Rows, expected: Rows) -> None:
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    for (_, _, score, box), (_, _, peer_score, peer_box) in zip(found, expected, strict=True):
        assert [score, *box] == pytest.approx([peer_score, *peer_box], abs=1e-6)


@pytest.mark.parametrize("iou", [0.4, 0.55])
@pytest.mark.parametrize("seed", range(20))
def test_fusion(seed: int, iou: float) -> None:
    models = with_area(seed)
    ours = weighted_boxes_fusion(models, iou=iou, skip_below=0.2)
    assert len(ours) < 0.9 * sum(len(rows) for rows in map(rows_of, models))
    assert_close(
        rows_of(ours), image_by_image(models, "weighted_boxes_fusion", iou_thr=iou, skip_box_thr=0.2)
    )


@pytest.mark.parametrize("seed", range(20))
def test_fusion_with_weights(seed: int) -> None:
    """Boxes of one model that do not overlap, so that a cluster has at most one of each."""
    models = [nms([model], iou=0.1) for model in with_area(seed)]
    ours = weighted_boxes_fusion(models, weights=[3, 1, 2])
    assert_close(rows_of(ours), image_by_image(models, "weighted_boxes_fusion", weights=[3, 1, 2]))


@pytest.mark.parametrize("seed", range(20))
def test_suppression(seed: int) -> None:
    models = with_area(seed)
    assert_close(rows_of(nms(models, iou=0.45)), image_by_image(models, "nms", iou_thr=0.45))
    weighted = image_by_image(models, "nms", iou_thr=0.45, weights=[3, 1, 2])
    ours = [(*row[:2], row[2] * 3 / 6, row[3]) for row in rows_of(nms(models, iou=0.45, weights=[3, 1, 2]))]
    assert_close(ours, weighted)


@pytest.mark.parametrize("method", [1, 2])
@pytest.mark.parametrize("seed", range(10))
def test_soft_suppression(seed: int, method: int) -> None:
    """What is kept by the library's function, and the decayed scores by the one inside it."""
    models = with_area(seed)
    settings = {"sigma": 0.5} if method == 2 else {"iou": 0.3}
    ours = soft_nms(models, drop_below=0.05, **settings)
    kept = image_by_image(models, "soft_nms", method=method, iou_thr=0.3, sigma=0.5, thresh=0.05)
    assert sorted(row[3] for row in rows_of(ours)) == sorted(row[3] for row in kept)

    one = nms(models, iou=0.99).boxes  # some boxes as of one class
    score = np.random.default_rng(seed).random(len(one))
    decayed = score.copy()
    library.ensemble_boxes_nms.cpu_soft_nms_float(one.copy(), decayed, 0.3, 0.5, 0.0, method)
    alone = model_of([(0, 0, s, box) for s, box in zip(score.tolist(), one.tolist(), strict=True)])
    ours = soft_nms([alone], drop_below=0.0, **settings)
    assert np.sort(ours.score) == pytest.approx(np.sort(decayed), abs=1e-12)
