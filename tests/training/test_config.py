"""Settings files: complete, checked, and answered with what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from wildbox.errors import ConfigError
from wildbox.training.config import RunConfig, ScheduleConfig
from wildbox.training.prediction import PredictConfig
from wildbox.training.settings import parse_config, read_config, write_config

MINIMAL = '[data]\nboxes = "boxes.csv"\nimages = "images"\n'
VALIDATION = MINIMAL.replace("data", "validation")


def run_file(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = read_config(run_file(tmp_path, MINIMAL), RunConfig)
    assert config.data.boxes == tmp_path / "boxes.csv"


def test_resolved_settings_read_back_the_same(tmp_path: Path) -> None:
    config = read_config(run_file(tmp_path, MINIMAL + "[schedule]\nsteps = 200\n"), RunConfig)
    write_config(config, tmp_path / "config.json")
    assert read_config(tmp_path / "config.json", RunConfig) == config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MINIMAL + VALIDATION + 'group_of = "ignore"\n', "validation.group_of is set but only training"),
        (MINIMAL + VALIDATION + "augment = {flip = 0.5}\n", "validation.augment is set but only training"),
        (MINIMAL + "augment = {scale = [2, 1]}\n", "expected the smaller factor first"),
        (MINIMAL + "augment = {flipp = 0.5}\n", r"unknown key data.augment.flipp \(did you mean flip\?\)"),
        (MINIMAL + "[schedule]\nstep = 7\n", r"unknown key schedule.step \(did you mean steps\?\)"),
        (MINIMAL + "[schedule]\nsteps = 0\n", "schedule.steps = 0"),
        (
            MINIMAL + "[model]\nbatch_size = 4\n",
            r"key model.batch_size \(did you mean schedule.batch_size\?\)",
        ),
        (
            MINIMAL + "[schedule]\nsteps = 50\nwarmup_steps = 100\n",
            r"toml: schedule: warmup_steps 100: expected at most steps = 50",
        ),
        (MINIMAL + "[model]\nimage_size = 8\n", "model.image_size = 8: .* greater than or equal to 32"),
        (MINIMAL + "[model]\nimage_size = 99\nmax_image_size = 98\n", "max_image_size 98.* image_size 99"),
        (MINIMAL + '[model]\nbackbone = "resnet18"\n', "model: backbone is given but the small detector"),
        (MINIMAL + "tile_size = 64\ntile_overlap = 64\n", "data: tile_overlap 64: expected less .* 64"),
        (MINIMAL + "tile_overlap = 8\n", "data: tile_overlap 8: .* None"),
        (MINIMAL + 'format = "coco"\nclasses = "c.csv"\n', 'data: classes belongs to format "open-images"'),
        (MINIMAL + '[model]\nrule = "softmaxx"\n', "model.rule = 'softmaxx'"),
        (MINIMAL + "[sampling]\nbalance = -1\n", "sampling.balance = -1"),
        (MINIMAL + '[model]\nbackbone_weights = "w.pt"\n', "small detector takes none"),
        ('[data]\nboxes = "boxes.csv"\n', "data.images is missing"),
        (MINIMAL + "[evaluation]\nevery = 5\n", "there is no validation set"),
        (MINIMAL + VALIDATION + '[evaluation]\nprotocol = "coco"\n', 'needs validation.format = "coco"'),
        (
            MINIMAL + VALIDATION + 'format = "coco"\ntile_size = 9\n[evaluation]\nprotocol = "lvis"\n',
            "lvis takes no validation.tile_size",
        ),
        (MINIMAL + "[log]\ntensorbord = true\n", r"log.tensorbord \(did you mean tensorboard\?\)"),
        (MINIMAL + "[schedule]\nbatch_size = 8\naccumulate = 3\n", "cannot be taken in accumulate = 3 parts"),
        (MINIMAL + "[schedule]\ndecay_at = [5]\n", 'set decay = "step"'),
        (MINIMAL + '[schedule]\ndecay = "step"\n', "decay_at, the steps, is missing"),
        (
            MINIMAL + '[schedule]\nsteps = 9\nwarmup_steps = 0\ndecay = "step"\ndecay_at = [8, 3]\n',
            "ascending steps below",
        ),
        (
            MINIMAL + '[schedule]\nsteps = 9\nwarmup_steps = 0\ndecay = "step"\ndecay_at = [9]\n',
            "below steps = 9",
        ),
        ('device = "cuda:1"\nprocesses = 2\n' + MINIMAL, "device cuda:1 is one, but 2 processes"),
        ("[data\n", "line 1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, expected: str) -> None:
    path = run_file(tmp_path, text)
    with pytest.raises(ConfigError, match=expected) as error:
        read_config(path, RunConfig)
    assert str(path) in str(error.value)


def test_a_short_run_is_all_warm_up_unless_told() -> None:
    short = ScheduleConfig(steps=20)
    assert (short.warmup_steps, ScheduleConfig(steps=200).warmup_steps) == (20, 100)
    assert ScheduleConfig.model_validate(short.model_dump()) == short


def test_what_is_wrong_in_a_list_is_told_once() -> None:
    with pytest.raises(ConfigError, match=r"^predict: scores.0 = 'sigmoid': [^;]*$"):
        parse_config({"scores": ["sigmoid"]}, PredictConfig, source="predict")


def test_a_byte_order_mark_is_no_setting(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("\ufeff" + MINIMAL, encoding="utf-8")
    assert read_config(tmp_path / "run.toml", RunConfig).seed == 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "none.toml", RunConfig)
