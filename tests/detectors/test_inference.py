"""From a model to detections: alone or in a batch, by several rules, in several views."""

from __future__ import annotations

import pytest
import torch
from detectors.scenes import RATES, scenes, table
from torch import Tensor, nn

from wildbox.classification import ConcurrentSoftmax, Softmax
from wildbox.detectors.detector import Detector
from wildbox.detectors.faster_rcnn import small_faster_rcnn
from wildbox.detectors.inference import View, _moved, predict, propose, views
from wildbox.detectors.roi_heads import Candidates
from wildbox.errors import ConfigError


def untrained(**settings: bool) -> Detector:
    """A small detector whose boxes and scores spread."""
    torch.manual_seed(0)
    model = small_faster_rcnn(
        classes=3,
        rule=Softmax(),
        image_size=64,
        proposals=20,
        score_threshold=0.0,
        **settings,  # type: ignore[arg-type]
    )
    heads = model.roi_heads
    predictors = [s.predictor for s in heads.stages] if settings.get("cascade") else [heads.box_predictor]
    for predictor in predictors:
        nn.init.normal_(predictor.logits.weight, std=0.3)
        nn.init.normal_(predictor.deltas.weight, std=0.3)
    model.eval()
    return model


@pytest.mark.parametrize("settings", [{}, {"cascade": True}, {"per_class_boxes": True}], ids=str)
def test_an_image_alone_is_predicted_as_in_a_batch(settings: dict[str, bool]) -> None:
    """Also beside images of other sizes, whose padding it must not see."""
    images, _ = scenes(3)
    images += [images[0][:, :40], images[1][:, :, :50], torch.cat([images[0], images[1]], dim=2)]
    model = untrained(**settings)
    with torch.no_grad():
        together, whole = model.candidates(images), model(images)
        for image, found, detections in zip(images, together, whole, strict=True):
            alone = model.candidates([image])[0]
            assert found.frame == alone.frame
            torch.testing.assert_close(found.boxes, alone.boxes, atol=1e-3, rtol=1e-4)
            torch.testing.assert_close(found.logits, alone.logits, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(
                detections["scores"], model([image])[0]["scores"], atol=1e-4, rtol=1e-4
            )


def test_one_pass_scores_by_several_rules() -> None:
    images, targets = scenes(2)
    model, truth = untrained(), table(targets)
    scorings = {"a": Softmax().scores, "b": ConcurrentSoftmax(RATES).scores}
    found = predict(model, [(images, targets)], truth, scorings=scorings)
    alone = predict(model, [(images, targets)], truth, scorings={"b": scorings["b"]})
    assert found["b"].score.tolist() == alone["b"].score.tolist()
    assert found["a"].score.tolist() != found["b"].score.tolist()
    assert found["a"].image_ids == truth.image_ids


def test_a_flipped_view_finds_what_the_mirror_image_has() -> None:
    images, _ = scenes(1)
    model, mirrored = untrained(), [images[0].flip(-1)]
    flipped = propose(model, images, shown=(View(flipped=True),))[0][0]
    plain = propose(model, mirrored)[0][0]
    assert torch.equal(flipped.logits, plain.logits)
    x1, y1, x2, y2 = plain.boxes.unbind(1)
    torch.testing.assert_close(flipped.boxes, torch.stack([64 - x2, y1, 64 - x1, y2], dim=1))


def test_views_of_other_sizes_are_in_one_frame() -> None:
    """What a view of another size finds is what that image, resized beforehand, gives, in the first one's pixels."""
    images, _ = scenes(1)
    model = untrained()
    first, larger = propose(model, images, shown=views((None, 96)))[0]
    assert first.frame == larger.frame == (64, 64)
    resized = nn.functional.interpolate(images[0][None], scale_factor=1.5, mode="bilinear")[0]
    model.transform = model.transform.sized(96)
    alone = model.candidates([resized])[0]
    torch.testing.assert_close(larger.boxes * 1.5, alone.boxes, atol=0.05, rtol=1e-3)


def test_detections_of_all_views_are_put_together() -> None:
    images, targets = scenes(1)
    model, truth = untrained(), table(targets)
    shown = views((64, 96), flip=True)
    assert len(shown) == 4
    seen = propose(model, images, shown=shown)[0]
    boxes, scores = (
        torch.cat(parts) for parts in zip(*[(c.boxes, c.scores(Softmax().scores)) for c in seen], strict=True)
    )
    expected = model.roi_heads.select(boxes, scores)
    found = predict(model, [(images, targets)], truth, scorings={"own": Softmax().scores}, shown=shown)["own"]
    torch.testing.assert_close(torch.from_numpy(found.boxes.copy()).float(), expected["boxes"])
    assert found.label.tolist() == expected["labels"].tolist()


def test_an_image_that_did_not_open_has_no_detections() -> None:
    images, targets = scenes(2)
    corrupt: list[dict[str, Tensor]] = [targets[0] | {"corrupt": torch.tensor([0])}, targets[1]]
    found = predict(untrained(), [(images, corrupt)], table(targets), scorings={"own": Softmax().scores})
    assert set(found["own"].image.tolist()) == {1}


def test_sizes_that_are_none() -> None:
    with pytest.raises(ConfigError, match="expected lengths in pixels"):
        views((0,))


def test_a_wide_image_is_mirrored_by_its_width() -> None:
    torch.manual_seed(1)
    model, image = untrained(), torch.rand(3, 64, 96)
    flipped = propose(model, [image], shown=(View(flipped=True),))[0][0]
    plain = propose(model, [image.flip(-1)])[0][0]
    height, width = plain.frame
    assert height != width
    x1, y1, x2, y2 = plain.boxes.unbind(1)
    torch.testing.assert_close(flipped.boxes, torch.stack([width - x2, y1, width - x1, y2], dim=1))


def test_each_side_of_a_view_is_scaled_by_itself() -> None:
    found = Candidates(torch.tensor([[2.0, 3.0, 20.0, 30.0]]), torch.zeros(1, 1, 2), (30, 40))
    moved = _moved(found, (60, 120))
    assert moved.frame == (60, 120)
    assert moved.boxes.tolist() == [[6.0, 6.0, 60.0, 60.0]]
