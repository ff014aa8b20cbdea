"""One run: settings in, a trained checkpoint out."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from wildbox.annotations import Annotations
from wildbox.detectors.dataset import DetectionDataset, Sample, collate
from wildbox.errors import ConfigError, WildboxError
from wildbox.formats.files import whole_file
from wildbox.labels.concurrency import concurrent_rates, count_concurrency
from wildbox.labels.counts import count_classes
from wildbox.labels.objects import object_labels
from wildbox.sampling.sampler import BalancedSampler
from wildbox.sampling.schedule import hybrid_balance
from wildbox.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from wildbox.training.config import ModelConfig, RunConfig, ScheduleConfig, write_config
from wildbox.training.model import build_model
from wildbox.training.source import Source, load_source

LOG_EVERY = 20
"""Steps between lines of the log."""


def pick_device(name: str) -> torch.device:
    """ "auto" is the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device = {name!r}: expected auto, cpu, cuda or cuda:N") from error


def learning_rate_share(step: int, schedule: ScheduleConfig) -> float:
    """Share of the full learning rate at a step: linear warm-up, then a cosine down to `final_rate`.

    >>> [round(learning_rate_share(s, ScheduleConfig(steps=200, warmup_steps=100)), 2) for s in (49, 99, 199)]
    [0.5, 1.0, 0.02]
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    progress = (step + 1 - schedule.warmup_steps) / max(schedule.steps - schedule.warmup_steps, 1)
    low = schedule.final_rate
    return low + (1 - low) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def training_rates(expanded: Annotations, source: Source, config: ModelConfig) -> Tensor:
    """Concurrent rates (C + 1, C + 1) of the expanded truth, the background last."""
    rates = concurrent_rates(
        count_concurrency(expanded),
        vocabulary=expanded.vocabulary,
        hierarchy=source.hierarchy,
        min_ratio=config.rate_threshold,
    )
    return torch.from_numpy(rates.with_background()).float()


def _sampler(expanded: Annotations, config: RunConfig) -> BalancedSampler:
    """One image a draw; which lambda, follows the hybrid schedule by steps."""
    schedule, sampling = config.schedule, config.sampling
    pairs = np.unique(np.stack([expanded.image, expanded.label], axis=1), axis=0)
    offsets = np.searchsorted(pairs[:, 0], np.arange(len(expanded.image_ids) + 1))

    def balance(draw: int) -> float | None:
        step = draw // schedule.batch_size
        return hybrid_balance(
            step, steps=schedule.steps, start=sampling.hybrid_start, balance=sampling.balance
        )

    return BalancedSampler(
        offsets, pairs[:, 1], seed=config.seed, balance=balance, length=schedule.steps * schedule.batch_size
    )


class _Trainer:
    """The mutable state of a run: model, optimizer, step."""

    def __init__(self, config: RunConfig, source: Source, out: Path) -> None:
        self.config, self.out = config, out
        self.device = pick_device(config.device)
        self.expanded = source.expanded
        self.relative = source.relative
        self.rates = training_rates(self.expanded, source, config.model)
        torch.manual_seed(config.seed)
        classes = len(self.expanded.vocabulary)
        images = count_classes(self.expanded).images / max(len(self.expanded.image_ids), 1)
        model = build_model(
            config.model, classes=classes, rates=self.rates, frequencies=torch.from_numpy(images)
        )
        self.model = model.to(self.device)
        self.optimizer = _optimizer(self.model, config.schedule)
        self.step = 0
        objects = None if config.model.rule == "softmax" else object_labels(self.expanded)
        self.dataset = DetectionDataset(self.expanded, source.folder, objects=objects)

    def resume(self, path: Path) -> None:
        saved = load_checkpoint(path)
        if saved.vocabulary != self.expanded.vocabulary:
            raise ConfigError(f"{path}: was trained on other classes than the data now has")
        now = self.config.model_dump(mode="json")
        for table in ("model", "sampling", "schedule", "seed"):
            if saved.config[table] != now[table]:
                raise ConfigError(
                    f"{path}: was trained with other settings ({table}: {saved.config[table]}, now "
                    f"{now[table]}); choose another output folder or do not resume"
                )
        self.model.load_state_dict(saved.model)
        self.optimizer.load_state_dict(saved.optimizer)
        torch.set_rng_state(saved.random_state)
        self.step = saved.step

    def save(self, path: Path) -> None:
        checkpoint = Checkpoint(
            step=self.step,
            config=self.config.model_dump(mode="json"),
            vocabulary=self.expanded.vocabulary,
            relative=self.relative,
            rates=self.rates,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            random_state=torch.get_rng_state(),
        )
        save_checkpoint(checkpoint, path)

    def batches(self) -> Iterator[tuple[list[Tensor], list[dict[str, Tensor]]]]:
        """The batches from the present step on."""
        schedule = self.config.schedule
        sampler = _sampler(self.expanded, self.config)
        sampler.start_at(self.step * schedule.batch_size)
        loader: DataLoader[Sample] = DataLoader(
            self.dataset,
            batch_size=schedule.batch_size,
            sampler=sampler,
            num_workers=schedule.workers,
            collate_fn=collate,
            # an own generator: the loader must not draw from the one that a checkpoint restores
            generator=torch.Generator().manual_seed(self.config.seed),
        )
        return iter(loader)

    def train_step(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, float]:
        """One optimizer step; the losses, and the learning rate it used."""
        schedule = self.config.schedule
        rate = schedule.learning_rate * learning_rate_share(self.step, schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        on_device = [{key: value.to(self.device) for key, value in t.items()} for t in targets]
        losses = self.model([image.to(self.device) for image in images], on_device)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            shown = {name: loss.item() for name, loss in losses.items()}
            raise WildboxError(f"step {self.step}: the loss is {shown}; try a lower learning_rate")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), schedule.clip_norm)
        self.optimizer.step()
        self.step += 1
        return {name: loss.item() for name, loss in losses.items()} | {"learning_rate": rate}


def _optimizer(model: nn.Module, schedule: ScheduleConfig) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    rate, decay = schedule.learning_rate, schedule.weight_decay
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay)


def train(
    config: RunConfig,
    out: str | Path,
    *,
    source: Source | None = None,
    resume: bool = True,
    progress: Callable[[int, int, float], None] | None = None,
) -> Path:
    """Train and leave `config.json`, `log.jsonl`, `checkpoint.pt` in `out`.

    Args:
        source: the data, where it is already loaded; else read as `config.data` says.
        resume: continue from the checkpoint in `out` where there is one; the result is the same to the bit
            on one CPU.
        progress: called with steps done, all steps, and the last loss.
    Returns:
        the checkpoint's path.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    torch.set_num_threads(config.threads)
    source = source or load_source(config.data, tiles=out / "tiles")
    trainer = _Trainer(config, source, out)
    if resume and checkpoint.exists():
        trainer.resume(checkpoint)
    write_config(config, out / "config.json")
    steps = config.schedule.steps
    if trainer.step < steps:
        _loop(trainer, checkpoint, progress)
    return checkpoint


def _loop(trainer: _Trainer, checkpoint: Path, progress: Callable[[int, int, float], None] | None) -> None:
    schedule = trainer.config.schedule
    trainer.model.train()
    log = _truncated_log(trainer.out / "log.jsonl", trainer.step)
    with log.open("a", encoding="utf-8") as stream:
        began = time.perf_counter()
        for images, targets in trainer.batches():
            losses = trainer.train_step(images, targets)
            loss = sum(value for name, value in losses.items() if name.startswith("loss"))
            if trainer.step % LOG_EVERY == 0 or trainer.step == schedule.steps:
                seconds = time.perf_counter() - began
                stream.write(
                    json.dumps({"step": trainer.step, **losses, "seconds": round(seconds, 2)}) + "\n"
                )
                stream.flush()
            if progress is not None:
                progress(trainer.step, schedule.steps, loss)
            if trainer.step % schedule.checkpoint_every == 0 or trainer.step == schedule.steps:
                trainer.save(checkpoint)


def _truncated_log(path: Path, step: int) -> Path:
    """The log without lines of steps that a resumed run will do again."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    with whole_file(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    return path
