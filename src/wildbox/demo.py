"""The embedded default: the glyph world, and the study that `wildbox demo` runs on it."""

from __future__ import annotations

from pathlib import Path

from wildbox.glyphs import GlyphWorld, draw_world
from wildbox.study import Progress, Stages, StudyConfig, StudyRun
from wildbox.training.config import DataConfig, ModelConfig, SamplingConfig, ScheduleConfig

PAIR = (
    StudyRun(name="softmax", rule="softmax"),
    StudyRun(name="concurrent", rule="concurrent-softmax"),
)
"""The default: two rules, each scored both ways."""

OTHERS = (
    StudyRun(name="softmax-multihot", rule="softmax-multihot"),
    StudyRun(name="sigmoid", rule="sigmoid"),
    StudyRun(name="focal", rule="focal"),
    StudyRun(name="non-balance", rule="concurrent-softmax", hybrid_start=1.0),
    StudyRun(name="class-aware", rule="concurrent-softmax", balance=1.0, hybrid_start=0.0),
    StudyRun(name="soft-balance", rule="concurrent-softmax", hybrid_start=0.0),
    StudyRun(name="class-aware-hybrid", rule="concurrent-softmax", balance=1.0),
)
"""`--full` adds the other baselines, and the samplings; `concurrent` itself is soft-balance with hybrid."""


def world_data(world: Path, split: str) -> DataConfig:
    """Where `draw_world` leaves a split ("train", "validation")."""
    return DataConfig(
        format="open-images",
        boxes=world / f"{split}-annotations-bbox.csv",
        images=world / split,
        classes=world / "class-descriptions.csv",
        hierarchy=world / "hierarchy.json",
        image_labels=world / f"{split}-annotations-human-imagelabels.csv",
    )


def demo_config(world: Path, *, seed: int, runs: tuple[StudyRun, ...] = PAIR, size: int = 160) -> StudyConfig:
    """The study of the glyph world: 1,000 steps of 8 images a run."""
    return StudyConfig(
        title="The glyph world",
        train=world_data(world, "train"),
        validation=world_data(world, "validation"),
        model=ModelConfig(image_size=size),
        sampling=SamplingConfig(balance=0.7, hybrid_start=0.6),
        schedule=ScheduleConfig(steps=1000),
        runs=runs,
        seed=seed,
    )


def draw_demo_world(out: Path, settings: GlyphWorld, *, processes: int, progress: Progress) -> Path:
    """Draw the world into `out/world`, unless it is there already; that folder."""
    world, stages = out / "world", Stages(out / "stages")
    total = settings.images + settings.validation_images
    if stages.done("world", repr(settings)):
        progress("draw", total, total)
    else:
        with stages.recorded("world", repr(settings)):
            draw_world(
                world,
                settings=settings,
                processes=processes,
                progress=lambda done, of: progress("draw", done, of),
            )
    return world
