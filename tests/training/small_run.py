"""A run small enough for tests: a dozen glyph images, a few steps."""

from __future__ import annotations

import json
from pathlib import Path

from wildbox.glyphs import GlyphWorld, draw_world
from wildbox.training.config import (
    DataConfig,
    LogConfig,
    ModelConfig,
    RunConfig,
    SamplingConfig,
    ScheduleConfig,
)


def draw_small_world(folder: Path) -> Path:
    """Draw 12 training and 4 validation images of 96 pixels; the folder."""
    draw_world(folder, settings=GlyphWorld(images=12, validation_images=4, size=96))
    return folder


def world_data(world: Path, split: str = "train") -> DataConfig:
    """Where `draw_small_world` leaves a split."""
    return DataConfig(
        boxes=world / f"{split}-annotations-bbox.csv",
        images=world / split,
        classes=world / "class-descriptions.csv",
        hierarchy=world / "hierarchy.json",
        image_labels=world / f"{split}-annotations-human-imagelabels.csv",
    )


def small_run(world: Path, **schedule: object) -> RunConfig:
    """Six steps of two images; `schedule` overrides."""
    settings = {"steps": 6, "batch_size": 2, "checkpoint_every": 2} | schedule
    settings.setdefault("warmup_steps", 1 if settings["steps"] == 1 else 2)
    return RunConfig(
        data=world_data(world),
        model=ModelConfig(image_size=96, proposals=20),
        sampling=SamplingConfig(hybrid_start=0.5),
        schedule=ScheduleConfig.model_validate(settings),
        log=LogConfig(every=1),
        device="cpu",
    )


def logged_losses(out: Path) -> list[dict[str, float]]:
    """Step and losses of every line of a run's log that has losses."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name == "step" or name.startswith("loss")}
        for line in lines
        if "loss_classifier" in line
    ]
