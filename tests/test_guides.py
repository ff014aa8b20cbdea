"""The guides: every piece of code in them runs, as written, in the order it stands there; and the examples run."""

from __future__ import annotations

import contextlib
import json
import math
import re
import runpy
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapters.stand_ins import BBoxHead, Boxes, FastRCNNOutputLayers, Instances
from evaluation.small_tables import draw
from evaluation.test_coco import as_results, drawn
from torch import nn
from typer.testing import CliRunner

from wildbox import (
    Annotations,
    Hierarchy,
    InputWarning,
    Vocabulary,
    audit,
    evaluate,
    read_coco,
    write_coco,
    write_detections,
    write_open_images,
)
from wildbox.cli.app import app
from wildbox.labels.files import write_audit
from wildbox.training.evaluation import batch_detections

REPOSITORY = Path(__file__).parent.parent


def pieces(guide: str) -> list[str]:
    return re.findall(
        r"```python\n(.*?)```", (REPOSITORY / "docs" / guide).read_text(encoding="utf-8"), re.DOTALL
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with `instances.json` of three classes."""
    truth = Annotations(
        Vocabulary(("red", "blue", "square")),
        ("1", "2", "3"),
        image=[0, 0, 1, 2],
        boxes=[[5, 5, 40, 40], [5, 5, 40, 40], [10, 10, 50, 30], [20, 20, 60, 60]],
        label=[0, 2, 1, 0],
        sizes=[[64, 64]] * 3,
    )
    write_coco(truth, tmp_path / "instances.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_sampling(folder: Path) -> None:
    names: dict[str, Any] = {
        "classes_of_images": [[4], [0, 4], [], [0], [0], [1, 0]],
        "dataset": torch.arange(6),
        "epochs": 2,
        "epochs_trained": 2,
        "steps_since": 0,
    }
    code = pieces("sampling.md")
    assert len(code) == 7
    for piece in code:
        exec(compile(piece, "sampling.md", "exec"), names)
    assert len([image for batch in names["loader"] for image in batch]) == 6
    assert len(list(names["sampler"])) == 6


def test_classification(folder: Path) -> None:
    write_audit(audit(read_coco("instances.json")), folder / "audit")
    names: dict[str, Any] = {
        "logits": torch.zeros(2, 4),
        "targets": [[0, 2], [3]],
        "rates": torch.zeros(4, 4),
        "verified_absent": torch.tensor([[False, True, False, True], [True, False, False, False]]),
    }
    code = pieces("classification.md")
    assert len(code) == 3
    for piece in code:
        exec(compile(piece, "classification.md", "exec"), names)
    assert names["scores"].tolist() == [[0.25] * 4] * 2
    assert names["loss"] == pytest.approx((2 * math.log(3) + math.log(2)) / 2)
    assert names["rates"][:3, :3].tolist() == [[0, 0, 0.5], [0, 0, 0], [1, 0, 0]]


def test_sharper_rates(folder: Path) -> None:
    write_audit(audit(read_coco("instances.json")), folder / "audit")
    names: dict[str, Any] = {"logits": torch.zeros(2, 4)}
    (piece,) = pieces("sharper_rates.md")
    exec(compile(piece, "sharper_rates.md", "exec"), names)
    assert names["sharp"][:3, :3].tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    third, quarter = pytest.approx(1 / 3), pytest.approx(1 / 4)
    assert names["scores"].tolist() == [[third, quarter, third, quarter]] * 2


def test_adapters(folder: Path) -> None:
    torch.manual_seed(0)
    boxes = torch.tensor([[5.0, 5, 40, 40], [5, 5, 40, 40]])
    rcnn = nn.Module()
    rcnn.roi_heads = nn.Module()
    rcnn.roi_heads.box_predictor = FastRCNNOutputLayers(8, 3)
    head: Any = BBoxHead(8, 3, nn.CrossEntropyLoss())
    names: dict[str, Any] = {
        "model": torchvision_model(),
        "images": [torch.rand(3, 64, 64)],
        "targets": [{"boxes": boxes, "labels": torch.tensor([1, 3])}],
        "multi_hot": torch.tensor([[1.0, 0, 1], [0, 1, 0], [0, 0, 0]]),
        "logits": torch.zeros(3, 3),
        "rcnn": rcnn,
        "instances": Instances((64, 64), gt_boxes=Boxes(boxes), gt_classes=torch.tensor([0, 2])),
        "head": head,
        "ancestors": torch.zeros(3, 3, dtype=torch.bool),
    }
    code = pieces("adapters.md")
    assert len(code) == 6
    skipped = []
    for piece in code:
        if "adapters.transformers" in piece:
            try:
                names |= detr()
            except ModuleNotFoundError as error:
                skipped.append(error.name)
                continue
        exec(compile(piece, "adapters.md", "exec"), names)
    assert set(names["losses"]) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    assert names["scores"].shape == (3, 3)
    assert names["instances"].gt_multi_hot.long().tolist() == [[1, 0, 1]] * 2
    assert type(rcnn.roi_heads.box_predictor).__name__ == "RuleFastRCNNOutputLayers"
    assert set(head.loss(torch.zeros(2, 4), torch.tensor([0, 3]), torch.ones(2))) == {"loss_cls", "acc"}
    if skipped:
        pytest.skip(f"{skipped[0]} is not installed: the piece for it was left out, the others ran")


def test_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found, truth = draw(np.random.default_rng(948), levels=50, group_of=0.2)
    write_open_images(truth, ".", prefix="set", hierarchy=Hierarchy(4, [(0, 1), (1, 2)]))
    for name, file in (("boxes", "set-annotations-bbox"), ("labels", "set-annotations-human-imagelabels")):
        Path(f"{file}.csv").rename(f"{name}.csv")
    Path("class-descriptions.csv").rename("classes.csv")
    write_audit(audit(truth), "audit")
    for name in ("detections", "a", "b"):
        write_detections(found, f"{name}.csv")
    document, rows = drawn(np.random.default_rng(1))
    Path("instances.json").write_text(json.dumps(document))
    Path("results.json").write_text(json.dumps(as_results(rows)))
    text = (REPOSITORY / "docs" / "evaluation.md").read_text(encoding="utf-8").replace("\\\n", " ")
    ran = re.findall(r"^    wildbox (.*?)(?: # and b)?$", text, flags=re.MULTILINE)
    assert len(ran) == 5
    ran.insert(-1, ran[-2].replace("a.", "b."))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        for line in ran:
            done = CliRunner().invoke(app, shlex.split(line))
            assert done.exit_code == 0, f"{line}: {done.output} {done.exception}"
        names: dict[str, Any] = {"loader": [(torch.zeros(2, 1), [0, 2]), (torch.zeros(1, 1), [1])]}
        nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
        names["model"] = lambda images: [nothing | {"scores": torch.zeros(0)}] * len(images)
        at_once, in_batches, whole = pieces("evaluation.md")
        exec(compile(at_once, "evaluation.md", "exec"), names)
        assert evaluate(names["found"], names["truth"], hierarchy=names["hierarchy"]).mean_ap > 0
        exec(compile(in_batches, "evaluation.md", "exec"), names)
        assert names["result"].mean_ap == 0
        boxes = torch.tensor([[0.0, 0, 8, 8], [8, 8, 20, 20]])
        targets = [{"boxes": boxes[:n], "labels": torch.tensor([1, 2])[:n]} for n in (2, 0, 1)]
        outputs = [target | {"scores": torch.ones(len(target["labels"]))} for target in targets]
        pets, ids = Vocabulary(("cat", "dog")), ("a", "b", "c")
        names |= {"vocabulary": pets, "image_ids": ids, "targets": targets}
        names["batches"] = [
            batch_detections([one], [id_], pets) for one, id_ in zip(outputs, ids, strict=True)
        ]
        exec(compile(whole, "evaluation.md", "exec"), names)
        assert evaluate(names["found"], names["truth"], protocol="coco").mean_ap == pytest.approx(1)


def torchvision_model() -> nn.Module:
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn as build

    model: nn.Module = build(weights=None, weights_backbone=None, num_classes=4, min_size=64, max_size=64)
    return model.train()


def detr() -> dict[str, Any]:
    """What the piece for transformers takes for granted."""
    import importlib

    transformers: Any = importlib.import_module("transformers")
    importlib.import_module("scipy")
    config = transformers.YolosConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=[64, 64],
        num_detection_tokens=5, num_labels=3,
    )  # fmt: skip
    boxes = torch.tensor([[0.3, 0.3, 0.4, 0.4]] * 2)
    return {
        "detr": transformers.YolosForObjectDetection(config),
        "pixels": torch.rand(1, 3, 64, 64),
        "labels": [{"class_labels": torch.tensor([0, 2]), "boxes": boxes}],
    }


@pytest.mark.slow
def test_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in the guide in its order, of a small world and a few steps."""
    monkeypatch.chdir(tmp_path)
    text = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
    (settings,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    smaller = {"steps = 1000": "steps = 4", "every = 500": "every = 2", "batch_size = 8": "batch_size = 2"}
    smaller |= {'"auto" ': '"cpu" ', 'detector = "small"': 'detector = "small"\nimage_size = 96'}
    for before, after in smaller.items():
        assert settings.count(before) == 1, before
        settings = settings.replace(before, after)
    Path("run.toml").write_text(settings)
    commands = text.replace("\\\n", " ").replace("--images 2500", "--images 12 --size 96")
    commands = commands.replace("--validation-images 400", "--validation-images 3")
    ran = re.findall(r"^    wildbox (.*)$", commands, flags=re.MULTILINE)
    assert len(ran) == 6
    for line in ran:
        done = CliRunner().invoke(app, shlex.split(line))
        assert done.exit_code == 0, f"{line}: {done.output} {done.exception}"
    names: dict[str, Any] = {}
    for piece in pieces("training.md"):
        exec(compile(piece, "training.md", "exec"), names)
    assert sorted(names["shards"]) == ["own", "softmax"]
    files = re.findall(r"^\| `(\S+?)`", text[: text.index("## Resume")], flags=re.MULTILINE)
    for file in {re.sub("0+[45]00", "0000000?", name) for name in files} - {"tiles/"}:
        assert list(Path("out/run").glob(file)), file


def test_errors_that_the_guide_explains_exist() -> None:
    text = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `([^`]+)` \|", text[text.index("## What errors tell") :], flags=re.MULTILINE)
    assert len(told) > 10
    sources = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "src").rglob("*.py")]
    # a message may go on in the next line
    joined = [re.sub(r'"\n\s+f?"', "", source) for source in sources]
    for message in told:
        assert any(message in source for source in joined), message


@pytest.mark.parametrize(
    "guide",
    [
        f"{name}.md"
        for name in ("classification", "sharper_rates", "sampling", "adapters", "training", "evaluation")
    ],
)
def test_commands_and_files_of_a_guide_exist(guide: str) -> None:
    text = (REPOSITORY / "docs" / guide).read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"^    (wildbox .*)$", text, flags=re.MULTILINE):
        words = shlex.split(line)
        shown = CliRunner().invoke(app, [words[1], "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0, line
        assert all(word in shown.output for word in words[2:] if word.startswith("--")), line
    for path in re.findall(r"`(benchmarks/\S+|examples/\S+)`", text):
        assert (REPOSITORY / path).exists(), path


@contextlib.contextmanager
def no_arguments() -> Iterator[None]:
    before, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = before


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("torchvision_faster_rcnn", "detections, labels"),
        ("image_classification", "class 3: mean score"),
        ("transformers_detr", "class 1: score"),
    ],
)
def test_examples_run(name: str, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name.startswith("transformers"):
        for library in ("transformers", "scipy"):
            pytest.importorskip(library, reason=f"{library} is not installed: its example is not tried")
    with no_arguments():
        runpy.run_path(str(REPOSITORY / "examples" / "adapters" / f"{name}.py"))
    assert printed in capsys.readouterr().out
