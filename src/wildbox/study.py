"""The whole experiment: audit, train, predict, evaluate, compare, report.

Each stage leaves files and a marker in `stages/` with a digest of what it was made from; a study started again
repeats only stages whose marker is missing or was made from something else.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wildbox.detectors.dataset import check_files
from wildbox.detectors.inference import predict
from wildbox.detectors.loading import images_in_order
from wildbox.errors import ConfigError, WildboxError
from wildbox.evaluation import EvaluationResult, evaluate
from wildbox.formats.files import write_json
from wildbox.formats.storage import read_detections, write_detections
from wildbox.labels.audit import LabelAudit, audit
from wildbox.labels.files import write_audit
from wildbox.training.checkpoint import load_checkpoint
from wildbox.training.config import (
    DataConfig,
    ModelConfig,
    Positive,
    RuleName,
    RunConfig,
    SamplingConfig,
    ScheduleConfig,
)
from wildbox.training.model import SOFTMAX_FAMILY, ScoringName, build_scoring, restore_model
from wildbox.training.run import train
from wildbox.training.settings import Settings, write_config
from wildbox.training.source import Source, load_source, with_vocabulary_of

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, all)."""

SOFTMAX, CONCURRENT, OWN = "sm", "csmconf", "own"
"""How logs name a scoring rule, as the supplement's files do; OWN is that of a rule outside the softmax family."""
SCORINGS: Mapping[str, ScoringName] = {SOFTMAX: "softmax", CONCURRENT: "concurrent", OWN: "own"}


class StudyRun(Settings):
    """One model of the study; what is not given is as in the study's own tables."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    rule: RuleName
    balance: Annotated[float, Field(ge=0)] | None = None
    hybrid_start: Annotated[float, Field(ge=0, le=1)] | None = None

    @property
    def scorings(self) -> tuple[str, ...]:
        """Softmax logits are scored both ways; other rules by themselves alone."""
        return (SOFTMAX, CONCURRENT) if self.rule in SOFTMAX_FAMILY else (OWN,)

    def log_name(self, scoring: str) -> str:
        """Name of the per-class log; the runs `softmax` and `concurrent` have the supplement's names."""
        trained = {"softmax": "balance_bsl", "concurrent": "balance_cs"}.get(self.name, self.name)
        return f"{trained}_{scoring}"


class StudyConfig(Settings):
    """`wildbox study STUDY.toml`: two data sets, shared settings, and the runs that are compared."""

    title: str
    train: DataConfig
    validation: DataConfig
    protocol: Literal["open-images-challenge", "voc"] = "open-images-challenge"
    model: ModelConfig = ModelConfig()
    sampling: SamplingConfig = SamplingConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    runs: Annotated[tuple[StudyRun, ...], Field(min_length=1)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: str = "auto"
    processes: Positive = 2
    """Runs that train at the same time."""
    threads: Positive = 1
    """Of each of them."""
    figure_images: Positive = 4
    """Rows of Figures 1 and 2."""

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        self.validation.refuse_training_settings("validation")
        return self

    def run_config(self, run: StudyRun) -> RunConfig:
        """The complete settings of one run."""
        own = {"balance": run.balance, "hybrid_start": run.hybrid_start}
        own = {name: value for name, value in own.items() if value is not None}
        return RunConfig(
            data=self.train,
            model=self.model.model_copy(update={"rule": run.rule}),
            sampling=self.sampling.model_copy(update=own),
            schedule=self.schedule,
            seed=self.seed,
            device=self.device,
            threads=self.threads,
        )


@dataclass(frozen=True)
class StudyResult:
    """What the report is written from."""

    config: StudyConfig
    audit: LabelAudit
    """Of the training set, expanded by the hierarchy."""
    validation: Source
    results: Mapping[str, EvaluationResult]
    """Log name -> per-class result."""
    seconds: Mapping[str, float]
    """Stage -> wall time when it was done."""


class Stages:
    """Which stages of a folder are done, and from what they were made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def done(self, name: str, made_from: str) -> bool:
        """Whether the stage's marker stands and says the same origin."""
        path = self.folder / f"{name}.json"
        return path.exists() and json.loads(path.read_text())["made_from"] == _digest(made_from)

    @contextmanager
    def recorded(self, name: str, made_from: str) -> Iterator[None]:
        """Mark the stage as done once the block has ended without an error."""
        began = time.perf_counter()
        yield
        marker = {"made_from": _digest(made_from), "seconds": round(time.perf_counter() - began, 1)}
        write_json(marker, self.folder / f"{name}.json")

    def seconds(self) -> dict[str, float]:
        """Wall time of each finished stage."""
        return {
            path.stem: json.loads(path.read_text())["seconds"] for path in sorted(self.folder.glob("*.json"))
        }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_study(config: StudyConfig, out: str | Path, *, progress: Progress) -> StudyResult:
    """Run every stage that is not done yet and return what the report needs.

    Leaves `study.json`, `audit/`, `runs/<name>/`, `detections/`, `logs/` in `out`.

    Raises:
        ConfigError: two runs of one name. Errors of a run name the run.
    """
    out = Path(out)
    names = [run.name for run in config.runs]
    if len(set(names)) != len(names):
        raise ConfigError(f"two runs have one name: {sorted(names)}")
    for folder in ("audit", "runs", "detections", "logs"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    write_config(config, out / "study.json")
    stages = Stages(out / "stages")

    training, validation = load_both(config, out, progress=progress)
    progress("audit", 0, 1)
    with stages.recorded("audit", config.train.model_dump_json()):
        found = audit_learned(config, training)
        write_audit(found, out / "audit")
    progress("audit", 1, 1)

    _train_all(config, out, stages, progress)
    results = _evaluate_all(config, out, validation, progress)
    return StudyResult(config, found, validation, results, stages.seconds())


def audit_learned(config: StudyConfig, training: Source) -> LabelAudit:
    """The audit of the boxes that the runs learn from, expanded, by the threshold of their rates."""
    return audit(
        training.expanded,
        hierarchy=training.hierarchy,
        min_ratio=config.model.rate_threshold,
        include_group_of=config.train.group_of == "train",
    )


def load_both(config: StudyConfig, out: Path, *, progress: Progress) -> tuple[Source, Source]:
    """Training and validation set with one vocabulary, and see that their images are there."""
    training = load_source(
        config.train, tiles=out / "tiles" / "train", progress=lambda d, a: progress("tiles (train)", d, a)
    )
    validation = load_source(
        config.validation,
        tiles=out / "tiles" / "validation",
        progress=lambda d, a: progress("tiles (validation)", d, a),
    )
    for source, data in ((training, config.train), (validation, config.validation)):
        check_files(source.annotations, source.folder, max_absent_share=data.max_corrupt_share)
    return training, with_vocabulary_of(validation, training)


def _train_all(config: StudyConfig, out: Path, stages: Stages, progress: Progress) -> None:
    """Train and predict what is missing, `config.processes` runs at a time."""
    waiting = [run for run in config.runs if not stages.done(f"run-{run.name}", _origin(config, run))]
    steps = config.schedule.steps
    for run in config.runs:
        progress(f"train {run.name}", 0 if run in waiting else steps, steps)
    if not waiting:
        return
    # spawn: a forked torch hangs in its thread pools
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(config.processes, len(waiting)), mp_context=context) as pool:
        jobs = {run.name: pool.submit(_train_and_predict, config, run, out, os.getpid()) for run in waiting}
        try:
            _follow(jobs, out, steps, progress)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _follow(jobs: Mapping[str, Future[None]], out: Path, steps: int, progress: Progress) -> None:
    """Report the runs' logs until all are done; the first error stops all."""
    while True:
        for name, job in jobs.items():
            if job.done() and (error := job.exception()) is not None:
                error.add_note(f"in run {name!r}")
                raise error
            progress(f"train {name}", _last_step(out / "runs" / name / "log.jsonl"), steps)
        if all(job.done() for job in jobs.values()):
            return
        time.sleep(0.5)


def _last_step(log: Path) -> int:
    if not log.exists():
        return 0
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 2000))
        complete = [line for line in stream.read().split(b"\n") if line.endswith(b"}")]
    return int(json.loads(complete[-1])["step"]) if complete and complete[-1].startswith(b"{") else 0


def _origin(config: StudyConfig, run: StudyRun) -> str:
    """What the detections of a run depend on: its settings, and size and time of all files of the two data sets, but
    for the images, which are taken to be the same."""
    files = [
        path.stat()
        for data in (config.train, config.validation)
        for path in (data.boxes, data.classes, data.hierarchy, data.image_labels, data.only, data.without)
        if path is not None
    ]
    stamps = [[file.st_size, file.st_mtime_ns] for file in files]
    return config.run_config(run).model_dump_json() + config.validation.model_dump_json() + str(stamps)


def _train_and_predict(config: StudyConfig, run: StudyRun, out: Path, parent: int) -> None:
    """One run, in a process of its own, which ends with the process that started it."""

    def stop_without_parent(*_: object) -> None:
        # a killed study must not leave runs behind that write beside those of the next start
        if os.getppid() != parent:
            raise WildboxError("the study that started this run is gone")

    stages = Stages(out / "stages")
    with stages.recorded(f"run-{run.name}", _origin(config, run)):
        training, validation = load_both(config, out, progress=lambda *_: None)
        checkpoint = train(
            config.run_config(run), out / "runs" / run.name, source=training, progress=stop_without_parent
        )
        share = config.validation.max_corrupt_share
        predict_checkpoint(checkpoint, validation, run=run, out=out / "detections", max_corrupt_share=share)


def predict_checkpoint(
    checkpoint: Path, images: Source, *, run: StudyRun, out: Path, max_corrupt_share: float
) -> None:
    """Write the detections of a run by each of its scorings, one CSV each.

    Args:
        max_corrupt_share: of the images, that may fail to open.
    """
    saved = load_checkpoint(checkpoint)
    model = restore_model(saved)
    loader = images_in_order(
        images.annotations, images.folder, batch_size=8, max_corrupt_share=max_corrupt_share
    )
    scorings = {name: build_scoring(SCORINGS[name], saved, model) for name in run.scorings}
    found = predict(model, loader, images.annotations, scorings=scorings)
    for name, detections in found.items():
        write_detections(detections, out / f"{run.log_name(name)}.csv")


def _evaluate_all(
    config: StudyConfig, out: Path, validation: Source, progress: Progress
) -> dict[str, EvaluationResult]:
    """Per-class logs of every run and scoring."""
    names = [run.log_name(scoring) for run in config.runs for scoring in run.scorings]
    truth = validation.annotations
    results = {}
    for done, name in enumerate(names):
        progress("evaluate", done, len(names))
        found = read_detections(
            out / "detections" / f"{name}.csv", vocabulary=truth.vocabulary, image_ids=truth.image_ids
        )
        result = evaluate(found, truth, protocol=config.protocol, hierarchy=validation.hierarchy)
        result.write(out / "logs" / f"{name}.csv")
        results[name] = result
    progress("evaluate", len(names), len(names))
    return results


def four_logs(runs: Sequence[StudyRun]) -> list[tuple[str, str, str]]:
    """(trained, scored, log name) of the paper's four combinations, those that the study has."""
    combinations = []
    for run in runs:
        if run.name in ("softmax", "concurrent"):
            trained = "concurrent softmax" if run.name == "concurrent" else "softmax"
            scored = {SOFTMAX: "softmax", CONCURRENT: "concurrent softmax"}
            combinations += [(trained, scored[s], run.log_name(s)) for s in run.scorings if s in scored]
    return combinations
