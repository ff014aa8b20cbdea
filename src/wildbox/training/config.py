"""The settings of a run, as frozen tables with units, read from TOML or JSON.

A file is complete: nothing is inherited, unknown keys are errors, and paths are relative to the file.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wildbox.errors import ConfigError
from wildbox.formats.files import whole_file

RuleName = Literal[
    "softmax",
    "softmax-multihot",
    "concurrent-softmax",
    "sigmoid",
    "focal",
    "equalization",
    "seesaw",
    "federated",
]
Positive = Annotated[int, Field(gt=0)]


class Settings(BaseModel):
    """Base of all tables: frozen, and no key that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(Settings):
    """Where a set of annotated images lies."""

    format: Literal["open-images", "coco"] = "open-images"
    boxes: Path
    """Boxes CSV (Open Images) or instances JSON (COCO)."""
    images: Path
    """Folder of the images; Open Images' files are named id + ".jpg"."""
    classes: Path | None = None
    """Class descriptions CSV (Open Images); without it, the classes that occur."""
    hierarchy: Path | None = None
    """Hierarchy JSON (Open Images)."""
    image_labels: Path | None = None
    """Human-verified image labels CSV (Open Images)."""
    only: Path | None = None
    """List of images to keep, one id or file name (with or without extension) a line."""
    without: Path | None = None
    """List of images to leave out, likewise."""
    tile_size: Positive | None = None
    """Side of the square tiles that large images are cut into, in pixels; None leaves them whole."""
    tile_overlap: Annotated[int, Field(ge=0)] = 0
    """Pixels that neighbouring tiles share."""


class ModelConfig(Settings):
    """The detector and its rule."""

    detector: Literal["small", "resnet50-fpn"] = "small"
    backbone_weights: Path | None = None
    """State dict of the backbone body (resnet50-fpn only); None starts from random weights."""
    rule: RuleName = "concurrent-softmax"
    """softmax learns the label of the matched box; all others the labels of its object."""
    image_size: Positive = 160
    """Shorter side of the network's input, in pixels."""
    proposals: Positive = 100
    """Kept an image after the first stage."""
    sampled_proposals: Positive = 64
    """Of these, used for the second stage's loss, an image."""
    score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.02
    detections_per_image: Positive = 200
    rate_threshold: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Concurrent rates at or below it count as 0."""


class SamplingConfig(Settings):
    """Which images a step sees (METHOD section 5)."""

    balance: Annotated[float, Field(ge=0)] = 0.7
    """lambda of soft-balance; 1 is class-aware sampling."""
    hybrid_start: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Share of the steps that run non-balanced before; 0 balances from the start, 1 never does."""


class ScheduleConfig(Settings):
    """How long and how fast."""

    steps: Positive = 1000
    batch_size: Positive = 8
    """Images a step."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """AdamW does not see the scale of a loss; with SGD a rule that sums over labels or classes also learns faster."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Linear from 0; then the rate falls along a cosine to `final_rate` times the full one."""
    final_rate: Annotated[float, Field(ge=0, le=1)] = 0.02
    clip_norm: Annotated[float, Field(gt=0)] = 10.0
    """Largest norm of the gradient."""
    checkpoint_every: Positive = 200
    """Steps between checkpoints."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that load images; 0 loads in the training process."""


class RunConfig(Settings):
    """One training run: `wildbox train RUN.toml`."""

    data: DataConfig
    model: ModelConfig = ModelConfig()
    sampling: SamplingConfig = SamplingConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    seed: int = 0
    device: str = "auto"
    """"cpu", "cuda", "cuda:1" or "auto": the GPU where there is one."""
    threads: Positive = 1
    """Of the training process, on a CPU."""

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        if self.model.backbone_weights is not None and self.model.detector == "small":
            raise ValueError("model.backbone_weights is given but the small detector takes none")
        return self


Table = TypeVar("Table", bound=Settings)


def read_config(path: str | Path, table: type[Table]) -> Table:
    """A settings file (TOML, or the JSON that a run saves), validated.

    Raises:
        ConfigError: file, key, what was expected; a misspelt key is answered with the nearest one.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        raw = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    return parse_config(raw, table, source=path)


def parse_config(raw: object, table: type[Table], *, source: str | Path = "settings") -> Table:
    """A nested dict as a validated table; relative paths are taken from the folder of `source`."""
    try:
        config = table.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(_explain(dict(e), table) for e in error.errors())
        raise ConfigError(f"{source}: {problems}") from error
    folder = Path(source).parent if isinstance(source, Path) else Path()
    return table.model_validate(_rooted(config.model_dump(), folder))


def write_config(config: Settings, path: Path) -> None:
    """The resolved settings as JSON, paths absolute; `read_config` reads it back."""
    with whole_file(path) as temporary:
        temporary.write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _rooted(value: object, folder: Path) -> object:
    if isinstance(value, dict):
        return {key: _rooted(item, folder) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rooted(item, folder) for item in value]
    return (folder / value).resolve() if isinstance(value, Path) else value


def _explain(error: dict[str, object], table: type[Settings]) -> str:
    place = error["loc"]
    if not isinstance(place, tuple) or not place:
        return str(error["msg"])
    key = ".".join(str(part) for part in place)
    if error["type"] != "extra_forbidden":
        return (
            f"{key} = {error['input']!r}: {error['msg']}"
            if error["type"] != "missing"
            else f"{key} is missing"
        )
    near = difflib.get_close_matches(str(place[-1]), sorted(_all_keys(table)), n=1)
    return f"unknown key {key}" + (f" (did you mean {near[0]}?)" if near else "")


def _all_keys(table: type[BaseModel]) -> set[str]:
    keys: set[str] = set()
    for name, info in table.model_fields.items():
        keys.add(name)
        for inner in (info.annotation, *getattr(info.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                keys |= _all_keys(inner)
    return keys
