"""Evaluation while a run trains: it is that of the saved weights, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader
from training.processes import join, start
from training.small_run import draw_small_world, logged_losses, small_run, world_data

from wildbox.annotations import ImageLabels
from wildbox.detectors.dataset import DetectionDataset, collate
from wildbox.detectors.inference import predict
from wildbox.evaluation import EvaluationResult, evaluate, read_coco_truth
from wildbox.formats.coco import write_coco
from wildbox.training.checkpoint import Checkpoint, load_checkpoint
from wildbox.training.config import DataConfig, EvaluationConfig, RunConfig
from wildbox.training.model import build_model
from wildbox.training.run import train
from wildbox.training.source import load_source
from wildbox.training.stopping import Stopped
from wildbox.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_small_world(tmp_path_factory.mktemp("world"))


def validated(world: Path, **schedule: object) -> RunConfig:
    """Evaluates after steps 3, 6 and 8; keeps detections of any score, since so few steps find little."""
    config = small_run(
        world, **{"steps": 8, "average": 0.8, "checkpoint_every": 5, "keep_checkpoints": 9} | schedule
    )
    return config.model_copy(
        update={
            "model": config.model.model_copy(update={"score_threshold": 0.0}),
            "validation": world_data(world, "validation"),
            "evaluation": EvaluationConfig(every=3),
        }
    )


def average_precision(saved: Checkpoint, weights: dict[str, torch.Tensor]) -> list[float]:
    config = RunConfig.model_validate(saved.config)
    model = build_model(config.model, classes=len(saved.vocabulary), rates=saved.rates)
    model.load_state_dict(weights)
    assert config.validation is not None
    source = load_source(config.validation)
    loader = DataLoader(
        DetectionDataset(source.annotations, source.folder, objects=None), batch_size=8, collate_fn=collate
    )
    scorings = {"it": model.roi_heads.rule.scores}
    found = predict(model, loader, source.annotations, scorings=scorings)["it"]
    assert len(found) > 0
    if config.evaluation.protocol == "coco":
        return list(evaluate(found, read_coco_truth(config.validation.boxes), protocol="coco").ap)
    return list(evaluate(found, source.annotations, hierarchy=source.hierarchy).ap)


def as_coco(data: DataConfig, path: Path) -> DataConfig:
    """The same annotations as a COCO file: pixels, and numbers for ids."""
    table = load_source(data).annotations
    pixels = replace(
        table,
        vocabulary=Vocabulary(
            tuple(str(n + 1) for n in range(len(table.vocabulary))), table.vocabulary.names
        ),
        image_ids=tuple(str(n + 1) for n in range(len(table.image_ids))),
        boxes=table.boxes * 96,
        sizes=table.sizes * 96,
        file_names=tuple(f"{id_}.jpg" for id_ in table.image_ids),
        image_labels=ImageLabels(),
    )
    write_coco(pixels, path)
    return DataConfig(format="coco", boxes=path, images=data.images)


def lines(out: Path) -> dict[int, dict[str, float]]:
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {row["step"]: row for row in rows if "mean_ap_model" in row}


@pytest.mark.slow
def test_it_is_the_evaluation_of_the_saved_weights_and_changes_no_loss(world: Path, tmp_path: Path) -> None:
    config = validated(world)
    train(config, tmp_path / "run")
    assert sorted(lines(tmp_path / "run")) == [3, 6, 8]
    for step in (3, 6, 8):
        name = "checkpoint.pt" if step == 8 else f"checkpoint-{step:08}.pt"
        saved = load_checkpoint(tmp_path / "run" / name)
        assert saved.average is not None
        for suffix, weights in (("", saved.model), ("-average", saved.average)):
            log = tmp_path / "run" / "evaluations" / f"step-{step:08}{suffix}.csv"
            torch.testing.assert_close(
                torch.tensor(EvaluationResult.read(log).ap),
                torch.tensor(average_precision(saved, weights)),
                rtol=0, atol=0, equal_nan=True,
            )  # fmt: skip
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    means = {step: row["mean_ap_average"] for step, row in lines(tmp_path / "run").items()}
    step = max(means, key=lambda step: (means[step], -step))
    measure = "open-images-challenge, 4 images, 11 boxes"
    assert best == {"step": step, "mean_ap": means[step], "measure": measure}
    assert load_checkpoint(tmp_path / "run" / "best.pt").step == best["step"]

    alone = config.model_copy(update={"validation": None, "evaluation": EvaluationConfig()})
    train(alone, tmp_path / "alone")
    assert logged_losses(tmp_path / "run") == logged_losses(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["open-images-challenge", "coco"])
def test_two_processes_evaluate_all_images_once(protocol: str, world: Path, tmp_path: Path) -> None:
    config = validated(world, steps=2, batch_size=4).model_copy(update={"processes": 2})
    if protocol == "coco":
        coco = {
            split: as_coco(world_data(world, split), tmp_path / f"{split}.json")
            for split in ("train", "validation")
        }
        evaluation = EvaluationConfig(protocol="coco")
        config = config.model_copy(
            update={"data": coco["train"], "validation": coco["validation"], "evaluation": evaluation}
        )
    join(start(config, tmp_path))
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    log = EvaluationResult.read(tmp_path / "evaluations" / "step-00000002.csv")
    torch.testing.assert_close(
        torch.tensor(log.ap),
        torch.tensor(average_precision(saved, saved.model)),
        rtol=0, atol=0, equal_nan=True,
    )  # fmt: skip
    assert ("APs_model" in lines(tmp_path)[2]) == (protocol == "coco")


@pytest.mark.slow
def test_stopped_during_an_evaluation_the_next_start_evaluates_first(world: Path, tmp_path: Path) -> None:
    steps: list[int] = []

    def note(step: int, total: int, values: Mapping[str, float]) -> None:
        assert values.keys() == {"loss", "images_per_second", "data_wait", "eta"}
        steps.append(step)

    asked = iter([False, False, False, True])  # after steps 1, 2, 3, then within the evaluation
    with pytest.raises(Stopped, match="saved at step 3 of 8"):
        train(validated(world), tmp_path, progress=note, stop=lambda: next(asked))
    assert lines(tmp_path) == {}
    train(validated(world), tmp_path, progress=note)
    assert sorted(lines(tmp_path)) == [3, 6, 8]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8]
