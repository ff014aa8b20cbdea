"""Weights of whole detectors from files that we write: torchvision's, its older names, our checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN, FasterRCNN_ResNet50_FPN_Weights, fasterrcnn_resnet50_fpn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from wildbox.classification import ConcurrentSoftmax, Softmax
from wildbox.detectors.detector import Detector
from wildbox.detectors.faster_rcnn import cascade_rcnn, faster_rcnn, small_faster_rcnn
from wildbox.detectors.weights import load_weights
from wildbox.errors import InputError
from wildbox.vocabulary import Vocabulary

FEW: dict[str, Any] = {"classes": 5, "image_size": 64, "proposals": 20}
HEAD = [
    f"roi_heads.box_predictor.{part}.{kind}" for part in ("logits", "deltas") for kind in ("weight", "bias")
]


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> tuple[FasterRCNN, Path]:
    """torchvision's detector, on a ResNet-18, and its state dict's file."""
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
    model = FasterRCNN(backbone, num_classes=91, min_size=64, max_size=107)
    path = tmp_path_factory.mktemp("weights") / "coco.pth"
    torch.save(model.state_dict(), path)
    return model.eval(), path


def test_torchvisions_weights_are_kept_but_for_the_class_head(coco: tuple[FasterRCNN, Path]) -> None:
    reference, path = coco
    model = faster_rcnn("resnet18", rule=Softmax(), **FEW).eval()
    report = load_weights(model, path)
    assert sorted(report.renewed) == sorted(HEAD)
    assert len(report.kept) + len(HEAD) == len(model.state_dict())
    assert {name.split(".")[2] for name in report.unused} == {"cls_score", "bbox_pred"}
    assert str(report) == (
        f"{path}: {len(report.kept)} tensors kept; 4 new ({', '.join(report.renewed)}); "
        f"4 not used ({', '.join(report.unused)})"
    )
    images = [torch.rand(3, 64, 96)]
    with torch.no_grad():
        inputs, _ = reference.transform(images)
        for ours, theirs in zip(
            model.backbone(inputs.tensors).values(), reference.backbone(inputs.tensors).values(), strict=True
        ):
            torch.testing.assert_close(ours, theirs)
        boxes = torch.rand(3, 256, 7, 7)
        assert torch.equal(model.roi_heads.box_head(boxes), reference.roi_heads.box_head(boxes))


def test_names_of_torchvisions_older_files_are_known(coco: tuple[FasterRCNN, Path], tmp_path: Path) -> None:
    state = torch.load(coco[1], weights_only=True)
    older = {}
    for key, value in state.items():
        if key.startswith("backbone.fpn."):
            key = key.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        older[key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")] = value
    assert older.keys() != state.keys()
    torch.save(older, tmp_path / "older.pth")
    model = faster_rcnn("resnet18", rule=Softmax(), **FEW)
    report = load_weights(model, tmp_path / "older.pth")
    assert sorted(report.renewed) == sorted(HEAD)
    assert len(report.unused) == 4


def test_every_stage_of_a_cascade_starts_with_the_single_stage(coco: tuple[FasterRCNN, Path]) -> None:
    model = cascade_rcnn("resnet18", rule=Softmax(), **FEW)
    report = load_weights(model, coco[1])
    for stage in model.roi_heads.stages:
        assert torch.equal(stage.head.fc6.weight, coco[0].roi_heads.box_head.fc6.weight)
    assert len(report.renewed) == 12
    assert all(".predictor." in name for name in report.renewed)
    back = faster_rcnn("resnet18", rule=Softmax(), **FEW)
    path = coco[1].with_name("cascade.pth")
    torch.save(model.state_dict(), path)
    load_weights(back, path)
    assert torch.equal(back.roi_heads.box_head.fc7.weight, coco[0].roi_heads.box_head.fc7.weight)


def test_coco_weights_come_through_torchvisions_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which finds the file that it would fetch; batch normalisation then has torchvision's eps of 0."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    reference = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    path = tmp_path / "hub" / "checkpoints" / FasterRCNN_ResNet50_FPN_Weights.COCO_V1.url.rsplit("/", 1)[1]
    path.parent.mkdir(parents=True)
    torch.save(reference.state_dict(), path)
    for source in ("coco", path):
        model = faster_rcnn("resnet50", rule=Softmax(), **FEW)
        report = load_weights(model, source)
        assert sorted(report.renewed) == sorted(HEAD)
        norms = [m for m in model.backbone.modules() if isinstance(m, FrozenBatchNorm2d)]
        assert {norm.eps for norm in norms} == {0.0}


def small(classes: int) -> Detector:
    """A detector with rates of its own."""
    rates = torch.rand(classes + 1, classes + 1).fill_diagonal_(0)
    return small_faster_rcnn(classes=classes, rule=ConcurrentSoftmax(rates), image_size=64)


def test_a_checkpoint_of_the_same_classes_keeps_its_head(tmp_path: Path) -> None:
    trained, path = small(3), tmp_path / "checkpoint.pt"
    nn.init.normal_(trained.roi_heads.box_predictor.logits.weight)
    ids = ["a", "b", "c"]
    torch.save({"class_ids": ids, "model": trained.state_dict()}, path)
    model = small(3)
    report = load_weights(model, path, vocabulary=Vocabulary(tuple(ids)))
    assert report.renewed == ("roi_heads.rule.rates",)
    assert torch.equal(
        model.roi_heads.box_predictor.logits.weight, trained.roi_heads.box_predictor.logits.weight
    )
    for other, told in ((("a", "c", "b"), "3 shared"), (("a", "x", "y"), "1 shared")):
        report = load_weights(small(3), path, vocabulary=Vocabulary(other))
        assert "roi_heads.box_predictor.logits.weight" in report.renewed
        assert "roi_heads.box_predictor.deltas.weight" in report.kept  # boxes of all classes know no class
        assert str(report).endswith(f"the class head is new: 3 classes there, 3 now, {told}")


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"roi_heads.box_head.fc6.weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"other\.pth: holds nothing of this detector's backbone"):
        load_weights(small(2), path)
