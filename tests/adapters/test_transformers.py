"""Hugging Face's DETR family with a rule, beside the same models without; small, from a config, without network."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_convert

from wildbox.adapters import transformers as adapter
from wildbox.adapters.transformers import detections, use_rule
from wildbox.classification import ConcurrentSoftmax, Federated, Sigmoid, Softmax
from wildbox.errors import ConfigError, InputError

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: its adapter is not tried"
)
pytest.importorskip("scipy", reason="scipy is not installed: DETRs cannot be trained")

CLASSES = 3
LABELS: list[dict[str, Tensor]] = [
    {
        "class_labels": torch.tensor([0, 2]),
        "boxes": torch.tensor([[0.3, 0.3, 0.2, 0.4], [0.7, 0.6, 0.3, 0.2]]),
    },
    {"class_labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)},
]
TWICE: list[dict[str, Tensor]] = [
    {"class_labels": torch.tensor([0, 2]), "boxes": torch.tensor([[0.3, 0.3, 0.2, 0.4]] * 2)}
]
"""One object with two labels."""
PIXELS = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def build(kind: str, **more: Any) -> Any:
    torch.manual_seed(0)
    body = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 8, 8],
        depths=[1, 1, 1, 1],
        out_features=["stage2", "stage3", "stage4"],
    )
    small = {"encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "num_labels": CLASSES,
        "num_queries": 9,
    }
    common = {
        "use_timm_backbone": False,
        "use_pretrained_backbone": False,
        "backbone": None,
        "backbone_config": body,
    }
    if kind == "Yolos":
        config = transformers.YolosConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=[64, 64],
            num_detection_tokens=9, num_labels=CLASSES, **more,
        )  # fmt: skip
    else:
        width = {"hidden_size": 32} if kind == "DabDetr" else {"d_model": 32}
        if kind == "DeformableDetr":
            width["num_feature_levels"] = 3
        config = getattr(transformers, f"{kind}Config")(**common, **small, **heads, **width, **more)
    return getattr(transformers, f"{kind}ForObjectDetection")(config).eval()


@pytest.mark.parametrize(
    ("kind", "auxiliary"),
    [
        ("Detr", False),
        ("Detr", True),
        ("TableTransformer", False),
        ("TableTransformer", True),
        ("Yolos", False),
    ],
)
def test_softmax_is_detr(kind: str, auxiliary: bool) -> None:
    theirs = build(kind, auxiliary_loss=auxiliary)
    ours = use_rule(copy.deepcopy(theirs), Softmax())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    expected, found = (model(pixel_values=PIXELS, labels=LABELS) for model in (theirs, ours))
    torch.testing.assert_close(found.loss, expected.loss)
    assert len(found.loss_dict) == (6 if auxiliary else 3)
    for name, loss in found.loss_dict.items():
        torch.testing.assert_close(loss, expected.loss_dict[name])
    expected.loss.backward()
    found.loss.backward()
    for (name, mine), (_, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert (mine.grad is None) == (other.grad is None), name
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["Detr", "Yolos", "ConditionalDetr", "DeformableDetr", "DabDetr"])
def test_an_object_with_two_labels_is_one_object(kind: str) -> None:
    rates = torch.zeros(4, 4)
    rates[0, 2] = rates[2, 0] = 0.5
    model = use_rule(build(kind), ConcurrentSoftmax(rates))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
    for _ in range(60):
        optimizer.zero_grad()
        output = model(pixel_values=PIXELS[:1], labels=TWICE)
        assert set(output.loss_dict) == {"loss_ce", "loss_bbox", "loss_giou"}
        output.loss.backward()
        optimizer.step()
    found = detections(model, output, threshold=0.4)[0]
    assert {0, 2} == set(found["labels"].tolist())
    best = {label: set(map(tuple, found["boxes"][found["labels"] == label].tolist())) for label in (0, 2)}
    assert best[0] & best[2]  # one query says both


def test_labels_may_be_given_together() -> None:
    model = use_rule(build("Detr"), Sigmoid())
    together = [{**TWICE[0], "multi_hot": torch.tensor([[1, 0, 1]] * 2)}]
    of_boxes, given = (model(pixel_values=PIXELS[:1], labels=labels).loss for labels in (TWICE, together))
    torch.testing.assert_close(of_boxes, given)
    apart = use_rule(build("Detr"), Sigmoid(), same_object_iou=None)
    assert apart(pixel_values=PIXELS[:1], labels=TWICE).loss != given


def test_class_labels_may_be_any_integers() -> None:
    model = use_rule(build("Detr"), Softmax())
    short = [{**image, "class_labels": image["class_labels"].int()} for image in LABELS]
    of_both = [model(pixel_values=PIXELS, labels=labels).loss for labels in (LABELS, short)]
    torch.testing.assert_close(*of_both)


def test_queries_without_object_see_the_classes_of_the_batch() -> None:
    """Federated looks at those, and draws no others for them."""
    model = use_rule(build("Detr"), Federated([0.5] * CLASSES, number=1))
    zeros = [{**image, "class_labels": torch.zeros_like(image["class_labels"])} for image in LABELS]
    output = model(pixel_values=PIXELS, labels=zeros)
    (slopes,) = torch.autograd.grad(output.loss_dict["loss_ce"], output.logits)
    assert slopes.flatten(0, 1).any(dim=0).tolist() == [True, False, False, False]


def test_detections_of_softmax_are_those_of_the_image_processor() -> None:
    model = use_rule(build("Detr"), Softmax())
    with torch.no_grad():
        output = model(pixel_values=PIXELS)
    sizes = [(40, 80), (64, 64)]
    found = detections(model, output, threshold=0.0, target_sizes=sizes)
    same = detections(model, output, threshold=0.0, target_sizes=[torch.tensor(size) for size in sizes])
    assert all(torch.equal(found[image]["boxes"], same[image]["boxes"]) for image in range(2))
    for image, (height, width) in enumerate(sizes):
        scores = output.logits[image].softmax(-1)[:, :-1]
        assert found[image]["scores"].tolist() == scores.flatten().sort(descending=True)[0].tolist()
        best = int(scores.flatten().argmax())
        box = box_convert(output.pred_boxes[image, best // CLASSES], "cxcywh", "xyxy")
        torch.testing.assert_close(found[image]["boxes"][0], box * torch.tensor([width, height] * 2))
        assert found[image]["labels"][0] == best % CLASSES
    wrapped = detections(torch.nn.DataParallel(model), output, threshold=0.0)
    assert torch.equal(wrapped[0]["scores"], found[0]["scores"])
    # queries of a new model are so alike that some of their scores are the same on some processors
    highest, second = found[0]["scores"].unique()[[-1, -2]]
    above = detections(model, output, threshold=second.item())[0]["scores"]
    assert above.tolist() == [highest.item()] * int((found[0]["scores"] == highest).sum())


def test_no_object_in_any_image() -> None:
    model = use_rule(build("Detr"), Softmax())
    output = model(pixel_values=PIXELS[1:], labels=LABELS[1:])
    output.loss.backward()
    assert output.loss_dict["loss_bbox"].item() == output.loss_dict["loss_giou"].item() == 0
    assert torch.isfinite(output.loss)


def test_refuses() -> None:
    with pytest.raises(ConfigError, match="DetrModel of type 'detr'"):
        use_rule(build("Detr").model, Softmax())
    with pytest.raises(ConfigError, match="Linear of type None"):
        use_rule(torch.nn.Linear(1, 1), Softmax())
    with pytest.raises(ConfigError, match="4 columns"):
        use_rule(build("Detr"), ConcurrentSoftmax(torch.zeros(3, 3)))
    model = build("Detr")
    output = model(pixel_values=PIXELS)
    with pytest.raises(ConfigError, match="call use_rule"):
        detections(model, output)
    use_rule(model, Softmax())
    with pytest.raises(InputError, match="one for each of 2 images, got 1"):
        detections(model, output, target_sizes=[(1, 1)])
    with pytest.raises(InputError, match=r"box 0 of an image has 3, expected 0\.\.2"):
        model(
            pixel_values=PIXELS[:1], labels=[{"class_labels": torch.tensor([3]), "boxes": torch.rand(1, 4)}]
        )


def test_an_object_is_as_likely_as_its_labels_are_on_average() -> None:
    config = SimpleNamespace(num_labels=3, bbox_cost=0.0, giou_cost=0.0, class_cost=1.0)
    logits = torch.tensor([[0.4, 0.4, 0.6, 0.5]]).logit()  # labels 0 and 1: 0.4, label 2: 0.6
    box = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
    labels = torch.tensor([[1, 1, 0], [0, 0, 1]]).bool()
    query, own = adapter.DetrLoss(Sigmoid(), 0.9)._match(logits, box, box.repeat(2, 1), labels, config)
    assert (query.tolist(), own.tolist()) == ([0], [1])


def test_boxes_are_divided_by_the_objects_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    two = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        get_world_size=lambda: 2,
        all_reduce=lambda count: count.add_(5),  # the other process has 5
    )
    monkeypatch.setattr(adapter, "distributed", two)
    assert adapter._mean_over_processes(3, torch.device("cpu")) == 4.0
