"""The settings files in examples/: each is complete, says what its time is, and builds the model that it describes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from wildbox.study import StudyConfig
from wildbox.training.config import ModelConfig, RunConfig
from wildbox.training.model import build_model
from wildbox.training.settings import read_config

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.toml"))
STUDIES = [path for path in EXAMPLES if "runs" in tomllib.loads(path.read_text(encoding="utf-8"))]
RECIPES = [path for path in EXAMPLES if path not in STUDIES]


def left_out(table: dict[str, Any], settings: type[BaseModel], place: str = "") -> list[str]:
    """Keys of the settings that a file does not give, but for those whose default is to be absent."""
    absent = []
    for name, field in settings.model_fields.items():
        if name in table:
            inner = [kind for kind in (field.annotation, *getattr(field.annotation, "__args__", ()))
                     if isinstance(kind, type) and issubclass(kind, BaseModel)]  # fmt: skip
            absent += left_out(table[name], inner[0], f"{place}{name}.") if inner else []
        elif field.default is not None and field.default != ():
            absent.append(place + name)
    return absent


def test_there_are_the_recipes_that_the_guide_names() -> None:
    assert {path.stem for path in RECIPES} == {
        "open_images_minitrain_softmax", "open_images_minitrain_concurrent", "open_images_minitrain_class_aware",
        "open_images_minitrain_soft_balance", "open_images_strong", "coco", "lvis",
    }  # fmt: skip


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_says_everything(path: Path) -> None:
    read_config(path, RunConfig)
    text = path.read_text(encoding="utf-8")
    absent = left_out(tomllib.loads(text), RunConfig)
    # of training, which a validation set does not heed; of decay = "cosine"; of no tiles
    forgiven = {"schedule.final_rate", "data.tile_overlap"}
    forgiven |= {f"validation.{key}" for key in ("tile_overlap", "group_of", "max_corrupt_share", "augment")}
    assert set(absent) <= forgiven
    assert re.search(r"^# Expected time: (not measured|\d.* on .*)\.", text, re.MULTILINE)
    command = re.search(r"wildbox train (\S+)\.toml --out out/(\S+)", text)
    assert command is not None
    assert command.groups() == (path.stem, path.stem)


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_a_study_can_be_read(path: Path) -> None:
    config = read_config(path, StudyConfig)
    assert len({run.name for run in config.runs}) == len(config.runs)


def models() -> list[ModelConfig]:
    """The different ones."""
    found: dict[str, ModelConfig] = {}
    for path in RECIPES:
        config = read_config(path, RunConfig).model
        found[config.model_copy(update={"score_threshold": 0.0}).model_dump_json()] = config
    return list(found.values())


@pytest.mark.slow
@pytest.mark.parametrize("config", models(), ids=lambda c: f"{c.detector}-{c.backbone}-{c.rule}")
def test_the_model_of_a_recipe_learns_and_predicts(config: ModelConfig) -> None:
    """Of random weights and few classes, on small images."""
    if config.backbone.startswith("timm/"):
        pytest.importorskip("timm", reason="timm is not installed: its backbones are not tried")
    torch.manual_seed(0)
    small = config.model_copy(
        update={"image_size": 64, "max_image_size": 96, "sampled_proposals": 16, "proposals": 20}
    )
    model = build_model(small, classes=3, rates=torch.zeros(4, 4), initialised=False).train()
    target = {"boxes": torch.tensor([[4.0, 4, 40, 40]]), "multi_hot": torch.tensor([[True, False, True]])}
    losses = model([torch.rand(3, 64, 80)], [target])
    assert isinstance(losses, dict)
    torch.stack(list(losses.values())).sum().backward()
    frozen = [name for name, p in model.named_parameters() if p.grad is None]
    assert bool(frozen) == (config.frozen_stages > 0)
    assert all(name.startswith("backbone.body.") for name in frozen)
    with torch.no_grad():
        found = model.eval()([torch.rand(3, 64, 80)])
    assert isinstance(found, list)
    assert found[0]["boxes"].shape[1] == 4
